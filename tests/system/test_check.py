"""The administrator's command: migrate and check."""
import signal
import subprocess
from types import SimpleNamespace

import process
import pytest

import receiver as rx
from postgres import INGEST_LOCK
from process import run
from test_faults_database import Pgbouncer

SOURCE = {"shop": "token = unused-0123456789"}


@pytest.fixture
def smshook(programs, top):
    """smshook(command, conninfo) -> finished process, output as text."""
    def call(command, conninfo, sources=None):
        config = rx.write_config(top, rx.config_text(conninfo, sources or SOURCE))
        done = run([programs / "smshook", "-c", config, command])
        done.text = (done.stdout + done.stderr).decode()
        rx.check_log(done.text, config.read_text())
        return done
    return call


def test_migrate_twice(postgres, smshook):
    conninfo = postgres.conninfo(postgres.create())
    first, second = smshook("migrate", conninfo), smshook("migrate", conninfo)
    assert first.returncode == second.returncode == 0, first.text + second.text
    assert "001_events" in first.text
    assert "001_events" not in second.text
    with postgres.connect(conninfo.split("dbname=")[1].split()[0]) as c:
        assert c.execute("select count(*) from sms.schema_version").fetchone()[0] >= 1


def test_migrate_two_at_once(postgres, programs, top):
    name = postgres.create()
    config = rx.write_config(top, rx.config_text(postgres.conninfo(name), SOURCE))
    both = [process.Process([programs / "smshook", "-c", config, "migrate"],
                            top / f"migrate{i}.log") for i in range(2)]
    for p in both:
        assert p.wait() == 0, p.text()
    with postgres.connect(name) as c:
        rows = c.execute("select version, count(*) from sms.schema_version group by 1")
        assert all(n == 1 for _, n in rows)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_migrate_refuses_encoding(encoding, postgres, smshook):
    name = postgres.create(f"template template0 encoding '{encoding}' lc_collate 'C' "
                           "lc_ctype 'C'")
    done = smshook("migrate", postgres.conninfo(name))
    assert done.returncode == 1
    assert encoding in done.text and "UTF8" in done.text
    with postgres.connect(name) as c:
        assert c.execute("select to_regnamespace('sms')").fetchone()[0] is None


def test_migrate_without_permission(postgres, template, smshook):
    done = smshook("migrate", postgres.conninfo(postgres.create(), "stranger"))
    assert done.returncode == 1
    assert "permission denied" in done.text and "CREATE on the database" in done.text
    assert "smshook_writer" not in done.text, "which would not help it"


def test_migrate_through_a_pooler(postgres, smshook, top):
    """Its lock stays with no session of the pool."""
    name = postgres.create()
    pool = Pgbouncer(SimpleNamespace(folder=process.new_folder(top, "p"), cluster=postgres))
    done = smshook("migrate", pool.conninfo(name, "postgres"))
    assert done.returncode == 0, done.text
    with postgres.connect(name) as c:
        assert c.execute("select * from pg_locks where locktype = 'advisory'").fetchall() == []
    assert smshook("migrate", postgres.conninfo(name)).returncode == 0
    pool.stop()


def test_check_all_good(database, smshook):
    database.empty()
    for user in ("postgres", "receiver"):
        done = smshook("check", database.postgres.conninfo(database.name, user))
        assert done.returncode == 0, done.text
        assert "FAIL" not in done.text
    assert database.events() == [], "the trial event was not taken back"


def test_check_failures(database, postgres, smshook):
    empty = postgres.create()
    for conninfo, *words in (
            (postgres.conninfo(empty), "smshook migrate"),
            (postgres.conninfo(empty, "receiver"), "smshook migrate"),
            (postgres.conninfo("nowhere"), "nowhere", "does not exist"),
            (postgres.conninfo(database.name, "ghost"), "ghost", "does not exist"),
            (postgres.conninfo(database.name, "locked", "password=bad-pass"), "locked",
             "password"),
            (postgres.conninfo(database.name, "locked"), "password"),
            (postgres.conninfo(database.name, "stranger"), "permission", "smshook_writer"),
            ("host=/nowhere dbname=x", "conninfo"),
            ("host=127.0.0.1 port=1 dbname=x", "conninfo")):
        done = smshook("check", conninfo)
        assert done.returncode == 1, done.text
        assert "FAIL" in done.text
        for word in words:
            assert word in done.text, (word, done.text)
        assert "bad-pass" not in done.text


def test_check_right_password(database, postgres, smshook):
    done = smshook("check", postgres.conninfo(database.name, "locked", "password=right"))
    assert done.returncode == 0, done.text


