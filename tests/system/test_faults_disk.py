"""Faults of the disk, the clock, memory and the files of the spool.

SMSHOOK_SPOOL_FILES=100000 is how many files wait in the test of many (2000);
SMSHOOK_THOROUGH=1 damages a file at each byte and fails each allocation."""
import dataclasses
import itertools
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path
from uuid import UUID

import pytest

import ledger as lg
import power
import process
import receiver as rx
import spooldir
from drivers import cgi_variables, parse_cgi, post
from fcgi_client import Connection
from fcgi_client import request as fcgi_request
from harness import SOON, bench, breakable, health, metrics  # noqa: F401
from load import at_once, sms
from process import give, new_folder, plain_user, run, tool, wait_for, write
from test_batch import TRIGGER, cpu_time

AWAY = "host=/nowhere dbname=x user=x"  # nothing listens there
THOROUGH = "SMSHOOK_THOROUGH" in os.environ
GOLDEN = Path(__file__).parent / "golden"
EMPTY = "truncate sms.event, sms.message, sms.rejected, sms.recent_body"


# ------------------------------------------------------------------ tools

def wrapped(bench, *before):
    """A folder with a smshook.fcgi that is the program behind another one."""
    folder = new_folder(bench.folder, "w")
    folder.chmod(0o755)
    line = shlex.join([*map(str, before), str(bench.programs / "smshook.fcgi")])
    write(folder / "smshook.fcgi", f'#!/bin/sh\nexec {line} "$@"\n', 0o755)
    return folder


def start(bench, *before, **more):
    """A receiver behind another program."""
    r = rx.Receiver(wrapped(bench, *before), bench.folder, bench.config, **more)
    bench.receivers.append(r)
    return r


def fcgi(receiver):
    """A connection a request."""
    return lg.Fcgi(receiver.address(), keep=False)


