"""The units in a Debian that tests/matrix.sh has booted and tests/booted.sh has
installed smshook in.  SMSHOOK_BOOTED says so; nothing of this is for any other
machine."""
import json
import os
import random
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import psycopg
import pytest

import ledger as lg
from drivers import Http, get
from process import wait_for
from spooldir import Spool

pytestmark = pytest.mark.skipif("SMSHOOK_BOOTED" not in os.environ,
                                reason="for the system that tests/matrix.sh boots")

CONFIG = Path("/etc/smshook/smshook.conf")
SPOOL = Path("/var/lib/smshook/spool")
TIMES = 20


def command(*arguments, code=0):
    """As root; its output.  process.run() would be a plain user."""
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          universal_newlines=True)
    assert done.returncode == code, (arguments, done.stdout)
    return done.stdout


def show(name, unit="smshook.service"):
    return command("systemctl", "show", "--property", name, unit).partition("=")[2].strip()


def pid():
    return int(show("MainPID"))


class Site:
    def __init__(self):
        self.token = re.search(r"^token = (\w+)$", CONFIG.read_text(), re.M)[1]
        self.ledger, self.http = lg.Ledger(), Http(80)
        with self.connect() as c:
            c.execute("truncate sms.event, sms.rejected, sms.message")

    def connect(self):
        return psycopg.connect("host=/var/run/postgresql dbname=sms", autocommit=True)

    def post(self, status=200):
        entry = self.ledger.send(self.http, self.token)
        assert entry.status == status, (entry, journal())
        return entry.answer

    def health(self):
        answer = self.http.send(get("/healthz"))
        return answer.status, json.loads(answer.body or b"{}") if answer.status == 200 else None

    def is_up(self):
        status, health = self.health()
        return status == 200 and health["database"] == "up"

    def check(self):
        wait_for("the spool to be drained", lambda: not list((SPOOL / "new").iterdir()))
        with self.connect() as c:
            lg.check(self.ledger, c, Spool(SPOOL))


def journal():
    return command("journalctl", "--no-pager", "-u", "smshook.service", "-n", "50")


@pytest.fixture
def site():
    s = Site()
    wait_for("the receiver", s.is_up)
    yield s
    s.check()
    assert s.token not in command("journalctl", "--no-pager")


def test_is_installed(site):
    assert site.post()["result"] == "stored"
    command("setpriv", "--reuid=smshook", "--regid=smshook", "--init-groups", "--",
            "smshook", "check")
    assert show("UnitFileState") == "enabled"
    assert show("UnitFileState", "smshook.socket") == "enabled"


def test_units_are_clean(site):
    said = command("systemd-analyze", "verify", "--man=no", "smshook.service", "smshook.socket")
    # Debian 11 has not heard of Landlock.
    assert not [line for line in said.splitlines() if "smshook" in line
                and not re.search("ignoring: landlock_", line)], said
    exposure = re.search(r"exposure level for smshook.service: ([\d.]+)",
                         command("systemd-analyze", "--no-pager", "security", "smshook.service"))
    assert float(exposure[1]) <= 1.2


def test_is_confined(site):
    status = Path(f"/proc/{pid()}/status").read_text()
    for line in (r"NoNewPrivs:\t1", r"Seccomp:\t2", r"Cap(Prm|Eff|Bnd|Amb):\t0+", "Umask:\t0077"):
        assert re.search(f"^{line}$", status, re.M), status
    # Not even root could write anywhere else in there.
    inside = ["nsenter", "--mount", f"--target={pid()}", "touch"]
    command(*inside, SPOOL / "x")
    (SPOOL / "x").unlink()
    for folder in ("/", "/etc", "/usr", "/var", "/var/lib", "/var/log", "/run", "/home"):
        assert "Read-only" in command(*inside, f"{folder}/x", code=1), folder
    socket = Path("/run/smshook/smshook.sock").stat()
    assert oct(socket.st_mode & 0o777) == "0o660"
    spool = SPOOL.stat()
    assert oct(spool.st_mode & 0o777) == "0o700" and spool.st_uid != 0


def under_load(site, action):
    """So many times, and nobody sees anything but 200."""
    with lg.Load(site.ledger, 6, site.token, lambda: Http(80), 0.004, with_rejects=False):
        for _ in range(TIMES):
            time.sleep(random.uniform(0.05, 0.3))
            action()
    assert set(site.ledger.statuses()) == {200}, (site.ledger.statuses(), journal())
    assert len(site.ledger.entries) > 10 * TIMES


def test_restarts_under_load(site):
    pids = {pid()}

    def restart():
        command("systemctl", "restart", "smshook.service")
        pids.add(pid())
    under_load(site, restart)
    assert len(pids) == TIMES + 1


def test_reloads_under_load(site):
    """A token is changed by two lines and reloads."""
    before = pid()
    under_load(site, lambda: command("systemctl", "reload", "smshook.service"))
    text, old = CONFIG.read_text(), site.token
    site.token = old[::-1]
    CONFIG.write_text(text + f"token = {site.token}\n")
    command("systemctl", "reload", "smshook.service")
    entry = wait_for("the new token", lambda: try_post(site))
    assert entry.answer["result"] == "stored"
    assert pid() == before
    CONFIG.write_text(text)
    command("systemctl", "restart", "smshook.service")
    site.token = old
    wait_for("the receiver", site.is_up)


def try_post(site):
    entry = site.ledger.send(site.http, site.token)
    if entry.status == 200:
        return entry
    del site.ledger.entries[entry.uid]  # 401: nothing is kept
    return None


def test_killed(site):
    for _ in range(5):
        before = pid()
        os.kill(before, signal.SIGKILL)
        wait_for("the next one", lambda: pid() not in (0, before))
        assert site.post()["result"] in ("stored", "spooled")


def test_a_request_starts_it(site):
    command("systemctl", "stop", "smshook.service")
    assert pid() == 0
    site.post()
    assert pid() != 0


def test_database_away(site):
    server = f"postgresql@{os.listdir('/etc/postgresql')[0]}-main"
    command("systemctl", "stop", server)
    for _ in range(10):
        assert site.post()["result"] == "spooled"
    command("systemctl", "restart", "smshook.service")
    assert site.post()["result"] == "spooled"
    command("systemctl", "start", server)
    wait_for("the database", site.is_up)


def test_a_mended_configuration_is_all_it_needs(site):
    """Requests wait at the socket meanwhile, as long as nginx has patience."""
    good = CONFIG.read_text()
    CONFIG.write_text(good + "\nbad = key\n")
    waiting = [threading.Thread(target=site.ledger.send, args=(site.http, site.token))
               for _ in range(10)]
    try:
        command("systemctl", "restart", "smshook.service")
        for thread in waiting:
            thread.start()
        wait_for("some restarts", lambda: int(show("NRestarts")) >= 5)
    finally:
        CONFIG.write_text(good)
    for thread in waiting:
        thread.join()
    wait_for("the receiver", site.is_up)
    assert site.ledger.statuses() == {200: 10}
    site.post()