@pytest.mark.parametrize("comment, words", [
    ("... Schema version 1.", ["version 1", "smshook migrate"]),
    ("... Schema version 999.", ["999", "newer"]),
    ("of another", ["warn  the comment on schema sms"])])
def test_check_schema_of_another_version(comment, words, new_database, smshook):
    database = new_database()
    database.connection.execute(f"comment on schema sms is '{comment}'")
    done = smshook("check", database.writer)
    assert done.returncode == ("Schema" in comment)
    for word in words:
        assert word in done.text


@pytest.mark.long
@pytest.mark.parametrize("command", ["check", "retry"])
def test_a_client_that_stands_still(command, new_database, programs, top):
    """It has called sms.ingest, and so the lock of all ingestion: the server ends it."""
    database = new_database()
    config = rx.write_config(top, rx.config_text(database.postgres.conninfo(
        database.name, more="application_name=still"), SOURCE))
    database.connection.execute(
        """insert into sms.rejected (received_at, source, http_status, reason, body, ingest_id)
        values (now(), 'shop', 422, 'x', '{"event":"x"}', gen_random_uuid())""")
    session = "select state from pg_stat_activity where application_name = 'still'"
    with database.postgres.connect(database.name) as holder:
        with holder.transaction():
            holder.execute("select pg_advisory_xact_lock(%s)", [INGEST_LOCK])
            p = process.Process([programs / "smshook", "-c", config,
                                 *(["rejected", "retry"] if command == "retry" else ["check"])],
                                top / f"still-{command}.log")
            process.wait_for("it to wait", lambda: database.value(
                "select count(*) from pg_locks where locktype = 'advisory' and not granted"))
            p.send(signal.SIGSTOP)
    process.wait_for("it to stand", lambda: database.value(session) == "idle in transaction")
    process.wait_for("the server to end it", lambda: not database.rows(session))
    assert database.events() == [] and len(database.rejected()) == 1
    p.send(signal.SIGCONT)
    assert p.wait() == 1
    assert "FAIL" in p.text()


def test_check_tells_of_a_pooler(database, smshook, top):
    """It passes on a notification of the session's own, and no other."""
    pool = Pgbouncer(SimpleNamespace(folder=process.new_folder(top, "p"),
                                     cluster=database.postgres))
    done = smshook("check", pool.conninfo(database.name))
    assert done.returncode == 0
    assert "warn  a notification does not come back" in done.text
    pool.stop()


def test_check_unknown_time_zone(database, smshook):
    """Europe is a folder of the machine's zones, and no zone."""
    done = smshook("check", database.writer, {"shop": "token = unused-0123456789\n"
                                              "timezone = Europe"})
    assert done.returncode in (1, 78)
    assert "Europe" in done.text


# ------------------------------------------------------------------------ -d

@pytest.fixture
def bare(programs):
    """bare(argument...): without a configuration anywhere."""
    def call(*arguments):
        done = run([programs / "smshook", *arguments], env={
            "PATH": "/usr/bin:/bin", "SMSHOOK_CONFIG": "/nowhere/smshook.conf"})
        done.text = (done.stdout + done.stderr).decode()
        return done
    return call


def test_database_without_a_configuration(bare, postgres):
    conninfo = postgres.conninfo(postgres.create())
    for command in (["migrate"], ["purge", "--older-than", "90d"], ["rejected", "list"]):
        assert bare("-d", conninfo, *command).returncode == 0
        assert bare(*command).returncode == 78, "without -d it needs one"
    for command in (["check"], ["spool", "list"], ["rejected", "retry"]):
        assert bare("-d", conninfo, *command).returncode == 78


def test_database_in_place_of_the_configurations(postgres, programs, top, database):
    config = rx.write_config(top, rx.config_text("host=/nowhere", SOURCE))
    done = run([programs / "smshook", "-c", config, "-d", database.writer, "check"])
    assert done.returncode == 0, done.stdout


def test_database_that_is_none(bare):
    for conninfo in ("host=/nowhere dbname=x", "nonsense", "password='x-secret bad"):
        done = bare("-d", conninfo, "migrate")
        assert done.returncode in (1, 78)
        assert "-d" in done.text and "x-secret" not in done.text
    assert "dbname=sms" in done.text


@pytest.mark.parametrize("command", ["migrate", "check", "spool", "tail", "rejected", "purge"])
def test_help_of_a_command(command, bare):
    done = bare(command, "--help")
    assert done.returncode == 0
    assert done.text.startswith("Usage: smshook") and f" {command}" in done.text


@pytest.mark.long
@pytest.mark.parametrize("table, mode", [
    ("sms.event", "row exclusive"), ("sms.schema_version", "access exclusive")])
