"""Faults of PostgreSQL and of the way to it: everything is answered 200, waits in
the spool and is drained by itself."""
import json
import os
import signal
import subprocess
import threading
import time
from datetime import datetime, timezone

import psycopg
import pytest

import ledger as lg
from drivers import Fcgi, Http, post
from load import at_once, sms
from harness import (SECONDS, bench, breakable, fill, health, in_order,  # noqa: F401
                     metrics, pause, threads)
from postgres import INGEST_LOCK, Postgres, program_folder
from process import Process, give, new_folder, plain_user, run, tool, wait_for, write
from proxy import Proxy
from servers import SOURCE, ApacheCgid
from spooldir import build, file_name

ROUNDS = int(os.environ.get("SMSHOOK_FAULT_ROUNDS", "40"))


@pytest.fixture
def proxy(bench):
    """In front of the bench's PostgreSQL; the bench's receivers go through it."""
    p = Proxy(bench.cluster.folder / ".s.PGSQL.5432")
    bench.configure(p.conninfo(bench.name))
    yield p
    p.speaks.set()
    p.delay = 0
    bench.stop()
    p.down()


def wait_spooled(bench, n=1):
    wait_for("spooled events", lambda: bench.ledger.results().get("spooled", 0) >= n)


def wait_stored_again(bench):
    before = bench.ledger.results().get("stored", 0)
    wait_for("stored events", lambda: bench.ledger.results().get("stored", 0) > before)


def test_fault_03_restarts_of_postgres(bench):
    r = bench.start()
    end = time.monotonic() + SECONDS
    with bench.load(8, lambda: lg.Fcgi(r.address())):
        while time.monotonic() < end:
            pause(0.2, 1)
            bench.cluster.stop(signal.SIGQUIT)
            pause(0.1, 1)
            bench.cluster.start()
        wait_stored_again(bench)
    assert bench.ledger.results()["spooled"] > 0
    bench.check_all_kept()


def test_fault_04_postgres_away(bench):
    r = bench.start()
    with bench.load(64, lambda: lg.Fcgi(r.address()), pause=0.03):
        wait_stored_again(bench)
        bench.cluster.stop(signal.SIGQUIT)
        time.sleep(float(os.environ.get("SMSHOOK_FAULT_AWAY_SECONDS", "6")))
        wait_spooled(bench, 64)
        bench.cluster.start()
        wait_stored_again(bench)  # no event waits for the spool
        bench.wait_drained()
    events = bench.check_all_kept()
    in_order(bench.ledger, events)


@pytest.mark.parametrize("which", ["postmaster", "backend", "all"])
def test_fault_05_frozen(bench, which):
    """A frozen postmaster takes connections and says nothing; its sessions live
    on, but for the receiver's, which has just ended."""
    r = bench.start()
    bench.send(lg.Fcgi(r.address()))
    before = threads(r.process.pid)
    pids = [] if which == "postmaster" else bench.sessions()
    assert which == "postmaster" or len(pids) == 1
    frozen = pids + ([] if which == "backend" else [bench.cluster.process.pid])
    with bench.load(16, lambda: lg.Fcgi(r.address())):
        pause(0.2, 0.5)
        if which == "postmaster":
            with bench.connect() as c:
                os.kill(bench.cluster.process.pid, signal.SIGSTOP)
                c.execute("""select pg_terminate_backend(pid) from pg_stat_activity
                    where usename = 'receiver'""")
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(SECONDS / 2)
            wait_spooled(bench)
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
        wait_stored_again(bench)
    if which != "backend":  # which is away costs the first time-out, not each
        assert bench.ledger.results()["spooled"] > 100
    bench.check_all_kept()
    assert threads(r.process.pid) <= before


def test_fault_06_answer_to_commit_is_lost(bench, proxy):
    """The next trial meets what is there already, and so does the drain."""
    r = bench.start()
    with bench.load(4, lambda: lg.Fcgi(r.address()), pause=0.01):
        while proxy.lost < ROUNDS or not bench.ledger.results().get("spooled"):
            proxy.lose_every = 3 - (proxy.lose_every or 1)  # 2: the second trial is well
            pause(0.3, 0.6)
        proxy.lose_every = 0
        wait_stored_again(bench)
    bench.check_all_kept()


