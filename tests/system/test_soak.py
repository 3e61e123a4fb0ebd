"""All faults at once, at random, for as long as one likes; `make soak MINUTES=n`.

SMSHOOK_SOAK_SEED repeats the choices of an earlier run, though not its timing."""
import itertools
import os
import random
import signal
import subprocess
import threading
import time

import psycopg
import pytest

import ledger as lg
from harness import Supervisor, bench, breakable, fill, health, listener  # noqa: F401
from load import Threads
from postgres import INGEST_LOCK
from process import new_folder, plain_user, wait_for
from proxy import Proxy

MINUTES = float(os.environ.get("SMSHOOK_SOAK_MINUTES", "0"))
SEED = os.environ.get("SMSHOOK_SOAK_SEED", str(random.randrange(10**9)))
SLOWEST = 10  # s: an answer (4 s), on a machine that is busy with breaking things
TMPFS = "64m"


class Chaos(Threads):
    """Threads that break one part each, and mend it again."""

    def __init__(self, bench, supervisor, proxy, has_small_disk):
        self.bench, self.supervisor, self.proxy = bench, supervisor, proxy
        self.stopping, self.counts, self.errors = threading.Event(), {}, []
        self.full = []  # [from, to] of times when the spool's disk was full
        parts = [[self.kill, self.terminate, self.drain, self.kill_drain],
                 [self.restart, self.restart, self.freeze_postmaster, self.freeze_backend,
                  self.end_sessions],
                 [self.cut, self.half_close, self.silence, self.slow, self.lose],
                 [self.lock_table, self.lock_ingest, self.rename, self.limit]]
        if has_small_disk:
            parts.append([self.fill_disk] + 9 * [self.nothing])
        self.threads = [threading.Thread(target=self.run, args=(i, part))
                        for i, part in enumerate(parts)]
        for thread in self.threads:
            thread.start()

    def run(self, i, part):
        r = random.Random(f"{SEED} {i}")
        try:
            while not self.stopping.wait(r.choice((0.2, 1, 4, 12)) * r.random()):
                fault = r.choice(part)
                self.counts[fault.__name__] = self.counts.get(fault.__name__, 0) + 1
                fault(r.random())
        except Exception as e:  # told by stop(), which the test calls
            self.errors.append(e)

    # Each lasts no longer than x, from 0 to 1, allows.

    def nothing(self, _):
        pass

    def kill(self, _):
        self.supervisor.send(signal.SIGKILL)

    def terminate(self, _):
        self.supervisor.send(signal.SIGTERM)

    def drain(self, _):
        self.bench.command("spool", "drain")

    def kill_drain(self, x):
        command = [str(self.bench.programs / "smshook"), "-c", str(self.bench.config)]
        with subprocess.Popen([*command, "spool", "drain"], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, cwd="/", **plain_user()) as p:
            time.sleep(0.2 * x)
            p.kill()

    def restart(self, x):
        self.bench.cluster.stop(signal.SIGQUIT)
        self.stopping.wait(10 * x * x)
        self.bench.cluster.start()

    def freeze(self, pids, seconds):
        try:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            self.stopping.wait(seconds)
        except ProcessLookupError:
            pass  # a session that has just ended
        for pid in pids:
            self.thaw(pid)

    def thaw(self, pid):
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass

    def freeze_postmaster(self, x):
        with self.bench.connect() as c:  # the receivers must connect again
            os.kill(self.bench.cluster.process.pid, signal.SIGSTOP)
            c.execute("""select pg_terminate_backend(pid) from pg_stat_activity
                where usename = 'receiver'""")
            self.freeze([self.bench.cluster.process.pid], 6 * x)

    def freeze_backend(self, x):
        self.freeze(self.bench.sessions(), 6 * x)

    def end_sessions(self, _):
        self.bench.break_sessions()

    def cut(self, _):
        self.proxy.cut()

    def half_close(self, _):
        self.proxy.half_close()

    def silence(self, x):
        self.proxy.speaks.clear()
        self.stopping.wait(6 * x)
        self.proxy.speaks.set()

    def slow(self, x):
        self.proxy.delay = x
        self.stopping.wait(3)
        self.proxy.delay = 0

    def lose(self, x):
        self.proxy.lose_every = 1 + int(3 * x)
        self.stopping.wait(5 * x)
        self.proxy.lose_every = 0

    def sql(self, before, seconds, after):
        """In one session, which may break, as the server may."""
        try:
            with self.bench.connect() as c:
                for statement in before:
                    c.execute(statement)
                self.stopping.wait(seconds)
                for statement in after:
                    c.execute(statement)
        except psycopg.Error:
            pass

    def lock_table(self, x):
        self.sql(["set lock_timeout = 2000", "begin",
                  "lock table sms.event in access exclusive mode"], 6 * x, ["rollback"])

    def lock_ingest(self, x):
        self.sql(["set lock_timeout = 2000", f"select pg_advisory_lock({INGEST_LOCK})"],
                 6 * x, [])

    def until_done(self, statement):
        def is_done():
            try:
                self.bench.execute(statement)
                return True
            except psycopg.OperationalError:  # away or locked
                return False
            except psycopg.Error:  # it had been done when the session broke
                return True
        wait_for(statement, is_done, 120)

    def rename(self, x):
        self.until_done("alter function sms.ingest rename to ingest_away")
        self.stopping.wait(4 * x)
        self.until_done("alter function sms.ingest_away rename to ingest")

    def limit(self, x):
        self.until_done("alter role receiver connection limit 0")
        self.stopping.wait(4 * x)
        self.until_done("alter role receiver connection limit -1")

    def fill_disk(self, x):
        filler = self.bench.spool.folder / "filler"
        began = time.time()
        self.full.append([began, began + 3600])
        fill(filler)
        self.stopping.wait(6 * x)
        filler.unlink()
        self.full[-1][1] = time.time()

    def was_full(self, entry):
        """Between its request and its answer, or a moment before."""
        return any(begin < entry.answered_at and entry.sent_at < end + 1
                   for begin, end in self.full)


