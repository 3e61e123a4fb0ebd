"""Measurements, by `make bench`: PostgreSQL with its fsync on, nginx, 64
connections, everything on this machine.  Each line compares in one run; nothing
fails by a number."""
import contextlib
import os
import re
import signal
import statistics
import subprocess
import threading
import time

import pytest

import bulk
import process
import readers
from drivers import Http, cgi_variables, post
from harness import bench, breakable, metrics  # noqa: F401 (fixtures)
from load import sms
from process import run, tool, wait_for, write
from servers import Nginx
from test_abuse import HALF, HEAD, crowd

SECONDS = int(os.environ.get("SMSHOOK_BENCH_SECONDS", "10"))
TIMES = 300  # processes of each kind

LUA = """
local threads, n, run = 0, 0, 0
function setup(thread) threads = threads + 1; thread:set("id", threads) end
function init() run = os.time() .. tostring({}) end
function request()
	n = n + 1
	return wrk.format("POST", "/smshook/TOKEN", {["Content-Type"] = "application/json"},
		string.format('{"event":"incoming_sms","phone":"+49151%07d","message":' ..
			'"Hello, I need help with my order %s %d %d","device_id":"d"}', n, run, id, n))
end
function done(summary, latency)
	local e = summary.errors
	io.write(string.format("%d %d %.0f %.0f\\n", summary.requests * 1e6 / summary.duration,
		e.status + e.connect + e.read + e.write + e.timeout,
		latency.max / 1000, latency:percentile(99) / 1000))
end
"""


@pytest.fixture
def say(capfd):
    def line(text):
        with capfd.disabled():
            print(text, flush=True)
    return line


@pytest.fixture
def site_of(bench):
    """A receiver behind nginx, on a PostgreSQL that keeps its word."""
    if not tool("wrk"):
        pytest.skip("wrk is not installed")
    bench.cluster.execute("alter system set fsync = on")
    bench.cluster.execute("select pg_reload_conf()")
    bench.configure(server="socket_mode = 0666", spool="max_size = 4GiB")
    bench.receiver = bench.start()
    nginx = Nginx(bench.top, bench.receiver.socket)
    bench.port = nginx.port
    bench.lua = write(nginx.folder / "wrk.lua", LUA.replace("TOKEN", bench.token))
    yield bench
    nginx.stop()


def wrk(bench, seconds):
    return subprocess.Popen(
        ["wrk", "-t2", "-c64", "--timeout", "8s", f"-d{seconds}", "-s", str(bench.lua),
         f"http://127.0.0.1:{bench.port}/"], stdout=subprocess.PIPE, text=True)


def told(load):
    """(requests a second, not 200, slowest ms, 99th percentile ms)."""
    out = load.communicate()[0]
    return tuple(int(x) for x in re.search(r"^(\d+) (\d+) (\d+) (\d+)$", out, re.M).groups())


def line(what, numbers):
    rate, bad, slowest, p99 = numbers
    return f"{what}: {rate} requests/s, {bad} not 200, slowest {slowest} ms, 99 % in {p99} ms"


def stop(cluster):
    cluster.stop(signal.SIGQUIT)


@contextlib.contextmanager
def held(address, n):
    """n connections on the receiver's socket, each with half a request; anew when
    the receiver gives them up."""
    stopping = threading.Event()

    def hold():
        while not stopping.is_set():
            with crowd(address, HEAD + HALF, n):
                stopping.wait(2)
    thread = threading.Thread(target=hold)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def test_held(site_of, say):
    """Connections that never bring a whole request, beside those that do."""
    b = site_of
    alone = told(wrk(b, SECONDS))
    say(line("\nno connection held ", alone))
    with held(b.receiver.address(), 500):
        beside = told(wrk(b, SECONDS))
    say(line("500 connections held", beside)
        + f"; {beside[3] / max(alone[3], 1):.2f} times as long")


def paced(http, bench, rate, seconds):
    """The 99th percentile of the ms of so many good events a second, and how many."""
    times, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        assert http.send(post(bench.token, sms(f"paced {began}"))).status == 200
        times.append(1000 * (time.perf_counter() - began))
        time.sleep(max(0, 1 / rate - times[-1] / 1000))
    return f"{sorted(times)[len(times) * 99 // 100]:.0f} ms of {len(times)}"