def test_fault_06_lost_in_cgi_and_drain(bench, proxy):
    """As CGI, and by the command that drains."""
    proxy.lose_every = 1
    for n in range(3):
        bench.send(bench.cgi(), n)
    assert bench.spool.names()
    assert bench.command("spool", "drain").returncode != 0
    assert bench.spool.names() and proxy.lost >= 2
    proxy.lose_every = 0
    assert bench.command("spool", "drain").returncode == 0
    bench.check_all_kept()


def test_fault_06_connection_is_cut_delayed_half_closed_and_silent(bench, proxy):
    r = bench.start()
    with bench.load(8, lambda: lg.Fcgi(r.address())):
        for break_it in (proxy.cut, proxy.half_close, proxy.speaks.clear):
            pause(0.1, 0.5)
            break_it()
            pause(0.1, 3 if not proxy.speaks.is_set() else 0.5)
            proxy.speaks.set()
            wait_stored_again(bench)
        proxy.delay = 1.2  # beyond the time-out for a connection and a statement
        wait_spooled(bench)
        pause(1, 2)
        proxy.delay = 0
        wait_stored_again(bench)
    bench.check_all_kept()


# ------------------------------------------------------- drift (fault 16)

DRIFTS = {  # how it is broken, how it is mended, what the log says
    "function renamed": (
        "alter function sms.ingest rename to ingest_away",
        "alter function sms.ingest_away rename to ingest", "smshook migrate"),
    "function dropped": ("drop function sms.ingest", None, "smshook migrate"),
    "schema renamed": ("alter schema sms rename to sms_away",
                       "alter schema sms_away rename to sms", "smshook migrate"),
    "execute revoked": ("revoke execute on function sms.ingest from smshook_writer",
                        "grant execute on function sms.ingest to smshook_writer",
                        "sql/roles.sql"),
    "usage revoked": ("revoke usage on schema sms from smshook_writer",
                      "grant usage on schema sms to smshook_writer", "sql/roles.sql"),
    "table renamed": ("alter table sms.event rename to event_away",
                      "alter table sms.event_away rename to event", "smshook migrate"),
    "column renamed": ("alter table sms.event rename note to note_away",
                       "alter table sms.event rename note_away to note", "smshook migrate"),
    "sequence renamed": ("alter sequence sms.event_id rename to event_id_away",
                         "alter sequence sms.event_id_away rename to event_id",
                         "smshook migrate"),
    "read only": ("alter role receiver set default_transaction_read_only = on",
                  "alter role receiver reset default_transaction_read_only",
                  "target_session_attrs"),
    "no login": ("alter role receiver nologin", "alter role receiver login", "log in"),
}


def expect_spooled(bench, r, times=6):
    """By FastCGI and CGI all is answered as ever, and nothing is thrown away."""
    before = bench.ledger.results()
    for sender in (Fcgi(r.address()), bench.cgi()):
        for n in range(times):
            bench.send(sender, n + 5, with_rejects=True)  # one of them is rejected
    now = bench.ledger.results()
    assert now.get("stored") == before.get("stored"), bench.logs()
    assert len(bench.spool.events()) >= 2 * times
    assert not bench.spool.names("bad")


@pytest.mark.parametrize("name", DRIFTS)
def test_fault_16_drift(bench, name):
    broken, mended, hint = DRIFTS[name]
    definition, = bench.execute("select pg_get_functiondef('sms.ingest'::regproc)")[0]
    r = bench.start()
    bench.send(Fcgi(r.address()))
    try:
        bench.execute(broken)
        if broken.startswith("alter role"):
            bench.break_sessions()
        expect_spooled(bench, r)
        wait_for("a word in the log", lambda: hint in r.log())
        time.sleep(1.5)  # trials
        assert len(bench.spool.events()) == 12
        assert health(r.address())[0] == 200
    finally:
        if mended:
            bench.execute(mended)
        else:
            bench.execute(definition)
            bench.execute("grant execute on function sms.ingest to smshook_writer")
    bench.check_all_kept()
    bench.send(Fcgi(r.address()))
    assert bench.ledger.results()["stored"] >= 2


