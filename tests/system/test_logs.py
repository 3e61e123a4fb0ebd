"""What logs tell, and what they must not.  That no log of any test tells a canary
is asked at the end of all: conftest.py."""
import base64
import re

import pytest

import canary
import receiver as rx
from drivers import Fcgi, cgi_variables, parse_cgi, post
from fcgi_client import Connection
from load import sms
from process import run, wait_for, write

# Not those of canary.py, for here PostgreSQL is made to tell them.
PHONE, WORD = "+4930999888777", "Pfauenauge"
TOKEN = canary.TOKEN + "0" * 26


@pytest.mark.parametrize("line, is_told", [
    (canary.TEXT, True), ("x" + canary.TEXT.upper(), True),
    (canary.TEXT.encode().hex(), True), (canary.PHONE, True),
    ("0049 (151) 123-45678", True), ("/smshook/" + TOKEN, True),
    ("%6B%61%6E%61%72%69", True), (r"\x6b\x61\x6e\x61\x72\x69", True),
    *((base64.b64encode(f"{user}:{TOKEN}".encode()).decode(), True)
      for user in ("", "a", "gw")),
    ("+491********78", False), ("/smshook/***", False), ("1234 5678 90", True)])
def test_canary_is_found(line, is_told, top):
    folder = rx.new_folder(top, "canary")
    write(folder / "error.log", f"one\n{line}\nthree\n")
    n, told = canary.search(folder)
    (folder / "error.log").unlink()
    assert n == 1 and len(told) == is_told, told
    assert not is_told or "error.log:2:" in told[0]


# ------------------------------------------------------------- PostgreSQL

class Server:
    """What PostgreSQL logs of one receiver, with settings of its database."""

    def __init__(self, postgres, database, start, text, token):
        self.postgres, self.database, self.start = postgres, database, start
        self.text, self.token, self.begin = text, token, 0

    def tells(self, settings, status=200):
        """Of one event that is sent: its log."""
        name = self.database.name
        for setting in settings:
            self.postgres.execute(f"alter database {name} set {setting}")
        self.begin = len(self.postgres.process.text())
        try:
            r = self.start(self.text())
            answer = Fcgi(r.address()).send(post(self.token, sms(WORD, PHONE)))
            assert answer.status == status
            r.stop()
            # another backend writes behind all that was written before
            self.postgres.execute("do $$ begin raise warning 'the end'; end $$")
            wait_for("the log", lambda: "the end" in self.log())
        finally:
            self.postgres.execute(f"alter database {name} reset all")
        return self.log()

    def log(self):
        return self.postgres.process.text()[self.begin:]


@pytest.fixture
def server(postgres, database, start, text, token):
    return Server(postgres, database, start, text, token)


def is_told(log):
    return [secret for secret in (PHONE, WORD, WORD.encode().hex()) if secret in log]


ALL = ["log_statement = 'all'", "log_min_duration_statement = 0"]


def test_postgresql_logs_statements_without_parameters(server):
    """By the setting that SECURITY.md names."""
    log = server.tells([*ALL, "log_parameter_max_length = 0"])
    assert "from sms.ingest($1, $2" in log
    assert not is_told(log)


def test_postgresql_logs_parameters_when_it_is_told_to(server):
    """So it must be named."""
    assert is_told(server.tells(ALL)) == [PHONE, WORD]


@pytest.mark.parametrize("verbosity", ["default", "terse"])
def test_postgresql_logs_a_row_that_breaks_a_rule(server, database, verbosity):
    """A rule of somebody else's: none of ours can be broken."""
    database.connection.execute(
        f"alter table sms.event add constraint theirs check (body <> '{WORD}')")
    try:
        log = server.tells([f"log_error_verbosity = {verbosity}"], 500)
    finally:
        database.connection.execute("alter table sms.event drop constraint theirs")
    assert 'violates check constraint "theirs"' in log
    assert bool(is_told(log)) == (verbosity == "default")


# --------------------------------------------------------- bytes of strangers

