"""More requests than workers: each has its turn, also when there is a stop or a reload
meanwhile."""
import contextlib
import resource
import select
import signal
import threading
import time
import types
from pathlib import Path

import fcgi_client as f
import pytest

import process
import receiver as rx
from drivers import Fcgi, cgi_variables, get, parse_cgi, post
from harness import listener  # noqa: F401 (a fixture)
from load import at_once, sms
from process import new_folder, run, wait_for
from test_faults_disk import strace, wrapped  # noqa: F401 (a fixture)


class Hanging:
    """A disk that hangs: the environment of the process that uses it."""

    def __init__(self, folder):
        library, self.switch = folder / "hang.so", folder / "while"
        folder.chmod(0o777)
        done = run(["cc", "-shared", "-fPIC", "-o", library,
                    Path(__file__).with_name("hanging_fsync.c")])
        assert done.returncode == 0, done.stderr
        self.env = {"LD_PRELOAD": str(library), "HANG_WHILE": str(self.switch)}

    def begin(self):
        self.switch.write_bytes(b"")

    def end(self):
        self.switch.unlink()


@pytest.fixture
def hanging(programs, top):
    if any(name in (programs / "smshook.fcgi").read_bytes()
           for name in (b"__asan_init", b"__tsan_init")):
        pytest.skip("the program has a sanitizer")
    return Hanging(new_folder(top, "hanging"))


def test_large_bodies_take_turns(start, text, token, database):
    """More than a socket holds, more of them than may be waited for at a time."""
    r = start(text(server="threads = 8\nmax_body = 512KiB"))

    def ask(i):
        return Fcgi(r.address()).send(post(token, sms(f"{i} " + "x" * 400000))).status
    assert at_once(ask, range(40)) == [200] * 40
    assert len(database.events()) == 40


def asked(r, token, n):
    """n connections that were kept, with a request on each that nobody may have taken."""
    connections = [f.Connection(r.address(), 60) for _ in range(n)]
    for i, c in enumerate(connections):
        body = sms(f"first {i}")
        assert parse_cgi(c.ask(cgi_variables(post(token, body)), body, keep=True)).status == 200
    return connections


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_all_that_was_asked_is_answered(number, start, text, token, database, request):
    r = start(text(server="threads = 4", database="timeout = 1s"))
    connections = asked(r, token, 40)
    locked = request.getfixturevalue("locked")
    for i, c in enumerate(connections):
        body = sms(f"second {i}")
        c.send(f.request(cgi_variables(post(token, body)), body, keep=True))
    wait_for("a commit", lambda: database.value(
        "select count(*) from pg_locks where locktype = 'advisory' and not granted"))
    r.process.send(number)
    answers = [c.answer() for c in connections]
    locked.release()
    assert [a and parse_cgi(a).status for a in answers] == [200] * 40
    if number == signal.SIGTERM:
        assert r.process.wait() == 0
    else:
        wait_for("the reload", lambda: "reloaded" in r.log())


@contextlib.contextmanager
def half_sent(r, token):
    """A connection on which a request is under way, and the rest of it."""
    body = sms("y" * 3000)
    whole = f.request(cgi_variables(post(token, body)), body)
    with f.Connection(r.address(), 60) as c:
        c.send(whole[:-500])
        wait_for("its head", lambda: Fcgi(r.address()).send(post(token, sms("z"))).status == 200)
        yield c, whole[-500:]


def test_a_body_under_way_at_a_reload(start, text, token, database):
    """Half of it was there."""
    r = start(text())
    with half_sent(r, token) as (c, rest):
        r.process.send(signal.SIGHUP)
        wait_for("the reload", lambda: "reloaded" in r.log())
        time.sleep(0.5)
        c.send(rest)
        assert parse_cgi(c.answer()).status == 200


def test_a_body_under_way_at_a_reload_and_a_stop(start, text, token, database):
    """The receiver of before the reload has the time of its requests."""
    r = start(text())
    with half_sent(r, token) as (c, rest):
        r.reload()
        r.process.send(signal.SIGTERM)
        time.sleep(2)
        c.send(rest)
        assert parse_cgi(c.answer()).status == 200
    assert r.process.wait() == 0
    assert r.log().endswith("stopped\n")


def test_kept_connections_stay_at_a_reload(start, text, token, database):
    """Those that are idle, and those whose request is under way."""
    r = start(text(server="threads = 4"))
    connections = asked(r, token, 20)
    for i in range(3):
        busy = connections[0]
        body = sms(f"busy {i}")
        whole = f.request(cgi_variables(post(token, body)), body, keep=True)
        busy.send(whole[:-9])
        r.reload()
        busy.send(whole[-9:])
        assert parse_cgi(busy.answer()).status == 200
        time.sleep(0.5)  # by then the one before has ended
        for k, c in enumerate(connections):
            body = sms(f"kept {i} {k}")
            answer = c.ask(cgi_variables(post(token, body)), body, keep=True)
            assert parse_cgi(answer).status == 200
    assert r.stop() == 0
    assert all(c.answer() is None for c in connections)


