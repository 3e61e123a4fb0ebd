"""smshook tail: events as they come, whatever becomes of the connection."""
import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import threading
import time
import unicodedata
from datetime import datetime
from types import SimpleNamespace

import pytest

import receiver as rx
from drivers import Fcgi, post
from load import Load, delivery, sms
from process import SLOW, Process, new_folder, plain_user, run, wait_for, write
from test_faults_database import Pgbouncer

LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)  (\S+) +(\S+) +(.*?)  +(\S+)  (\S+)")
SESSIONS = """select pid, state, query, xact_start, backend_xmin from pg_stat_activity
    where datname = current_database() and usename = 'postgres'
    and application_name = 'smshook'"""


def parts(line):
    """(time, kind, phone, status or text, message id, source)"""
    return LINE.fullmatch(line).groups()


def insert(connection, body=None, kind="incoming_sms", phone="+4915112345678", **more):
    """A row with just these columns, and something to wake up by."""
    columns = {"kind": kind, "phone": phone, "body": body, "source": "shop",
               "received_at": "now", **more}
    names, marks = ", ".join(columns), ", ".join(["%s"] * len(columns))
    with connection.transaction():
        connection.execute(
            f"""insert into sms.event (id, ingest_id, {names})
            values (nextval('sms.event_id'), gen_random_uuid(), {marks})""",
            list(columns.values()))
        connection.execute("select pg_notify('sms_event', '')")


@contextlib.contextmanager
def piped(programs, arguments, **more):
    """A smshook whose output the test reads; it cannot keep the test for ever."""
    with subprocess.Popen([str(a) for a in (programs / "smshook", *arguments)], cwd="/",
                          stderr=subprocess.PIPE, **plain_user(), **more) as p:
        watch = threading.Timer(2 * SLOW, p.kill)
        watch.start()
        try:
            yield p
        finally:
            p.kill()
            watch.cancel()


class Tail:
    """`smshook -d CONNINFO tail ARGUMENT...` in the background."""

    def __init__(self, programs, top, conninfo, *arguments, env=None):
        folder = new_folder(top, "tail")
        self.out = open(write(folder / "out", ""), "ab")
        self.path = folder / "out"
        self.process = Process([programs / "smshook", "-d", conninfo, "tail", *arguments],
                               folder / "log", env, stdout=self.out)

    def lines(self):
        return self.path.read_text().splitlines()

    def wait(self, n):
        def there():
            assert self.process.running(), self.errors()
            return len(self.lines()) >= n
        wait_for(f"{n} lines", there)
        return self.lines()

    def errors(self):
        return self.process.text()

    def stop(self, number=signal.SIGTERM):
        self.out.close()
        code = self.process.stop(number)
        rx.check_log(self.errors())
        return code


@pytest.fixture
def tail(programs, top):
    """tail(conninfo, argument...) starts one; each ends well."""
    started = []

    def start(conninfo, *arguments, **more):
        started.append(Tail(programs, top, conninfo, *arguments, **more))
        return started[-1]
    yield start
    for t in started:
        if not t.process.ended():
            assert t.stop() == 0, t.errors()


@pytest.fixture
def once(programs):
    """once(conninfo, n, argument...): the first n lines of its output."""
    def call(conninfo, n, *arguments, env=None):
        with piped(programs, ["-d", conninfo, "tail", *arguments], stdout=subprocess.PIPE,
                   env={**os.environ, **(env or {})}) as p:
            lines = [p.stdout.readline().decode().rstrip("\n") for _ in range(n)]
            p.stdout.close()  # as head(1) does
            code = p.wait()
            assert code == 0, p.stderr.read()
        return lines
    return call


@pytest.fixture
def shop(start, text, token, database):
    """send(body) posts to a receiver of this module's database."""
    r = start(text())
    sender = Fcgi(r.address())

    def send(*bodies):
        for body in bodies:
            answer = sender.send(post(token, body))
            assert answer.status == 200, answer
    send.address, send.token = r.address(), token
    return send


@pytest.fixture
def owner(database):
    return database.postgres.conninfo(database.name)


@pytest.fixture
def rows(database):
    """insert(body, ...) into this module's database, which is empty."""
    database.empty()
    return lambda *a, **more: insert(database.connection, *a, **more)


