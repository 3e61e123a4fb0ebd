"""The administrator's command: migrate and check."""
import process
import pytest

import receiver as rx
from process import run

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
    assert "permission denied" in done.text


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


def test_check_old_schema(new_database, smshook):
    """A schema of another version is told, whichever way it differs."""
    database = new_database()
    row = database.rows("""select oid::regprocedure::text as name,
        obj_description(oid) as comment from pg_proc where proname = 'ingest'""")[0]
    database.connection.execute("comment on function {} is '{}'".format(
        row["name"], row["comment"].replace("schema version 1", "schema version 999")
        .replace("'", "''")))
    done = smshook("check", database.writer)
    assert done.returncode == 1
    assert "999" in done.text


def test_check_unknown_time_zone(database, smshook):
    """Europe is a folder of the machine's zones, and no zone."""
    done = smshook("check", database.writer, {"shop": "token = unused-0123456789\n"
                                              "timezone = Europe"})
    assert done.returncode in (1, 78)
    assert "Europe" in done.text


@pytest.mark.parametrize("arguments, status", [
    ([], 64), (["frobnicate"], 64), (["check", "migrate"], 64), (["-x", "check"], 64),
    (["--help"], 0), (["--version"], 0), (["-c", "/nowhere/x.conf", "check"], 78),
])
def test_usage(arguments, status, programs):
    done = run([programs / "smshook", *arguments], env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == status
    assert (done.stdout if status == 0 else done.stderr)


def test_help_names_every_command(programs):
    out = run([programs / "smshook", "--help"]).stdout.decode()
    for word in ("migrate", "check", "max_body", "conninfo"):
        assert word in out
