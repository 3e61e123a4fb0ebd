"""Faults of the receiver's own processes, and of its clients."""
import os
import signal
import socket
import struct
import subprocess
import time

import pytest

import fcgi_client
import ledger as lg
import receiver as rx
from drivers import Fcgi, cgi_variables, http_head
from harness import (SECONDS, SOON, Supervisor, bench, breakable, health,  # noqa: F401
                     listener, pause)
from postgres import INGEST_LOCK
from process import plain_user, run, wait_for, write


@pytest.fixture
def supervise():
    """supervise(bench, ...) keeps a receiver running until the test ends."""
    started = []

    def make(*arguments, **more):
        started.append(Supervisor(*arguments, **more))
        return started[-1]
    yield make
    for s in started:
        if s.thread.is_alive():
            s.stop()


@pytest.mark.parametrize("state", ["up", "down", "back"])
def test_fault_01_kill_receiver(bench, supervise, state):
    """kill -9 while it commits, while it spools, and while it drains."""
    s = supervise(bench)
    if state != "up":
        bench.cluster.stop(signal.SIGQUIT)
    with bench.load(8, lambda: lg.Fcgi(s.socket)):
        if state == "back":
            time.sleep(SECONDS / 6)
            bench.cluster.start()
        end = time.monotonic() + SECONDS / 3
        while time.monotonic() < end:
            pause(*((0, 0.2) if state == "back" else (0.3, max(0.6, min(2, SECONDS / 10)))))
            s.restart(signal.SIGKILL)
            bench.spool.events()  # every file in new/ is whole
    if not bench.cluster.process.running():
        bench.cluster.start()
    bench.wait_drained()
    s.stop()
    assert s.codes.count(-signal.SIGKILL) >= 2
    assert set(bench.ledger.statuses()) <= {None, 200, 400, 415, 422}
    assert bench.ledger.results()["stored" if state == "up" else "spooled"] > 0
    # What a killed process had begun to write is nobody's.
    for name in bench.spool.names("tmp"):
        (bench.spool.folder / "tmp" / name).unlink()
    bench.check()


