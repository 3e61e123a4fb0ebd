"""smshook rejected: what was no event, looked at and tried again."""
import json
import re
import threading

import pytest

import receiver as rx
from drivers import Fcgi, Request, post
from load import delivery, sms
from postgres import INGEST_LOCK
from process import Process, new_folder, run, wait_for

CUT = b'{"event":"incoming_sms","phone":"+49151","message":"Hi'
NO_EVENT = b'{"event":"incoming_sms","message":"nobody"}'
LOCAL = json.dumps({"address": "+4915112345678", "date": "2026-07-01 12:00:00",
                    "body": "summer", "sms_id": 5}).encode()
SOURCES = {"shop": "timezone = Europe/Berlin\ndevice_id = d1\n", "office": ""}


@pytest.fixture
def site(start, database, top):
    """A receiver with two sources, an empty database, and smshook with its owner."""
    database.empty()

    class Site:
        tokens = {name: rx.new_token() for name in SOURCES}

        def __init__(self):
            text = self.text(database.writer)
            self.sender = Fcgi(start(text).address())

        def text(self, conninfo, sources=None):
            return rx.config_text(conninfo, {
                name: f"{SOURCES[name]}token = {self.tokens[name]}"
                for name in sources or SOURCES})

        def send(self, body, source="shop", status=200):
            answer = self.sender.send(post(self.tokens[source], body))
            assert answer.status == status, answer
    return Site()


@pytest.fixture
def rejected(programs, top, database, site):
    """rejected(argument...): as the owner; its output, and .errors."""
    def call(*arguments, user="postgres", sources=None, env=None, code=0,
             may_pass=False):
        config = rx.write_config(top, site.text(
            database.postgres.conninfo(database.name, user), sources))
        done = run([programs / "smshook", "-c", config, "rejected", *arguments], env=env)
        rx.check_log((done.stdout + done.stderr).decode(errors="replace"), config.read_text())
        assert done.returncode in (code, 0 if may_pass else code), done
        call.errors = done.stderr.decode()
        return done.stdout
    call.config = lambda: rx.write_config(top, site.text(
        database.postgres.conninfo(database.name)))
    return call


def break_rule(database, body):
    """An event as one that an older smshook has rejected: same ids, other verdict."""
    row = database.rows("select * from sms.event order by id desc limit 1")[0]
    database.connection.execute("delete from sms.event where id = %s", [row["id"]])
    database.connection.execute("truncate sms.recent_body, sms.message")
    database.connection.execute(
        """insert into sms.rejected (received_at, source, remote_addr, http_status, reason,
        content_type, body, ingest_id) values (%s, %s, '192.0.2.1', 422, 'of old',
        'application/json', %s, %s)""",
        [row["received_at"], row["source"], body, row["ingest_id"]])
    return row, database.value("select max(id) from sms.rejected")


# ----------------------------------------------------------- list and show

def test_rejected_list(rejected, site, database):
    site.send(CUT, status=400)
    site.send(NO_EVENT, "office", status=422)
    site.send(LOCAL)
    one, two = database.rejected()
    lines = rejected("list", env={"TZ": "Asia/Tokyo"}).decode().splitlines()
    local = database.value("select (received_at at time zone 'Asia/Tokyo')::timestamp(0)::text "
                           "from (select date_trunc('second', received_at) as received_at "
                           "from sms.rejected where id = %s) r", one["id"])
    assert lines == [f"{one['id']}  {local}  shop  400  {len(CUT)} bytes: {one['reason']}",
                     lines[1]]
    assert re.fullmatch(rf"{two['id']}  \S+ \S+  office  422  {len(NO_EVENT)} bytes: .*", lines[1])
    assert rejected("list", user="postgres") and "Hi" not in "".join(lines)


def test_rejected_list_of_many(rejected, database):
    database.connection.execute(
        """insert into sms.rejected (received_at, source, http_status, reason, ingest_id)
        select now(), 'x', 400, 'r' || n, gen_random_uuid() from generate_series(1, 2500) n""")
    lines = rejected("list").decode().splitlines()
    assert [line.rsplit("r", 1)[1] for line in lines] == [str(n) for n in range(1, 2501)]


def test_rejected_list_is_harmless(rejected, database):
    database.connection.execute(
        """insert into sms.rejected (received_at, source, http_status, reason, content_type,
        remote_addr, ingest_id) values (now(), E'a\\x1b[2J', 400, E'b\\n\\u202e', E'c\\x1b',
        E'd\\u009b', gen_random_uuid())""")
    number = database.value("select id from sms.rejected")
    for arguments in (("list",), ("show", str(number))):
        out = rejected(*arguments).decode()
        assert not set(out) & set("\x1b\u202e\x9b")
        assert out.count("\n") == (1 if arguments == ("list",) else 8)