def ready(database, t):
    """It has seen all and waits."""
    def is_waiting():
        assert t.process.running(), t.errors()
        return [r for r in database.rows(SESSIONS)
                if r["state"] == "idle" and "is_shown" in r["query"]]
    wait_for("tail to wait", is_waiting)


# ---------------------------------------------------------------- following

def test_tail_shows_the_last_and_what_comes(tail, shop, database, owner):
    shop(*[sms(f"old {i}") for i in range(12)])
    t = tail(owner)
    t.wait(10)
    shop(sms("Hello, I need help"), delivery("m1", "delivered"), sms("Hello, I need help"))
    shop(sms("the end"))
    lines = t.wait(13)
    shown = [parts(line) for line in lines]
    assert [p[3] for p in shown] == [f"old {i}" for i in range(2, 12)] + [
        "Hello, I need help", "delivered", "the end"], "and the duplicate is left out"
    assert shown[-2][1] == "delivery_status" and shown[-2][4] == "m1"
    assert all(p[5] == "shop" for p in shown)
    assert t.errors() == ""


def test_tail_is_woken_and_does_not_poll(tail, shop, database, owner):
    """What no notification tells of is not seen at once."""
    t = tail(owner)
    ready(database, t)
    database.connection.execute(
        """insert into sms.event (id, received_at, source, kind, ingest_id)
        values (nextval('sms.event_id'), now(), 'x', 'silent', gen_random_uuid())""")
    time.sleep(2.5)
    assert t.lines() == []
    shop(sms("wake up"))
    assert ["silent" in line for line in t.wait(2)] == [True, False]


def test_tail_under_load_in_order_and_none_twice(tail, shop, database, owner):
    t = tail(owner, "--json", "--since", "id:0")
    load = Load(6, shop.token, lambda: Fcgi(shop.address))
    time.sleep(3)
    load.stop()
    n = len(database.events())
    ids = [json.loads(line)["id"] for line in t.wait(n)]
    assert ids == [e["id"] for e in database.events()]
    assert n > 100


def test_tail_holds_no_transaction(tail, shop, database, owner):
    shop(sms("a"))
    t = tail(owner)
    t.wait(1)
    ready(database, t)
    shop(sms("b"))
    t.wait(2)
    ready(database, t)
    assert [(r["state"], r["xact_start"], r["backend_xmin"]) for r in database.rows(SESSIONS)
            ] == [("idle", None, None)]


# --------------------------------------------------------------- connections

def test_tail_goes_on_when_its_session_is_ended(tail, shop, database, owner):
    t = tail(owner, "--since", "id:0")
    load = Load(2, shop.token, lambda: Fcgi(shop.address))
    for _ in range(3):
        ready(database, t)
        before = t.errors().count("connected again")
        database.rows(f"select pg_terminate_backend(pid) from ({SESSIONS}) s")
        wait_for("tail", lambda: t.errors().count("connected again") > before)
    load.stop()
    bodies = [e["body"] for e in database.events()]
    assert [parts(line)[3] for line in t.wait(len(bodies))] == bodies
    assert t.errors().count("is lost") == 3


def test_tail_goes_on_when_the_server_restarts(tail, own_postgres):
    """Stopped in two ways and away for a while, which is said once each time."""
    name = own_postgres.name
    t = tail(own_postgres.conninfo(name), "--since", "id:0")
    for n, number in enumerate((signal.SIGINT, signal.SIGQUIT), 1):
        with own_postgres.connect(name) as c:
            insert(c, f"before {n}")
        t.wait(2 * n - 1)
        own_postgres.stop(number)
        wait_for("tail to say so", lambda n=n: t.errors().count("is lost") == n)
        time.sleep(2)
        own_postgres.start()
        with own_postgres.connect(name) as c:
            insert(c, f"after {n}")
        t.wait(2 * n)
    assert [parts(line)[3] for line in t.lines()] == [
        "before 1", "after 1", "before 2", "after 2"]
    wait_for("tail to say so", lambda: t.errors().count("connected again") == 2)
    assert t.errors().count("\n") == 4, t.errors()