def test_fault_16_wrong_encoding(bench):
    """A database that cannot hold every text is not written to."""
    admin, name, good = bench.cluster, bench.name, bench.name + "_good"
    admin.execute(f"alter database {name} rename to {good}")
    admin.execute(f"create database {name} template template0 encoding 'LATIN1' locale 'C'")
    for file in (*sorted((SOURCE / "sql").glob("[0-9]*.sql")), SOURCE / "sql/roles.sql"):
        admin.execute(file.read_text(), name)
    r = bench.start()
    expect_spooled(bench, r)
    assert "UTF8" in r.log()
    with bench.connect() as c:
        assert lg.kept(c) == ([], [])
    admin.execute(f"alter database {name} allow_connections false")
    bench.break_sessions()
    wait_for("its sessions to end", lambda: not bench.sessions())
    admin.execute(f"alter database {name} rename to {name}_latin1")
    admin.execute(f"alter database {good} rename to {name}")
    bench.check_all_kept()


class Standby(Postgres):
    """A copy of a cluster that follows it."""

    def __init__(self, parent, primary):
        self.programs, self.count = program_folder(), 0
        self.folder = new_folder(parent, "pg")
        self.data = self.folder / "data"
        made = run([f"{self.programs}/pg_basebackup", "-D", self.data, "-R", "-X", "stream",
                    "-c", "fast", "--no-sync", "-d", primary.conninfo("postgres")])
        assert made.returncode == 0, made.stderr
        conf = self.data / "postgresql.conf"
        write(conf, conf.read_text() + f"unix_socket_directories = '{self.folder}'\n", 0o600)
        self.start()


@pytest.fixture
def standby(bench):
    hba = bench.cluster.data / "pg_hba.conf"
    write(hba, "local replication all trust\n" + hba.read_text(), 0o600)
    bench.execute("select pg_reload_conf()")
    s = Standby(bench.top, bench.cluster)
    yield s
    s.stop()


def test_fault_16_standby(bench, standby):
    """It refuses to write, until it is promoted."""
    bench.configure(standby.conninfo(bench.name, "receiver"))
    r = bench.start()
    expect_spooled(bench, r)
    assert "target_session_attrs" in r.log()
    standby.execute("select pg_promote()")
    bench.cluster, primary = standby, bench.cluster
    try:
        bench.check_all_kept()
    finally:
        bench.cluster = primary


# -------------------------------------------------- no resources (fault 17)

def test_fault_17_too_many_connections(bench):
    r = bench.start()
    try:
        bench.execute("alter role receiver connection limit 0")
        bench.break_sessions()
        expect_spooled(bench, r)
        wait_for("the reason", lambda: "too many connections" in r.log())
    finally:
        bench.execute("alter role receiver connection limit -1")
    bench.check_all_kept()


def test_fault_17_table_is_locked(bench):
    r = bench.start()
    bench.send(Fcgi(r.address()))
    with bench.connect() as c:
        c.execute("begin")
        c.execute("lock table sms.event in access exclusive mode")
        with bench.load(8, lambda: lg.Fcgi(r.address())):
            time.sleep(SECONDS / 2)
        bench.send(bench.cgi())
        c.execute("rollback")
    assert bench.ledger.results()["spooled"] > 8
    bench.check_all_kept()


FAIL = """create function fail() returns trigger language plpgsql as $$
begin raise exception 'as told' using errcode = (select code from public.failure); end $$;
create table public.failure (code text); insert into public.failure values ('{}');
create trigger fail before insert on sms.event for each statement execute function fail()"""

# 53100 disk full, 53200 out of memory, 53400 limit of configuration, 57014
# cancelled, 55P03 lock not available, 55006 in use, 58030 I/O, 42501, 42P01,
# XX001 broken data, XX000 internal, 0A000 not supported, 25P02 aborted,
# 57P01 administrator's stop, P0001 somebody's trigger, 28000, 08006.
STATES = ("53100 53200 53400 57014 55P03 55006 58030 42501 42P01 XX001 XX000 0A000 "
          "25P02 57P01 P0001 28000 08006 39000 F0000").split()


