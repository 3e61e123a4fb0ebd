"""Group commit: who is in a batch, what becomes of it, and what listeners hear."""
import itertools
import json
import os
import re
import threading
import time

import psycopg
import pytest

import fcgi_client
import process
import receiver as rx
from drivers import Fcgi, cgi_variables, get, parse_cgi, post
from fcgi_client import Connection
from load import Kept, Load, at_once, delivery, sms
from postgres import INGEST_LOCK
from process import tool, wait_for, write



@pytest.fixture
def token():
    return rx.new_token()


@pytest.fixture
def receiver(start, token, database):
    database.empty()
    return start(rx.config_text(
        database.writer, {"shop": f"token = {token}"},
        server="threads = 128\nrequest_timeout = 60s\nsocket_mode = 0666",
        database="timeout = 50s"))


def metric(receiver, name):
    text = Fcgi(receiver.address()).send(get("/metrics")).body.decode()
    return int(re.search(rf"^{re.escape(name)} (\d+)$", text, re.M).group(1))


def cpu_time(pid):
    """User and system time of all its threads, in clock ticks."""
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def is_at_rest(pid):
    """It has read all that it was sent, and waits."""
    before = cpu_time(pid)
    time.sleep(0.3)
    return cpu_time(pid) == before


def hand_in(receiver, token, body):
    """A request that is sent; its answer is read later."""
    c = Connection(receiver.address(), 60)
    c.send(fcgi_client.request(cgi_variables(post(token, body)), body))
    return c


def in_one_batch(receiver, database, token, bodies):
    """Posts all bodies while a first event holds the writer up: their answers,
    and the number of commits that they took."""
    with database.postgres.connect(database.name) as c:
        c.execute("select pg_advisory_lock(%s)", [INGEST_LOCK])
        plug = hand_in(receiver, token, sms("plug"))
        wait_for("the first commit", lambda: database.value(
            "select count(*) from pg_locks where locktype = 'advisory' and not granted"))
        before = metric(receiver, "smshook_commits_total")
        waiting = [hand_in(receiver, token, body) for body in bodies]
        wait_for("the receiver", lambda: is_at_rest(receiver.process.pid))
    answers = [parse_cgi(w.answer()) for w in waiting]
    assert parse_cgi(plug.answer()).status == 200
    return answers, metric(receiver, "smshook_commits_total") - before - 1


# ---------------------------------------------------------------- one bad

CONSTRAINT = ("alter table sms.event add constraint no_poison check (body <> 'poison')",
              "alter table sms.event drop constraint no_poison")
TRIGGER = ("""create function public.poison() returns trigger language plpgsql as $$
    begin if new.body = 'poison' then
        raise 'body poison is out of %%' , new.body using errcode = '22023';
    end if; return new; end $$;
    create trigger poison before insert on sms.event for each row
        execute function public.poison()""".replace("%%", "%"),
           "drop trigger poison on sms.event; drop function public.poison()")


@pytest.mark.parametrize("break_, mend", [CONSTRAINT, TRIGGER], ids=["check", "trigger"])
def test_one_bad_event_suffers_alone(break_, mend, receiver, token, database):
    bodies = [sms(f"good {i}") for i in range(20)]
    poison = sms("poison", "+49")  # PostgreSQL logs a row that breaks a rule: test_logs.py
    bodies.insert(7, poison)
    database.connection.execute(break_)
    try:
        answers, _ = in_one_batch(receiver, database, token, bodies)
    finally:
        database.connection.execute(mend)
    bad = answers.pop(7)
    assert bad.status == 500 and json.loads(bad.body)["status"] == 500
    assert b"poison" not in bad.body
    for answer in answers:
        assert answer.status == 200
    assert {e["body"] for e in database.events()} == {"plug"} | {
        f"good {i}" for i in range(20)}
    row, = database.rejected()
    assert row["body"] == poison
    assert row["http_status"] == 500
    assert "poison" not in row["reason"], "PostgreSQL's message quotes data"
    assert "poison" not in receiver.log()


# ---------------------------------------------------------------- batches

def test_batch_is_one_commit(receiver, token, database):
    answers, commits = in_one_batch(receiver, database, token,
                                    [sms(str(i)) for i in range(60)])
    assert [a.status for a in answers] == [200] * 60
    assert commits < 60 / 2
    assert len({json.loads(a.body)["id"] for a in answers}) == 60