def test_tail_polls_through_pgbouncer(tail, shop, database, owner, top):
    """In transaction mode no notification gets through."""
    pool = Pgbouncer(SimpleNamespace(folder=new_folder(top, "p"), cluster=database.postgres))
    try:
        t = tail(pool.conninfo(database.name, "postgres"))
        wait_for("tail to say so", lambda: "polling every second" in t.errors())
        shop(sms("one"), sms("two"))
        assert [parts(line)[3] for line in t.wait(2)] == ["one", "two"]
        pool.stop()
        wait_for("tail to say so", lambda: "is lost" in t.errors())
        shop(sms("three"))
        pool.start()
        assert parts(t.wait(3)[2])[3] == "three"
        wait_for("tail to say so", lambda: "connected again" in t.errors())
        assert len(t.errors().splitlines()) == 3, t.errors()
        assert t.stop() == 0
    finally:
        pool.stop()
    wait_for("no session", lambda: not database.rows(SESSIONS))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_tail_ends_at_once_and_quietly(number, tail, shop, database, owner):
    t = tail(owner)
    ready(database, t)
    assert t.stop(number) == 0
    assert t.errors() == ""


def test_tail_ends_when_nobody_reads(programs, database, owner):
    """Though nothing comes that it could write."""
    database.empty()
    out, theirs = os.pipe()
    with piped(programs, ["-d", owner, "tail"], stdout=theirs) as p:
        os.close(theirs)
        wait_for("tail", lambda: database.rows(SESSIONS + " and query like '%%is_shown%%'"))
        os.close(out)
        assert p.wait() == 0
        assert p.stderr.read() == b""


def test_tail_with_a_closed_output(programs, top, database, owner, rows):
    """The connection does not take its place."""
    rows("before")
    p = Process(["sh", "-c", 'exec "$@" >&-', "sh", programs / "smshook", "-d", owner, "tail"],
                new_folder(top, "tail") / "log")
    for n in range(3):
        ready(database, SimpleNamespace(process=p, errors=p.text))
        rows(f"n{n}")
    assert p.stop() == 0
    assert p.text() == ""


@pytest.mark.parametrize("format", [(), ("--json",)])
@pytest.mark.parametrize("channel", [os.pipe, pty.openpty])
def test_tail_whose_output_pauses(channel, format, programs, database, owner):
    """It takes its notifications all the same: a server that cannot send them would
    stand still amid a transaction, and hold back VACUUM and the queue of NOTIFY."""
    database.empty()
    out, theirs = channel()
    with piped(programs, ["-d", owner, "tail", "--since", "id:0", *format], stdout=theirs) as p:
        os.close(theirs)
        wait_for("tail", lambda: database.rows(SESSIONS + " and query like '%%is_shown%%'"))
        for _ in range(10):
            database.connection.execute(
                """with e as (
                    insert into sms.event (id, received_at, source, kind, body, ingest_id)
                    select nextval('sms.event_id'), now(), 'x', 'incoming_sms', repeat('b', (random() * 200)::int),
                        gen_random_uuid() from generate_series(1, 2000) returning id)
                select count(pg_notify('sms_event', format('{"id":%%s}', id))) from e""", [])
        wait_for("the queue", lambda: database.value("select pg_notification_queue_usage()") == 0)
        assert [(r["state"], r["xact_start"], r["backend_xmin"]) for r in database.rows(SESSIONS)
                ] == [("idle", None, None)]
        p.terminate()
        assert p.wait() == 0
    if channel is os.pipe:
        with open(out, encoding="utf-8") as pipe:
            lines = pipe.read().split("\n")
        assert len(lines) > 10 and lines.pop() == "", "whole lines"
        for line in lines:
            assert json.loads(line) if format else parts(line)
    else:
        os.close(out)


def test_tail_whose_output_pauses_loses_nothing(programs, database, owner):
    """Nor does it print anything twice, though its connection is lost meanwhile; a
    line longer than a pipe is whole, too."""
    database.empty()
    out, theirs = os.pipe()
    with piped(programs, ["-d", owner, "tail", "--since", "id:0"], stdout=theirs) as p:
        os.close(theirs)
        wait_for("tail", lambda: database.rows(SESSIONS + " and query like '%%is_shown%%'"))
        insert(database.connection, "long" + "x" * 200000)
        for n in range(1200):
            insert(database.connection, f"n{n}")
        wait_for("its look", lambda: database.rows(SESSIONS + " and state = 'idle'"))
        database.rows(f"select pg_terminate_backend(pid) from ({SESSIONS}) s")
        wait_for("its end", lambda: not database.rows(SESSIONS))
        with open(out, encoding="utf-8") as pipe:
            lines = [pipe.readline().rstrip("\n") for _ in range(1201)]
            assert [parts(x)[3] for x in lines[1:]] == [f"n{n}" for n in range(1200)]
            assert "long" + "x" * 200000 in lines[0]
            p.terminate()
            assert p.wait() == 0
        said = p.stderr.read()
        assert said.count(b"is lost") == 1 and b"connection pointer" not in said