class Cgi:
    """A process a request that may end in any way; code is how."""

    def __init__(self, bench, *before, env=None):
        self.bench, self.env = bench, env or {}
        folder = wrapped(bench, *before) if before else bench.programs
        self.program = folder / "smshook.fcgi"

    def send(self, request):
        variables = {"SMSHOOK_CONFIG": str(self.bench.config), **self.env}
        variables.update({k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")})
        variables = {k.encode(): v.encode() for k, v in variables.items()}
        with open(self.bench.cgi_log, "ab") as log:
            done = subprocess.run([self.program], input=request.body, stdout=subprocess.PIPE,
                                  stderr=log, cwd="/", timeout=2 * process.SLOW,
                                  env={**variables, **cgi_variables(request)}, **plain_user())
        self.code = done.returncode
        return parse_cgi(done.stdout) if b"\r\n\r\n" in done.stdout else None

    def was_killed(self):
        """By a signal; a shell or strace between may tell it as 128 and more."""
        return self.code < 0 or self.code > 128


@pytest.fixture
def strace(monkeypatch):
    """strace(option, ...) is the beginning of a command."""
    # LeakSanitizer is a tracer itself
    monkeypatch.setenv("ASAN_OPTIONS", os.environ.get("ASAN_OPTIONS", "") + " detect_leaks=0")
    program = tool("strace")
    if not program:
        pytest.skip("strace is not installed")
    if run([program, "-o", "/dev/null", "true"]).returncode != 0:
        pytest.skip("strace is not permitted here")
    return lambda *options: [program, "-f", *options]


@pytest.fixture(scope="module")
def plain_program(programs):
    """For what is preloaded: a sanitizer wants to be first."""
    if any(name in (programs / "smshook.fcgi").read_bytes()
           for name in (b"__asan_init", b"__tsan_init")):
        pytest.skip("the program has a sanitizer")


def spool_problems(bench):
    """Of what was acknowledged while the database was away."""
    return lg.problems(bench.ledger, [], [], bench.spool.events(), rejects_kept=False)


def is_spooled(bench, entry):
    return any(e.body == entry.body for e in bench.spool.events())


def spool_some(bench, n=24):
    """Files of the receiver, with one event and with several."""
    bench.configure(AWAY)
    r = bench.start()
    at_once(lambda i: bench.send(fcgi(r), i, with_rejects=True), range(n))
    bench.send(fcgi(r), times=2)
    assert r.stop() == 0
    assert bench.ledger.statuses().get(503) is None
    bench.configure()
    return bench.spool.names()


def put_file(bench, name, data, folder="new"):
    return write(bench.spool.folder / folder / name, data, 0o600)


def drain(bench):
    done = bench.command("spool", "drain")
    assert done.returncode == 0, done.stderr[-2000:]
    assert bench.spool.names() == []


def make_folder(folder):
    folder.mkdir(mode=0o700)
    return give(folder)


def make_folders(bench):
    """Those that the receiver would make."""
    for name in ("tmp", "new", "bad"):
        make_folder(bench.spool.folder / name)


# --------------------------------------------------------------- kill -9

DRAIN_CALLS = ("openat", "getdents64", "read", "sendto", "recvfrom", "flock", "unlinkat", "close")


@pytest.mark.parametrize("call", DRAIN_CALLS)
def test_fault_02_kill_the_drainer_at_each_syscall(call, bench, strace):
    spool_some(bench)
    saved = bench.folder / "saved"
    shutil.copytree(bench.spool.folder / "new", saved)
    for n in itertools.count(1):
        for path in saved.iterdir():
            put_file(bench, path.name, path.read_bytes())
        bench.execute(EMPTY)
        done = run([*strace("-o", "/dev/null", "-e", f"inject={call}:signal=KILL:when={n}"),
                    bench.programs / "smshook", "-c", bench.config, "spool", "drain"])
        with bench.connect() as c:
            lg.check(bench.ledger, c, bench.spool)
        if done.returncode == 0:
            break
        assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), done.stderr
        drain(bench)
        bench.check()
    assert n > 1, f"{call} is not called"
    bench.check()


CGI_CALLS = ("openat", "write", "fsync", "close", "renameat2")


@pytest.mark.parametrize("call", CGI_CALLS)
def test_fault_02_kill_a_cgi_at_each_syscall(call, bench, strace):
    bench.configure(AWAY)
    bench.send(Cgi(bench))
    for n in itertools.count(1):
        sender = Cgi(bench, *strace("-o", "/dev/null", "-e",
                                    f"inject={call}:signal=KILL:when={n}"))
        entry = bench.ledger.send(sender, bench.token)
        assert not spool_problems(bench)
        if not sender.was_killed():
            break
    assert n > 1 and entry.status == 200
    bench.configure()
    drain(bench)
    with bench.connect() as c:
        lg.check(bench.ledger, c, bench.spool)


# ------------------------------------------------------- calls that fail

def traced(prefix):
    """[(thread, line)] of what `strace -ff -ttt` has written, by time."""
    lines = []
    for path in prefix.parent.glob(prefix.name + ".*"):
        for line in path.read_text(errors="replace").splitlines():
            at, _, call = line.partition(" ")
            lines.append((float(at), path.suffix, call))
    return [(thread, call) for _, thread, call in sorted(lines)]


def fsynced_again(calls):
    """Descriptors that are fsynced after an fsync of them has failed, without
    having been opened in between."""
    failed, again = set(), []
    for _, call in calls:
        name, _, rest = call.partition("(")
        descriptor = re.match(r"\d+", rest)
        result = re.search(r" = (\d+)", call)
        if name in ("fsync", "fdatasync"):
            if descriptor[0] in failed:
                again.append(call)
            if " = -1 " in call:
                failed.add(descriptor[0])
        elif name == "close":
            failed.discard(descriptor[0])
        elif name == "openat" and result:
            failed.discard(result[1])
    return again


@pytest.mark.parametrize("n", range(1, 9))
def test_fault_09_fsync_fails(n, bench, strace):
    """At each position, of a file and of a directory, in the FastCGI program."""
    make_folders(bench)
    bench.configure(AWAY)
    trace = bench.folder / "trace"
    r = start(bench, *strace("-D", "-ff", "-ttt", "-y", "-o", trace, "-e",
                             "trace=fsync,fdatasync,openat,close", "-e",
                             f"inject=fsync,fdatasync:error=EIO:when={n}"))
    sender = lg.Fcgi(r.address())
    entries = [bench.ledger.send(sender, bench.token, i) for i in range(8)]
    for e in entries:
        assert is_spooled(bench, e) == (e.status == 200)
    assert not spool_problems(bench)
    assert r.stop() == 0
    assert "spool: " in r.log()
    wait_for("the end of the trace", lambda: "+++ exited" in str(traced(trace)))
    calls = traced(trace)
    # of a trial, or of a batch: each of these holds one event
    failed = [c for _, c in calls if "EIO" in c and str(bench.spool.folder) in c]
    batches = [c for c in failed if re.search(r"/tmp/[0-9a-f]{32}\.|/new>", c)]
    assert failed and bench.ledger.statuses().get(503, 0) == len(batches)
    assert bench.ledger.statuses()[200] >= 6
    assert not fsynced_again(calls)


def test_fault_09_the_assertion_notices():
    assert fsynced_again([("", "fsync(5</s>) = -1 EIO (x) (INJECTED)"), ("", "fsync(5</s>) = 0")])
    assert not fsynced_again([("", "fsync(5) = -1 EIO (x)"), ("", "close(5) = 0"),
                              ("", "openat(3, \"x\", 0) = 5"), ("", "fsync(5) = 0")])


# What must not be answered as kept, and must not be there.  The first two are
# the answer's own calls, too.
FAILURES = [("write", "ENOSPC"), ("write", "EDQUOT"), ("write", "EIO"), ("fsync", "EIO"),
            ("close", "EIO"), ("close", "ENOSPC"), ("renameat2", "EIO"), ("openat", "EMFILE"),
            ("openat", "ENOSPC")]


@pytest.mark.parametrize("call, error", FAILURES)
def test_fault_10_a_call_fails(call, error, bench, strace):
    """Each call of a CGI process in turn, while the database is away."""
    bench.configure(AWAY)
    bench.send(Cgi(bench))
    refused = 0
    for n in itertools.count(1):
        trace = bench.folder / f"trace-{n}"
        sender = Cgi(bench, *strace("-y", "-o", trace, "-e", f"trace={call}", "-e",
                                    f"inject={call}:error={error}:when={n}"))
        entry = bench.ledger.send(sender, bench.token, n)
        hit = [line for line in trace.read_text().splitlines() if "INJECTED" in line]
        assert not sender.was_killed()
        assert not spool_problems(bench)
        if not hit:
            break
        is_file = re.search(r"/tmp[>/\"]|/new>", hit[0]) and str(bench.spool.folder) in hit[0]
        is_reading = call in ("openat", "close") and "O_CREAT" not in hit[0] and not re.search(
            r"[0-9a-f]{32}\.", hit[0])
        if is_file and not is_reading:
            refused += 1
            assert entry.status == 503, hit
            assert not is_spooled(bench, entry), hit
        assert entry.status in (200, 503, 500, None)
    assert refused >= 1
    assert entry.status == 200
    bench.configure()
    drain(bench)
    with bench.connect() as c:
        lg.check(bench.ledger, c, bench.spool)


@pytest.fixture
def small(bench):
    """Mounts: the bench's spool is on a file system of 1 MiB."""
    with power.Mounts() as mounts:
        folder = new_folder(bench.folder, "small")
        uid = plain_user()["user"]
        mounts.mount("tmpfs", folder, "-t", "tmpfs", "-o", f"size=1m,mode=700,uid={uid}")
        spool = new_folder(folder, "spool")
        mounts.folder = folder
        bench.spool = spooldir.Spool(spool)
        bench.configure(AWAY)
        yield mounts
        bench.stop()


def fill(folder):
    """Until there is no room for another byte."""
    with open(folder / "filler", "wb", buffering=0) as f:
        for size in (65536, 4096, 1):
            try:
                while True:
                    f.write(b"x" * size)
            except OSError:
                pass


def refused(bench, address):
    """A request that finds no way, and all that must tell so."""
    answer = parse(Connection(address, 60), post(bench.token, sms("refused")))
    assert answer.status == 503 and int(answer.header("Retry-After")) > 0
    assert json.loads(answer.body)["status"] == 503
    assert health(address)[0] == 503
    assert metrics(address)['smshook_requests_total{status="503"}'] >= 1


def parse(connection, request):
    with connection as c:
        return parse_cgi(c.ask(cgi_variables(request), request.body))


def survives(bench, break_, mend):
    """A spool that cannot be written: PostgreSQL takes the events, and when that
    is away too they are refused until the spool is mended; by one process."""
    bench.configure()
    other = bench.start()
    bench.configure(AWAY)
    r = bench.start()
    bench.send(fcgi(r), times=3)
    wait_for("the other to drain", bench.spool.is_empty)
    before = metrics(r.address())['smshook_events_total{result="spooled"}']
    break_()
    refused(bench, r.address())
    assert Cgi(bench).send(post(bench.token, sms("refused"))).status == 503
    assert "spool: " in r.log() and str(bench.spool.folder) in r.log()
    assert metrics(r.address())['smshook_events_total{result="spooled"}'] == before
    bench.configure()
    entry = bench.send(fcgi(other))
    assert entry.answer["result"] == "stored"
    assert bench.send(Cgi(bench)).answer["result"] == "stored"
    bench.configure(AWAY)
    mend()
    wait_for("the spool", lambda: health(r.address())[0] == 200)
    assert bench.send(fcgi(r), times=3).answer["result"] == "spooled"
    assert r.stop() == 0
    bench.check()  # the other one drains
    assert other.stop() == 0


def test_fault_10_disk_full(bench, small):
    survives(bench, lambda: fill(small.folder), lambda: (small.folder / "filler").unlink())


def test_fault_10_read_only(bench, small):
    survives(bench,
             lambda: power.command("mount", "-o", "remount,ro", small.folder),
             lambda: power.command("mount", "-o", "remount,rw", small.folder))


def test_fault_10_file_too_large(bench):
    """SIGXFSZ of a limit does not end it."""
    bench.configure(AWAY)
    r = start(bench, "sh", "-c", 'ulimit -f 80; exec "$@"', "sh")  # 40 KiB
    limits = Path(f"/proc/{r.process.pid}/limits").read_text()
    assert re.search(r"Max file size +40960 ", limits), limits
    large = sms("x" * 50000)
    for _ in range(2):
        answer = parse(Connection(r.address()), post(bench.token, large))
        assert answer.status == 503 and answer.header("Retry-After")
        assert bench.send(fcgi(r)).answer["result"] == "spooled"
    sender = Cgi(bench, "sh", "-c", 'ulimit -f 80; exec "$@"', "sh")
    assert sender.send(post(bench.token, large)).status == 503
    assert sender.code == 0
    assert not spool_problems(bench)
    assert bench.spool.names("tmp") == []
    assert r.stop() == 0


# ------------------------------------------------------------- directory

def remove(folder):
    """A receiver may be writing in it."""
    wait_for("the folder to go", lambda: (shutil.rmtree(folder, ignore_errors=True),
                                          not folder.exists())[1])


def make_link(folder):
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to("elsewhere")


def make_file(folder):
    remove(folder)
    write(folder, "a file")


def chown_to_root(folder):
    if os.geteuid() != 0:
        pytest.skip("another owner needs root")
    os.chown(folder, 0, 0)
    folder.chmod(0o755)


UNFIT = {"missing": (remove, b"install -d"), "other owner": (chown_to_root, b"chown"),
         "world-writable": (lambda f: f.chmod(0o702), b"chmod"),
         "group-writable": (lambda f: f.chmod(0o720), b"chmod"),
         "a link": (make_link, b"link"), "a file": (make_file, b"file")}


@pytest.mark.parametrize("how", UNFIT)
def test_fault_11_unfit_directory_at_the_start(how, bench):
    make, hint = UNFIT[how]
    make(bench.spool.folder)
    directory = str(bench.spool.folder).encode()
    done = run([bench.programs / "smshook.fcgi", "-c", bench.config, "-s",
                bench.folder / "socket"])
    assert done.returncode == 78, done.stderr
    assert directory in done.stderr and hint in done.stderr, done.stderr
    done = bench.command("check")
    assert done.returncode != 0
    fail, = [line for line in (done.stdout + done.stderr).splitlines()
             if b"FAIL" in line and directory in line]
    assert hint in fail
    # a CGI process has the database, and says what is wrong
    entry = bench.send(Cgi(bench))
    assert entry.answer["result"] == "stored"
    assert directory.decode() in bench.cgi_log.read_text()
    bench.configure(AWAY)
    answer = Cgi(bench).send(post(bench.token, sms("refused")))
    assert answer.status == 503 and answer.header("Retry-After")


@pytest.mark.parametrize("how", [h for h in UNFIT if h != "other owner"])
def test_fault_11_unfit_directory_while_running(how, bench):
    """Whether it is there, not what its mode is: that is looked at as it is
    opened."""
    folder, aside = bench.spool.folder, bench.folder / "aside"

    def break_():
        folder.rename(aside)
        give(shutil.copytree(aside, folder))
        UNFIT[how][0](folder)

    def mend():
        if folder.is_symlink() or folder.is_file():
            folder.unlink()
        else:
            remove(folder)
        aside.rename(folder)
    bench.configure(AWAY)
    survives(bench, break_, mend)


def test_fault_11_directory_replaced_while_running(bench):
    """Another one, fit and empty, in its place: it is used."""
    bench.configure(AWAY)
    r = bench.start()
    bench.send(fcgi(r))
    folder, aside = bench.spool.folder, bench.folder / "aside"
    folder.rename(aside)
    make_folder(folder)
    entry = bench.send(fcgi(r))
    assert is_spooled(bench, entry) and len(bench.spool.names()) == 1
    assert r.stop() == 0


# ------------------------------------------------------------ corruption

def variants(data):
    """(bytes, length in the name) of damaged files, each in one way."""
    step = 1 if THOROUGH else 3
    for n in range(0, len(data), step):
        yield data[:n], n
        yield data[:n] + bytes([data[n] ^ (1 << n % 8)]) + data[n + 1:], len(data)
    yield data[:-1], len(data)
    yield b"", len(data)
    yield data + b"\n", len(data) + 1
    yield data + data, 2 * len(data)
    yield data, len(data) + 1
    yield b"\0" * len(data), len(data)
    yield data.replace(b"spool 1", b"spool 2", 1), len(data)


FOREIGN = ("README", ".hidden", "core", "0" * 32, "0" * 32 + ".", "0" * 32 + ".12x", "x" * 200,
           "0" * 31 + "g.12", "a b\n")


def put_foreign(bench):
    """Things that are no files of ours under all kinds of names."""
    new = bench.spool.folder / "new"
    for name in FOREIGN:
        put_file(bench, name, "foreign")
    named = [f"{i:032x}.10" for i in range(5)]
    write(make_folder(new / named[0]) / "inside", "x")
    (new / named[1]).symlink_to("/etc/passwd")
    os.mkfifo(new / named[2], 0o600)
    give(new / named[2])
    put_file(bench, named[3], "0123456789").chmod(0)
    (new / named[4]).symlink_to("nowhere")
    return [*FOREIGN, *named]


def test_fault_12_corruption(bench):
    names = spool_some(bench)
    data = (bench.spool.folder / "new" / names[-1]).read_bytes()
    whole = spooldir.parse(data)
    bad = put_foreign(bench)
    for i, (damaged, length) in enumerate(variants(data), 1000):
        bad.append(f"{i:032x}.{length}")
        put_file(bench, bad[-1], damaged)
    drain(bench)
    found = bench.spool.bad()
    assert sorted(found) == sorted(bad)
    assert all(len(text.strip()) > 10 for text in found.values())
    with bench.connect() as c:
        lg.check(bench.ledger, c)
    # the counter, and no second time
    r = bench.start()
    assert metrics(r.address())["smshook_spool_bad_files"] == len(bad)
    assert health(r.address())[1]["spool_bad"] == len(bad)
    assert r.stop() == 0
    # one of them is mended
    bench.execute(EMPTY)
    name = next(n for n in bad if n.endswith(f".{len(data)}") and n not in FOREIGN)
    put_file(bench, name, data, "bad")
    assert bench.command("spool", "retry", name).returncode == 0
    assert bench.spool.names() == [name]
    drain(bench)
    assert len(bench.spool.bad()) == len(bad) - 1
    assert [e[0] for e in bench.execute("select ingest_id from sms.event")] == [
        e.ingest_id for e in whole]


def test_fault_12_corruption_while_running(bench):
    """The receiver puts them aside by itself, and delivers the others."""
    bench.start()
    name = spool_some(bench, 4)[0]
    data = (bench.spool.folder / "new" / name).read_bytes()
    bad = put_foreign(bench)
    put_file(bench, f"{1000:032x}.{len(data)}", data[:-10] + b"0123456789")
    wait_for("the good files to be drained", lambda: bench.spool.names() == [])
    assert sorted(bench.spool.bad()) == sorted([*bad, f"{1000:032x}.{len(data)}"])
    with bench.connect() as c:
        lg.check(bench.ledger, c)


def test_fault_12_retry_of_all(bench):
    """A false alarm: all go back, and are delivered once."""
    names = spool_some(bench, 8)
    (bench.spool.folder / "bad").mkdir(exist_ok=True)
    for name in names:
        (bench.spool.folder / "new" / name).rename(bench.spool.folder / "bad" / name)
        write(bench.spool.folder / "bad" / f"{name}.reason", "a false alarm\n")
    drain(bench)
    assert bench.execute("select count(*) from sms.event") == [(0,)]
    assert bench.command("spool", "retry").returncode == 0
    assert bench.spool.names("bad") == [] and bench.spool.names() == names
    drain(bench)
    bench.check()


def test_fault_12_many_files(bench):
    n = int(os.environ.get("SMSHOOK_SPOOL_FILES", "2000"))
    make_folders(bench)
    now = 1780000000.0
    template = spooldir.Event(UUID(int=0), None, "shop", b"")
    for i in range(n):
        event = dataclasses.replace(
            template, ingest_id=UUID(int=(0x0190a3b4c5d67000 << 64 | 2 << 62) + i),
            received_at=spooldir.datetime.fromtimestamp(now + i / 1000, spooldir.timezone.utc),
            body=sms(f"file {i}"))
        data = spooldir.build([event])
        put_file(bench, spooldir.file_name([event], data), data)
    bench.start()
    wait_for("the spool to be drained", bench.spool.is_empty, 60 + n / 100)
    rows = bench.execute("select body from sms.event order by id")
    assert [r[0] for r in rows] == [f"file {i}" for i in range(n)]
    assert bench.spool.names("bad") == []


# ----------------------------------------------------------------- clock

@pytest.fixture
def faketime(plain_program):
    found = [p for p in Path("/usr/lib").glob("*/faketime/libfaketime*.so.1") if "MT" in p.name]
    if not found:
        pytest.skip("libfaketime is not installed")
    return {"LD_PRELOAD": str(found[0]), "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_FORCE_MONOTONIC_FIX": "0"}


def clock_problems(bench):
    return [p for p in spool_problems(bench) if not p.startswith("another received_at")]


def check_names(bench):
    """Sorted by name they are by the time that they tell."""
    firsts = [bench.spool.read(n)[0] for n in bench.spool.names()]
    assert firsts == sorted(firsts, key=lambda e: e.received_at)


# The last two: a clock that begins there anew with each process, and one that
# stands still.
JUMPS = ("+0", "+1d", "-1d", "+0", "-1d", "+1d", "@2026-01-15 10:00:00", "2026-01-15 10:00:00")


def test_fault_14_clock_jumps(bench, faketime):
    bench.configure(AWAY)
    clock = write(bench.folder / "clock", "+0\n")
    r = bench.start(env={**faketime, "FAKETIME_TIMESTAMP_FILE": str(clock)})
    for jump in JUMPS:
        clock.write_text(jump + "\n")
        at_once(lambda i: bench.send(fcgi(r), i), range(8))
    assert r.stop() == 0
    assert not clock_problems(bench)
    check_names(bench)
    days = {e.received_at.date() for e in bench.spool.events()}
    assert len(days) >= 3, "the clock was not wrong"


def test_fault_14_clock_jumps_between_cgi_processes(bench, faketime):
    bench.configure(AWAY)
    for jump in JUMPS:
        bench.send(Cgi(bench, env={**faketime, "FAKETIME": jump}), times=4)
    assert len(bench.spool.names()) == 4 * len(JUMPS)
    assert not clock_problems(bench)
    check_names(bench)
    bench.configure()
    drain(bench)
    assert bench.execute("select count(*) from sms.event") == [(4 * len(JUMPS),)]


@pytest.mark.parametrize("age", [-86400, -60, 86400])
def test_fault_14_note_of_another_time(age, bench):
    """The note that the database is away, made when the clock was wrong, does
    not keep anybody from it."""
    make_folders(bench)
    note = write(bench.spool.folder / "away", "")
    os.utime(note, (time.time() - age,) * 2)
    assert bench.send(Cgi(bench)).answer["result"] == "stored"


# ---------------------------------------------------------------- poison

@pytest.mark.parametrize("way", ["live", "spool"])
def test_fault_15_poison(way, bench):
    """An event that PostgreSQL refuses by itself; its neighbours are stored."""
    bodies = [sms(f"good {i}") for i in range(20)]
    bodies.insert(7, sms("poison"))
    if way == "spool":
        bench.configure(AWAY)
        r = bench.start()
        answers = at_once(lambda b: parse(Connection(r.address(), 60), post(bench.token, b)),
                          bodies)
        assert {a.status for a in answers} == {200}
        assert len(bench.spool.names()) < len(bodies), "no file has several events"
        assert r.stop() == 0
        bench.configure()
    bench.execute(TRIGGER[0])
    if way == "spool":
        done = bench.command("spool", "drain")
        assert done.returncode == 0, done.stderr
        assert bench.spool.names() == [] and bench.spool.bad() == {}
    else:
        r = bench.start()
        held = [Connection(r.address(), 60) for _ in bodies]
        for c, b in zip(held, bodies):
            c.send(fcgi_request(cgi_variables(post(bench.token, b)), b))
        statuses = [parse_cgi(c.answer()).status for c in held]
        assert statuses.pop(7) == 500 and set(statuses) == {200}
        assert bench.spool.names() == [] and r.stop() == 0
    assert {e[0] for e in bench.execute("select body from sms.event")} == {
        f"good {i}" for i in range(20)}
    assert [bytes(r[0]) for r in bench.execute("select body from sms.rejected")] == [
        sms("poison")]


# ---------------------------------------------------------- golden files

COLUMNS = {"event": "ingest_id, received_at at time zone 'UTC' as received_at, source, kind, "
           "message_id, phone, device_id, device_name, channel, status, status_code, "
           "status_text, body, media_url, payload, raw, note, "
           "occurred_at at time zone 'UTC' as occurred_at",
           "rejected": "ingest_id, received_at at time zone 'UTC' as received_at, source, "
           "remote_addr, http_status, reason, content_type, body"}


def rows_as_json(bench):
    return {table: bench.execute(
        f"select coalesce(json_agg(t order by t.ingest_id), '[]') from (select {columns} "
        f"from sms.{table}) t")[0][0] for table, columns in COLUMNS.items()}


@pytest.mark.parametrize("version", ["v1"])
def test_fault_18_files_of_earlier_versions(version, bench):
    """What released programs have written is read for ever.  The rows were looked
    at before they became golden; neither they nor the files are edited."""
    make_folders(bench)
    bench.configure(source="timezone = Europe/Berlin\ndevice_id = front desk")
    files = sorted(GOLDEN.glob(f"{version}-*.spool"))
    for path in files:
        data = path.read_bytes()
        put_file(bench, spooldir.file_name(spooldir.parse(data), data), data)
    drain(bench)
    assert len(files) > 5 and bench.spool.bad() == {}
    assert rows_as_json(bench) == json.loads((GOLDEN / f"{version}-rows.json").read_text())


# ---------------------------------------------------------------- memory

@pytest.fixture(scope="module")
def failing_malloc(top, plain_program):
    compiler = tool("cc") or tool("gcc")
    if not compiler:
        pytest.skip("no C compiler")
    library = new_folder(top, "malloc") / "failing_malloc.so"
    library.parent.chmod(0o755)
    done = run([compiler, "-shared", "-fPIC", "-O1", "-o", library,
                Path(__file__).with_name("failing_malloc.c")])
    assert done.returncode == 0, done.stderr
    return library


LARGE = "x" * 30000  # its file is more than what stdio holds in memory at first


@pytest.mark.parametrize("is_up", [False, True], ids=["away", "up"])
@pytest.mark.parametrize("times", [1, 1000000], ids=["one fails", "all fail from then on"])
def test_fault_20_no_memory(times, is_up, bench, failing_malloc):
    """Of a CGI process: no answer that is not true, no crash.  While the database
    is away each allocation fails in turn; a connection has so many that some do."""
    bench.configure(None if is_up else AWAY)
    bench.send(Cgi(bench))
    mark = bench.folder / "mark"
    n, counts = 1, {}
    while True:
        mark.unlink(missing_ok=True)
        if is_up:  # what the one before may have noted
            (bench.spool.folder / "away").unlink(missing_ok=True)
        # without HOME libpq would look for the user's, where glibc's nss crashes
        sender = Cgi(bench, env={"LD_PRELOAD": str(failing_malloc), "HOME": "/",
                                 "FAIL_AT": str(n), "FAIL_TIMES": str(times),
                                 "FAIL_MARK": str(mark)})
        entry, request = bench.ledger.request(bench.token, 0)
        entry.body = entry.body.replace(b'"}', LARGE.encode() + b'"}')
        answer = sender.send(dataclasses.replace(request, body=entry.body))
        entry.answered_at = time.time()
        if answer:
            entry.status = answer.status
            entry.answer = json.loads(answer.body) if answer.status == 200 else {}
        assert not sender.was_killed(), f"allocation {n}: signal {sender.code}"
        assert entry.status in (200, 500, 503, None), f"allocation {n}: {entry.status}"
        counts[entry.status] = counts.get(entry.status, 0) + 1
        if not mark.exists():
            break
        n += 1 if THOROUGH else random.randint(1, max(1, n // 20))
    print(f"allocations: {n}, answers: {counts}")
    assert entry.status == 200 and sender.code == 0
    assert any(s in counts for s in (500, 503))
    assert bench.spool.names("bad") == []
    bench.configure()
    drain(bench)
    with bench.connect() as c:
        lg.check(bench.ledger, c, bench.spool, rejects_kept=False)


# ----------------------------------------------------------- descriptors

def test_fault_24_out_of_descriptors(bench):
    bench.configure(AWAY)
    r = start(bench, "sh", "-c", 'ulimit -n 32; exec "$@"', "sh")
    pid = r.process.pid
    idle = []
    for _ in range(64):
        c = Connection(r.address(), 60)
        c.send(b"\x01")  # the beginning of a record
        idle.append(c)
    wait_for("the limit", lambda: "accept" in r.log())
    before, ticks = cpu_time(pid), os.sysconf("SC_CLK_TCK")
    time.sleep(3)
    assert cpu_time(pid) - before < ticks, "busy"
    for c in idle:
        c.close()
    wait_for("the receiver", lambda: parse(
        Connection(r.address(), 60), post(bench.token, sms("after"))) is not None)
    entries = at_once(lambda i: bench.ledger.send(fcgi(r), bench.token, i), range(64))
    assert sum(e.status == 200 for e in entries) > 0
    assert {e.status for e in entries} <= {200, 503, None}
    bench.send(fcgi(r), times=3)
    assert not [p for p in spool_problems(bench) if "invented" not in p]
    assert r.process.pid == pid and r.stop() == 0


def test_answer_in_time_though_a_disk_hangs(bench, strace):
    """Nobody knows what becomes of that event, so it is not acknowledged; the
    receiver goes on when the disk does."""
    make_folders(bench)
    bench.configure(AWAY)
    r = start(bench, *strace("-D", "-o", "/dev/null", "-e", "trace=fsync", "-e",
                             "inject=fsync:delay_enter=12000000:when=3"))
    sender = fcgi(r)
    # Mostly the first; which thread has looked at the folder before is a matter of time.
    hung = next(e for e in (bench.ledger.send(sender, bench.token, n) for n in range(4))
                if e.status != 200)
    assert hung.status == 503
    assert hung.answered_at - hung.sent_at < SOON
    assert bench.ledger.send(sender, bench.token, 5).status == 503  # its turn does not come
    wait_for("the disk", lambda: bench.ledger.send(sender, bench.token, 6).status == 200)
    assert "hangs" in r.log()
    assert r.stop() == 0
    assert not spool_problems(bench)
