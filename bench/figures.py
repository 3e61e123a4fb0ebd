"""Each part of the measurements is a function that puts raw figures into a Record."""
import contextlib
import select
import shutil
import signal
import statistics
import subprocess
import threading
import time
from dataclasses import dataclass, field

import bulk
from contenders import BUILD, HERE, Missing, Stand, cpu_seconds, memory
from harness import metrics
from load import sms
from process import run, wait_for, write
from servers import SOURCE
from test_abuse import HALF, HEAD, crowd
from traffic import Client, Wrk, bare_commit_ms, paced, settle, wrk

CONNECTIONS = (1, 16, 64)
BATCHES = (1, 8, 64, 256)
HELD = 500


@dataclass
class Record:
    """Raw figures: a row each (part, who, setting, measure, round, value)."""
    seconds: float
    rounds: int
    events: int
    names: list
    pool: int = None
    rows: list = field(default_factory=list)

    def add(self, part, who, setting, round_, **measures):
        for measure, value in measures.items():
            self.rows.append((part, who, str(setting), measure, round_, value))

    def load(self, part, who, setting, round_, r):
        self.add(part, who, setting, round_, rate=r.rate, bad=r.bad, p50_ms=r.p50, p99_ms=r.p99,
                 max_ms=r.max)

    def median(self, part, who, setting, measure):
        """Of all rounds; None where it was not measured."""
        values = [row[5] for row in self.rows
                  if row[:4] == (part, who, str(setting), measure)]
        return statistics.median(values) if values else None

    def few(self):
        """Rounds of what takes long."""
        return range(1, min(self.rounds, 3) + 1)

    def all(self):
        return range(1, self.rounds + 1)


PARTS = {}


def part(f):
    PARTS[f.__name__] = f
    return f


def say(text):
    print(f"  {text}", flush=True)


def tell(part_, round_, who, setting, r):
    say(f"{part_}, round {round_}: {who}, {setting}: {r.rate:.0f}/s, 99 % in {r.p99:.1f} ms"
        + (f", {r.bad} not 2xx" if r.bad else ""))


# ------------------------------------------------------------ the comparison

@part
def rates(rec):
    """Every contender at 1, 16 and 64 connections, and the bare commit."""
    with Stand(rec.names, say, pool=rec.pool) as stand:
        for c in stand.contenders:
            warm = wrk(stand, c, 16, min(rec.seconds, 0.5))
            if warm.n == warm.bad:
                raise RuntimeError(f"{c} answers nothing well")
        for round_ in rec.all():
            for n in CONNECTIONS:
                for c in stand.contenders:
                    rates_one(rec, stand, c, n, round_)
                if n == 1:
                    settle()
                    ms = bare_commit_ms(stand, rec.seconds)
                    rec.add("rates", "commit", 1, round_, p50_ms=ms)
                    say(f"rates, round {round_}: a bare commit: {ms:.2f} ms")
        check_rows(stand)


def rates_one(rec, stand, name, n, round_):
    settle()
    pids = stand[name].pids() + [stand.cluster.process.pid]
    before = cpu_seconds(pids)
    load = Wrk(stand, name, n, rec.seconds)
    if name == "smshook":
        time.sleep(0.9 * rec.seconds)
        rec.add("memory", name, n, round_, **memory(pids[0]))
    r = load.result()
    stand.sent[name] += r.n - r.bad
    used = cpu_seconds(pids) - before
    rec.load("rates", name, n, round_, r)
    rec.add("rates", name, n, round_, cpu_us=1e6 * used / max(1, r.n))
    tell("rates", round_, name, n, r)


def check_rows(stand):
    """All that was answered is in the database, and was not spooled."""
    for name in set(stand.contenders) & {"php_fpm", "php_cgi", "node", "webhook"}:
        with stand.connect(stand.peers) as c:
            n, = c.execute(f"select count(*) from {name} where phone is not null").fetchone()
            assert n >= stand.sent[name], (name, n, stand.sent[name])
    for database, names in ((stand.database, {"smshook", "smshook_cgi"}), (stand.floor, {"floor"})):
        ours = set(stand.contenders) & names
        if ours:
            with stand.connect(database) as c:
                n, = c.execute("select count(*) from sms.event where duplicate_of is null").fetchone()
            assert n >= sum(stand.sent[name] for name in ours), n
            assert all(stand[name].spool.is_empty() for name in ours)


