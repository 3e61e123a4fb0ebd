"""Abuse of the protocols, by its number: records that no web server sends,
crowds that hold connections, processes called in odd ways, floods.  After each
the receiver is the same process, with no more descriptors and threads."""
import array
import contextlib
import fcntl
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import termios
import threading
import time
import types

import pytest

import fcgi_client as f
import ledger as lg
import process
import receiver as rx
import servers
from cases import DELIVERY, encode
from drivers import Cgi, Fcgi, Http, Request, basic, cgi_variables, get, parse_cgi, post
from harness import metrics, threads
from load import Threads, at_once, sms
from process import new_folder, run, tool, wait_for, write
from spooldir import Spool
from test_batch import cpu_time
from test_faults_disk import strace, wrapped  # noqa: F401 (a fixture)

BODY = encode(DELIVERY)
TICKS = os.sysconf("SC_CLK_TCK")
THOROUGH = "SMSHOOK_THOROUGH" in os.environ
N_HELD = int(os.environ.get("SMSHOOK_HELD", "500"))
KEPT_REQUESTS = int(os.environ.get("SMSHOOK_KEPT_REQUESTS", "2000"))
FLOOD_SECONDS = float(os.environ.get("SMSHOOK_FLOOD_SECONDS", "1.5"))

TOKEN = rx.new_token()
# Nothing below waits for a time-out but what says so: the client's patience is
# at an end first.
SERVER = "threads = 4\nsocket_mode = 0666\nrequest_timeout = 60s"
HASTY = "threads = 4\nrequest_timeout = 2s"
N_GREEDY = 12  # more than workers: 4 threads have 9


def descriptors(pid):
    """How many it has open; a pipe is its sanitizer's."""
    n = 0
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            n += not os.readlink(f"/proc/{pid}/fd/{fd}").startswith("pipe:")
    return n


class Abused:
    """A receiver, and what it must be like after each abuse."""

    def __init__(self, receiver, database):
        self.receiver, self.database = receiver, database
        self.address, self.pid = receiver.address(), receiver.process.pid
        self.driver = Fcgi(self.address)
        self.serve()
        wait_for("its client to be gone", self.is_at_rest)
        self.n_fds, self.n_threads = descriptors(self.pid), threads(self.pid)

    def is_at_rest(self):
        """No connection but the listener is on its socket."""
        with open("/proc/net/unix") as lines:
            return sum(line.rstrip().endswith(str(self.address)) for line in lines) == 1

    def serve(self, times=1):
        for i in range(times):
            assert self.driver.send(post(TOKEN, sms(f"served {i}"))).status == 200

    def check(self):
        assert self.receiver.process.running(), self.receiver.log()[-4000:]
        self.serve()
        wait_for("its descriptors", lambda: descriptors(self.pid) <= self.n_fds)
        assert threads(self.pid) == self.n_threads

    def kept(self):
        """What is there beside what serve() sent."""
        return ([e for e in self.database.events() if "served" not in (e["body"] or "")]
                + self.database.rejected())


@contextlib.contextmanager
def abused_by(programs, top, database, server):
    """programs: the folder of smshook.fcgi."""
    r = rx.Receiver(programs, top, rx.write_config(top, rx.config_text(
        database.writer, {"shop": f"token = {TOKEN}"}, server, "timeout = 1s")))
    yield Abused(r, database)
    if r.process.running():  # else its test has told it
        assert r.stop() == 0, r.log()[-4000:]


@pytest.fixture(scope="module")
def patient(programs, top, database):
    """patient() is the receiver; another one only where one has died."""
    with contextlib.ExitStack() as stack:
        started = []

        def get():
            if not started or not started[-1].receiver.process.running():
                started.append(stack.enter_context(abused_by(programs, top, database, SERVER)))
            return started[-1]
        yield get


@pytest.fixture
def abused(patient, database):
    database.empty()
    a = patient()
    yield a
    a.check()


# ------------------------------------------------------------ records (21)

def variables(body=BODY, **more):
    return cgi_variables(post(TOKEN, body, **more))


PARAMS = f.params(variables())
HEAD = f.begin() + f.stream(f.PARAMS, PARAMS)
CUT_HEAD = f.begin() + f.stream(f.PARAMS, f.params(variables(send="cut")))
GET_VALUES, END_PARAMS = 9, f.record(f.PARAMS)
HALF, REST = f.record(f.STDIN, BODY[:30]), f.stream(f.STDIN, BODY[30:])
WHOLE = HEAD + f.stream(f.STDIN, BODY)


def values(n):
    """A management record with n known names: more than the answer has room for."""
    return f.record(GET_VALUES, f.params({b"FCGI_MAX_CONNS": b""}) * n, request_id=0)


def long(*lengths, content=b"NAME"):
    """Parameters, and a pair whose lengths are told in four bytes each."""
    pair = b"".join((n | 1 << 31).to_bytes(4, "big") for n in lengths)
    return f.begin() + f.stream(f.PARAMS, PARAMS + pair + content) + f.stream(f.STDIN, BODY)


def padded(content):
    """The record that ends the parameters, with this in its padding."""
    return END_PARAMS[:6] + bytes([len(content), 0]) + content


def head_with(pairs, **more):
    return f.begin() + f.stream(f.PARAMS, f.params({**variables(), **pairs}), **more)