def test_migrate_does_not_wait_long_for_a_lock(table, mode, new_database, bare):
    """It names who holds it, not an older reader, and the receiver can go on."""
    database = new_database()
    conninfo = database.postgres.conninfo(database.name, more="application_name=migrate")
    for row in database.rows("select version from sms.schema_version where version > 3"):
        database.connection.execute("delete from sms.schema_version where version = %s",
                                    [row["version"]])
    database.connection.execute("""create function wait() returns event_trigger language plpgsql
        as $$ begin if current_setting('application_name') = 'migrate' then
        lock table sms.event in share row exclusive mode; end if; end $$""")
    database.connection.execute(
        "create event trigger wait on ddl_command_start execute function wait()")
    with database.postgres.connect(database.name, application_name="reader") as reader, \
            database.postgres.connect(database.name, application_name="writer") as holder:
        with reader.transaction(), holder.transaction():
            reader.execute("select count(*) from sms.event")
            holder.execute(f"lock table {table} in {mode} mode")
            pid = holder.info.backend_pid
            done = bare("-d", conninfo, "migrate")
    assert done.returncode == 1
    for word in ("55P03", f"session {pid}", "writer", table, "pg_terminate_backend",
                 "migrate again"):
        assert word in done.text, done.text


# -------------------------------------------------------------------- output

# Messages of PostgreSQL's protocol: a statement, then Sync, to fill the buffer.
STATEMENT = b"drop table public.victim\0"
FORGED = b"Q" + (4 + len(STATEMENT)).to_bytes(4, "big") + STATEMENT + 1200 * b"S\0\0\0\4"


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-"])
def test_closed_standard_files(closed, new_database, postgres, programs):
    """The connection does not become one of them, with what strangers wrote on it."""
    database = new_database()
    database.connection.execute("create table public.victim ()")
    number = database.value(
        """insert into sms.rejected (received_at, source, http_status, reason, body, ingest_id)
        values (now(), 'x', 400, 'x', %s, gen_random_uuid()) returning id""", FORGED)
    empty = postgres.create()
    for name, *arguments in ((database.name, "rejected", "show", "--text", str(number)),
                             (database.name, "rejected", "list"), (empty, "migrate")):
        done = run(["sh", "-c", f'exec "$@" {closed}', "sh", programs / "smshook", "-d",
                    postgres.conninfo(name), *arguments])
        assert done.returncode == 0, (arguments, done)
    assert database.value("select to_regclass('public.victim')::text") == "victim"
    with postgres.connect(empty) as c:
        assert c.execute("select count(*) from sms.event").fetchone() == (0,)


@pytest.mark.parametrize("arguments", [
    ["--help"], ["--version"], ["purge", "--help"], ["check"], ["migrate"], ["spool", "retry"],
    ["rejected", "list"], ["rejected", "show", "1"], ["rejected", "show", "--text", "1"],
    ["purge", "--older-than", "90d"], ["tail"], ["sample"]])
def test_output_that_cannot_be_written(arguments, new_database, programs, top):
    database = new_database()
    database.connection.execute(
        """insert into sms.rejected (id, received_at, source, http_status, reason, body,
        ingest_id) overriding system value
        values (1, now(), 'x', 400, 'x', 'x', gen_random_uuid())""")
    database.connection.execute(
        """insert into sms.event (id, received_at, source, kind, ingest_id)
        values (nextval('sms.event_id'), now(), 'x', 'x', gen_random_uuid())""")
    config = rx.write_config(top, rx.config_text(
        database.postgres.conninfo(database.name), SOURCE))
    with open("/dev/full", "wb") as full:
        done = subprocess.run([programs / "smshook", "-c", config, *arguments], stdout=full,
                              stderr=subprocess.PIPE, cwd="/", timeout=2 * process.SLOW,
                              **process.plain_user())
    assert done.returncode == 1
    assert done.stderr.count(b"the output cannot be written") == 1


# --------------------------------------------------------------------- usage

@pytest.mark.parametrize("arguments, status", [
    ([], 64), (["frobnicate"], 64), (["check", "migrate"], 64), (["-x", "check"], 64),
    (["migrate", "-d", "dbname=sms"], 64), (["tail", "-d", "dbname=sms"], 64),
    (["--help"], 0), (["--version"], 0), (["-c", "/nowhere/x.conf", "check"], 78),
])
def test_usage(arguments, status, programs):
    done = run([programs / "smshook", *arguments], env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == status
    assert (done.stdout if status == 0 else done.stderr)
    assert "-d" not in arguments or b"-d go before the command" in done.stderr
    assert b"invalid option" not in done.stderr or arguments[0] == "-x"


def test_help_names_every_command(programs):
    out = run([programs / "smshook", "--help"]).stdout.decode()
    for word in ("migrate", "check", "tail", "rejected retry", "purge", "max_body", "conninfo"):
        assert word in out
