"""The receiver as a process: sockets, stop, configuration, a database that goes."""
import json
import os
import select
import signal
import socket
import stat
import threading
import time

import pytest

import fcgi_client
import process
import receiver as rx
from cases import DELIVERY, encode
from drivers import Cgi, Fcgi, Http, Request, cgi_variables, get, parse_cgi, post
from load import Kept, Load, at_once, sms
from postgres import INGEST_LOCK
from process import run, wait_for, write
from servers import free_port

BODY = encode(DELIVERY)
PATIENT = {"server": "request_timeout = 60s\nthreads = 8", "database": "timeout = 50s"}


class Held:
    """Holds the lock of sms.ingest: what is posted meanwhile waits."""

    def __init__(self, database):
        self.connection = database.postgres.connect(database.name)

    def __enter__(self):
        self.connection.execute("select pg_advisory_lock(%s)", [INGEST_LOCK])
        return self

    def __exit__(self, *_):
        self.connection.close()


def waiting(database):
    """How many sessions wait for the lock of sms.ingest."""
    return database.value("""select count(*) from pg_locks
        where locktype = 'advisory' and not granted""")


# ------------------------------------------------------------------- stop

def test_stop_answers_what_is_in_flight(start, text, token, database):
    r = start(text(**PATIENT))
    answers = []
    with Held(database):
        threads = [threading.Thread(target=lambda i=i: answers.append(
            Fcgi(r.address()).send(post(token, sms(str(i)))))) for i in range(6)]
        for t in threads:
            t.start()
        wait_for("the first commit", lambda: waiting(database))
        time.sleep(0.5)  # the others are read meanwhile
        r.process.send(signal.SIGTERM)
        time.sleep(0.2)
    for t in threads:
        t.join()
    assert [a.status for a in answers] == [200] * 6
    assert r.process.wait() == 0
    assert len(database.events()) == 6


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_when_idle(number, start, text):
    r = start(text())
    assert r.stop(number) == 0
    assert not os.path.exists(r.socket)


def test_stop_closes_idle_connections(start, text, token):
    r = start(text())
    kept = [Kept(r.address()) for _ in range(5)]
    assert kept[0].send(post(token, BODY)).status == 200
    assert r.stop() == 0
    for k in kept:
        assert k.connection.socket.recv(1) == b""
        k.close()


def test_restarts_under_load_lose_nothing(start, text, token, database, top):
    """The listener is ours: while one receiver stops the next one takes over,
    and no client sees anything but 200."""
    path = process.new_folder(top, "l") / "s"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    os.chmod(path, 0o666)
    listener.listen(512)
    r = start(text(), socket=path, stdin=listener)
    load = Load(8, token, lambda: Fcgi(path))
    for _ in range(4):
        time.sleep(0.4)
        new = start(text(), socket=path, stdin=listener)
        assert r.stop() == 0
        r = new
    time.sleep(0.3)
    answers = load.stop()
    assert [a for _, a in answers if a is None or a.status != 200] == []
    assert sorted(t for t, _ in answers) == sorted(e["body"] for e in database.events())
    assert r.stop() == 0
    # the listening socket is as good as before
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path))
    listener.settimeout(process.SLOW)
    listener.accept()[0].close()
    client.close()
    listener.close()


# ------------------------------------------------------------ connections

def test_idle_connections_hold_no_worker(start, text, token):
    r = start(text(server="threads = 2"))
    kept = [Kept(r.address()) for _ in range(50)]
    for i, k in enumerate(kept):
        assert k.send(post(token, sms(f"first {i}"))).status == 200
    assert Fcgi(r.address()).send(post(token, sms("new"))).status == 200
    for i, k in enumerate(kept):
        assert k.send(post(token, sms(f"second {i}"))).status == 200
        k.close()


def test_silent_connections_hold_no_worker(start, text, token):
    r = start(text(server="threads = 2"))
    silent = [fcgi_client.Connection(r.address()) for _ in range(50)]
    assert Fcgi(r.address()).send(post(token, BODY)).status == 200
    for c in silent:
        c.close()


