"""A receiver with a spool, a ledger of what it was sent, and ways to break it."""
import errno
import json
import os
import random
import signal
import socket
import threading
import time

import pytest

import ledger as lg
import postgres as pg
import receiver as rx
from drivers import Cgi, get
from process import SLOW, Process, new_folder, run, wait_for, write
from spooldir import Spool

SOON = 7  # s: what an answer may take (4 s), with room for a busy machine
SECONDS = float(os.environ.get("SMSHOOK_FAULT_SECONDS", "8"))


class Bench:
    """A database, an empty spool, a configuration and a ledger."""

    def __init__(self, programs, top, cluster, name):
        self.programs, self.top, self.cluster, self.name = programs, top, cluster, name
        self.folder = new_folder(top, "f")
        self.spool = Spool(new_folder(self.folder, "spool"))
        self.token, self.ledger = rx.new_token(), lg.Ledger()
        self.cgi_log = write(self.folder / "cgi.log", "", 0o666)
        self.receivers, self.config = [], None
        self.configure()

    def configure(self, conninfo=None, spool="max_size = 256MiB", server="", source=""):
        conninfo = conninfo or self.cluster.conninfo(self.name, "receiver")
        text = rx.config_text(
            conninfo, {"shop": f"token = {self.token}\n{source}"}, server,
            f"timeout = 2s\n[spool]\ndirectory = {self.spool.folder}\n{spool}")
        self.config = rx.write_config(self.folder, text)

    # ------------------------------------------------------------ programs

    def start(self, **more):
        self.receivers.append(rx.Receiver(self.programs, self.folder, self.config, **more))
        return self.receivers[-1]

    def stop(self):
        """Every receiver ends well, and no log tells what it must not."""
        for r in self.receivers:
            if not r.process.ended():
                assert r.stop() == 0, r.log()[-4000:]
        rx.check_log(self.cgi_log.read_text(), self.config.read_text())

    def cgi(self):
        return Cgi(self.programs / "smshook.fcgi", self.config, self.cgi_log)

    def command(self, *arguments):
        """`smshook ARGUMENT...`, to its end."""
        return run([self.programs / "smshook", "-c", self.config, *arguments])

    # ---------------------------------------------------------------- load

    def send(self, sender, n=0, times=1, **more):
        """So many requests of which each is answered as it should be."""
        for i in range(n, n + times):
            entry = self.ledger.send(sender, self.token, i, **more)
            assert entry.status == entry.expect, (entry, self.logs())
        return entry

    def load(self, n, make_sender, pause=0.004, **more):
        return lg.Load(self.ledger, n, self.token, make_sender, pause, **more)

    def logs(self):
        return "\n".join(r.log()[-2000:] for r in self.receivers)

    # ------------------------------------------------------------ database

    def connect(self, **more):
        return self.cluster.connect(self.name, **more)

    def execute(self, sql, *values):
        with self.connect() as c:
            cursor = c.execute(sql, values or None)
            return cursor.fetchall() if cursor.description else []

    def sessions(self):
        """Process ids of the receivers' sessions."""
        with self.cluster.connect("postgres") as c:
            return [pid for (pid,) in c.execute(
                """select pid from pg_stat_activity
                where usename = 'receiver' and datname = %s""", [self.name])]

    def break_sessions(self):
        """What was changed for a role holds for its next session."""
        with self.cluster.connect("postgres") as c:
            for pid in self.sessions():
                c.execute("select pg_terminate_backend(%s)", [pid])

    # ------------------------------------------------------------- outcome

    def wait_drained(self):
        wait_for("the spool to be drained", self.spool.is_empty, 60)
        assert not self.spool.names("bad"), self.spool.bad()

    def check(self, **more):
        """All is drained, and the ledger holds; the rows of sms.event."""
        self.wait_drained()
        assert not self.spool.names("tmp")
        with self.connect() as c:
            return lg.check(self.ledger, c, self.spool, **more)

    def check_all_kept(self):
        """Besides, nobody was refused or kept waiting."""
        assert self.ledger.is_all_answered_well(), (self.ledger.statuses(), self.logs())
        assert self.ledger.slowest() < SOON
        return self.check()