def test_fault_17_any_other_error_of_the_server(bench):
    """No fault of the event's: it is kept, and nothing is rejected for it."""
    r = bench.start()
    bench.send(Fcgi(r.address()))
    for n, state in enumerate(STATES):
        bench.execute(FAIL.format(state))
        entry = bench.send(Fcgi(r.address()), n)
        assert entry.answer == {"result": "spooled"}, state
        bench.execute("drop function fail() cascade; drop table public.failure")
    bench.check_all_kept()
    assert not bench.execute("select from sms.rejected")


@pytest.fixture
def small_disk(bench):
    """A tablespace of few megabytes; its folder."""
    folder = new_folder(bench.top, "disk")
    if os.geteuid() != 0 or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size=4m,uid={plain_user()['user']},mode=700",
             "smshook-test", str(folder)], capture_output=True).returncode != 0:
        pytest.skip("cannot mount a tmpfs here")
    yield folder
    bench.stop()
    bench.cluster.stop()  # with a checkpoint: to do without the disk when it starts
    subprocess.run(["umount", str(folder)], check=True)


def test_fault_17_disk_is_full(bench, small_disk):
    where = give_folder(small_disk / "space")
    bench.execute(f"create tablespace small location '{where}'")
    r = bench.start()
    bench.send(Fcgi(r.address()))
    bench.execute("alter table sms.event set tablespace small")
    filler = small_disk / "filler"
    fill(filler)
    with bench.load(4, lambda: lg.Fcgi(r.address()), with_rejects=False):
        wait_spooled(bench, 50)
    assert "SQLSTATE 53100" in r.log()
    filler.unlink()
    bench.check_all_kept()
    bench.execute("alter table sms.event set tablespace pg_default")
    bench.execute("drop tablespace small")


def give_folder(path):
    path.mkdir(mode=0o700)
    return give(path)


# ------------------------------------------------------ pgbouncer (fault 39)

class Pgbouncer:
    """In transaction mode with one session for all."""

    def __init__(self, bench):
        if not tool("pgbouncer"):
            pytest.skip("pgbouncer is not installed")
        self.folder = new_folder(bench.folder, "b")
        write(self.folder / "users", '"receiver" ""\n"postgres" ""\n')
        self.ini = write(self.folder / "ini", f"""
[databases]
* = host={bench.cluster.folder}
[pgbouncer]
listen_addr =
unix_socket_dir = {self.folder}
listen_port = 5432
auth_type = trust
auth_file = {self.folder}/users
pool_mode = transaction
default_pool_size = 1
server_login_retry = 1
""")
        self.start()

    def start(self):
        self.process = Process([tool("pgbouncer"), self.ini], self.folder / "log")
        wait_for("pgbouncer", lambda: (self.folder / ".s.PGSQL.5432").exists())

    def stop(self):
        self.process.stop(signal.SIGINT)

    def conninfo(self, name, user="receiver"):
        return f"host={self.folder} dbname={name} user={user}"


EVIL = """
create schema evil;
create function evil.set_config(text, text, boolean) returns text language sql as 'select null';
create function evil.now() returns timestamptz language sql as $$select 'epoch'::timestamptz$$;
create function evil.pg_advisory_xact_lock(bigint) returns void language sql as 'select';
create table evil.seen (synchronous_commit text);
grant usage on schema evil to receiver;
create function evil.see() returns trigger language plpgsql security definer as $$
begin
	insert into evil.seen values (pg_catalog.current_setting('synchronous_commit'));
	return null;
end $$;
create constraint trigger see after insert on sms.event deferrable initially deferred
	for each row execute function evil.see()
"""


