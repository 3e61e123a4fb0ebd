"""What a request costs, counted: system calls, allocations, statements.  No clock: one
more that creeps in is one more.  Whoever takes one out lowers the limit here."""
import os
import re
import signal
import struct
import types
from pathlib import Path

import fcgi_client as f
import pytest

import receiver as rx
from cases import DELIVERY, encode
from drivers import cgi_variables, parse_cgi, post
from load import sms
from process import new_folder, run, write
from test_faults_disk import plain_program, strace, wrapped  # noqa: F401 (fixtures)

N = 100

# Of one request after the other on a kept connection: the worker waits, looks, reads,
# takes chance for the id and wakes the writer, which sends, waits, reads and answers.
# Where the next request is there before that has ended, the worker waits once more
# (epoll_ctl).
SYSCALLS = {"epoll_wait": 1, "recvfrom": 2, "read": 1, "getrandom": 1, "sendto": 2, "poll": 1}
FUTEXES = 3  # the worker wakes, the writer waits, and glibc looks after its lock
ALLOCATIONS = 34
# The call of sms.ingest, and within it: its body is new, the event is stored, then keywords
# (incoming) or the state of the message (delivery).
STATEMENTS = {"incoming": 4, "delivery": 4}


def ask(r, token, n, what="cost"):
    with f.Connection(r.address(), 60) as c:
        for i in range(n):
            body = sms(f"{what} {i}")
            answer = c.ask(cgi_variables(post(token, body)), body, keep=True)
            assert parse_cgi(answer).status == 200


def syscalls(programs, top, config, token, strace, n):  # noqa: F811
    """{name: calls} of a receiver's life with n requests."""
    out = new_folder(top, "strace") / "counts"
    out.parent.chmod(0o777)
    place = types.SimpleNamespace(programs=programs, folder=top)
    r = rx.Receiver(wrapped(place, *strace("-c", "-U", "calls,name", "-o", out)), top, config)
    ask(r, token, n, f"{n}")
    # the receiver, not the strace before it; at once, for a stop is many calls
    os.kill(int(run(["pgrep", "-P", str(r.process.pid)]).stdout.split()[0]), signal.SIGKILL)
    r.process.wait()
    return {line.split()[1]: int(line.split()[0]) for line in out.read_text().splitlines()
            if line.split() and line.split()[0].isdigit() and "total" not in line}


def test_system_calls(programs, top, text, token, strace, plain_program):  # noqa: F811
    config = rx.write_config(top, text())
    few, many = (syscalls(programs, top, config, token, strace, n) for n in (N, 3 * N))
    cost = {name: (count - few.get(name, 0)) / (2 * N) for name, count in many.items()}
    futexes, early = cost.pop("futex"), cost.pop("epoll_ctl", 0)
    cost["epoll_wait"] -= early
    cost = {name: count for name, count in cost.items() if count > 0.3}  # not of a request
    cost.setdefault("getrandom", 1)  # newer systems have it without a call
    assert {name: round(count) for name, count in cost.items()} == SYSCALLS, cost
    assert futexes < FUTEXES + 0.5


def test_allocations(programs, top, start, text, token, plain_program):  # noqa: F811
    folder = new_folder(top, "counting")
    folder.chmod(0o755)
    library, counted = folder / "count.so", write(folder / "n", b"\0" * 8, 0o666)
    done = run(["cc", "-shared", "-fPIC", "-O2", "-o", library,
                Path(__file__).with_name("counting_malloc.c")])
    assert done.returncode == 0, done.stderr
    r = start(text(), env={"LD_PRELOAD": str(library), "COUNT_FILE": str(counted)})

    def calls():
        return struct.unpack("l", counted.read_bytes())[0]
    ask(r, token, N, "first")
    before = calls()
    ask(r, token, N, "then")
    each = (calls() - before) / N
    assert each < ALLOCATIONS + 0.5


def statements(database):
    """Those that were logged, but for the drainer's."""
    log = (database.postgres.folder / "server.log").read_text()
    return re.findall("Query Text: (?!select pg_notification_queue_usage)", log)


@pytest.mark.parametrize("what, body", [("incoming", sms("cost")), ("delivery", encode(DELIVERY))],
                         ids=STATEMENTS)
def test_statements(what, body, start, text, token, database):
    """Each statement that PostgreSQL runs for one event, those in functions too."""
    database.connection.execute("alter role receiver set session_preload_libraries = auto_explain")
    for name, value in (("log_min_duration", "0"), ("log_nested_statements", "on"),
                        ("log_parameter_max_length", "0")):  # no texts in logs
        database.connection.execute(f"alter role receiver set auto_explain.{name} = {value}")
    try:
        r = start(text())
        ask(r, token, 1)  # plans and catalogs
        n = len(statements(database))
        with f.Connection(r.address(), 60) as c:
            assert parse_cgi(c.ask(cgi_variables(post(token, body)), body)).status == 200
        r.stop(signal.SIGTERM)
        assert len(statements(database)) - n == STATEMENTS[what]
    finally:
        database.connection.execute("alter role receiver reset all")
