"""smshook purge: old events go, and none that is still to be seen."""
import re
import signal
import subprocess

import pytest

from drivers import Fcgi
from load import Load
from process import Process, new_folder, plain_user, run, wait_for


@pytest.fixture
def owner(database):
    database.empty()
    database.connection.execute("delete from sms.consumer")
    return database.postgres.conninfo(database.name)


@pytest.fixture
def purge(programs, owner):
    """purge(age): its output as text, and .errors."""
    def call(age, code=0, conninfo=None):
        done = run([programs / "smshook", "-d", conninfo or owner, "purge", "--older-than", age])
        assert done.returncode == code, done
        assert code == 0 or done.stdout == b"", "cron throws that away"
        call.errors = done.stderr.decode()
        return done.stdout.decode()
    return call


def fill(database, n, days, kind="incoming_sms"):
    """n events, the newest of them received so many days ago, a second each."""
    database.connection.execute(
        """insert into sms.event (id, received_at, source, kind, body, ingest_id)
        select nextval('sms.event_id'), now() - %s * interval '1 day'
            - (%s - n) * interval '1 second', 'old', %s, n::text, gen_random_uuid()
        from generate_series(1, %s) n""", [days, n, kind, n])


def test_purge_deletes_what_is_older(purge, database):
    fill(database, 12000, 91)
    fill(database, 7, 89)
    assert "12000 events deleted" in purge("90d")
    assert "FAIL" not in purge.errors and "warn" not in purge.errors
    assert len(database.events()) == 7
    assert "ok    0 events deleted" in purge("90d")
    assert "ok    7 events deleted" in purge("1h")
    assert database.events() == []
    assert "ok    0 events deleted" in purge("1s"), "an empty table"


@pytest.mark.parametrize("age, left", [
    ("2w", 3), ("15d", 3), ("14d", 3), ("13d", 2), ("300h", 2), ("60m", 1), ("3500s", 1),
    ("30s", 0)])
def test_purge_ages(age, left, purge, database):
    for ago in ("13 days 23:59:00", "2 days", "10 minutes"):
        database.connection.execute(
            """insert into sms.event (id, received_at, source, kind, ingest_id) values
            (nextval('sms.event_id'), now() - %s::interval, 'x', 'x', gen_random_uuid())""",
            [ago])
    purge(age)
    assert len(database.events()) == left


def test_purge_takes_rejected_bodies(purge, database):
    database.connection.execute(
        """insert into sms.rejected (received_at, source, http_status, reason, ingest_id)
        select now() - interval '2 days', 'x', 400, 'r', gen_random_uuid()
        from generate_series(1, 11000)""")
    assert "ok    0 events deleted, 11000 rejected bodies" in purge("1d")
    assert database.rejected() == []


def test_purge_names_who_holds_events_back(purge, database):
    fill(database, 20, 3)
    database.rows("select id from sms.poll('shop', 5)")
    last = database.value("select min(id) + 4 from sms.event")
    database.rows("select sms.ack('shop', %s)", last)
    database.rows("select sms.ack(E'all \\x1b[2J', max(id)) from sms.event, "
                  "lateral (select 1 from sms.poll(E'all \\x1b[2J', 1)) p")
    out = purge("1d")
    assert "ok    5 events deleted" in out
    assert re.search("^warn  consumer shop has still to see .*drop_consumer", purge.errors)
    assert "all" not in purge.errors and "\x1b" not in purge.errors
    assert len(database.events()) == 15
    database.rows("select sms.drop_consumer('shop')")
    out = purge("1d")
    assert "15 events deleted" in out and purge.errors == ""


def test_purge_passes_over_what_is_held(purge, database):
    """More than a batch, and goes on behind it."""
    fill(database, 6000, 9, "held")
    fill(database, 3000, 3)
    database.rows("select id from sms.poll('shop', 1, array['held'])")
    assert "ok    3000 events deleted" in purge("1d")
    assert {e["kind"] for e in database.events()} == {"held"}


def test_purge_names_leases_and_dead_letters(purge, database):
    fill(database, 4, 3)
    ids = [r["id"] for r in database.rows(
        "select id from sms.claim('work', 2, max_attempts => 1, lease => '1 hour')")]
    database.rows("select sms.ack('work', max(id)) from sms.event")
    purge("1d")
    assert "consumer work has claimed" in purge.errors and len(database.events()) == 2
    for number in ids:
        database.rows("select sms.fail('work', %s, 'no')", number)
    purge("1d")
    assert "consumer work has as dead letters" in purge.errors
    assert len(database.events()) == 2


