"""Load: wrk with bodies that all differ, a single client, pgbench."""
import math
import os
import re
import signal
import socket
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from process import Process, write
from contenders import need

HERE = Path(__file__).parent
PATIENCE = 10  # seconds; bench/run has less where it measures for a moment


@dataclass
class Result:
    rate: float  # answers a second
    bad: int     # of them not 2xx, or none at all
    p50: float   # ms
    p99: float
    max: float
    n: int


def busy_seconds():
    """Of all processors, since the start of the machine."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, *rest = (int(f) for f in fields)
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def settle(step=0.2):
    """Waits until the machine rests: processes of the contender before, a process a
    request, go on for a while after its load has ended."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        before = busy_seconds()
        time.sleep(step)
        if busy_seconds() - before < step / 5:
            return


class Wrk:
    """Runs from now on for so many seconds."""

    def __init__(self, stand, name, connections, seconds, token=None):
        url = stand.url(name, token)
        path = "/" + url.split("/", 3)[3]
        text = (HERE / "load.lua").read_text().replace("PATH", path)
        # Milliseconds: no run has as many bodies a second as numbers.
        text = text.replace("FIRST", str(time.time_ns() // 10**6 * 1000))
        lua = write(stand.top / f"load-{time.time_ns()}.lua", text)
        self.process = Process(
            [need("wrk"), f"-t{min(connections, 2)}", f"-c{connections}", "--timeout", "10s",
             f"-d{math.ceil(seconds) + 5}s", "-s", lua, url], lua.with_suffix(".log"))
        self.end = time.monotonic() + seconds

    def result(self):
        time.sleep(max(0, self.end - time.monotonic()))
        self.process.stop(signal.SIGINT)
        found = re.search(r"^result (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)$", self.process.text(), re.M)
        assert found, self.process.text()
        n, took, bad, *times = (int(x) for x in found.groups())
        return Result((n - bad) * 1e6 / took, bad, *(t / 1000 for t in times), n)


def wrk(stand, name, connections, seconds, token=None):
    settle()
    return Wrk(stand, name, connections, seconds, token).result()


class Client:
    """One kept connection to nginx."""

    def __init__(self, stand, name, token=None):
        self.socket = socket.create_connection(("127.0.0.1", stand.nginx.port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.head = (f"POST /{name}/{token or stand.token} HTTP/1.1\r\nHost: localhost\r\n"
                     "Content-Type: application/json\r\nContent-Length: ")

    def send(self, body):
        self.socket.sendall(f"{self.head}{len(body)}\r\n\r\n".encode() + body)

    def status(self):
        """Of the next answer, which is read whole."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.socket.recv(4096)
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head, re.I)[1]) \
            if b"ontent-" in head and b"chunked" not in head else None
        while len(body) < length if length is not None else not body.endswith(b"0\r\n\r\n"):
            body += self.socket.recv(4096)
        return int(head.split()[1])


def paced(client, body_of, rate, seconds):
    """Times of so many requests a second, one after the other, in ms."""
    times, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        client.send(body_of(len(times)))
        status = client.status()
        assert status == 200, status
        times.append(1000 * (time.perf_counter() - began))
        time.sleep(max(0, 1 / rate - times[-1] / 1000))
    return times


def bare_commit_ms(stand, seconds):
    """Half of pgbench's commits of a row take so long, one connection."""
    prefix = stand.top / f"commit-{time.time_ns()}"
    process = Process(
        [f"{stand.cluster.programs}/pgbench", "-n", "-M", "prepared", "-c1",
         f"-T{max(1, round(seconds))}", "-f", HERE / "peers/commit.sql", "--log",
         f"--log-prefix={prefix}", "-h", stand.cluster.folder, "-U", "peer", stand.peers],
        prefix.with_suffix(".out"))
    assert process.wait() == 0, process.text()
    times = [int(line.split()[2]) for path in stand.top.glob(f"{prefix.name}.*")
             if path.suffix != ".out" for line in path.read_text().splitlines()]
    return statistics.median(times) / 1000