def test_fault_39_pgbouncer_and_a_bad_neighbour(bench):
    pool = Pgbouncer(bench)
    bench.configure(pool.conninfo(bench.name))
    bench.execute(EVIL)
    r = bench.start()
    stop = threading.Event()

    def neighbour():
        while not stop.is_set():
            try:
                with psycopg.connect(pool.conninfo(bench.name), autocommit=True,
                                     prepare_threshold=None) as c:
                    while not stop.is_set():
                        c.execute("set synchronous_commit = off")
                        c.execute("set search_path = evil, pg_catalog")
                        time.sleep(0.005)
            except psycopg.Error:
                time.sleep(0.1)
    thread = threading.Thread(target=neighbour)
    thread.start()
    try:
        with bench.load(8, lambda: lg.Fcgi(r.address())):
            time.sleep(SECONDS / 4)
            assert bench.ledger.results()["stored"] > 20, bench.logs()
            pool.stop()
            wait_spooled(bench, 20)
            pool.start()
            wait_stored_again(bench)
    finally:
        stop.set()
        thread.join()
    bench.check_all_kept()
    with psycopg.connect(pool.conninfo(bench.name), autocommit=True) as c:
        assert c.execute("show search_path").fetchone()[0] == "evil, pg_catalog"
        assert c.execute("show synchronous_commit").fetchone()[0] == "off"
    assert bench.execute("select distinct synchronous_commit from evil.seen") == [("on",)]
    bench.stop()
    pool.stop()


# ------------------------------------------------------------------ policy

def test_rejected_bodies_wait_too(bench):
    """With the answer that their sender got."""
    bench.cluster.stop(signal.SIGQUIT)
    r = bench.start()
    for sender in (Fcgi(r.address()), bench.cgi()):
        for n in (9, 19, 29):
            bench.send(sender, n, with_rejects=True)
    waiting = bench.spool.events()
    assert sorted(e.http_status for e in waiting) == [400, 400, 415, 415, 422, 422]
    assert all(e.rejected[3] == " " and e.rejected[4:] for e in waiting)
    bench.cluster.start()
    bench.check_all_kept()
    rows = bench.execute("""select ingest_id, http_status || ' ' || reason, remote_addr,
        content_type, received_at from sms.rejected""")
    assert sorted(rows) == sorted((e.ingest_id, e.rejected, e.remote_addr, e.content_type,
                                   e.received_at) for e in waiting)


def test_identity_survives_the_spool(bench):
    """ingest_id and received_at are those of the request, by every way to drain."""
    bench.cluster.stop(signal.SIGQUIT)
    bench.send(bench.cgi(), times=5)
    waiting = bench.spool.events()
    time.sleep(lg.CLOCK_SLACK * 1.5)
    bench.cluster.start()
    assert bench.command("spool", "drain").returncode == 0
    events = bench.check_all_kept()
    assert [(e["ingest_id"], e["received_at"]) for e in events] == [
        (e.ingest_id, e.received_at) for e in waiting]


def test_timezone_of_the_source_holds_in_the_spool(bench):
    """What is drained has the columns of what is stored at once."""
    bench.configure(source="timezone = Europe/Berlin\ndevice_id = till-7")
    bodies = [b'{"sms_id":%d,"status_id":7,"senttime":"2026-07-15 10:30:00"}' % i
              for i in range(2)]
    r = bench.start()
    assert b"stored" in Fcgi(r.address()).send(post(bench.token, bodies[0])).body
    bench.cluster.stop(signal.SIGQUIT)
    assert b"spooled" in Fcgi(r.address()).send(post(bench.token, bodies[1])).body
    bench.cluster.start()
    bench.wait_drained()
    rows = bench.execute("""select occurred_at, device_id, status, source from sms.event
        order by id""")
    assert rows[0] == rows[1] and len(rows) == 2
    assert rows[0][:2] == (datetime(2026, 7, 15, 8, 30, tzinfo=timezone.utc), "till-7")


def test_a_duplicate_of_a_spooled_event_is_flagged(bench):
    body = b'{"event":"incoming_sms","phone":"+1","message":"twice"}'
    bench.cluster.stop(signal.SIGQUIT)
    r = bench.start()
    for _ in range(3):
        assert Fcgi(r.address()).send(post(bench.token, body)).status == 200
    bench.cluster.start()
    bench.wait_drained()
    rows = bench.execute("select id, duplicate_of from sms.event order by id")
    assert [d for _, d in rows] == [None, rows[0][0], rows[0][0]]


def expect_refused(bench, sender):
    """503, with Retry-After, until one is; nothing is to be found of it later."""
    def refused():
        entry = bench.ledger.send(sender, bench.token)
        return entry.status == 503
    wait_for("503", refused)
    answer = sender.send(bench.ledger.request(bench.token, 0)[1])
    assert answer.status == 503 and int(answer.header("Retry-After")) > 0
    assert answer.header("Content-Type") == "application/problem+json"