@part
def batches(rec):
    """PostgreSQL alone: sms.ingest from one connection."""
    with Stand([]) as stand:
        program = write(stand.top / "ingest", (BUILD / "bench/ingest").read_bytes(), 0o755)
        for round_ in rec.all():
            for size in BATCHES:
                done = run([program, stand.conninfo("receiver"), size, rec.seconds], timeout=120)
                assert done.returncode == 0, done.stderr
                rec.add("batches", "postgresql", size, round_, rate=float(done.stdout))
                say(f"batches, round {round_}: {size}: {float(done.stdout):.0f}/s")


@part
def table(rec):
    """An empty table, and one with many events, which others then read."""
    with Stand([], databases=("empty_table", "large_table")) as stand:
        began = time.monotonic()
        say(f"table: filling with {rec.events} events")
        log = fill(rec, stand)
        say(f"table: filled with {rec.events} events in {time.monotonic() - began:.0f} s")
        for round_ in rec.all():
            for name in ("empty_table", "large_table"):
                r = wrk(stand, name, 64, rec.seconds)
                rec.load("table", name, rec.events if name == "large_table" else 0, round_, r)
                tell("table", round_, name, 64, r)
        with stand.connect(stand["large_table"].database, "worker") as c:
            for what, (sql, values, _) in log.queries().items():
                pages, _ = bulk.cost(c, sql, values)
                ms = bulk.median_ms(c, sql, values)
                rec.add("readers", what, rec.events, 1, p50_ms=ms, pages=pages)
                say(f"readers: {what}: {ms:.2f} ms, {pages} pages")