# -------------------------------------------------------------------- what

def test_tail_masks_numbers(once, rows, owner):
    phones = {"+4915112345678": "+491********78", "015112345678": "015*******78",
              "+12025550": "+120***50", "12345678": "******78", "12345": "***45",
              "1234": "****", "7": "*", "Vodafone": "Vodafone", "Shop24": "****24",
              "Anna 0151 123456": "Ann***********56", "B\u00fcro & Co.": "B\u00fcro & Co.",
              "a\u0661\u0662\u0663\u0664\u0665": "****\u0664\u0665",
              "\u0661\u0662\u0663\u0664\u0665": None,
              "1" * 70: "111" + "*" * 20 + "11"}
    for phone in phones:
        rows("hi", phone=phone)
    since = ("--since", "id:1")
    shown = [re.split("  +", line)[2] for line in once(owner, len(phones), *since)]
    for phone, seen, want in zip(phones, shown, phones.values()):
        assert seen == want or want is None and "*" in seen, phone
    full = [re.split("  +", line)[2] for line in once(owner, len(phones), *since, "--full")]
    assert full == list(phones)
    for line, want in zip(once(owner, len(phones), *since, "--json"), shown):
        assert json.loads(line)["phone"] == want


def test_tail_json_is_the_row(once, shop, database, owner):
    shop(sms("Grüße \u2028 \x85 \u202e \U0001f600"), delivery("m1", "sent", "2026-01-15T10:30:00Z"))
    shop(b'{"event":"odd","x":"\\u0000","when":1e400}')
    lines = once(owner, 3, "--json", "--full", "--since", "id:0")
    assert not re.search("[\u2028\x85\u202e]", "".join(lines))
    for line, row in zip(lines, database.events()):
        seen = json.loads(line)
        for name, value in row.items():
            if name == "payload_text":
                continue
            if name.endswith("_at") and value:
                assert seen[name].endswith("Z")
                assert datetime.fromisoformat(seen[name][:-1] + "+00:00") == value
            elif name == "raw" and value is not None:
                assert seen[name] == "\\x" + value.hex()
            else:
                assert seen[name] == (str(value) if name == "ingest_id" else value)
        assert set(seen) == set(row) - {"payload_text"}
    for line in once(owner, 3, "--json", "--since", "id:0"):
        assert not set(json.loads(line)) & {"payload", "raw", "ingest_id"}


EVIL = "\x1b[2J\x07\x7f \x9b31m \u202eabc\u2066\u200f \r\nforged\rline\tend"


@pytest.mark.parametrize("format", [(), ("--json",), ("--full",), ("--json", "--full")])
def test_tail_is_harmless_for_a_terminal(format, once, rows, owner):
    rows(EVIL, kind="k" + EVIL, phone="P" + EVIL, source="s" + EVIL, message_id=EVIL,
         status_text=EVIL, device_name=EVIL, payload=json.dumps({"x": EVIL}))
    line = once(owner, 1, "--since", "id:0", *format)[0]
    assert not [c for c in line if unicodedata.category(c) in ("Cc", "Zl", "Zp")]
    assert not set(line) & set("\u202e\u2066\u200f")
    if "--json" in format:
        assert json.loads(line)["body"] == EVIL
    else:
        assert "abc" in line and "\u23ceforged" in line and "line end" in line


def test_tail_says_what_there_is(once, rows, owner):
    rows(None, kind="delivery_status", status="failed", status_text="No credit", message_id="m1")
    rows(None, kind="delivery_status", status="delivered", status_text="Delivered")
    rows("", media_url="https://example.org/p.jpg")
    rows(None, kind="battery_low", phone=None)
    assert [parts(line)[1:5] for line in once(owner, 4, "--since", "id:0")] == [
        ("delivery_status", "+491********78", "failed: No credit", "m1"),
        ("delivery_status", "+491********78", "delivered", "-"),
        ("incoming_sms", "+491********78", "https://example.org/p.jpg", "-"),
        ("battery_low", "-", "-", "-")]