HALF = {
    "a byte": b"\x01", "half a header": fcgi_client.begin()[:4],
    "no parameters": fcgi_client.begin(),
    "half the parameters": fcgi_client.begin() + fcgi_client.record(
        fcgi_client.PARAMS, b"\x0e\x03CONTENT"),
}


@pytest.mark.parametrize("sent", HALF.values(), ids=HALF)
def test_half_sent_requests_are_given_up(sent, start, text, token, database):
    r = start(text(server="threads = 2\nrequest_timeout = 2s", database="timeout = 500ms"))
    stuck = [fcgi_client.Connection(r.address(), process.SLOW) for _ in range(2)]
    for c in stuck:
        c.send(sent)
    for c in stuck:
        try:
            while c.socket.recv(4096):
                pass
        except ConnectionResetError:
            pass
        c.close()
    assert Fcgi(r.address()).send(post(token, BODY)).status in (200, 503)
    assert len(database.events()) <= 1


def all_stopped(pid):
    """Whether every thread has heard SIGSTOP."""
    return all(open(f"/proc/{pid}/task/{t}/stat").read().rpartition(")")[2].split()[0] == "T"
               for t in os.listdir(f"/proc/{pid}/task"))


def test_stalled_request_delays_no_other(start, text, token):
    """Two requests come at the same moment, and one of them stalls: no worker
    takes both and has the second wait for the first."""
    r = start(text(server="threads = 8\nrequest_timeout = 20s"))
    stalled, whole = Kept(r.address()), Kept(r.address())
    for i, kept in enumerate((stalled, whole)):
        assert kept.send(post(token, sms(f"{i}"))).status == 200
    r.process.send(signal.SIGSTOP)
    wait_for("the stop", lambda: all_stopped(r.process.pid))
    stalled.connection.send(fcgi_client.begin())
    request = post(token, sms("whole"))
    whole.connection.send(fcgi_client.request(cgi_variables(request), request.body))
    r.process.send(signal.SIGCONT)
    assert parse_cgi(whole.connection.answer()).status == 200
    readable, _, _ = select.select([stalled.connection.socket], [], [], 0)
    assert not readable, "the stalled one was given up first"
    stalled.close()
    whole.close()


def test_half_sent_body_is_not_kept(start, text, token, database):
    """The whole JSON is there, but not all that Content-Length tells."""
    r = start(text(server="threads = 2\nrequest_timeout = 2s", database="timeout = 500ms"))
    with fcgi_client.Connection(r.address(), process.SLOW) as c:
        variables = cgi_variables(post(token, BODY, send="cut"))
        c.send(fcgi_client.begin()
               + fcgi_client.stream(fcgi_client.PARAMS, fcgi_client.params(variables))
               + fcgi_client.stream(fcgi_client.STDIN, BODY, end=False))
        out = c.answer()
        assert out is None or parse_cgi(out).status == 400
    assert database.events() == database.rejected() == []


def test_client_that_leaves_is_stored_once(start, text, token, database):
    """The whole request was there; nobody waits for the answer."""
    r = start(text(**PATIENT))
    with Held(database):
        with fcgi_client.Connection(r.address()) as c:
            c.send(fcgi_client.request(cgi_variables(post(token, BODY)), BODY))
            wait_for("the commit", lambda: waiting(database))
    wait_for("the row", database.events)
    assert Fcgi(r.address()).send(get("/healthz")).status == 200
    assert len(database.events()) == 1


# ---------------------------------------------------------------- sockets

@pytest.mark.parametrize("mode", ["0600", "0660", "0666"])
def test_socket_mode(mode, start, text):
    r = start(text(server=f"socket_mode = {mode}"))
    assert stat.S_IMODE(os.stat(r.socket).st_mode) == int(mode, 8)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_tcp_on_loopback(host, start, text, token):
    if host == "[::1]" and not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("no IPv6 here")
    r = start(text(), socket=f"{host}:{free_port()}")
    assert Fcgi(r.address()).send(post(token, BODY)).status == 200