def fill(rec, stand):
    """Old events by SQL, a second each; those of the last 7 days, as many as are due,
    by the receiver's way in."""
    class Where:
        def connect(self):
            return stand.connect(stand["large_table"].database)
    with Where().connect() as c:
        c.execute("create role worker login in role smshook_reader")
    recent = min(rec.events // 10, 7 * 86400)
    log = bulk.Log(Where(), rec.events - recent)
    program = write(stand.top / "ingest", (BUILD / "bench/ingest").read_bytes(), 0o755)
    conninfo = stand.conninfo("receiver", stand["large_table"].database)
    with Where().connect() as c:
        c.execute("vacuum analyze")
        c.execute("checkpoint")
        # None after these: they touch each page of the indexes, and so what is measured is
        # the middle of the time between two checkpoints, not the first moment of it, when
        # each page goes into the WAL as a whole.
        count = "select count(*) from sms.event where received_at > now() - interval '1 day' " \
            "and source = 'bench'"
        while c.execute(count).fetchone()[0] < recent:
            done = run([program, conninfo, 256, 60], timeout=300)
            assert done.returncode == 0, done.stderr
    return log


# ----------------------------------------------------------------- CGI, spool

def wait_up(stand, contender):
    """PostgreSQL again, and an empty spool."""
    stand.cluster.start()
    run([stand.programs / "smshook", "-c", contender.config, "spool", "drain"], timeout=600)


@part
def cgi(rec):
    """A process a request, by one connection: into PostgreSQL, by pgbouncer, into the spool."""
    names = [n for n in ("smshook_cgi", "php_cgi") if n in rec.names]
    with Stand(["empty_cgi", *(["floor_cgi"] if "floor" in rec.names else []), *names], say) as stand:
        for round_ in rec.few():
            for c in stand.contenders:
                r = wrk(stand, c, 1, rec.seconds)
                rec.load("cgi", c, "postgresql", round_, r)
                say(f"cgi, round {round_}: {c}, with PostgreSQL: {r.p50:.2f} ms")
            if "smshook_cgi" not in stand.contenders:
                continue
            stand.cluster.stop(signal.SIGQUIT)
            r = wrk(stand, "smshook_cgi", 1, rec.seconds)
            rec.load("cgi", "smshook_cgi", "spool", round_, r)
            say(f"cgi, round {round_}: smshook_cgi, into the spool: {r.p50:.2f} ms")
            wait_up(stand, stand["smshook_cgi"])
    try:
        with Stand(names, say, pooled=True) as stand:
            for round_ in rec.few():
                for c in stand.contenders:
                    r = wrk(stand, c, 1, rec.seconds)
                    rec.load("cgi", c, "pgbouncer", round_, r)
                    say(f"cgi, round {round_}: {c}, through pgbouncer: {r.p50:.2f} ms")
    except Missing as e:
        say(f"cgi, not through pgbouncer: {e}")


@part
def drain(rec):
    """PostgreSQL is stopped under load; what was spooled is drained without any."""
    with Stand(["smshook"]) as stand:
        c = stand["smshook"]
        for round_ in rec.few():
            up = wrk(stand, "smshook", 64, rec.seconds)
            stand.cluster.stop(signal.SIGQUIT)
            down = wrk(stand, "smshook", 64, max(rec.seconds, 1))
            for setting, r in (("up", up), ("away", down)):
                rec.load("outage", "smshook", setting, round_, r)
                tell("outage", round_, "PostgreSQL", setting, r)
            stand.cluster.start()
            rec.add("drain", "smshook", "alone", round_, rate=drained(c))
            say(f"drain, round {round_}: {rec.rows[-1][5]:.0f}/s")


def drained(c):
    """Events a second, from the first batch that is seen to the last."""
    def total():
        return time.monotonic(), metrics(c.address())["smshook_drained_total"]
    _, before = total()
    first = wait_for("the drain", lambda: (t := total())[1] > before and t, 60)
    last = now = first
    while not c.spool.is_empty() or now[1] > last[1]:
        last = now if now[1] > last[1] else last
        time.sleep(0.02)
        now = total()
        if now[0] > last[0] + 60:
            raise TimeoutError("the drain stands still")
    last = now if now[1] > last[1] else last
    return (last[1] - first[1]) / max(last[0] - first[0], 0.02)


@part
def underload(rec):
    """PostgreSQL is away for a while, then drained under load."""
    with Stand(["smshook"]) as stand:
        load = Wrk(stand, "smshook", 64, 3 * rec.seconds)
        time.sleep(rec.seconds / 2)
        stand.cluster.stop(signal.SIGQUIT)
        time.sleep(rec.seconds)
        stand.cluster.start()
        count = "select count(*) from sms.event"
        with stand.connect() as c:
            began, before = time.monotonic(), c.execute(count).fetchone()[0]
            r = load.result()
            rows = (c.execute(count).fetchone()[0] - before) / (time.monotonic() - began)
        began = time.monotonic()
        wait_for("an empty spool", stand["smshook"].spool.is_empty, 600)
        rec.load("underload", "smshook", 64, 1, r)
        rec.add("underload", "smshook", 64, 1, rows=rows, rest_s=time.monotonic() - began)
        tell("underload", 1, "smshook", f"{rows:.0f} rows/s from then on", r)


# ------------------------------------------------------------------- waiting

@part
def listen(rec):
    """From a POST to the wake-up of who LISTENs, by one connection."""
    with Stand(["smshook"]) as stand, stand.connect() as c:
        c.execute("listen sms_event")
        client, run_ = Client(stand, "smshook"), time.time_ns()
        for round_ in rec.all():
            times, end, n = [], time.monotonic() + rec.seconds, 0
            while time.monotonic() < end:
                n += 1
                began = time.perf_counter()
                client.send(sms(f"{run_} {round_} {n}"))
                wait_notified(c.pgconn)
                times.append(1000 * (time.perf_counter() - began))
                assert client.status() == 200
            rec.add("listen", "smshook", 1, round_, p50_ms=statistics.median(times),
                    p99_ms=sorted(times)[len(times) * 99 // 100])
            say(f"listen, round {round_}: half of {len(times)} in {statistics.median(times):.2f} ms")


def wait_notified(pgconn):
    while True:
        assert select.select([pgconn.socket], [], [], 10)[0], "no notification came"
        pgconn.consume_input()
        if pgconn.notifies():
            return


@part
def held(rec):
    """500 connections on the receiver's socket, each with half a request."""
    with Stand(["smshook"]) as stand:
        address = stand["smshook"].address()
        for round_ in rec.few():
            for setting, context in ((0, contextlib.nullcontext()), (HELD, holding(address))):
                with context:
                    r = wrk(stand, "smshook", 64, rec.seconds)
                rec.load("held", "smshook", setting, round_, r)
                tell("held", round_, "connections held", setting, r)


@contextlib.contextmanager
def holding(address):
    """Anew when the receiver gives them up."""
    stopping = threading.Event()

    def hold():
        while not stopping.is_set():
            with crowd(address, HEAD + HALF, HELD):
                stopping.wait(2)
    thread = threading.Thread(target=hold)
    thread.start()
    time.sleep(0.2)
    try:
        yield
    finally:
        stopping.set()
        thread.join()


@part
def flood(rec):
    """Wrong tokens, as fast as they are refused, beside 20 good events a second."""
    with Stand(["smshook"]) as stand:
        client, run_ = Client(stand, "smshook"), time.time_ns()
        seconds = max(rec.seconds, 1)
        for round_ in rec.few():
            for setting in ("alone", "flood"):
                if setting == "flood":
                    load = Wrk(stand, "smshook", 64, seconds + 0.5, "w" * 32)
                    time.sleep(0.3)
                times = paced(client, lambda n: sms(f"{run_} {round_} {setting} {n}"), 20, seconds)
                if setting == "flood":
                    rec.add("flood", "strangers", setting, round_, rate=load.result().bad / seconds)
                p99 = sorted(times)[len(times) * 99 // 100]
                rec.add("flood", "smshook", setting, round_, p99_ms=p99)
                say(f"flood, round {round_}: good events, {setting}: 99 % in {p99:.1f} ms")


# ------------------------------------------------------------- other settings

@part
def two(rec):
    """Two receivers on one database."""
    with Stand(["smshook", "two"]) as stand:
        for round_ in rec.few():
            for name in ("smshook", "two"):
                r = wrk(stand, name, 64, rec.seconds)
                rec.load("two", name, 64, round_, r)
                tell("two", round_, name, 64, r)


@part
def slow(rec):
    """A disk whose flush takes 5 ms.  More connections then serve the peers better."""
    names = [n for n in ("smshook", "php_fpm", "node") if n in rec.names]
    with Stand(names, say, preload=HERE / "slow_flush.c",
               pool=rec.pool or 64) as stand:
        for round_ in rec.few():
            for name in stand.contenders:
                r = wrk(stand, name, 64, max(rec.seconds, 1))
                rec.load("slow", name, 64, round_, r)
                tell("slow", round_, name, 64, r)


@part
def build(rec):
    """./configure && make -j2, of a copy of the sources."""
    folder = BUILD / "bench/copy"

    def ignore(_, names):
        return {n for n in names if n in (".git", "autom4te.cache") or n.startswith("build")
                and n != "build-aux" or n == BUILD.name}
    for round_ in rec.few():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(SOURCE, folder, ignore=ignore)
        prepare = "test ! -e Makefile || make distclean; test -e configure || autoreconf -fi"
        for command in (prepare, "./configure && make -j2"):
            began = time.monotonic()
            done = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True,
                                  timeout=600, check=False)
            if done.returncode:
                raise RuntimeError(done.stderr.decode()[-2000:])
        rec.add("build", "smshook", "clean", round_, s=time.monotonic() - began)
        say(f"build, round {round_}: {rec.rows[-1][5]:.1f} s")
    shutil.rmtree(folder, ignore_errors=True)