def test_tail_kinds(once, rows, owner, database):
    for kind in ("a", "b", "c") + ("noise",) * 1200 + ("a", "c"):
        rows(kind, kind=kind)
    assert [parts(x)[1] for x in once(owner, 3, "--kind", "a", "--kind", "b")] == list("aba")
    assert [parts(x)[1] for x in once(owner, 5, "--kind", "b,a,c")] == list("abcac")
    assert parts(once(owner, 3, "--kind", "a,c")[2])[1] == "a"


def test_tail_of_a_kind_passes_over_the_others(tail, rows, owner, database):
    """More than a batch of them."""
    for _ in range(700):
        rows("x", kind="noise")
    t = tail(owner, "--kind", "incoming_sms", "--since", "id:0")
    ready(database, t)
    rows("y")
    assert parts(t.wait(1)[0])[3] == "y"


# ------------------------------------------------------------------- times

def test_tail_times_are_local(once, rows, owner):
    rows("winter", received_at="2026-01-15T22:30:00.9Z")
    rows("summer", received_at="2026-07-15T22:30:00Z")
    for zone, want in (("Europe/Berlin", ["2026-01-15 23:30:00", "2026-07-16 00:30:00"]),
                       ("America/New_York", ["2026-01-15 17:30:00", "2026-07-15 18:30:00"]),
                       ("UTC", ["2026-01-15 22:30:00", "2026-07-15 22:30:00"])):
        lines = once(owner, 2, "--since", "id:0", env={"TZ": zone})
        assert [parts(line)[0] for line in lines] == want
        assert json.loads(once(owner, 1, "--since", "id:0", "--json", env={"TZ": zone})[0])[
            "received_at"] == "2026-01-15T22:30:00.900000Z"


@pytest.mark.parametrize("since, first", [
    ("2026-01-15 10:00", 2), ("2026-01-15 10:00:01", 3), ("2026-01-15T09:00:00Z", 2),
    ("2026-01-15T10:00:00+01:00", 2), ("2026-01-15T09:00:00.5Z", 3), ("2026-01-15", 2),
    ("2026-01-16", 4), ("10m", 6), ("2h", 5), ("3d", 4), ("1w", 4), ("90s", 7)])
def test_tail_since(since, first, once, rows, owner, database):
    """Berlin is an hour before UTC."""
    at = ["2026-01-14T22:59:59Z", "2026-01-15T09:00:00Z", "2026-01-15T09:00:01Z"]
    ago = ["2 days 23:59:30", "1:59:30", "00:09:30", "00:00:45"]
    if first == 3 and since.endswith("5Z"):
        at[2] = "2026-01-15T09:00:00.5Z"
    for n, time_ in enumerate(at, 1):
        rows(str(n), received_at=time_)
    for n, age in enumerate(ago, 4):
        rows(str(n), received_at=database.value("select now() - %s::interval", age))
    lines = once(owner, 1, "--since", since, env={"TZ": "Europe/Berlin"})
    assert parts(lines[0])[3] == str(first)


def test_tail_since_an_id(once, rows, owner, database):
    for n in range(5):
        rows(str(n))
    ids = [e["id"] for e in database.events()]
    assert parts(once(owner, 1, "--since", f"id:{ids[3]}")[0])[3] == "3"
    assert parts(once(owner, 1, "--since", "id:0")[0])[3] == "0"


def test_tail_since_finds_what_came_late(once, rows, owner):
    """From the spool: received before, committed after."""
    rows("early", received_at="2026-01-15T09:00:00Z")
    rows("in time", received_at="2026-01-15T11:00:00Z")
    rows("late", received_at="2026-01-15T10:30:00Z")
    lines = once(owner, 2, "--since", "2026-01-15T10:00:00Z")
    assert [parts(line)[3] for line in lines] == ["in time", "late"]


@pytest.mark.parametrize("arguments", [
    ["--since"], ["--since", ""], ["--since", "10"], ["--since", "1768473000"],
    ["--since", "10 m"], ["--since", "-1h"], ["--since", "0m"], ["--since", "1.5h"],
    ["--since", "10mm"], ["--since", "yesterday"], ["--since", "2026-02-30"],
    ["--since", "2026-01-15 25:00"], ["--since", "2999-01-01"], ["--since", "id:"],
    ["--since", "id:x"], ["--since", "id:-1"], ["--since", "99999999999d"],
    ["--since", "999999999999999999w"],
    ["--since", "id:99999999999999999999"], ["--kind", ""], ["--kind", "a,,b"], ["--kind", "a,"],
    ["--kind", "x" * 2000], ["--what"], ["more"], ["--json", "more"]])