def expect_answer(bench, sender, result):
    """From now on, or in a moment."""
    def answered():
        entry = bench.ledger.send(sender, bench.token)
        return entry.status == 200 and entry.answer["result"] == result
    wait_for(result, answered)
    for _ in range(3):
        assert answered()


@pytest.mark.parametrize("way", ["fcgi", "cgi"])
def test_neither_way_open_and_back(bench, way):
    """A full spool, and one that is gone, with the database away."""
    bench.configure(spool="max_size = 64KiB")
    bench.cluster.stop(signal.SIGQUIT)
    r = bench.start()
    sender = Fcgi(r.address()) if way == "fcgi" else bench.cgi()
    expect_answer(bench, sender, "spooled")
    expect_refused(bench, sender)
    wait_for("bad health", lambda: health(r.address())[0] == 503)
    assert health(r.address())[1]["database"] == "down"
    # Room again, without the database.
    aside = give_folder(bench.folder / "aside")
    for name in bench.spool.names()[1:]:
        (bench.spool.folder / "new" / name).rename(aside / name)
    expect_answer(bench, sender, "spooled")
    for path in aside.iterdir():
        path.rename(bench.spool.folder / "new" / path.name)
    # The database again.
    bench.cluster.start()
    expect_answer(bench, sender, "stored")
    bench.check()
    # No directory: the database alone does; then neither; then the directory again.
    away = bench.spool.folder.rename(bench.folder / "away")
    bench.send(sender, times=3)
    bench.cluster.stop(signal.SIGQUIT)
    expect_refused(bench, sender)
    assert health(r.address())[0] == 503
    away.rename(bench.spool.folder)
    expect_answer(bench, sender, "spooled")
    wait_for("good health", lambda: health(r.address())[0] == 200)
    bench.cluster.start()
    bench.check()


def test_health_and_metrics_tell_the_state(bench):
    r = bench.start()
    address = r.address()
    wait_for("the database", lambda: health(address)[1]["database"] == "up")
    assert health(address) == (200, {"status": "ok", "database": "up", "spool_files": 0,
                                     "spool_bytes": 0, "spool_bad": 0})
    bench.send(Fcgi(address), times=3)
    bench.cluster.stop(signal.SIGQUIT)
    bench.send(Fcgi(address), times=4)
    size = sum((bench.spool.folder / "new" / n).stat().st_size for n in bench.spool.names())
    assert len(bench.spool.names()) == 4
    # A count may be a moment old, and is of whole blocks.
    wait_for("the count", lambda: health(address)[1]["spool_files"] == 4)
    status, body = health(address)
    assert (status, body["database"], body["spool_bad"]) == (200, "down", 0)
    assert size <= body["spool_bytes"] <= size + 4 * 4096
    wait_for("the count", lambda: metrics(address)["smshook_spool_files"] == 4)
    m = metrics(address)
    assert m['smshook_events_total{result="stored"}'] == 3
    assert m['smshook_events_total{result="spooled"}'] == 4
    assert m["smshook_database_up"] == 0 and m["smshook_drained_total"] == 0
    assert m["smshook_spool_bytes"] == body["spool_bytes"]
    assert m["smshook_spool_bad_files"] == 0
    write(bench.spool.folder / "new" / bench.spool.names()[0], "broken", 0o600)
    bench.cluster.start()
    wait_for("the drain", bench.spool.is_empty)
    wait_for("the count", lambda: health(address) == (200, {
        "status": "ok", "database": "up", "spool_files": 0, "spool_bytes": 0,
        "spool_bad": 1}))
    wait_for("the count", lambda: metrics(address)["smshook_spool_bad_files"] == 1)
    m = metrics(address)
    assert m["smshook_database_up"] == 1 and m["smshook_drained_total"] == 3
    assert m["smshook_spool_files"] == 0