def test_batches_form_under_load(receiver, token, database):
    load = Load(32, token, lambda: Kept(receiver.address()))
    time.sleep(2)
    answers = load.stop()
    assert {a.status for _, a in answers} == {200}
    stored = metric(receiver, 'smshook_events_total{result="stored"}')
    assert stored == len(answers) == len(database.events())
    assert metric(receiver, "smshook_commits_total") < stored


LUA = """
counter = 0
setup = function(thread) counter = counter + 1; thread:set("id", counter) end
n = 0
request = function()
	n = n + 1
	return wrk.format("POST", "/smshook/TOKEN", {["Content-Type"] = "application/json"},
		string.format('{"event":"incoming_sms","phone":"+1","message":"%d %d"}', id, n))
end
bad = 0
response = function(status) if status ~= 200 then bad = bad + 1 end end
"""


@pytest.mark.long
def test_batches_through_nginx(receiver, token, database, site):
    """With SMSHOOK_STRICT more than 8 events a commit."""
    if not tool("wrk"):
        pytest.skip("wrk is not installed")
    nginx = site.start_server("nginx", receiver.socket)
    script = write(nginx.folder / "wrk.lua", LUA.replace("TOKEN", token))
    done = process.run(["wrk", "-c64", "-t2", "-d5", "-s", script,
                        f"http://127.0.0.1:{nginx.port}/"])
    nginx.stop()
    out = done.stdout.decode()
    assert "Non-2xx" not in out and "Socket errors" not in out, out
    stored = metric(receiver, 'smshook_events_total{result="stored"}')
    commits = metric(receiver, "smshook_commits_total")
    print(f"{stored} events in {commits} commits, {stored / commits:.1f} each")
    assert stored == len(database.events())
    assert commits < stored
    if "SMSHOOK_STRICT" in os.environ:
        assert stored / commits > 8


# ----------------------------------------------------------------- NOTIFY

class Listener:
    """Notifications of some channels, as (channel, payload)."""

    def __init__(self, database, *channels):
        self.all = []
        self.connection = database.postgres.connect(database.name)
        self.connection.add_notify_handler(lambda n: self.all.append((n.channel, n.payload)))
        for channel in ("mark", *channels):
            self.connection.execute(f"listen {channel}")

    def heard(self):
        """All until now: the mark comes after what was committed before it."""
        self.connection.execute("notify mark")

        def marked():
            self.connection.execute("select 1")
            return ("mark", "") in self.all
        wait_for("the mark", marked)
        self.connection.close()
        return [n for n in self.all if n[0] != "mark"]


def test_one_notification_an_event(receiver, token, database):
    listener = Listener(database, "sms_event", "otp")
    database.connection.execute("insert into sms.keyword values ('VERIFY', 'otp')")
    driver = Fcgi(receiver.address())
    bodies = [sms("hello secret-text", "+4915112345678"), delivery("m1", "delivered"),
              sms("verify 123456", "+4915112345678"), b'{"event":"device_offline"}',
              delivery('quote"and\\u0001', "bounced"), sms("hello secret-text", "+4915112345678"),
              b"no JSON"]
    answers = [driver.send(post(token, b)) for b in bodies]
    heard = listener.heard()
    for _, payload in heard:
        assert "secret" not in payload and "4915" not in payload and "123456" not in payload
    ids = [json.loads(a.body).get("id") for a in answers]
    events = [json.loads(p) for channel, p in heard if channel == "sms_event"]
    assert events == [
        {"id": ids[0], "kind": "incoming_sms"},
        {"id": ids[1], "kind": "delivery_status", "message_id": "m1", "status": "delivered"},
        {"id": ids[2], "kind": "incoming_sms"},
        {"id": ids[3], "kind": "device_offline"},
        {"id": ids[4], "kind": "delivery_status",
         "message_id": database.events()[4]["message_id"], "status": "unknown"}]
    assert [json.loads(p) for channel, p in heard if channel == "otp"] == [
        {"id": ids[2], "kind": "incoming_sms"}]