def test_purge_tells_how_far_it_is(programs, owner, database):
    """A trigger makes it slow, so that there is something to tell."""
    fill(database, 30000, 10)
    database.connection.execute("""create function slow() returns trigger language plpgsql
        as $$ begin perform pg_sleep(0.4); return null; end $$""")
    database.connection.execute("""create trigger slow after delete on sms.event
        for each statement execute function slow()""")
    try:
        done = run([programs / "smshook", "-d", owner, "purge", "--older-than", "1d"])
    finally:
        database.connection.execute("drop trigger slow on sms.event")
        database.connection.execute("drop function slow")
    assert done.returncode == 0 and b"30000 events deleted" in done.stdout
    shown = re.findall(r"^(\d+) events deleted, (\d+) % of the time gone through$",
                       done.stderr.decode(), re.M)
    assert 1 <= len(shown) <= 5
    assert all(0 < int(n) <= 30000 and 0 <= int(percent) <= 100 for n, percent in shown)


LOCK = """select from sms.event where id = (
    select id from sms.event order by received_at offset 7000 limit 1) for update"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_purge_ends_at_once(number, programs, owner, database, top):
    """Though a batch waits; what was deleted is committed, and a batch is whole."""
    fill(database, 20000, 10)
    with database.postgres.connect(database.name) as holder:
        with holder.transaction():
            holder.execute(LOCK)
            p = Process([programs / "smshook", "-d", owner, "purge", "--older-than", "1d"],
                        new_folder(top, "purge") / "log")
            wait_for("the second batch", lambda: database.value(
                "select count(*) from pg_locks where not granted"))
            assert p.stop(number) == -number
    assert p.text() == ""
    wait_for("its session's end", lambda: not database.rows(
        "select from pg_stat_activity where application_name = 'smshook' "
        "and datname = current_database()"))
    assert len(database.events()) in (15000, 10000)


@pytest.mark.long
def test_purge_says_what_it_waits_for(purge, database):
    """Nobody sees where it stands still, and cron would start the next one."""
    fill(database, 20000, 10)
    with database.postgres.connect(database.name) as holder:
        with holder.transaction():
            holder.execute(LOCK)
            purge("1d", 1)
    assert re.search("FAIL  purge: .*55P03.*another session has a lock", purge.errors)
    assert "5000 events deleted" in purge.errors
    assert len(database.events()) == 15000
    assert "15000 events deleted" in purge("1d")


def test_purge_under_load(start, text, token, purge, database):
    """New events are all there; the receiver's answers are as ever."""
    r = start(text())
    fill(database, 40000, 10)
    load = Load(4, token, lambda: Fcgi(r.address()))
    try:
        assert "40000 events deleted" in purge("1d")
    finally:
        answers = load.stop()
    assert {a.status for _, a in answers} == {200}
    assert sorted(e["body"] for e in database.events()) == sorted(t for t, _ in answers)


def test_purge_as_another(purge, database):
    fill(database, 5, 10)
    for user in ("receiver", "stranger"):
        purge("1d", 1, database.postgres.conninfo(database.name, user))
        assert "permission denied" in purge.errors
        assert "the owner of schema sms" in purge.errors
        assert "smshook_" not in purge.errors, "which would not help it"
    assert len(database.events()) == 5


def test_purge_in_any_date_style(purge, database, owner):
    fill(database, 6000, 10)
    for setting in ("datestyle = 'SQL, DMY'", "timezone = 'Asia/Kathmandu'"):
        database.connection.execute(f"alter role postgres set {setting}")
    try:
        assert "6000 events deleted" in purge("1d")
    finally:
        database.connection.execute("alter role postgres reset all")


@pytest.mark.parametrize("arguments", [
    [], ["--older-than"], ["--older-than", "90"], ["--older-than", "d"], ["--older-than", ""],
    ["--older-than", "0d"], ["--older-than", "-1d"], ["--older-than", "1 d"],
    ["--older-than", "1.5d"], ["--older-than", "1y"], ["--older-than", "40000d"],
    ["--older-than", "99999999999999999999s"], ["--older-than", "9223372036854775807d"], ["--older-than", "90d", "1h"], ["90d"],
    ["--older-than=", ], ["--older-thanx", "90d"], ["--older-than=90d", "1d"]])
def test_purge_usage(arguments, programs, owner, database):
    fill(database, 1, 36500)
    done = run([programs / "smshook", "-d", owner, "purge", *arguments])
    assert (done.returncode, done.stdout) == (64, b"")
    assert b"purge --help" in done.stderr and b"runtime error" not in done.stderr
    assert len(database.events()) == 1


def test_purge_takes_an_equals_sign(programs, owner, database):
    fill(database, 1, 10)
    done = subprocess.run([str(programs / "smshook"), "-d", owner, "purge", "--older-than=1d"],
                          stdout=subprocess.PIPE, cwd="/", **plain_user(), timeout=60)
    assert done.returncode == 0 and database.events() == []