def test_socket_of_a_killed_receiver_is_taken_over(start, text, token):
    first = start(text())
    first.process.kill()
    assert os.path.exists(first.socket)
    second = start(text(), socket=first.socket)
    assert Fcgi(second.address()).send(post(token, BODY)).status == 200


def refused_to_start(programs, top, text, *arguments):
    """Exit code and what it said."""
    config = rx.write_config(top, text)
    done = run([programs / "smshook.fcgi", "-c", config, *arguments], timeout=process.SLOW / 2)
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize("where", [
    "0.0.0.0:9000", "[::]:9000", "192.0.2.1:9000", "localhost:9000", "9000", "name",
    "127.0.0.1:", "127.0.0.1:x", "[::1]"])
def test_socket_is_refused(where, programs, top, text):
    code, said = refused_to_start(programs, top, text(), "-s", where)
    assert code == 78
    assert where in said


def test_socket_path_too_long(programs, top, text):
    code, said = refused_to_start(programs, top, text(), "-s", "/" + "x" * 200)
    assert code == 78 and "long" in said


def test_socket_in_use(programs, top, text, start, token):
    r = start(text())
    code, said = refused_to_start(programs, top, text(), "-s", r.socket)
    assert code != 0 and str(r.socket) in said
    assert Fcgi(r.address()).send(post(token, BODY)).status == 200


def test_no_socket_at_all(programs, top, text):
    assert refused_to_start(programs, top, text())[0] == 64


# ---------------------------------------------------------- configuration

GOOD = "[source x]\ntoken = 0123456789abcdef\n"
BAD = {
    "unknown key": ("[server]\nthread = 3\n" + GOOD, 2, "thread"),
    "unknown section": ("[sever]\nthreads = 3\n" + GOOD, 2, "sever"),
    "no number": ("[server]\n\nthreads = many\n" + GOOD, 3, "threads"),
    "too small": ("[server]\nthreads = 0\n" + GOOD, 2, "threads"),
    "too large": ("[server]\nmax_body = 5GiB\n" + GOOD, 2, "max_body"),
    "negative": ("[server]\nthreads = -3\n" + GOOD, 2, "threads"),
    "no unit": ("[server]\nrequest_timeout = 4 hours\n" + GOOD, 2, "request_timeout"),
    "no mode": ("[server]\nsocket_mode = 0888\n" + GOOD, 2, "socket_mode"),
    "no switch": ("[database]\nnotify = maybe\n" + GOOD, 2, "notify"),
    "no level": ("[log]\nlevel = loud\n" + GOOD, 2, "level"),
    "no target": ("[log]\ntarget = printer\n" + GOOD, 2, "target"),
    "no zone": (GOOD + "timezone = Mars/Base\n", 3, "timezone"),
    "zone of a path": (GOOD + "timezone = ../../etc/passwd\n", 3, "timezone"),
    "empty token": ("[source x]\ntoken =\n", 2, "token"),
    "token with a slash": ("[source x]\ntoken = a/b0123456789abcd\n", 2, "token"),
    "token healthz": ("[source x]\ntoken = healthz\n", 2, "token"),
    "no token file": ("[source x]\ntoken_file = /nowhere/x\n", 2, "token_file"),
    "source without a name": ("[source]\ntoken = 0123456789abcdef\n", 2, "source"),
    "no INI": ("[server]\nthreads\n" + GOOD, 2, ""),
    "no token": ("[source x]\ntimezone = UTC\n", None, "token"),
    "no source": ("[server]\nthreads = 4\n", None, "source"),
    "empty": ("", None, "source"),
    "times that do not fit": ("[server]\nrequest_timeout = 2s\n[database]\ntimeout = 3s\n"
                              + GOOD, None, "timeout"),
}


@pytest.mark.parametrize("program", ["smshook.fcgi", "smshook"])
@pytest.mark.parametrize("text_, line, word", BAD.values(), ids=BAD)
def test_bad_configuration(program, text_, line, word, programs, top):
    config = rx.write_config(top, text_)
    arguments = ["-s", "/nowhere/s"] if program == "smshook.fcgi" else ["check"]
    done = run([programs / program, "-c", config, *arguments])
    said = done.stderr.decode()
    assert done.returncode == 78
    assert f"{config}:{line}:" in said if line else f"{config}:" in said
    assert word in said
    assert "0123456789abc" not in said