@pytest.mark.long
def test_a_connection_whose_answer_is_just_out_at_a_reload(  # noqa: F811
        programs, top, text, strace):
    """Its worker has it still when the others are handed over."""
    late = strace("-D", "-o", "/dev/null", "-e", "trace=write",
                  "-e", "inject=write:delay_exit=150000")
    folder = wrapped(types.SimpleNamespace(programs=programs, folder=top), *late)
    r = rx.Receiver(folder, top, rx.write_config(top, text(server="threads = 4", log="info")))
    ask = cgi_variables(get("/metrics"))
    with f.Connection(r.address(), process.SLOW) as kept:
        time.sleep(1)
        assert parse_cgi(kept.ask(ask, keep=True)).status == 200
        r.process.send(signal.SIGHUP)
        time.sleep(1.5)  # by then the one before has ended
        assert parse_cgi(kept.ask(ask, keep=True)).status == 200
    assert r.stop() == 0, r.log()


@pytest.mark.long
def test_one_thread_and_a_listener_that_is_shared(  # noqa: F811
        programs, top, text, token, listener, strace):
    """Another process was quicker to accept: what is kept is served all the same."""
    late = strace("-D", "-o", "/dev/null", "-e", "trace=accept4",
                  "-e", "inject=accept4:delay_enter=1000000")
    folder = wrapped(types.SimpleNamespace(programs=programs, folder=top), *late)
    r = rx.Receiver(folder, top, rx.write_config(top, text(server="threads = 1")),
                    socket=Path(listener.getsockname()), stdin=listener)
    ask = cgi_variables(get("/metrics"))
    with f.Connection(r.address(), process.SLOW) as kept:
        assert parse_cgi(kept.ask(ask, keep=True)).status == 200
        with f.Connection(r.address()):
            time.sleep(0.3)  # now it is on its way into accept4()
            if select.select([listener], [], [], 0)[0]:  # never, on a machine that stalls
                listener.accept()[0].close()
        assert parse_cgi(kept.ask(ask, keep=True)).status == 200
    assert r.stop() == 0, r.log()


def test_more_slow_bodies_than_may_be_waited_for(start, text, token, database):
    """Those that nobody could wait for are told so."""
    r = start(text(server="threads = 4\nrequest_timeout = 2s", database="timeout = 1s"))
    body = sms("x" * 60000)
    whole = f.request(cgi_variables(post(token, body)), body)
    slow = [f.Connection(r.address(), 60) for _ in range(6)]
    for c in slow:
        c.send(whole[:40000])
    answers = [parse_cgi(c.answer()) for c in slow]
    assert sorted({a.status for a in answers}) == [400, 503]
    assert all(a.header("Retry-After") for a in answers if a.status == 503)


def test_who_waits_for_bodies_lets_others_go_on(start, text, token, database):
    """As many bodies as workers may wait for, and be there processors for each: an event
    is answered before any of them has come."""
    r = start(text(server="threads = 64"))
    body = sms("x" * 60000)
    whole = f.request(cgi_variables(post(token, body)), body)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(f.Connection(r.address(), 60)) for _ in range(16)]
        for c in slow:
            c.send(whole[:40000])
        time.sleep(0.3)  # they are waited for
        assert Fcgi(r.address()).send(post(token, sms("quick"))).status == 200
        assert not select.select([c.socket for c in slow], [], [], 0)[0]
        for c in slow:
            c.send(whole[40000:])
        assert [parse_cgi(c.answer()).status for c in slow] == [200] * 16


@pytest.mark.long
def test_more_connections_than_are_taken(start, text, token, database):
    """What is more waits, and loses nothing."""
    r = start(text())
    body = sms("one of many")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (8192, limits[1]))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        for _ in range(3900):
            c = stack.enter_context(f.Connection(r.address(), 60))
            c.send(b"\1")
        many = [stack.enter_context(f.Connection(r.address(), 60)) for _ in range(20)]
        for c in many:
            c.send(f.request(cgi_variables(post(token, body)), body))
        wait_for("a word of it", lambda: "so many connections" in r.log())
        assert [parse_cgi(c.answer()).status for c in many] == [200] * 20


@pytest.mark.long
def test_a_reload_while_the_old_one_hangs(start, text, token, database, hanging):
    """The new one serves, and goes on to."""
    r = start(text(server="request_timeout = 2s", database="timeout = 1s").replace(
        database.writer, "host=/nowhere"), env=hanging.env)
    hanging.begin()
    asker = threading.Thread(target=lambda: Fcgi(r.address()).send(post(token, sms("hangs"))))
    asker.start()
    wait_for("it to hang", lambda: "a commit hangs" in r.log())
    hanging.end()
    r.process.send(signal.SIGHUP)
    wait_for("the reload", lambda: "reloaded" in r.log())
    end = time.monotonic() + 9  # an alarm would come by 7
    while time.monotonic() < end:
        assert Fcgi(r.address()).send(post(token, sms("next"))).status == 200
        time.sleep(0.3)
    asker.join()
    r.process.stop(signal.SIGKILL)