def test_cgi_answers_before_it_drains(bench):
    """The web server has the answer while a file of the spool still waits for
    a lock in the database."""
    key = 4711
    bench.execute(f"""create function public.wait() returns trigger language plpgsql as $$
        begin if new.body = 'slow' then perform pg_advisory_xact_lock({key}); end if;
        return new; end $$;
        create trigger wait before insert on sms.event for each row
            execute function public.wait()""")
    apache = ApacheCgid(bench.top, None, bench.programs / "smshook.fcgi", bench.config)
    try:
        bench.cluster.stop(signal.SIGQUIT)
        http = Http(apache.port)
        assert b"spooled" in http.send(post(bench.token, sms("slow"))).body
        bench.cluster.start()
        with bench.connect() as c:
            c.execute("select pg_advisory_lock(%s)", [key])
            wait_for("the database to be tried", lambda: b"stored" in http.send(
                post(bench.token, sms("quick"))).body)
            wait_for("a drain that was not over before the answer", lambda: c.execute(
                """select count(*) from pg_locks
                where locktype = 'advisory' and not granted""").fetchone()[0], 5)
        wait_for("the drain", lambda: http.send(post(bench.token, sms("more")))
                 and bench.spool.is_empty())
        rows = bench.execute("select count(*) from sms.event where body = 'slow'")
        assert rows == [(1,)]
    finally:
        apache.stop()


def test_what_fails_by_itself_delays_nobody(bench):
    """An error that is no data error, but one event's alone: the others of its
    file, and all other files, go in; it waits until that is mended."""
    bench.execute("""create function public.poison() returns trigger language plpgsql as $$
        begin if new.body = 'poison' then raise 'not this one'; end if; return new; end $$;
        create trigger poison before insert on sms.event for each row
            execute function public.poison()""")
    r = bench.start()
    bench.cluster.stop(signal.SIGQUIT)
    bodies = [sms(b) for b in ("one", "poison", "two", "poison", "three")]
    assert {a.status for a in at_once(Fcgi(r.address()).send,
                                      [post(bench.token, b) for b in bodies])} == {200}
    for i in range(3):
        assert Fcgi(r.address()).send(post(bench.token, sms(f"later {i}"))).status == 200
    bench.cluster.start()
    good = {"one", "two", "three", "later 0", "later 1", "later 2"}

    def stored():
        return {b for b, in bench.execute("select body from sms.event")}
    wait_for("the others", lambda: stored() >= good)
    wait_for("the database to be used", lambda: json.loads(Fcgi(r.address()).send(
        post(bench.token, sms("live"))).body)["result"] != "spooled")
    assert "poison" not in stored() and not bench.spool.is_empty()
    assert "P0001" in r.log()
    assert "not this one" not in r.log(), "a trigger's message may quote the text"
    bench.execute("drop trigger poison on sms.event")
    bench.wait_drained()
    rows = bench.execute("select body, count(*) from sms.event group by 1")
    assert dict(rows)["poison"] == 2 and all(dict(rows)[b] == 1 for b in good)


def test_neighbours_in_one_file_that_fail_by_themselves(bench):
    """However many of them stand before an event that is good."""
    bench.execute("""create function public.poison() returns trigger language plpgsql as $$
        begin if new.body like 'poison%' then raise 'not this one'; end if;
        return new; end $$;
        create trigger poison before insert on sms.event for each row
            execute function public.poison()""")
    with bench.connect() as c:
        c.execute("select pg_advisory_lock(%s)", [INGEST_LOCK])
        r = bench.start()  # one file, for they wait together
        bodies = [f"poison {i}" for i in range(6)] + ["good 1", "good 2"]
        at_once(Fcgi(r.address()).send, [post(bench.token, sms(b)) for b in bodies])
    wait_for("the good ones", lambda: {b for b, in bench.execute(
        "select body from sms.event")} >= {"good 1", "good 2"})
    bench.execute("drop trigger poison on sms.event")
    bench.wait_drained()
    assert bench.execute("select count(distinct body), count(*) from sms.event") == [(8, 8)]