class Supervisor:
    """Starts a receiver again whenever it has ended, as systemd does.  listener:
    a listening socket that all of them inherit on fd 0."""

    def __init__(self, bench, listener=None, wrapper=()):
        self.bench, self.listener = bench, listener
        self.folder = new_folder(bench.folder, "s")
        self.socket = self.folder / "s"
        self.log = write(self.folder / "log", "", 0o666)
        self.wrapper = wrapper
        self.lock, self.stopping, self.process = threading.Lock(), threading.Event(), None
        self.codes, self.count, self.log_start = [], 0, 0
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        self.wait_ready()

    def run(self):
        command = [*self.wrapper, self.bench.programs / "smshook.fcgi", "-c"]
        while not self.stopping.is_set():
            with self.lock:
                more = {"stdin": self.listener} if self.listener else {}
                where = [] if self.listener else ["-s", self.socket]
                self.log_start = self.log.stat().st_size
                self.process = Process([*command, self.bench.config, *where], self.log, **more)
                self.count += 1
            while self.poll() is None:
                time.sleep(0.005)
            self.codes.append(self.process.popen.returncode)

    def poll(self):
        with self.lock:
            return self.process.popen.poll()

    def send(self, number):
        """A signal to the process that runs now, if one does."""
        with self.lock:
            if self.process.popen.poll() is None:
                self.process.popen.send_signal(number)

    def restart(self, number, timeout=None):
        """Ends it by a signal and waits until the next one has begun."""
        before = self.count
        self.send(number)
        wait_for("the next receiver", lambda: self.count > before, timeout)

    def wait_ready(self):
        """Until the one that runs now would end well by a signal."""
        wait_for("the receiver", lambda: self.count and b"listening on" in
                 self.log.read_bytes()[self.log_start:])

    def stop(self):
        """The last one ends well; all that ended before are in codes."""
        self.wait_ready()
        self.stopping.set()
        self.send(signal.SIGTERM)
        self.thread.join(SLOW)
        assert not self.thread.is_alive(), "the receiver does not end"
        assert self.codes[-1] == 0, self.log.read_text()[-4000:]
        rx.check_log(self.log.read_text(errors="replace"), self.bench.config.read_text())


def health(address):
    """(status, JSON) of GET healthz."""
    answer = lg.Fcgi(address, keep=False).send(get("/healthz"))
    return answer.status, json.loads(answer.body)


def metrics(address):
    """{name with labels: value}."""
    answer = lg.Fcgi(address, keep=False).send(get("/metrics"))
    assert answer.status == 200
    lines = (line.rpartition(" ") for line in answer.body.decode().splitlines()
             if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def in_order(ledger, events):
    """Of two events that were spooled, one answered before the other was sent,
    the first has the lower id."""
    by_uid = {lg.uid_of(e["payload"].encode() if e["raw"] is None else bytes(e["raw"])): e["id"]
              for e in events}
    latest = 0
    for entry in sorted((e for e in ledger.entries.values()
                         if e.is_acknowledged and e.answer["result"] == "spooled"),
                        key=lambda e: by_uid[e.uid]):
        assert entry.answered_at > latest, f"{entry.uid} was drained after a later one"
        latest = max(latest, entry.sent_at)


def threads(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


def fill(path):
    """A file takes all that is left of its disk."""
    with open(path, "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"\0" * 4096)
        except OSError as e:
            assert e.errno == errno.ENOSPC


def pause(least, most):
    time.sleep(random.uniform(least, most))


# ---------------------------------------------------------------- fixtures

@pytest.fixture(scope="module")
def breakable(top, migrate):
    """A cluster of this module's own, which tests stop, and its template."""
    from conftest import prepare
    cluster = pg.Postgres(top)
    cluster.template = prepare(cluster, migrate)
    yield cluster
    cluster.stop()


@pytest.fixture
def bench(programs, top, breakable):
    """With a new database; its receivers are stopped and checked."""
    if not breakable.process.running():
        breakable.start()
    b = Bench(programs, top, breakable, breakable.create(f"template {breakable.template}"))
    yield b
    b.stop()


@pytest.fixture
def listener(top):
    """A listening socket that outlives those who accept from it."""
    folder = new_folder(top, "l")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(folder / "s"))
        s.listen(4096)
        (folder / "s").chmod(0o666)
        yield s