def test_rejected_show(rejected, site, database):
    body = CUT + bytes(range(256))
    site.sender.send(Request("/" + site.tokens["shop"], body, headers=(
        ("Content-Type", "application/json; charset=x"),)))
    number = str(database.rejected()[0]["id"])
    out = rejected("show", number).decode()
    for word in ("shop", "400", "application/json; charset=x", "127.0.0.1", str(len(body))):
        assert word in out
    assert "Hi" not in out and "incoming" not in out
    assert rejected("show", "--text", number) == body
    assert rejected("show", "999999", code=1) == b""
    assert "FAIL  999999 is not in sms.rejected" in rejected.errors
    database.connection.execute("update sms.rejected set body = null")
    assert rejected("show", "--text", number, code=1) == b"", "no word in what is a body"
    assert "no body" in rejected.errors
    rejected("show", number)


def test_rejected_needs_no_configuration(programs, database, site):
    site.send(CUT, status=400)
    for user in ("postgres", "reader"):
        if user == "reader":
            database.connection.execute("""do $$ begin
                create role reader login in role smshook_reader;
                exception when duplicate_object then null; end $$""")
        done = run([programs / "smshook", "-d",
                    database.postgres.conninfo(database.name, user), "rejected", "list"])
        assert done.returncode == 0 and b"shop" in done.stdout
    done = run([programs / "smshook", "-d", database.writer, "rejected", "list"])
    assert done.returncode == 1 and b"smshook_reader" in done.stderr
    assert b"smshook_writer" not in done.stderr


@pytest.mark.parametrize("arguments", [
    [], ["what"], ["list", "1"], ["show"], ["show", "x"], ["show", "--text"],
    ["show", "1", "2"], ["show", "--all", "1"], ["show", "-1"], ["retry", "x"],
    ["retry", "1", ""], ["retry", "9" * 30]])
def test_rejected_usage(arguments, rejected):
    rejected(*arguments, code=64)


# ------------------------------------------------------------------- retry

def test_rejected_retry_is_the_event_that_it_was(rejected, site, database):
    """Its time, id, zone and device; the row is gone, and what reads it knows."""
    site.send(LOCAL)
    was, number = break_rule(database, LOCAL)
    site.send(NO_EVENT, status=422)
    with database.postgres.connect(database.name) as listener:
        listener.execute("listen sms_event")
        out = rejected("retry", str(number)).decode()
        assert "1 are events now" in out
        notified = next(listener.notifies())
    now = database.rows("select * from sms.event")
    assert len(now) == 1 and json.loads(notified.payload)["id"] == now[0]["id"]
    assert now[0]["id"] > was["id"]
    for name in set(was) - {"id"}:
        assert now[0][name] == was[name], name
    assert now[0]["device_id"] == "d1"
    assert database.value("select occurred_at = '2026-07-01T10:00:00Z' from sms.event")
    assert [r["http_status"] for r in database.rejected()] == [422]


def test_rejected_retry_of_all(rejected, site, database):
    site.send(CUT, status=400)
    numbers = []
    for n in range(45):
        site.send(delivery(f"m{n}", "sent"))
        numbers.append(break_rule(database, delivery(f"m{n}", "sent"))[1])
    site.send(NO_EVENT, status=422)
    out = rejected("retry").decode()
    assert "45 are events now, 2 stay" in out
    assert rejected.errors.count(" stays: ") == 2 and "JSON" in rejected.errors
    assert [e["message_id"] for e in database.events()] == [f"m{n}" for n in range(45)]
    assert database.value("select count(*) from sms.message") == 45
    assert [r["http_status"] for r in database.rejected()] == [400, 422]
    assert "0 are events now, 2 stay" in rejected("retry").decode()


def test_rejected_retry_fails_when_a_named_one_stays(rejected, site, database):
    site.send(CUT, status=400)
    site.send(sms("good"))
    _, good = break_rule(database, sms("good"))
    bad = database.rejected()[0]["id"]
    out = rejected("retry", str(bad), "999999", str(good), code=1).decode()
    assert f"FAIL  {bad} stays:" in rejected.errors
    assert "999999 is not in sms.rejected" in rejected.errors
    assert "1 are events now, 1 stay" in out
    assert [e["body"] for e in database.events()] == ["good"]


