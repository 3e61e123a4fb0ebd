"""Power cuts (power.py).  SMSHOOK_POWER_CUTS=50 is how many on each file system."""
import copy
import dataclasses
import os
import random
import signal
import threading
import time

import psycopg
import pytest

import ledger as lg
import postgres as pg
import power
import process
import receiver as rx
from conftest import prepare
from harness import bench, breakable  # noqa: F401
from spooldir import Spool

CUTS = int(os.environ.get("SMSHOOK_POWER_CUTS", "4"))
AWAY = "host=/nowhere dbname=x user=x"  # nothing listens there


class Gate:
    """Holds back requests while it is closed."""

    def __init__(self):
        self.changed, self.is_open, self.inside = threading.Condition(), True, 0

    def sender(self, sender):
        gate = self

        class Gated:
            def send(self, request):
                with gate.changed:
                    gate.changed.wait_for(lambda: gate.is_open)
                    gate.inside += 1
                try:
                    return sender.send(request)
                finally:
                    with gate.changed:
                        gate.inside -= 1
                        gate.changed.notify_all()
        return Gated()

    def close(self):
        """Until the last answer is there."""
        with self.changed:
            self.is_open = False
            self.changed.wait_for(lambda: self.inside == 0)
        time.sleep(0.02)  # and in the ledger

    def open(self):
        with self.changed:
            self.is_open = True
            self.changed.notify_all()


def acknowledged(ledger):
    return {e.uid for e in list(ledger.entries.values()) if e.is_acknowledged}


def as_of(ledger, uids):
    """The ledger when these were acknowledged and no others."""
    view = copy.copy(ledger)
    view.entries = {u: e if u in uids else dataclasses.replace(e, status=None, answer=None)
                    for u, e in ledger.entries.items()}
    return view


def at_random_moments(disk, n, ledger, gate, one_more):
    """[(image, what was acknowledged before)]: by turns amid the load, at rest
    after it, and at rest after one request more."""
    cuts = []
    for i in range(n):
        time.sleep(random.uniform(0.02, 0.3))
        if i % 3:
            gate.close()
        if i % 3 == 2:
            one_more()
        before = acknowledged(ledger)
        cuts.append((disk.cut(), before))
        gate.open()
    assert len(cuts[-1][1]) > n
    return cuts


@pytest.mark.parametrize("kind", power.KINDS)
def test_fault_07_power_cut(kind, bench):
    """Of the spool.  What is in tmp/ does not count."""
    gate = Gate()
    with power.Disk(bench.folder, kind) as disk:
        bench.spool = Spool(process.new_folder(disk.folder, "spool"))
        bench.configure(AWAY)
        disk.sync()
        r = bench.start()
        with bench.load(8, lambda: gate.sender(lg.Fcgi(r.address())), with_rejects=False):
            try:
                cuts = at_random_moments(disk, CUTS, bench.ledger, gate,
                                         lambda: bench.send(bench.cgi()))
            finally:
                gate.open()
        assert r.stop() == 0
        assert set(bench.ledger.statuses()) == {200}
        for image, before in cuts:
            disk.insert(image)
            problems = lg.problems(as_of(bench.ledger, before), [], [], bench.spool.events(),
                                   rejects_kept=False)
            assert not problems, f"{image.name}: {problems[:5]}"
        # the program reads the last one, too
        bench.configure()
        done = bench.command("spool", "drain")
        assert done.returncode == 0, done.stderr
        assert bench.spool.is_empty() and bench.spool.bad() == {}
        with bench.connect() as c:
            lg.check(as_of(bench.ledger, before), c, rejects_kept=False)


# ------------------------------------------------------------- PostgreSQL

# Nothing is written to the disk but by commits that wait for it.
LAZY = """
fsync = on
synchronous_commit = on
wal_writer_delay = 10s
wal_writer_flush_after = 100MB
autovacuum = off
checkpoint_timeout = 1h
"""
PIN = "ok := set_config('synchronous_commit', 'on', true) is not null;"


class LazyPostgres(pg.Postgres):
    """With its data on a disk, and commits that wait for none by default."""

    def __init__(self, parent, migrate):
        super().__init__(parent)
        self.name = prepare(self, migrate)
        conf = self.data / "postgresql.conf"
        process.write(conf, conf.read_text() + LAZY, 0o600)
        self.stop()
        self.start()
        self.execute("alter role receiver set synchronous_commit = off")
        self.execute(f"alter database {self.name} set synchronous_commit = off")
        with self.connect(self.name) as c:
            assert c.execute("show synchronous_commit").fetchone()[0] == "off"

    def unpin(self):
        with self.connect(self.name) as c:
            text, = c.execute(
                "select pg_get_functiondef('sms.ingest'::regproc)").fetchone()
            assert text.count(PIN) == 1
            c.execute(text.replace(PIN, ""))

    def recover(self):
        """After a power cut: the process that the file names is no more."""
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        self.start()


def cut_postgres(programs, top, migrate, token, is_pinned):
    """Problems after one cut amid the load, and then one at rest."""
    ledger, gate, problems = lg.Ledger(), Gate(), []
    with power.Disk(top, "ext4", 1 << 30) as disk:
        cluster = LazyPostgres(disk.folder, migrate)
        spool = process.new_folder(top, "spool")
        spool.chmod(0o700)
        r = None
        try:
            if not is_pinned:
                cluster.unpin()
            cluster.execute("checkpoint")
            disk.sync()
            r = rx.Receiver(programs, top, rx.write_config(top, rx.config_text(
                cluster.conninfo(cluster.name, "receiver"), {"shop": f"token = {token}"},
                database=f"timeout = 2s\n[spool]\ndirectory = {spool}")))
            cuts = []
            with lg.Load(ledger, 8, token, lambda: gate.sender(lg.Fcgi(r.address())), 0.01,
                         with_rejects=False):
                try:
                    time.sleep(random.uniform(0.3, 0.6))
                    cuts += at_random_moments(disk, 2, ledger, gate, None)
                finally:
                    gate.open()
            r.stop()
            assert set(ledger.results()) == {"stored"}
            cluster.stop(signal.SIGQUIT)
            for image, before in cuts:
                disk.insert(image)
                cluster.recover()
                with psycopg.connect(cluster.conninfo(cluster.name), autocommit=True) as c:
                    events, rejected = lg.kept(c)
                cluster.stop(signal.SIGQUIT)
                problems += lg.problems(as_of(ledger, before), events, rejected,
                                        rejects_kept=False)
        finally:
            if r:
                r.process.kill()
            cluster.process.kill()
    return problems


def test_fault_08_power_cut_of_postgresql(programs, top, migrate, token):
    """Where synchronous_commit is off for role and database."""
    problems = cut_postgres(programs, top, migrate, token, is_pinned=True)
    assert not problems, problems[:5]


def test_fault_08_is_noticed_without_the_pin(programs, top, migrate, token):
    """The test above would fail without what the function does."""
    for _ in range(3):
        problems = cut_postgres(programs, top, migrate, token, is_pinned=False)
        if problems:
            break
    assert problems and all(p.startswith("lost") for p in problems), problems[:5]