def test_a_file_that_cannot_be_removed(bench):
    """Its events are there once, it is told, and the drain does not spin."""
    bench.configure("host=/nowhere")
    r = bench.start()
    for i in range(3):
        assert Fcgi(r.address()).send(post(bench.token, sms(f"{i}"))).status == 200
    assert r.stop() == 0
    bench.configure()
    new = bench.spool.folder / "new"
    new.chmod(0o500)
    try:
        done = bench.command("spool", "drain")
        assert done.returncode == 1 and b"cannot be removed" in done.stderr
        r = bench.start()
        wait_for("the rows", lambda: bench.execute("select count(*) from sms.event") == [(3,)])
        time.sleep(2)
        assert r.log().count("cannot be removed") < 10
    finally:
        new.chmod(0o700)
    bench.wait_drained()
    assert bench.execute("select count(*) from sms.event") == [(3,)]


def test_many_that_fail_by_themselves_delay_nobody(bench):
    """At the head of the line, for the command as for the receiver: it is no
    outage, as some from further behind show."""
    bench.execute("""create function public.poison() returns trigger language plpgsql as $$
        begin if new.body like 'poison%' then raise 'not this one'; end if;
        return new; end $$;
        create trigger poison before insert on sms.event for each row
            execute function public.poison()""")
    bench.configure("host=/nowhere")
    r = bench.start()
    for i in range(12):
        assert Fcgi(r.address()).send(post(bench.token, sms(f"poison {i}"))).status == 200
    for i in range(6):
        assert Fcgi(r.address()).send(post(bench.token, sms(f"good {i}"))).status == 200
    assert r.stop() == 0
    bench.configure()
    good = [f"good {i}" for i in range(6)]
    wait_for("the others", lambda: bench.command("spool", "drain").returncode == 1
             and sorted(b for b, in bench.execute("select body from sms.event")) == good)
    assert len(bench.spool.names()) == 12
    r = bench.start()
    wait_for("the database to be used", lambda: json.loads(Fcgi(r.address()).send(
        post(bench.token, sms("live"))).body)["result"] != "spooled")
    bench.execute("drop trigger poison on sms.event")
    bench.wait_drained()
    assert bench.execute("select count(distinct body) from sms.event") == [(19,)]


def test_a_row_that_a_trigger_swallows_is_not_acknowledged_as_stored(bench):
    """The spool has it until the trigger is gone."""
    bench.execute("""create function public.swallow() returns trigger language plpgsql as $$
        begin return null; end $$;
        create trigger swallow before insert on sms.event for each row
            execute function public.swallow()""")
    r = bench.start()
    answer = Fcgi(r.address()).send(post(bench.token, sms("swallowed")))
    assert json.loads(answer.body) == {"result": "spooled"}
    assert "trigger" in r.log()
    bench.execute("drop trigger swallow on sms.event")
    bench.wait_drained()
    assert bench.execute("select body from sms.event") == [("swallowed",)]


def test_copies_of_a_file_are_drained_once(bench):
    """As after a restored backup, or two files put together by hand."""
    r = bench.start()
    bench.cluster.stop(signal.SIGQUIT)
    for i in range(3):
        assert Fcgi(r.address()).send(post(bench.token, sms(f"{i}"))).status == 200
    assert r.stop() == 0
    events = bench.spool.events()
    data = build(events + events[:1])
    write(bench.spool.folder / "new" / file_name(events, data), data, 0o600)
    bench.cluster.start()
    done = bench.command("spool", "drain")
    assert done.returncode == 0, done.stdout + done.stderr
    assert bench.spool.is_empty()
    assert sorted(bench.execute("select body from sms.event")) == [("0",), ("1",), ("2",)]


def test_pooler_loses_what_is_prepared(bench):
    """The statement is taken away from the server's session, and made another's."""
    pool = Pgbouncer(bench)
    bench.configure(pool.conninfo(bench.name))
    sender = lg.Fcgi(bench.start().address())
    bench.send(sender, times=3)
    with psycopg.connect(pool.conninfo(bench.name), autocommit=True, prepare_threshold=None) as c:
        (name,), = c.execute("select name from pg_prepared_statements").fetchall()
        c.execute("deallocate all")
        bench.send(sender, times=3)
        c.execute(f'prepare "{name}" as select 1')
        bench.send(lg.Fcgi(bench.start().address()), times=3)
        assert c.execute("select count(*) from pg_prepared_statements").fetchone() == (1,)
    assert bench.ledger.results() == {"stored": 9}, bench.logs()
    assert "database" not in bench.logs()
    bench.check()