def test_fault_13_drainers_and_receivers_at_once(bench):
    """Two commands, two receivers and CGI, all on one spool."""
    bench.cluster.stop(signal.SIGQUIT)
    several = [bench.start() for _ in range(2)]
    addresses = [r.address() for r in several]

    def make_fcgi():
        addresses.append(addresses.pop(0))
        return lg.Fcgi(addresses[0])
    with bench.load(6, make_fcgi), bench.load(1, bench.cgi):
        wait_for("a full spool", lambda: len(bench.spool.names()) > 200)
        bench.cluster.start()
        drains, codes = 0, set()
        while not bench.spool.is_empty() or drains < 3:
            drainers = [subprocess.Popen(
                [str(bench.programs / "smshook"), "-c", str(bench.config), "spool", "drain"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **plain_user())
                for _ in range(2)]
            for d in drainers:
                d.wait(60)
                codes.add(d.returncode)
            drains += 1
            assert drains < 200, bench.logs()
    assert codes <= {0, 1}  # 1: something came after it had looked
    bench.check_all_kept()


def test_fault_19_restart_on_a_shared_listener(bench, supervise, listener):
    """SIGTERM under load: clients do not notice."""
    s = supervise(bench, listener)
    with bench.load(6, lambda: lg.Fcgi(listener.getsockname(), keep=False)):
        for _ in range(int(os.environ.get("SMSHOOK_FAULT_RESTARTS", "20"))):
            pause(0.05, 0.3)
            s.wait_ready()
            began = time.monotonic()
            s.restart(signal.SIGTERM)
            assert time.monotonic() - began < SOON
    s.stop()
    assert set(s.codes) == {0}
    assert None not in bench.ledger.statuses()
    bench.check_all_kept()


# ------------------------------------------------- clients that go (fault 29)

class Vanishing:
    """Sends a whole request, waits for hold(), and is gone without reading."""

    def __init__(self, connect, bytes_of, reset):
        self.connect, self.bytes_of, self.reset = connect, bytes_of, reset

    def send(self, request):
        with self.connect() as s:
            s.sendall(self.bytes_of(request))
            self.hold()
            if self.reset:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return None

    def close(self):
        pass


def vanishing(site, way, reset):
    if way == "fcgi":
        return Vanishing(lambda: fcgi_client.Connection(site.receiver.socket).socket,
                         lambda r: fcgi_client.request(cgi_variables(r), r.body), reset)
    port = site.server(way).port
    return Vanishing(lambda: socket.create_connection(("127.0.0.1", port)),
                     lambda r: http_head(r) + r.body, reset)


class VanishingCgi:
    """Nobody reads what the program writes; a web server may also send SIGTERM
    when the client has gone."""

    def __init__(self, cgi, is_terminated):
        self.cgi, self.is_terminated, self.started = cgi, is_terminated, []

    def send(self, request):
        env = {b"SMSHOOK_CONFIG": str(self.cgi.config).encode(), **cgi_variables(request)}
        read, out = os.pipe()
        with open(self.cgi.log, "ab") as log:
            program = subprocess.Popen([str(self.cgi.program)], stdin=subprocess.PIPE,
                                       stdout=out, stderr=log, env=env, cwd="/",
                                       **plain_user())
        self.started.append(program)
        os.close(out)
        program.stdin.write(request.body)
        program.stdin.close()
        self.hold()
        os.close(read)
        if self.is_terminated:
            program.terminate()
        return None

    def close(self):
        for program in self.started:
            program.wait(SOON)


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize("way", ["cgi", "fcgi", "nginx", "apache-proxy", "apache-cgid",
                                 "lighttpd"])
def test_fault_29_client_is_gone(site, way, reset):
    """After its body and before its answer: what is committed at last, or goes
    to the spool for the commit takes too long, is kept once."""
    site.database.empty()
    ledger, token = lg.Ledger("main"), site.tokens["main"][0]
    new = rx.spool_of(site.config) / "new"
    if way == "cgi":
        sender = VanishingCgi(site.driver("cgi"), reset)
    else:
        sender = vanishing(site, way, reset)
    with site.database.postgres.connect(site.database.name) as c:
        def waits():
            return c.execute("select count(*) from pg_locks where locktype = 'advisory' "
                             "and not granted").fetchone()[0]
        sender.hold = lambda: wait_for("the commit to begin", waits)
        for n in range(3):
            c.execute("select pg_advisory_lock(%s)", [INGEST_LOCK])
            entry = ledger.send(sender, token, n)
            if n == 2:  # beyond the database's time-out
                wait_for("the database to be given up", lambda: list(new.iterdir()))
            c.execute("select pg_advisory_unlock_all()")
            wait_for("its row", lambda: site.database.value(
                "select count(*) from sms.event where payload::text like %s",
                f"%{entry.uid}%"))
            entry.status, entry.answer = 200, {"result": "spooled"}  # it must be there
        lg.check(ledger, c)
    sender.close()


# ---------------------------------------------------------- start (fault 30)

def test_fault_30_database_away_at_start(bench):
    bench.cluster.stop(signal.SIGQUIT)
    r = bench.start()
    bench.send(Fcgi(r.address()), times=5)
    assert bench.ledger.results() == {"spooled": 5}
    bench.send(bench.cgi(), times=2)
    assert health(r.address())[1]["database"] == "down"
    bench.cluster.start()
    bench.check_all_kept()


SECRET = "hunter2-secret-0123456789"
BAD_CONFIGS = {
    "unknown key": "[server]\nthread = 5\n[source shop]\ntoken = {0}\n",
    "bad value": "[spool]\nmax_size = 1 apple\n[source shop]\ntoken = {0}\n",
    "too small": "[spool]\nmax_size = 1KiB\n[source shop]\ntoken = {0}\n",
    "no token": "[database]\nconninfo = password={0}\n[source shop]\ntimezone = UTC\n",
    "bad conninfo": "[database]\nconninfo = passwort={0}\n[source shop]\ntoken = x{0}\n",
    "not a line": "[source shop]\ntoken = {0}\ntoken {0}\n",
}


def refusal(bench, config):
    """How the receiver refuses to start: its message."""
    done = run([bench.programs / "smshook.fcgi", "-c", config, "-s", bench.folder / "no"])
    message = done.stderr.decode()
    assert done.returncode == 78, (done.returncode, message)
    assert str(config) in message and SECRET not in message and "hunter2" not in message
    return message


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_fault_30_bad_configuration(bench, name):
    text = BAD_CONFIGS[name].format(SECRET)
    here = f"[spool]\ndirectory = {bench.spool.folder}\n"
    text = text.replace("[spool]\n", here) if "[spool]" in text else here + text
    refusal(bench, write(bench.folder / "bad.conf", text, 0o600))


def test_fault_30_readable_secrets(bench):
    here = f"[spool]\ndirectory = {bench.spool.folder}\n"
    good = f"{here}[source shop]\ntoken = {SECRET}\n"
    for mode in (0o644, 0o640 | 0o004, 0o604):
        assert "read" in refusal(bench, write(bench.folder / "open.conf", good, mode))
    open_file = write(bench.folder / "token", SECRET, 0o644)
    config = write(bench.folder / "t.conf", 
                   f"{here}[source shop]\ntoken_file = {open_file}\n", 0o600)
    done = run([bench.programs / "smshook.fcgi", "-c", config, "-s", bench.folder / "no"])
    assert done.returncode == 78 and SECRET.encode() not in done.stderr


def test_fault_30_unreadable_configuration(bench):
    config = write(bench.folder / "closed.conf", f"[source shop]\ntoken = {SECRET}\n", 0)
    assert "ermission denied" in refusal(bench, config)
    config.unlink()
    assert "o such file" in refusal(bench, config)