def test_notification_comes_after_the_commit(receiver, token, database):
    """Whoever hears of an event can read it."""
    seen = []
    connection = database.postgres.connect(database.name)
    connection.execute("listen sms_event")

    def listen():
        with database.postgres.connect(database.name) as reader:
            for n in connection.notifies():
                id_ = json.loads(n.payload)["id"]
                seen.append(reader.execute("select body from sms.event where id = %s",
                                           [id_]).fetchone())
                if len(seen) == 200:
                    return
    thread = threading.Thread(target=listen)
    thread.start()
    kept = [Kept(receiver.address()) for _ in range(8)]
    for i in range(25):
        at_once(lambda j: kept[j].send(post(token, sms(f"{i} {j}"))), list(range(8)))
    thread.join(process.SLOW)
    connection.close()
    assert len(seen) == 200 and None not in seen


def test_notify_off(start, token, database):
    database.empty()
    r = start(rx.config_text(database.writer, {"shop": f"token = {token}"},
                             database="notify = off"))
    listener = Listener(database, "sms_event")
    assert Fcgi(r.address()).send(post(token, sms("x"))).status == 200
    assert listener.heard() == []


# ----------------------------------------------------------- message state

STATES = {"queued": "2026-01-15T10:00:00Z", "sent": "2026-01-15T10:01:00Z",
          "delivered": "2026-01-15T10:02:00Z", "failed": "2026-01-15T10:03:00Z"}
LATE_DELIVERY = {**STATES, "delivered": "2026-01-15T10:04:00Z"}
NO_TIMES = dict.fromkeys(STATES)
RANK = {"queued": 1, "sent": 2, "delivered": 3, "failed": 3}


def best(seen, times):
    """The status that holds after these, in the order that they came."""
    top_rank = max(RANK[s] for s in seen)
    finals = [(times[s] or "", i, s) for i, s in enumerate(seen) if RANK[s] == top_rank]
    return max(finals)[2]


@pytest.mark.parametrize("times", [STATES, LATE_DELIVERY, NO_TIMES],
                         ids=["failed_later", "delivered_later", "no_times"])
def test_message_state_singly(times, receiver, token, database):
    sender = Kept(receiver.address())
    for order in itertools.permutations(STATES):
        name = "-".join(order)
        for n, status in enumerate(order):
            sender.send(post(token, delivery(name, status, times[status])))
            assert database.value("select status from sms.message where message_id = %s",
                                  name) == best(order[:n + 1], times)
    sender.close()


@pytest.mark.parametrize("times", [STATES, LATE_DELIVERY],
                         ids=["failed_later", "delivered_later"])
def test_message_state_in_one_batch(times, receiver, token, database):
    orders = list(itertools.permutations(STATES))
    bodies = [delivery("-".join(order), s, times[s]) for order in orders for s in order]
    answers, commits = in_one_batch(receiver, database, token, bodies)
    assert {a.status for a in answers} == {200}
    assert commits < len(bodies) / 2
    states = {row["message_id"]: row["status"] for row in database.rows(
        "select message_id, status from sms.message")}
    assert states == {"-".join(order): best(order, times) for order in orders}


def test_message_of_two_sources(site):
    """The same id of two sources is two messages."""
    site.database.empty()
    driver = site.driver("fcgi")
    driver.send(post(site.tokens["main"][0], delivery("same", "failed")))
    driver.send(post(site.tokens["berlin"][0], delivery("same", "queued")))
    rows = site.database.rows("select source, status from sms.message order by source")
    assert [tuple(r.values()) for r in rows] == [("berlin", "queued"), ("main", "failed")]


def test_the_writer_can_do_nothing_else(database):
    """The receiver's own role reads no row, and writes by sms.ingest alone."""
    with psycopg.connect(database.writer, autocommit=True) as c:
        for sql in ("select * from sms.event", "select * from sms.message",
                    "insert into sms.event (id) values (1)", "delete from sms.event",
                    "select * from sms.rejected", "select nextval('sms.event_id')",
                    "create table sms.x ()", "truncate sms.event"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                c.execute(sql)


def test_ids_are_kept_by_one_sequence(receiver, token, database):
    """Answers, rows and ids agree."""
    kept = Kept(receiver.address())
    ids = [json.loads(kept.send(post(token, sms(str(i)))).body)["id"] for i in range(20)]
    kept.close()
    assert ids == sorted(ids) == [e["id"] for e in database.events()]