def test_conninfo_that_cannot_be_read(programs, top):
    text = "[database]\nconninfo = hots=x password=secret-word\n" + GOOD
    code, said = refused_to_start(programs, top, text, "-s", "/nowhere/s")
    assert code == 78
    assert "hots" in said and "secret-word" not in said
    done = run([programs / "smshook", "-c", rx.write_config(top, text), "check"])
    said = (done.stdout + done.stderr).decode()
    assert done.returncode in (1, 78)
    assert "hots" in said and "secret-word" not in said and "memory" not in said


def test_configuration_that_others_may_read(programs, top, text):
    config = rx.write_config(top, text(), 0o644)
    done = run([programs / "smshook.fcgi", "-c", config, "-s", "/nowhere/s"])
    assert done.returncode == 78
    assert str(config) in done.stderr.decode()


def test_token_file_that_others_may_read(programs, top, database):
    tokens = write(process.new_folder(top) / "tokens", rx.new_token(), 0o644)
    code, said = refused_to_start(programs, top, rx.config_text(
        database.writer, {"x": f"token_file = {tokens}"}), "-s", "/nowhere/s")
    assert code == 78 and str(tokens) in said


def test_configuration_that_is_not_there(programs):
    done = run([programs / "smshook.fcgi", "-c", "/nowhere/x.conf", "-s", "/nowhere/s"])
    assert done.returncode == 78
    assert "/nowhere/x.conf" in done.stderr.decode()


def test_configuration_from_the_environment(programs, top, text):
    config = rx.write_config(top, "[sever]\nx = 1\n" + text())
    done = run([programs / "smshook.fcgi", "-s", "/nowhere/s"],
               env={**os.environ, "SMSHOOK_CONFIG": str(config)})
    assert done.returncode == 78
    assert str(config) in done.stderr.decode()


def cgi_process(programs, config, request):
    """By hand: Cgi wants exit code 0."""
    env = {**os.environ, **{k.decode(): v.decode() for k, v in cgi_variables(request).items()},
           "SMSHOOK_CONFIG": str(config)}
    done = run([programs / "smshook.fcgi"], env=env, input=request.body)
    return done, parse_cgi(done.stdout)


def test_cgi_with_a_bad_configuration(programs, top, token):
    """The sender hears 500 and no path; the web server's log has the reason."""
    config = rx.write_config(top, "[sever]\nx = 1\n")
    done, answer = cgi_process(programs, config, post(token, BODY))
    assert answer.status == 500
    assert json.loads(answer.body)["status"] == 500
    assert str(config) not in answer.body.decode()
    assert str(config) in done.stderr.decode()


# -------------------------------------------------------------- arguments

ARGUMENTS = ["-c+/etc/passwd", "--help", "--version", "-s+/tmp/smshook-injected",
             "%2d%2dconfig=x", "-x", "--"]


@pytest.mark.parametrize("query", ARGUMENTS)
def test_apache_hands_a_query_to_a_deaf_program(query, site):
    """mod_cgid makes arguments of a query without =."""
    site.database.empty()
    request = Request("/" + site.tokens["main"][0], BODY, query=query)
    answer = site.driver("apache-cgid").send(request)
    assert json.loads(answer.body)["result"] == "stored"
    assert not os.path.exists("/tmp/smshook-injected")


@pytest.mark.parametrize("arguments", [["-c", "/etc/passwd"], ["--help"], ["-s", "/x"], ["x"]])
def test_cgi_is_deaf_to_arguments(arguments, site):
    site.database.empty()
    cgi = Cgi(site.program, site.config, site.cgi_log)
    answer = cgi.send(post(site.tokens["main"][0], BODY), arguments)
    assert json.loads(answer.body)["result"] == "stored"


# ------------------------------------------------- a database that goes