@pytest.fixture
def small_spool(bench):
    """The spool is on a disk of a few megabytes, if that can be had."""
    if os.geteuid() != 0:
        yield False
        return
    user = plain_user()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={TMPFS},mode=700,"
                           f"uid={user['user']},gid={user['group']}", "smshook-test",
                           str(bench.spool.folder)], capture_output=True)
    yield done.returncode == 0
    bench.stop()
    if done.returncode == 0:
        subprocess.run(["umount", "-l", str(bench.spool.folder)], check=True)


@pytest.mark.skipif(not MINUTES, reason="make soak MINUTES=n runs it")
def test_soak(bench, listener, small_spool, capfd):
    def say(text):
        with capfd.disabled():
            print(text, flush=True)

    say(f"\nSMSHOOK_SOAK_SEED={SEED}, {MINUTES:g} minutes, "
        f"the spool {'on a small disk' if small_spool else 'has room'}")
    proxy = Proxy(bench.cluster.folder / ".s.PGSQL.5432", new_folder(bench.folder, "p"))
    bench.configure(proxy.conninfo(bench.name), spool="max_size = 1GiB")
    supervisor = Supervisor(bench, listener)
    keeps = itertools.cycle((True, False))
    began, socket = time.monotonic(), listener.getsockname()
    chaos = Chaos(bench, supervisor, proxy, small_spool)
    try:
        with (bench.load(8, lambda: lg.Fcgi(socket, next(keeps)), pause=0.05),
              bench.load(1, bench.cgi, pause=0.2)):
            while time.monotonic() - began < 60 * MINUTES and not chaos.errors:
                chaos.stopping.wait(10)
                assert not bench.spool.names("bad"), bench.spool.bad()
                say(f"{time.monotonic() - began:5.0f} s  {bench.ledger.statuses()} "
                    f"{bench.ledger.results()} files {len(bench.spool.names())}, "
                    f"receivers {supervisor.count}, lost answers {proxy.lost}")
            chaos.stop()
            say(f"the faults: {chaos.counts}")
            before = bench.ledger.results().get("stored", 0)
            wait_for("stored events", lambda: bench.ledger.results()["stored"] > before)
    finally:
        chaos.stopping.set()
        proxy.delay = 0
        proxy.speaks.set()
    bench.wait_drained()
    wait_for("good health", lambda: health(socket) == (200, {
        "status": "ok", "database": "up", "spool_files": 0, "spool_bytes": 0,
        "spool_bad": 0}))
    supervisor.stop()
    proxy.down()
    # by SIGTERM: it had just been started, and had taken nothing yet
    assert set(supervisor.codes) <= {0, -signal.SIGKILL, -signal.SIGTERM}
    for entry in bench.ledger.entries.values():
        assert entry.status in (None, entry.expect) or (
            entry.status == 503 and chaos.was_full(entry)), entry
    say(f"slowest answer {bench.ledger.slowest():.1f} s")
    assert bench.ledger.slowest() < SLOWEST
    with bench.connect() as c:
        lg.check(bench.ledger, c, bench.spool, rejects_kept=not small_spool)
    say(f"every one of {len(bench.ledger.entries)} is where it must be")