def test_flood(site_of, say):
    """Wrong tokens, as fast as they are refused, beside 20 good events a second."""
    b = site_of
    http = Http(b.port)
    alone = paced(http, b, 20, SECONDS)
    write(b.lua, LUA.replace("TOKEN", "w" * 32))
    flood = wrk(b, SECONDS + 1)
    time.sleep(0.5)
    beside = paced(http, b, 20, SECONDS)
    rate, bad, _, _ = told(flood)
    say(f"\nflood of wrong tokens: {rate} a second, {bad} refused; good events, 99 % in {beside}, "
        f"without a flood in {alone}")


def events(bench):
    return bench.execute("select count(*) from sms.event")[0][0]


def test_outage(site_of, say):
    b = site_of
    up = told(wrk(b, SECONDS))
    say(line("\nPostgreSQL there", up))
    stop(b.cluster)
    down = told(wrk(b, SECONDS))
    say(line("PostgreSQL away ", down) + f"; {down[0] / up[0]:.2f} times as many")
    b.cluster.start()
    before = metrics(b.receiver.address())["smshook_drained_total"]
    began = time.monotonic()
    wait_for("the drain", lambda: metrics(b.receiver.address())["smshook_drained_total"] > before, 60)
    first, began = metrics(b.receiver.address())["smshook_drained_total"], time.monotonic()
    wait_for("an empty spool", b.spool.is_empty, 600)
    took = time.monotonic() - began
    wait_for("the count", lambda: metrics(b.receiver.address())["smshook_spool_files"] == 0)
    n = metrics(b.receiver.address())["smshook_drained_total"] - first
    say(f"drained without load: {n:.0f} events, {n / took:.0f}/s")


def test_drain_under_load(site_of, say):
    b = site_of
    load = wrk(b, 3 * SECONDS)
    time.sleep(SECONDS / 2)
    stop(b.cluster)
    time.sleep(SECONDS)
    b.cluster.start()
    began, before = time.monotonic(), events(b)
    numbers = told(load)
    took = time.monotonic() - began
    say(line(f"away for {SECONDS} s under load, then drained under it", numbers)
        + f"; from then on {(events(b) - before) / took:.0f} rows/s")
    began = time.monotonic()
    wait_for("an empty spool", b.spool.is_empty, 600)
    say(f"the spool was empty {time.monotonic() - began:.1f} s after the load")


def cgi_time(program, variables, body):
    """Milliseconds of one process, body on its standard input."""
    read, w = os.pipe()
    os.write(w, body)
    os.close(w)
    null = (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)
    began = time.perf_counter()
    pid = os.posix_spawn(program, [program], variables, file_actions=[
        (os.POSIX_SPAWN_DUP2, read, 0), null, null[:1] + (2,) + null[2:]])
    os.waitpid(pid, 0)
    took = time.perf_counter() - began
    os.close(read)
    return 1000 * took


def test_cgi(bench, say):
    """As the user that runs this: the spool must be that user's."""
    compiler = tool("cc") or tool("gcc")
    if not compiler:
        pytest.skip("there is no C compiler")
    source = write(bench.folder / "empty.c", "int main(void) { return 0; }\n")
    empty = str(bench.folder / "empty")
    subprocess.run([compiler, "-O2", "-o", empty, str(source)], check=True)
    program, body = str(bench.programs / "smshook.fcgi"), sms("hello")
    variables = {**cgi_variables(post(bench.token, body)),
                 b"SMSHOOK_CONFIG": str(bench.config).encode()}
    stored = statistics.median(cgi_time(program, variables, body) for _ in range(TIMES // 3))
    stop(bench.cluster)
    cgi_time(program, variables, body)  # finds out that the database is away
    times = [(cgi_time(empty, {}, b""), cgi_time(program, variables, body))
             for _ in range(TIMES)]
    nothing, spooled = (statistics.median(column) for column in zip(*times))
    say(f"\nCGI, a process a request, medians: empty program {nothing:.2f} ms, stored "
        f"{stored:.2f} ms, spooled {spooled:.2f} ms: {spooled - nothing:.2f} ms on top")
    assert len(bench.spool.names()) >= TIMES


def test_readers(bench, say):
    """Of a log of SMSHOOK_LOG_EVENTS events, 98 % of them behind the consumers."""
    began = time.monotonic()
    log = bulk.Log(readers.prepare(bench))
    say(f"\na log of {bulk.EVENTS} events, made in {time.monotonic() - began:.0f} s; median of 50 "
        "calls, and pages of 8 kB")
    with bench.cluster.connect(bench.name, "worker") as c:
        for what, (sql, values, _) in log.queries().items():
            pages, _ = bulk.cost(c, sql, values)
            say(f"{what:22} {bulk.median_ms(c, sql, values):7.2f} ms {pages:6} pages")