CLOSED = None  # the connection is closed, and nothing is answered

# What is sent, and the answer.  Nothing waits for more: these come at once.
AT_ONCE = {
    "abort amid the body": (HEAD + HALF + f.record(f.ABORT), 400),
    "abort after the body": (HEAD + f.record(f.STDIN, BODY) + f.record(f.ABORT), 400),
    "abort, then the rest": (HEAD + HALF + f.record(f.ABORT) + REST, 400),
    "abort before the body": (HEAD + f.record(f.ABORT), 400),
    "abort amid the parameters": (f.begin() + f.record(f.ABORT), CLOSED),
    "abort with nothing begun": (f.record(f.ABORT), CLOSED),
    "short but clean": (CUT_HEAD + f.stream(f.STDIN, BODY), 400),
    "no body, clean": (CUT_HEAD + f.stream(f.STDIN, b""), 400),
    "longer than told": (HEAD + f.stream(f.STDIN, BODY + b"garbage"), 200),
    "no length": (f.begin() + f.stream(f.PARAMS, f.params(variables(send="chunked")))
                  + f.stream(f.STDIN, BODY), 200),
    "parameters without content": (
        head_with({b"": b"", b"EMPTY": b"", b"HTTP_X_NOTHING": b""})
        + f.stream(f.STDIN, BODY), 200),
    "values without a name": (head_with({b"": b"x" * 300}) + f.stream(f.STDIN, BODY), 200),
    "parameters of 64 KiB": (head_with({b"HTTP_COOKIE": b"c" * 65000})
                             + f.stream(f.STDIN, BODY), 200),
    "a byte a record": (f.begin() + f.stream(f.PARAMS, PARAMS, size=1)
                        + f.stream(f.STDIN, BODY, size=1), 200),
    "padding of 255": (f.begin() + f.record(f.PARAMS, PARAMS, padding=255) + END_PARAMS
                       + f.record(f.STDIN, BODY, padding=255) + f.record(f.STDIN), 200),
    "padding at the end of the parameters": (
        f.begin() + f.record(f.PARAMS, PARAMS) + padded(b"\0" * 255)
        + f.stream(f.STDIN, BODY), CLOSED),
    # libfcgi 2.4.2 takes that padding for the next records
    "records in the padding": (
        f.begin() + f.record(f.PARAMS, PARAMS) + padded(values(12)) + f.stream(f.STDIN, BODY),
        CLOSED),
    "another body in the padding": (
        f.begin() + f.record(f.PARAMS, PARAMS) + padded(f.stream(f.STDIN, sms("smuggled")))
        + f.stream(f.STDIN, BODY), CLOSED),
    "unknown type": (f.record(99, b"what"), CLOSED),
    "unknown type of the request": (f.begin() + f.record(99, b"what"), CLOSED),
    "unknown type amid the body": (HEAD + f.record(99, b"what") + f.stream(f.STDIN, BODY), CLOSED),
    "unknown type of management": (f.record(99, b"what", request_id=0), CLOSED),
    "version 0": (f.record(f.BEGIN, b"\0\1\0\0\0\0\0\0", version=0), CLOSED),
    "version 2": (f.record(f.BEGIN, b"\0\1\0\0\0\0\0\0", version=2), CLOSED),
    "version that changes": (f.begin() + f.record(f.PARAMS, PARAMS, version=255), CLOSED),
    "request 0": (f.request(variables(), BODY, request_id=0), CLOSED),
    "request 65535": (f.request(variables(), BODY, request_id=65535), 200),
    "begun twice": (f.begin() + f.begin() + f.stream(f.PARAMS, PARAMS), CLOSED),
    "two requests at once": (f.begin() + f.begin(2), CLOSED),
    "parameters of another request": (f.begin() + f.stream(f.PARAMS, PARAMS, 2), CLOSED),
    "body of another request": (HEAD + f.stream(f.STDIN, BODY, 2), CLOSED),
    "two requests, record by record": (
        f.begin() + f.stream(f.PARAMS, PARAMS) + f.begin(2) + f.stream(f.PARAMS, PARAMS, 2)
        + f.record(f.STDIN, BODY[:9]) + f.stream(f.STDIN, BODY, 2)
        + f.stream(f.STDIN, BODY[9:]), CLOSED),
    "get values": (values(1), CLOSED),
    "get values without names": (values(0), CLOSED),
    "get values, 12 times a name": (values(12), CLOSED),
    "get values, 1000 times a name": (values(1000), CLOSED),
    "get values amid the parameters": (f.begin() + values(12), CLOSED),
    "get values amid the body": (HEAD + values(12) + f.stream(f.STDIN, BODY), CLOSED),
    "get values, cut": (values(12)[:-4], CLOSED),
    "other role": (f.begin(role=2), CLOSED),
    "filter": (f.begin(role=3), CLOSED),
    "no role": (f.begin(role=0), CLOSED),
    "begin of a byte": (f.record(f.BEGIN, b"\0"), CLOSED),
    "begin of 64 KiB": (f.record(f.BEGIN, b"\0\1" + b"\0" * 65533), CLOSED),
    "body amid the parameters": (f.begin() + f.record(f.PARAMS, PARAMS)
                                 + f.stream(f.STDIN, BODY), CLOSED),
    "body without a head": (f.stream(f.STDIN, BODY), CLOSED),
    "parameters after their end": (HEAD + f.stream(f.PARAMS, PARAMS), CLOSED),
    "a receiver's records": (HEAD + f.record(f.STDOUT, BODY) + f.record(f.END, b"\0" * 8),
                             CLOSED),
    "a filter's data": (HEAD + f.stream(8, BODY), CLOSED),
    "HTTP": (b"POST / HTTP/1.1\r\n\r\n", CLOSED),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 90, CLOSED),
    "nothing but zeros": (b"\0" * 800, CLOSED),
    "a value beyond the parameters": (
        f.begin() + f.stream(f.PARAMS, PARAMS + b"\x0b\x7fSERVER_PORT80")
        + f.stream(f.STDIN, BODY), CLOSED),
    "lengths that are cut": (f.begin() + f.stream(f.PARAMS, PARAMS + b"\x80\0"), CLOSED),
    "a length alone": (f.begin() + f.stream(f.PARAMS, PARAMS + b"\4"), CLOSED),
    # CVE-2025-23016: the sum is 0, or a little more than 0, in 32 bits
    **{f"lengths of {n:#x} and {v:#x}": (long(n, v), CLOSED) for n, v in (
        (0x7fffffff, 0x7fffffff), (0x7ffffffe, 0x7ffffffe), (0x7ffffffe, 0x7fffffff),
        (0x7fffffff, 4), (4, 0x7fffffff), (0x40000000, 0x3fffffff), (0x100000, 0), (5, 0xffff),
        (70000, 70000))},
    "short lengths in four bytes": (long(4, 0), 200),
}