def test_tail_usage(arguments, programs, owner):
    done = run([programs / "smshook", "-d", owner, "tail", *arguments])
    assert (done.returncode, done.stdout) == (64, b"")
    assert b"smshook tail --help" in done.stderr


# ------------------------------------------------------------------ colours

def on_terminal(programs, owner, n, env):
    """What it writes to a terminal, n lines of it."""
    ours, theirs = pty.openpty()
    with piped(programs, ["-d", owner, "tail"], stdout=theirs,
               env={"PATH": os.environ["PATH"], **env}) as p:
        seen = b""
        while seen.count(b"\n") < n and select.select([ours], [], [], SLOW)[0]:
            seen += os.read(ours, 65536)
        p.terminate()
        assert p.wait() == 0
        while select.select([ours], [], [], 0)[0]:
            seen += os.read(ours, 65536)
    os.close(ours)
    os.close(theirs)
    return seen.decode().splitlines()


def test_tail_colours(programs, once, rows, owner):
    colours = {"delivered": 32, "failed": 31, "queued": 33, "sent": 33, "unknown": None}
    for status in colours:
        rows(kind="delivery_status", status=status)
    rows("hello")
    wanted = [*colours.values(), 36]
    lines = on_terminal(programs, owner, 6, {"TERM": "xterm", "NO_COLOR": ""})
    assert lines.pop() == "\x1b[0m", "it may have ended amid a line"
    for line, colour in zip(lines, wanted, strict=True):
        assert not colour and "\x1b" not in line or (
            line.startswith(f"\x1b[{colour}m") and line.endswith("\x1b[0m"))
    for env in ({"TERM": "dumb"}, {"TERM": "xterm", "NO_COLOR": "1"}, {}):
        assert "\x1b" not in "".join(on_terminal(programs, owner, 6, env))
    assert "\x1b" not in "".join(once(owner, 6, env={"TERM": "xterm"}))


# ------------------------------------------------------------------ failures

def test_tail_without_permission(programs, database):
    for user in ("receiver", "stranger"):
        done = run([programs / "smshook", "-d", database.postgres.conninfo(database.name, user),
                    "tail"])
        assert done.returncode == 1
        assert done.stdout == b"", "which may go to jq"
        assert b"permission denied" in done.stderr and b"smshook_reader" in done.stderr
        assert b"smshook_writer" not in done.stderr


def test_tail_by_a_reader(once, database, rows):
    with database.connection.transaction():
        database.connection.execute("""do $$ begin
            create role reader login in role smshook_reader;
            exception when duplicate_object then null; end $$""")
    rows("hello")
    line = once(database.postgres.conninfo(database.name, "reader"), 1)[0]
    assert parts(line)[3] == "hello"


def test_tail_fails_at_the_start(programs, postgres):
    for conninfo, *words in ((postgres.conninfo(postgres.create()), b"smshook migrate"),
                             (postgres.conninfo("nowhere"), b"nowhere", b"-d"),
                             ("host=/nowhere dbname=x", b"-d")):
        done = run([programs / "smshook", "-d", conninfo, "tail"])
        assert done.returncode == 1
        for word in words:
            assert word in done.stderr, done.stderr
    assert run([programs / "smshook", "-d", "nonsense", "tail"]).returncode == 78


def test_tail_when_the_output_cannot_be_written(programs, owner, rows):
    rows("hello")
    with open("/dev/full", "wb") as full:
        done = subprocess.run([str(programs / "smshook"), "-d", owner, "tail"], stdout=full,
                              stderr=subprocess.PIPE, timeout=60, cwd="/", **plain_user())
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1 and b"cannot be written" in done.stderr


def test_tail_takes_the_configuration(programs, top, postgres, database, rows):
    rows("hello")
    config = rx.write_config(top, rx.config_text(
        postgres.conninfo(database.name), {"shop": f"token = {rx.new_token()}"}))
    with piped(programs, ["-c", config, "tail"], stdout=subprocess.PIPE) as p:
        assert b"hello" in p.stdout.readline()
        p.terminate()
        assert p.wait() == 0