def test_rejected_retry_of_what_postgresql_refuses(rejected, site, database):
    """One by one: it stays, and what it refuses no more goes in.  PostgreSQL logs a
    row that breaks a rule, so these have no number of canary.py."""
    database.connection.execute("alter table sms.event add constraint no check (body <> 'no')")
    for text in ("no", "yes", "no"):
        site.send(sms(text, "+49"), status=500 if text == "no" else 200)
    assert [r["http_status"] for r in database.rejected()] == [500, 500]
    site.send(sms("good"))
    break_rule(database, sms("good"))
    out = rejected("retry").decode()
    assert "1 are events now, 2 stay" in out and rejected.errors.count("23514") == 2
    assert "'no'" not in rejected.errors
    assert [e["body"] for e in database.events()] == ["yes", "good"]
    database.connection.execute("alter table sms.event drop constraint no")
    assert "2 are events now, 0 stay" in rejected("retry").decode()
    assert [e["body"] for e in database.events()] == ["yes", "good", "no", "no"]
    assert database.rejected() == []


def test_rejected_retry_without_its_source(rejected, site, database):
    """Without its zone its times would be read wrong."""
    site.send(LOCAL)
    _, number = break_rule(database, LOCAL)
    rejected("retry", str(number), sources=["office"], code=1)
    assert "not in the configuration" in rejected.errors
    assert database.events() == [] and len(database.rejected()) == 1


def test_rejected_retry_needs_the_configuration(programs, database):
    done = run([programs / "smshook", "-d", database.postgres.conninfo(database.name),
                "-c", "/nowhere/x.conf", "rejected", "retry"])
    assert done.returncode == 78


def test_rejected_retry_as_another(rejected, site, database):
    site.send(LOCAL)
    _, number = break_rule(database, LOCAL)
    for user in ("receiver", "stranger"):
        rejected("retry", str(number), user=user, code=1)
        assert "permission denied" in rejected.errors
        assert "the owner of schema sms" in rejected.errors
        assert "smshook_" not in rejected.errors, "which would not help it"
    assert database.events() == [] and len(database.rejected()) == 1


def test_rejected_retry_of_what_is_an_event_already(rejected, site, database):
    """As after a drain of its file: known by its ingest_id."""
    site.send(LOCAL)
    row = database.rows("select * from sms.event")[0]
    database.connection.execute(
        """insert into sms.rejected (received_at, source, http_status, reason, body, ingest_id)
        values (%s, 'shop', 422, 'of old', %s, %s)""",
        [row["received_at"], LOCAL, row["ingest_id"]])
    rejected("retry")
    assert database.rows("select * from sms.event") == [row]
    assert database.rejected() == []


def test_rejected_retry_takes_locks_as_the_receiver_does(rejected, site, database, programs,
                                                         top):
    """Which holds that of all ingestion when it comes to the row."""
    site.send(LOCAL)
    _, number = break_rule(database, LOCAL)
    with database.postgres.connect(database.name) as other:
        with other.transaction():
            other.execute("select pg_advisory_xact_lock(%s)", [INGEST_LOCK])
            p = Process([programs / "smshook", "-c", rejected.config(), "rejected", "retry"],
                        new_folder(top, "retry") / "log")
            wait_for("it to wait", lambda: database.value(
                "select count(*) from pg_locks where locktype = 'advisory' and not granted"))
            other.execute("select from sms.rejected where id = %s for update", [number])
    assert p.wait() == 0, p.text()
    assert len(database.events()) == 1 and database.rejected() == []


def test_rejected_retry_two_at_once_and_killed(rejected, site, database):
    """Each event is there once, whatever happens to those who bring it."""
    for n in range(60):
        site.send(sms(f"t{n}"))
        break_rule(database, sms(f"t{n}"))
    stop = threading.Event()

    def kill():
        while not stop.wait(0.05):
            database.rows("""select pg_terminate_backend(pid) from pg_stat_activity
                where usename = 'postgres' and application_name = 'smshook'
                and datname = current_database()""")

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        for _ in range(5):
            rejected("retry", code=1, may_pass=True)
    finally:
        stop.set()
        killer.join()
    two = [threading.Thread(target=rejected, args=("retry",)) for _ in range(2)]
    for t in two:
        t.start()
    for t in two:
        t.join()
    assert sorted(e["body"] for e in database.events()) == sorted(f"t{n}" for n in range(60))
    assert database.rejected() == []