# Without an end, until the other side has no more to say.
HALF_CLOSED = {
    "nothing": (b"", CLOSED),
    "a byte": (b"\1", CLOSED),
    "half a header": (f.begin()[:5], CLOSED),
    "a header": (f.begin()[:8], CLOSED),
    "begun": (f.begin(), CLOSED),
    "amid the parameters": (f.begin() + f.record(f.PARAMS, PARAMS[:40]), CLOSED),
    "amid a record of parameters": (f.begin() + f.record(f.PARAMS, PARAMS)[:-9], CLOSED),
    "before the end of the parameters": (f.begin() + f.record(f.PARAMS, PARAMS), CLOSED),
    "head": (HEAD, 400),
    "cut body": (HEAD + HALF, 400),
    "body without an end": (HEAD + f.record(f.STDIN, BODY), 400),
    "body without an end or a length": (
        f.begin() + f.stream(f.PARAMS, f.params(variables(send="chunked")))
        + f.record(f.STDIN, BODY), 400),
    "amid a record of the body": (HEAD + f.record(f.STDIN, BODY)[:-5], 400),
    "amid the padding": (HEAD + f.record(f.STDIN, BODY, padding=200)[:-5], 400),
    "a long body that is cut": (
        f.begin() + f.stream(f.PARAMS, f.params(variables(b"x" * 60000)))
        + f.stream(f.STDIN, b"x" * 50000, end=False), 400),
}


def outcome(c):
    """The status of what comes before the end or the close; it comes at once."""
    try:
        out = c.answer()
    except ConnectionError:
        return CLOSED
    answer = parse_cgi(out)
    return answer and answer.status


def push(c, data):
    """Sends what the other side takes of it."""
    with contextlib.suppress(ConnectionError):
        c.send(data)


def told(c, what):
    """FIONREAD: how many bytes wait for us; TIOCOUTQ: for the other side."""
    n = array.array("i", [0])
    fcntl.ioctl(c.socket, what, n)
    return n[0]


def attack(abused, sent, expected, half_close=False):
    with f.Connection(abused.address, process.SLOW) as c:
        push(c, sent)
        if half_close:
            c.socket.shutdown(socket.SHUT_WR)
        assert outcome(c) == expected
    kept = abused.kept()
    assert [k["payload"] for k in kept] == ([DELIVERY] if expected == 200 else [])


@pytest.mark.parametrize("sent, expected", AT_ONCE.values(), ids=AT_ONCE)
def test_fault_21_records(sent, expected, abused):
    """Without the end of what is sent: nobody waits for it."""
    attack(abused, sent, expected)


@pytest.mark.parametrize("sent, expected", HALF_CLOSED.values(), ids=HALF_CLOSED)
def test_fault_21_half_closed(sent, expected, abused):
    attack(abused, sent, expected, half_close=True)


@pytest.mark.parametrize("n", [30, 50000], ids=["late", "long"])
def test_fault_21_records_behind_a_body(n, abused):
    """A body that is long, or late, may be read before all of it is there; what
    comes behind it is judged like the rest."""
    head = f.begin() + f.stream(f.PARAMS, f.params(variables(b" " * 60000)))
    with f.Connection(abused.address, process.SLOW) as c:
        c.send(head + f.record(f.STDIN, b" " * n))
        with contextlib.suppress(TimeoutError):
            wait_for("it to be read", lambda: told(c, termios.TIOCOUTQ) == 0, 1.3)
        push(c, values(12))
        assert outcome(c) in (CLOSED, 400)
    assert abused.kept() == []