def check_spooled(answer):
    assert answer.status == 200
    assert json.loads(answer.body) == {"result": "spooled"}


def health(address):
    answer = Fcgi(address).send(get("/healthz"))
    return answer.status, json.loads(answer.body)["database"]


def test_database_restarts(own_postgres, start, token):
    writer = own_postgres.conninfo(own_postgres.name, "receiver")
    r = start(rx.config_text(writer, {"x": f"token = {token}"}))
    driver = Fcgi(r.address())
    assert driver.send(post(token, sms("before"))).status == 200
    own_postgres.stop()
    check_spooled(driver.send(post(token, sms("without"))))
    assert health(r.address()) == (200, "down")
    own_postgres.start()
    wait_for("the database to be used again",
             lambda: json.loads(driver.send(post(token, sms("after"))).body)["result"] != "spooled")
    assert health(r.address()) == (200, "up")
    with own_postgres.connect(own_postgres.name) as c:
        bodies = {b for b, in c.execute("select body from sms.event")}
    assert bodies == {"before", "without", "after"}


def test_database_is_down_at_start(own_postgres, start, token):
    writer = own_postgres.conninfo(own_postgres.name, "receiver")
    own_postgres.stop()
    r = start(rx.config_text(writer, {"x": f"token = {token}"}))
    driver = Fcgi(r.address())
    check_spooled(driver.send(post(token, BODY)))
    assert health(r.address()) == (200, "down")
    own_postgres.start()
    wait_for("the database to be used", lambda: health(r.address()) == (200, "up"))


def test_database_kills_the_session(start, text, token, database):
    """An idle connection that broke: the next event takes a new one."""
    r = start(text())
    driver = Fcgi(r.address())
    assert driver.send(post(token, sms("one"))).status == 200
    for i in range(5):
        database.rows("""select pg_terminate_backend(pid) from pg_stat_activity
            where usename = 'receiver' and datname = current_database()""")
        wait_for("its end", lambda: not backends(database))
        assert driver.send(post(token, sms(f"two {i}"))).status == 200
    assert len(database.events()) == 6


def backends(database):
    rows = database.rows("""select pid from pg_stat_activity
        where usename = 'receiver' and datname = current_database()""")
    return [row["pid"] for row in rows]


def test_frozen_backend(start, text, token, database):
    """The sender hears something, although PostgreSQL says nothing at all."""
    r = start(text())
    driver = Fcgi(r.address())
    assert driver.send(post(token, sms("before"))).status == 200
    pid, = backends(database)
    os.kill(pid, signal.SIGSTOP)
    try:
        answers = at_once(driver.send, [post(token, sms(f"frozen {i}")) for i in range(10)])
        assert {a.status for a in answers} == {200}
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for("the spool to be drained", lambda: len(database.events()) >= 11)
    assert sorted(e["body"] for e in database.events()) == ["before"] + [
        f"frozen {i}" for i in range(10)]


def test_frozen_backend_and_cgi(programs, top, text, token, database):
    """A session that blocks on the lock: CGI answers all the same."""
    config = rx.write_config(top, text(database="timeout = 1s"))
    with Held(database):
        check_spooled(cgi_process(programs, config, post(token, BODY))[1])
    assert len(database.events()) <= 1


def test_rejected_without_database(start, token):
    """What is wrong stays wrong, wherever it is kept."""
    r = start(rx.config_text("host=/nowhere dbname=x", {"x": f"token = {token}"}))
    driver = Fcgi(r.address())
    assert driver.send(post(token, b"no JSON")).status == 400
    assert driver.send(post("wrong", BODY)).status == 401
    assert driver.send(Request("/" + token, method="GET")).status == 405


def test_many_clients_through_nginx(site):
    """No answer but 200 with more clients than threads."""
    site.database.empty()
    token = site.tokens["main"][0]
    http = Http(site.server("nginx").port)
    answers = at_once(http.send, [post(token, sms(str(i))) for i in range(100)])
    assert [a.status for a in answers] == [200] * 100
    assert len(site.database.events()) == 100