HOSTILE = {"newline": b"1.2.3.4\nsmshook.fcgi: error: forged", "escape": b"\x1b[2J\x1b]0;x\x07",
           "long": b"A" * 8192, "no UTF-8": b"\xff\xfe\xc0\xaf", "nul": b"a\0b",
           "C1": "\u009b31m".encode(), "bidi": "\u202eabc".encode(), "format": b"%s%n%99999d"}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_strangers_say_of_themselves(name, start, text, token, database, programs):
    """It is in no log, and on no terminal as it came."""
    r = start(text())
    for body in (b"no JSON", b"{}", b"a=b", b'{"event":"incoming_sms","phone":1}'):
        variables = cgi_variables(post(token, body))
        for field in (b"REMOTE_ADDR", b"CONTENT_TYPE", b"HTTP_USER_AGENT", b"HTTP_X_WEBHOOK_TOKEN",
                      b"HTTP_HOST", b"SERVER_NAME", b"SERVER_PROTOCOL"):
            variables[field] = HOSTILE[name]
        with Connection(r.address(), 60) as c:
            assert parse_cgi(c.ask(variables, body)).status in (200, 400, 415, 422)
    lines = r.process.log.read_bytes().split(b"\n")
    assert lines.pop() == b""
    for line in lines:
        assert re.fullmatch(rb"smshook\.fcgi: (info|warn): [ -~]{1,1030}", line), line
    assert b"forged" not in b"".join(lines)
    ids = [str(row["id"]) for row in database.rejected()]
    assert len(ids) == 3
    config = ["-c", r.config, "-d", database.postgres.conninfo(database.name)]
    shown = run([programs / "smshook", *config, "rejected", "list"]).stdout
    for id_ in ids:
        shown += run([programs / "smshook", *config, "rejected", "show", id_]).stdout
    assert not re.search("[\0-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown.decode())


# ------------------------------------------------------------- passwords

CONNINFO = (
    "postgres://u:hunter@two2@127.0.0.1:1/sms", "postgres://u:hunter/two2@127.0.0.1:1/sms",
    "postgres://u:hunter:two2@127.0.0.1:1/sms", "postgres://u:hunter#two2@127.0.0.1:1/sms",
    "postgres://u:hunter?two2@127.0.0.1:1/sms", "postgres://u:hunter%two2@127.0.0.1:1/sms",
    "postgres://u:hunter%00two2@127.0.0.1:1/sms", "postgres://u:hunter two2@127.0.0.1:1/sms",
    "postgres://u:hunter@[two2@127.0.0.1:1/sms", "postgres://hunter:two2@/a@b:1/sms",
    "host=127.0.0.1 port=1 password=hunter two2", "host=127.0.0.1 port=1 password='hunter two2",
    "host=127.0.0.1 port=1 password = hunter'two2", "host=/nonexistent password=hunter\\two2",
    "host=127.0.0.1 port=1 passwort=hunter-two2", "hunter=two2")


@pytest.mark.parametrize("conninfo", CONNINFO)
def test_no_password_of_conninfo_is_told(conninfo, programs, top):
    config = rx.write_config(top, rx.config_text(conninfo, {"x": "token = unused-0123456789"}))
    done = run([programs / "smshook", "-c", config, "check"])
    said = done.stdout + done.stderr
    assert done.returncode and b"conninfo" in said
    assert b"two2" not in said
    assert b"hunter" not in said or conninfo == "hunter=two2", said


def test_no_wrong_password_is_told(programs, top, database):
    conninfo = database.postgres.conninfo(database.name, "locked", "password=hunter2")
    config = rx.write_config(top, rx.config_text(conninfo, {"x": "token = unused-0123456789"}))
    done = run([programs / "smshook", "-c", config, "check"])
    assert b"authentication failed" in done.stdout
    assert b"hunter" not in done.stdout + done.stderr


def test_no_message_of_postgresql_moves_the_terminal(programs, database):
    conninfo = database.postgres.conninfo("'a\x1b[2J\x07 \u009b31m'")
    done = run([programs / "smshook", "-d", conninfo, "purge", "--older-than", "1d"])
    assert b"FAIL" in done.stderr and b"does not exist" in done.stderr
    assert b"\x1b" not in done.stderr and b"\x07" not in done.stderr
    assert "\u009b" not in done.stderr.decode()