def test_fault_21_in_two_pieces(abused):
    """A request that comes as two, wherever it is cut, is one."""
    requests = [f.request(variables(sms(f"cut at {at}")), sms(f"cut at {at}"), keep=True)
                for at in range(600)]
    cuts = [at for at, r in enumerate(requests) if at < len(r)][::1 if THOROUGH else 7]
    connections = [f.Connection(abused.address, process.SLOW) for _ in cuts]
    for c, at in zip(connections, cuts):
        c.send(requests[at][:at])
    abused.serve()
    for c, at in zip(connections, cuts):
        c.send(requests[at][at:])
    for c in connections:
        assert outcome(c) == 200
        c.close()
    assert len(abused.kept()) == len(cuts)


def endless(*records):
    """The same records for as long as they are taken."""
    many = b"".join(records) * (1 + 4096 // len(b"".join(records)))
    return itertools.repeat(many)


# Until request_timeout, or for as long as the receiver takes them.
NEVER_ENDING = {
    "parameters": ((f.begin(),), endless(f.record(f.PARAMS, b"\4\4NAMETEXT"))),
    "a parameter": ((f.begin(),), endless(f.record(f.PARAMS, b"\x81" + b"x" * 65534))),
    "empty parameters": ((f.begin(),), endless(f.record(f.PARAMS, b"\0\0" * 3000))),
    "a body": ((CUT_HEAD,), endless(f.record(f.STDIN, b" " * 65535))),
    "a body of bytes": ((CUT_HEAD,), endless(f.record(f.STDIN, b" "))),
    "empty ends": ((HEAD,), endless(f.record(f.STDIN))),
    "empty records": ((), endless(f.record(8))),
    "begins": ((), endless(f.begin())),
    "aborts": ((f.begin(),), endless(f.record(f.ABORT))),
    "get values": ((), endless(values(12))),
    "padding": ((HEAD,), endless(f.record(f.STDIN, b" ", padding=255))),
    "nothing": ((), ()),
    "a head": ((HEAD,), ()),
    "half a body": ((HEAD, HALF), ()),
    "half a long body": ((f.begin() + f.stream(f.PARAMS, f.params(variables(b"x" * 60000))),
                          f.stream(f.STDIN, b"x" * 50000, end=False)), ()),
    "half a head": ((f.begin(),), ()),
}


class Endless:
    """One client that goes on, without waiting for anything, until it is closed."""

    def __init__(self, address, first, rest):
        self.connection, self.rest = f.Connection(address, process.SLOW), iter(rest)
        self.left, self.got = b"".join(first), b""
        self.connection.socket.setblocking(False)

    def step(self):
        """Sends and reads what can be; false when it is closed."""
        s = self.connection.socket
        self.left = self.left or next(self.rest, b"")
        with contextlib.suppress(OSError):  # full, or closed: recv() knows
            self.left = self.left[s.send(self.left):]
        try:
            while part := s.recv(65536):
                self.got += part
        except BlockingIOError:
            return True
        except ConnectionError:
            pass
        return False


@pytest.mark.long
def test_fault_21_what_never_ends(programs, top, database):
    """All at once, and more of them than threads: each is closed in the end, and
    meanwhile others are served."""
    database.empty()
    with abused_by(programs, top, database, HASTY) as a:
        clients = {name: Endless(a.address, *how) for name, how in NEVER_ENDING.items()}
        left = dict(clients)

        def is_over():
            for name in [n for n, c in left.items() if not c.step()]:
                del left[name]
            return not left
        wait_for(f"the end of {list(left)}", is_over)
        a.serve(5)
        for c in clients.values():
            c.connection.close()
        for name in ("nothing", "half a head", "parameters", "begins", "get values"):
            assert clients[name].got == b"", name
        for name in ("a head", "half a body", "half a long body"):
            assert b"Status: 400" in clients[name].got, name
        bodies = [k["payload"] for k in a.kept()]
        assert bodies in ([], [DELIVERY])  # of "empty ends" the first is one
        a.check()


# ------------------------------------------------------------- crowds (22)

def all_open(connections):
    """Nothing has come on any of them, and none was closed."""
    poll = select.poll()
    for c in connections:
        poll.register(c.socket, select.POLLIN)
    return not poll.poll(0)


# A crowd sends each of these once, and then holds its connections.
CROWDS = {
    "silent": b"",
    "a byte": b"\1",
    "half a head": HEAD[:len(HEAD) // 2],
    "head": HEAD,
    "half a body": HEAD + HALF,
}


@contextlib.contextmanager
def crowd(address, sent=b"", n=N_HELD):
    connections = []
    try:
        for _ in range(n):
            connections.append(f.Connection(address, process.SLOW))
            if sent:
                connections[-1].send(sent)
        yield connections
    finally:
        for c in connections:
            c.close()


@pytest.mark.parametrize("sent", CROWDS.values(), ids=CROWDS)
def test_fault_22_held(sent, abused):
    """More than a hundred times as many as there are threads: all others are
    served before the first of them is given up."""
    with crowd(abused.address, sent) as held:
        abused.serve(20)
        assert all_open(held)
    assert abused.kept() == []


def test_fault_22_held_for_nothing(abused):
    """To hold connections costs the receiver next to no time of the processor."""
    with contextlib.ExitStack() as crowds:
        for sent in CROWDS.values():
            crowds.enter_context(crowd(abused.address, sent, N_HELD // len(CROWDS)))
        abused.serve()
        before = cpu_time(abused.pid)
        time.sleep(1.2)  # by then some of the bodies are late
        assert cpu_time(abused.pid) - before < 0.3 * TICKS
        large = sms("served, though it is large " + "x" * 60000)
        for _ in range(5):
            assert abused.driver.send(post(TOKEN, large)).status == 200


class Dripping(Threads):
    """Sends a byte to each connection in turn, about one each 50 ms to each."""

    def __init__(self, connections, data):
        self.connections, self.data = connections, data
        self.stopping, self.errors = threading.Event(), []
        self.n = 0
        self.threads = [threading.Thread(target=self.work)]
        self.threads[0].start()

    def work(self):
        try:
            for i in range(len(self.data)):
                for c in self.connections:
                    push(c, self.data[i:i + 1])
                self.n += 1
                if self.stopping.wait(0.05):
                    break
        except Exception as e:
            self.errors.append(e)


@pytest.mark.parametrize("at", [0, len(HEAD)], ids=["head", "body"])
def test_fault_22_dripping(at, abused):
    with crowd(abused.address, WHOLE[:at]) as held:
        drip = Dripping(held, WHOLE[at:-1])
        wait_for("the first bytes", lambda: drip.n >= 3 or drip.errors)
        abused.serve(20)
        assert all_open(held)
        drip.stop()
    assert abused.kept() == []


def test_fault_22_half_closed(abused):
    """They hear that it was not all, and hold their ends open."""
    with crowd(abused.address, HEAD + HALF) as held:
        for c in held:
            c.socket.shutdown(socket.SHUT_WR)
        abused.serve(20)
        assert {outcome(c) for c in held} == {400}
        abused.check()
    assert abused.kept() == []


def asks_on(c, ask):
    """As often as the socket holds the answers, and then some; until it is closed."""
    poll = select.poll()
    poll.register(c.socket, 0)  # the hang-up alone
    for _ in range(2000):
        waiting = told(c, termios.FIONREAD)
        push(c, ask)
        wait_for("an answer, or the end", lambda n=waiting: told(c, termios.FIONREAD) > n
                 or poll.poll(0))
        if poll.poll(0):
            return True
    return False


def test_fault_22_answers_that_nobody_reads(abused):
    """One each of a crowd; and from more clients than there are workers so many
    that the receiver closes."""
    ask = f.request(cgi_variables(get("/metrics")), keep=True)
    with crowd(abused.address, ask) as held, crowd(abused.address, n=N_GREEDY) as greedy:
        assert at_once(lambda c: asks_on(c, ask), greedy) == [True] * N_GREEDY
        abused.serve(20)
        for c in held:
            assert outcome(c) == 200
    assert abused.kept() == []


def test_fault_22_more_in_place_of_reading(programs, top, database):
    """Of answers that are given where events are committed: nobody else waits for it."""
    ask, stopping = f.request(cgi_variables(get("/healthz")), keep=True), threading.Event()

    def insist(c):
        c.socket.setblocking(False)
        while not stopping.wait(0.001):
            try:
                c.socket.send(ask)
            except BlockingIOError:
                pass
            except OSError:
                return  # closed, as it should be
    database.empty()
    with abused_by(programs, top, database, HASTY) as a, crowd(a.address, n=N_GREEDY) as greedy:
        insisting = [threading.Thread(target=insist, args=(c,)) for c in greedy]
        for thread in insisting:
            thread.start()
        try:
            while any(thread.is_alive() for thread in insisting):
                a.serve(5)
        finally:
            stopping.set()
            for thread in insisting:
                thread.join()
        for c in greedy:
            c.socket.close()
        a.check()


def test_fault_22_flooding(abused):
    """Bodies without an end, as fast as they go, of more clients than there are
    workers; who is refused comes again."""
    stopping, current = threading.Event(), {}
    data = CUT_HEAD + f.record(f.STDIN, b" " * 65535) * 50

    def flood(i):
        while not stopping.is_set():
            with f.Connection(abused.address, process.SLOW) as c, contextlib.suppress(OSError):
                current[i] = c.socket
                while not stopping.is_set():
                    c.send(data)
    flooding = [threading.Thread(target=flood, args=(i,)) for i in range(N_GREEDY)]
    for thread in flooding:
        thread.start()
    try:
        abused.serve(20)
    finally:
        stopping.set()
        for s in current.values():
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
        for thread in flooding:
            thread.join()
    assert abused.kept() == []


class RoomyNginx(servers.Nginx):
    """For more clients at once."""

    def write(self):
        super().write()
        path = self.folder / "nginx.conf"
        write(path, path.read_text().replace("worker_connections 512", "worker_connections 4096"))


def slow_http(port, sent):
    s = socket.create_connection(("127.0.0.1", port), process.SLOW)
    s.sendall(sent)
    return s


@contextlib.contextmanager
def slow_clients(port, n):
    """Open connections, each with half a request of HTTP."""
    line = f"POST /smshook/{TOKEN} HTTP/1.1\r\nHost: x\r\n".encode()
    body = line + b"Content-Length: 500\r\n\r\n"
    ways = (line, line[:9], body, body + b"{" * 250)
    with contextlib.ExitStack() as stack:
        for i in range(n):
            stack.enter_context(slow_http(port, ways[i % len(ways)]))
        yield


@pytest.mark.parametrize("server, n", [(RoomyNginx, N_HELD), (servers.ApacheProxy, 48)],
                         ids=["nginx", "apache"])
def test_fault_22_slow_clients(server, n, abused):
    """nginx hands on what is whole: the receiver does not hear of them.  Apache
    holds a thread for each, and hands on the beginning of a body."""
    web = server(abused.receiver.folder.parent, abused.address)
    http = Http(web.port)
    try:
        assert http.send(post(TOKEN, sms("served first"))).status == 200
        with slow_clients(web.port, n):
            for i in range(20):
                assert http.send(post(TOKEN, sms(f"served {i} behind them"))).status == 200
            if server is RoomyNginx:  # it keeps a few connections
                assert descriptors(abused.pid) <= abused.n_fds + 20
        assert abused.kept() == []
    finally:
        web.stop()


# -------------------------------------------------- kept connections (23)

class ReusingApache(servers.ApacheProxy):
    """With its connections to the receiver kept."""

    def write_shipped(self):
        super().write_shipped()
        path = self.folder / "smshook.conf"
        text = path.read_text()
        assert " retry=0 " in text
        write(path, text.replace(" retry=0 ", " retry=0 enablereuse=on "))


@pytest.mark.long
@pytest.mark.parametrize("server, share", [(servers.Nginx, 1), (ReusingApache, 4)],
                         ids=["nginx", "apache"])
def test_fault_23_two_threads_and_kept_connections(server, share, programs, top, database):
    """Many more connections are kept than there are threads, and all is 200."""
    database.empty()
    with abused_by(programs, top, database, "threads = 2\nsocket_mode = 0666") as a:
        web = server(top, a.address)
        n = KEPT_REQUESTS // share
        numbers, bad, lock = iter(range(n)), [], threading.Lock()

        def work():
            http = Http(web.port)
            while True:
                with lock:
                    i = next(numbers, None)
                if i is None:
                    return
                answer = http.send(post(TOKEN, sms(f"kept {i}")))
                if not answer or answer.status != 200:
                    bad.append(answer)
        workers = [threading.Thread(target=work) for _ in range(16)]
        for w in workers:
            w.start()
        for w in workers:
            w.join()
        held = descriptors(a.pid) - a.n_fds
        web.stop()
        assert not bad, (len(bad), bad[0])
        assert held > 2
        assert len(a.kept()) == n
        a.check()


# ------------------------------------------------------- descriptors (24)

@pytest.mark.long
def test_fault_24_limits(programs, top, database):
    """Of 20, 30 and 40: the log has no more than a line a second of it, and it is
    over when there is room again."""
    database.empty()
    place = types.SimpleNamespace(programs=programs, folder=top)
    folders = [wrapped(place, "sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh")
               for limit in (20, 30, 40)]
    with contextlib.ExitStack() as stack:
        limited = [stack.enter_context(abused_by(folder, top, database, HASTY))
                   for folder in folders]
        began = time.monotonic()
        with contextlib.ExitStack() as crowds:
            for a in limited:
                crowds.enter_context(crowd(a.address, b"\1", n=60))
            for a in limited:
                wait_for("the limit", lambda a=a: "accept" in a.receiver.log())
            before = [cpu_time(a.pid) for a in limited]
            time.sleep(0.5)
            busy = [cpu_time(a.pid) - n for a, n in zip(limited, before)]
            assert max(busy) < 0.2 * TICKS
        for a in limited:
            a.check()
            seconds = time.monotonic() - began
            lines = [line for line in a.receiver.log().splitlines() if "accept" in line]
            assert len(lines) <= seconds + 2, lines


# -------------------------------------------------------------- CGI (25, 26)

class ApacheCgi(servers.ApacheCgid):
    """mod_cgi in the place of mod_cgid: it forks by itself."""
    modules = ["mpm_prefork", *(m for m in servers.Apache.modules if m != "mpm_event")]
    extra = ["cgi"]
    more = ""

    def write_shipped(self):
        super().write_shipped()
        path = self.folder / "smshook.conf"
        write(path, path.read_text().replace("CGIDScriptTimeout 15s", ""))


class LighttpdCgi(servers.Server):
    program = "lighttpd"

    def write(self):
        d = self.folder
        (d / "www").mkdir(exist_ok=True)
        write(d / "lighttpd.conf", f"""
server.modules = ( "mod_alias", "mod_cgi", "mod_setenv" )
server.document-root = "{d}/www"
server.errorlog = "{d}/error.log"
server.bind = "127.0.0.1"
server.port = {self.port}
alias.url = ( "/smshook" => "{self.receiver}" )
cgi.assign = ( "smshook.fcgi" => "" )
setenv.set-environment = ( "SMSHOOK_CONFIG" => "{self.config}" )
""")

    def command(self):
        return [tool("lighttpd"), "-D", "-f", self.folder / "lighttpd.conf"]


INJECTED = "/tmp/smshook-injected"
ARGUMENTS = ["-c+/etc/passwd", "--help", "%2d%2dconfig=x", "-s+" + INJECTED]


@pytest.mark.parametrize("server", [servers.ApacheCgid, ApacheCgi, LighttpdCgi],
                         ids=["apache-cgid", "apache-cgi", "lighttpd"])
def test_fault_25_arguments(server, site):
    """A query without = becomes arguments (RFC 3875, section 4.4)."""
    site.database.empty()
    web = server(site.top, None, site.program, site.config)
    http, token = Http(web.port), site.tokens["main"][0]
    for query in ARGUMENTS:
        answer = http.send(Request("/" + token, sms(query), query=query))
        assert answer and answer.status == 200, (query, web.errors())
        assert http.send(Request("/wrong", sms(query), query=query)).status == 401
    web.stop()
    assert [e["body"] for e in site.database.events()] == ARGUMENTS
    assert not os.path.exists(INJECTED)


class OddCgi:
    """The program as no web server starts it; what it answers, and its exit code."""

    def __init__(self, bench_or_site, before=()):
        self.config, self.log = bench_or_site.config, bench_or_site.cgi_log
        self.command = [*before, str(bench_or_site.program)]

    def run(self, env, body=b"", closed=(), stdout=subprocess.PIPE):
        """closed: descriptors that it has not got."""
        env = {**{k.encode(): v.encode() for k, v in os.environ.items() if "SAN_OPT" in k},
               b"SMSHOOK_CONFIG": str(self.config).encode(), **env}
        close = "".join(f" {fd}{'<' if fd == 0 else '>'}&-" for fd in closed)
        with open(self.log, "ab") as log:
            self.done = subprocess.run(
                ["sh", "-c", 'exec "$@"' + close, "sh", *self.command], input=body,
                stdout=stdout, stderr=log, env=env, cwd="/", timeout=2 * process.SLOW,
                **process.plain_user())
        return parse_cgi(self.done.stdout)


@pytest.fixture
def odd(site):
    """odd(environment, ...) runs it once."""
    site.database.empty()
    return OddCgi(site)


def good(site, body=BODY, **more):
    return cgi_variables(post(site.tokens["main"][0], body, **more))


def kept(site):
    return [k["payload"] if "payload" in k else k["body"]
            for k in site.database.events() + site.database.rejected()]


LENGTHS = {"short": (b"%d" % (len(BODY) + 1), BODY, 400, []),
           "very short": (b"60000", BODY, 400, []),
           "nothing": (b"%d" % len(BODY), b"", 400, []),
           "long": (b"%d" % len(BODY), BODY + b"garbage", 200, [DELIVERY]),
           "very long": (b"%d" % len(BODY), BODY + b" " * 300000, 200, [DELIVERY]),
           "no length": (b"", BODY, 200, [DELIVERY])}


@pytest.mark.parametrize("length, body, status, rows", LENGTHS.values(), ids=LENGTHS)
def test_fault_26_lengths(length, body, status, rows, odd, site):
    """Of what is told and what comes; nothing that is not whole is kept."""
    assert odd.run({**good(site), b"CONTENT_LENGTH": length}, body).status == status
    assert kept(site) == rows


@pytest.mark.parametrize("length", [b"5", b"", None], ids=["told", "empty", "absent"])
def test_fault_26_no_standard_input(length, odd, site):
    env = good(site)
    del env[b"CONTENT_LENGTH"]
    if length is not None:
        env[b"CONTENT_LENGTH"] = length
    assert odd.run(env, closed=[0]).status == 400
    assert kept(site) in ([], [b""])


@pytest.mark.parametrize("closed", [[1], [1, 2], [0, 1, 2]], ids=str)
def test_fault_26_no_standard_output(closed, odd, site):
    """There is nobody to tell; and what the program opens is not taken for it."""
    odd.run(good(site), BODY, closed=closed)
    assert odd.done.returncode == 0
    assert kept(site) == ([] if 0 in closed else [DELIVERY])


def test_fault_26_output_that_is_full(odd, site):
    with open("/dev/full", "wb") as full:
        odd.run(good(site), BODY, stdout=full)
    assert odd.done.returncode == 0
    assert kept(site) == [DELIVERY]


# Of a good request, without one variable; all others are not needed.
MISSING = {b"REQUEST_METHOD": 405, b"PATH_INFO": 200, b"CONTENT_LENGTH": 200, b"REMOTE_ADDR": 200,
           b"GATEWAY_INTERFACE": 200, b"CONTENT_TYPE": 200, b"REQUEST_URI": 200,
           b"QUERY_STRING": 200, b"SERVER_PROTOCOL": 200}


@pytest.mark.parametrize("name", MISSING, ids=bytes.decode)
def test_fault_26_missing_variables(name, odd, site):
    env = good(site)
    del env[name]
    assert odd.run(env, BODY).status == MISSING[name]
    assert kept(site) == ([DELIVERY] if MISSING[name] == 200 else [])


def test_fault_26_hardly_an_environment(odd, site):
    assert odd.run({b"REQUEST_METHOD": b"POST"}, BODY).status == 401
    assert odd.run({b"GATEWAY_INTERFACE": b"CGI/1.1"}, BODY).status == 405
    assert odd.run({b"REQUEST_METHOD": b"", b"PATH_INFO": b""}, BODY).status == 405
    assert kept(site) == []


# Beside a right token; what is longer than 128 KiB the kernel refuses itself.
@pytest.mark.parametrize("size", [8 << 10, (128 << 10) - 1100], ids=["8 KiB", "128 KiB"])
def test_fault_26_large_environment(size, odd, site):
    env, large = good(site), b"x" * size
    statuses = {b"PATH_INFO": 401, b"REQUEST_METHOD": 405, b"CONTENT_LENGTH": 400, **dict.fromkeys((
        b"HTTP_COOKIE", b"HTTP_" + b"X" * 1000, b"CONTENT_TYPE", b"REMOTE_ADDR", b"QUERY_STRING",
        b"REQUEST_URI", b"HTTP_AUTHORIZATION", b"HTTP_X_WEBHOOK_TOKEN"), 200)}
    for name, status in statuses.items():
        answer = odd.run({**env, name: large}, BODY)
        assert answer and answer.status == status, name
    assert kept(site) == [DELIVERY] * 8


@pytest.mark.long
def test_fault_26_sigterm_at_any_time(odd, site, strace, top):
    """At one system call after the other: an answer of 200 is a row, and there is
    no row but of a whole event."""
    trace = write(new_folder(top, "s") / "trace", "", 0o666)
    ledger, token = lg.Ledger("main"), site.tokens["main"][0]

    def send(*options):
        entry, request = ledger.request(token, 0)
        cgi = OddCgi(site, strace(*options))
        answer = cgi.run(cgi_variables(request), entry.body)
        entry.answered_at = time.time()
        if answer:
            entry.status, entry.answer = answer.status, json.loads(answer.body)
        return entry
    assert send("-o", str(trace)).status == 200
    n = sum(1 for _ in open(trace))
    step = 1 if THOROUGH else n // 12 + 1
    ends = [send("-o", "/dev/null", "-e", f"inject=all:signal=TERM:when={at}").status
            for at in range(1, n, step)]
    assert {None, 200} == set(ends)
    Fcgi(site.receiver.socket).send(post(token, sms("drained, if anything was spooled")))
    with site.database.postgres.connect(site.database.name) as c:
        c.execute("delete from sms.event where body like 'drained%'")
        lg.check(ledger, c, Spool(rx.spool_of(site.config)))


# ----------------------------------------------------- wrong tokens (44)

def wrong_request(n):
    """One of a stranger who tries what there is."""
    wrong = f"{n:032x}"
    kind = (("Content-Type", "application/json"),)
    return (Request("/" + wrong, BODY, headers=kind),
            Request("/", BODY, query="token=" + wrong, headers=kind),
            Request("/", BODY, headers=(("Authorization", "Bearer " + wrong),)),
            Request("/", BODY, headers=(("Authorization", basic(wrong)),)),
            Request("/", BODY, headers=(("X-Webhook-Token", wrong),)),
            Request("/" + "x" * 3000, b"no JSON"))[n % 6]


class Flood(Threads):
    """Wrong tokens, as fast as they are refused."""

    def __init__(self, address, n):
        self.address, self.stopping, self.errors = address, threading.Event(), []
        self.statuses = [[] for _ in range(n)]
        self.threads = [threading.Thread(target=self.work, args=(s, i))
                        for i, s in enumerate(self.statuses)]
        for thread in self.threads:
            thread.start()

    def work(self, statuses, i):
        try:
            sender = lg.Fcgi(self.address)
            for n in itertools.count(i):
                if self.stopping.is_set():
                    break
                statuses.append(sender.send(wrong_request(n)).status)
            sender.close()
        except Exception as e:  # told by stop()
            self.errors.append(e)


def transactions(database):
    """Of all that were in this database."""
    return database.value("select xact_commit + xact_rollback from pg_stat_database "
                          "where datname = current_database()")


@pytest.mark.long
def test_fault_44_flood_of_wrong_tokens(programs, top, database):
    """Beside it 20 good events a second are all stored; PostgreSQL hears nothing
    of it, the log a few lines, and the metrics count each."""
    database.empty()
    with abused_by(programs, top, database, "threads = 4") as a:
        ledger = lg.Ledger()
        name = 'smshook_requests_total{status="401"}'
        refused, log = metrics(a.address)[name], len(a.receiver.log())
        before = transactions(database)
        flood = Flood(a.address, 8)
        with lg.Load(ledger, 1, TOKEN, lambda: lg.Fcgi(a.address), 0.05, with_rejects=False):
            time.sleep(FLOOD_SECONDS)
        flood.stop()
        statuses = list(itertools.chain(*flood.statuses))
        assert set(statuses) == {401}
        assert metrics(a.address)[name] - refused == len(statuses)
        assert ledger.is_all_answered_well()
        n = len(ledger.entries)
        time.sleep(0.3)
        assert transactions(database) - before < 3 * n + 50 < len(statuses)
        lines = a.receiver.log()[log:].splitlines()
        assert len([line for line in lines if "token" in line]) <= 2 + FLOOD_SECONDS / 5
        assert len(lines) <= n + 20
        database.rows("delete from sms.event where starts_with(body, 'served') returning 1")
        with database.postgres.connect(database.name) as c:
            lg.check(ledger, c)
        a.check()
