"""SIGHUP: the configuration as it is now, and no request is lost."""
import http.client
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

import fcgi_client as f
import receiver as rx
from drivers import BASE, Fcgi, Http, cgi_variables, parse_cgi, post
from harness import listener, threads  # noqa: F401 (a fixture)
from load import Threads, sms
from postgres import INGEST_LOCK
from process import SLOW, new_folder, wait_for, write
from servers import Nginx


class Shop:
    """A configuration that tests change."""

    def __init__(self, database, top):
        self.database = database
        self.spool = new_folder(top, "spool")
        self.tokens, self.server, self.log = [rx.new_token()], "socket_mode = 0666", "debug"
        self.conninfo = database.writer

    def text(self, spool=None, more=""):
        lines = "".join(f"token = {token}\n" for token in self.tokens)
        return rx.config_text(self.conninfo, {"shop": lines + more}, self.server,
                              f"timeout = 2s\n[spool]\ndirectory = {spool or self.spool}\n",
                              self.log)


@pytest.fixture
def shop(database, top):
    database.empty()
    return Shop(database, top)


def status(r, token, text="x"):
    return Fcgi(r.address()).send(post(token, sms(text))).status


def not_reloaded(r, text):
    """A SIGHUP that changes nothing; what was said."""
    before = len(r.log())
    write(r.config, text, 0o600)
    r.process.send(signal.SIGHUP)
    wait_for("the refusal", lambda: "not reloaded" in r.log()[before:])
    return r.log()[before:]


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


# --------------------------------------------------------------- under load

class Clients(Threads):
    """Each on one kept connection to a web server, with the token of now."""

    def __init__(self, n, port, token):
        self.port, self.token = port, token
        self.counts, self.statuses, self.texts = [0] * n, set(), []
        self.stopping, self.errors = threading.Event(), []
        self.threads = [threading.Thread(target=self.work, args=(i,)) for i in range(n)]
        for thread in self.threads:
            thread.start()

    def work(self, i):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2 * SLOW)
        try:
            while not self.stopping.is_set():
                text = f"{i}-{self.counts[i]}"
                connection.request("POST", f"{BASE}/{self.token}", sms(text))
                answer = connection.getresponse()
                answer.read()
                self.statuses.add(answer.status)
                self.texts.append(text)
                self.counts[i] += 1
                self.stopping.wait(0.005)
        except Exception as e:  # told by stop(), which the test calls
            self.errors.append(e)
        finally:
            connection.close()

    def wait_turn(self):
        """Until each has begun and ended a request since."""
        before = list(self.counts)
        wait_for("all clients", lambda: self.errors or all(
            now > then + 1 for now, then in zip(self.counts, before)))


@pytest.mark.parametrize("on", ["socket", "fd 0"])
def test_rotation_under_load(on, start, shop, top, listener, request):  # noqa: F811
    """Two lines, a reload, the gateway's URL, one line, a reload."""
    where = {"socket": Path(listener.getsockname()), "stdin": listener} if on == "fd 0" else {}
    r = start(shop.text(), **where)
    server = Nginx(top, r.socket)
    request.addfinalizer(server.stop)
    clients = Clients(8, server.port, shop.tokens[0])
    try:
        for _ in range(5 if on == "socket" else 2):
            old = shop.tokens[0]
            shop.tokens.append(rx.new_token())
            r.reload(shop.text())
            clients.wait_turn()
            clients.token = shop.tokens[1]
            clients.wait_turn()
            shop.tokens.pop(0)
            r.reload(shop.text())
            assert status(r, old) == 401
            clients.wait_turn()
    finally:
        clients.stop()
    assert clients.statuses == {200}
    events = shop.database.events()
    assert sorted(e["body"] for e in events) == sorted(clients.texts), "each once"
    assert {e["duplicate_of"] for e in events} == {None}


def test_reloaded_is_in_force(start, shop, top, request):
    """At once: who then asks over a connection that was kept before it, too."""
    r = start(shop.text())
    server = Nginx(top, r.socket)
    request.addfinalizer(server.stop)
    http = Http(server.port)
    for _ in range(5):
        assert {http.send(post(shop.tokens[0], sms(f"{i}"))).status for i in range(3)} == {200}
        old, shop.tokens = shop.tokens[0], [rx.new_token()]
        r.reload(shop.text())
        assert http.send(post(shop.tokens[0], sms("new"))).status == 200
        assert http.send(post(old, sms("old"))).status == 401


# ------------------------------------------------------ what cannot be taken

def test_bad_configuration_stays_outside(start, shop, top):
    r = start(shop.text())
    token, = shop.tokens
    good = shop.text()
    for bad, reason in ((good.replace("[source", "[sauce"), "unknown section"),
                        (good + "token = short and bad\n", "only letters"),
                        (good + "signature = none-such\n", "it must be"), ("", "there is no [source")):
        assert reason in not_reloaded(r, bad)
        assert status(r, token) == 200
    r.config.unlink()
    write(r.config, good, 0o644)
    r.process.send(signal.SIGHUP)
    wait_for("its mode", lambda: "chmod o=" in r.log())
    assert status(r, token) == 200
    shop.tokens = [rx.new_token()]
    r.reload(shop.text())
    assert [status(r, token), status(r, shop.tokens[0])] == [401, 200]


def test_another_spool_needs_a_restart(start, shop, top):
    r = start(shop.text())
    token, = shop.tokens
    shop.tokens = [rx.new_token()]
    assert "needs a restart" in not_reloaded(r, shop.text(new_folder(top, "spool")))
    assert "/nonexistent" in not_reloaded(r, shop.text("/nonexistent"))
    assert [status(r, token), status(r, shop.tokens[0])] == [200, 401]


def test_reason_stands_in_the_log_of_now(start, shop):
    """Not where the refused configuration would have logged."""
    r = start(shop.text())
    other = shop.text("/nonexistent").replace("[log]", "[log]\ntarget = syslog")
    assert "target" in other
    assert "/nonexistent" in not_reloaded(r, other)


def test_all_else_is_taken(start, shop, new_database):
    """Threads, the database, what is logged, with connections that are kept."""
    r = start(shop.text())
    token, = shop.tokens
    assert status(r, token, "one") == 200
    before = threads(r.process.pid)
    other = new_database()
    shop.server += "\nthreads = 8"
    shop.conninfo, shop.log = other.writer, "info"
    r.reload(shop.text(more="device_id = till-9\n"))
    wait_for("fewer threads", lambda: threads(r.process.pid) == before - 14)  # 16, 2
    assert status(r, token, "two") == 200
    assert [e["body"] for e in shop.database.events()] == ["one"]
    assert [(e["body"], e["device_id"]) for e in other.events()] == [("two", "till-9")]


def test_database_is_away_at_a_reload(start, shop):
    """As at the start: the spool takes over, and the next reload mends it."""
    r = start(shop.text())
    token, = shop.tokens
    shop.conninfo = "host=/nonexistent dbname=x"
    r.reload(shop.text())
    assert status(r, token, "later") == 200
    assert shop.database.events() == []
    shop.conninfo = shop.database.writer
    r.reload(shop.text())
    wait_for("the drain", shop.database.events)
    assert [e["body"] for e in shop.database.events()] == ["later"]


# --------------------------------------------------------------- again and again

def test_reloads_leave_nothing_behind(start, shop):
    r = start(shop.text())
    token, = shop.tokens

    def held():
        return threads(r.process.pid), descriptors(r.process.pid)
    assert status(r, token) == 200
    before = held()
    for _ in range(8):
        r.reload()
    # but for a connection that comes or goes; what is left each time is eight times there
    wait_for("its threads and descriptors to be as before", lambda: all(
        now <= then + 3 for now, then in zip(held(), before)))
    assert status(r, token) == 200


def test_many_signals_at_once(start, shop):
    r = start(shop.text())
    token, = shop.tokens
    for _ in range(50):
        r.process.send(signal.SIGHUP)
    r.reload()
    assert status(r, token) == 200
    assert r.process.running()


def test_stop_amid_a_reload(start, shop):
    """start() sees that it ends well."""
    r = start(shop.text())
    r.process.send(signal.SIGHUP)
    assert r.stop() == 0
    assert "stopped" in r.log()
    r = start(shop.text())
    wait_for("an answer", lambda: status(r, shop.tokens[0]) == 200)
    r.process.send(signal.SIGHUP)
    r.process.send(signal.SIGTERM)
    r.process.send(signal.SIGHUP)
    assert r.process.wait() == 0


def test_stop_amid_a_reload_and_a_request(start, shop):
    """The connection of a request that is in flight goes to a receiver that ends, too."""
    shop.server += "\nrequest_timeout = 60s"
    patient = shop.text().replace("timeout = 2s", "timeout = 50s")
    r = start(patient)
    token, = shop.tokens
    assert status(r, token) == 200
    with shop.database.postgres.connect(shop.database.name) as c, \
            f.Connection(r.address(), SLOW) as kept:
        c.execute("select pg_advisory_lock(%s)", [INGEST_LOCK])
        request = post(token, sms("in flight"))
        kept.send(f.request(cgi_variables(request), request.body, keep=True))
        wait_for("its commit", lambda: shop.database.value(
            "select count(*) from pg_locks where locktype = 'advisory' and not granted"))
        r.reload(patient)
        r.process.send(signal.SIGTERM)
        wait_for("the stop", lambda: "stopping" in r.log())
        time.sleep(1)  # one that waits for nobody would be gone
        c.execute("select pg_advisory_unlock(%s)", [INGEST_LOCK])
        assert parse_cgi(kept.answer()).status == 200
    assert r.process.wait() == 0


def test_request_amid_a_reload_is_answered(start, shop):
    """What is in flight ends by the configuration that it began with."""
    shop.server += "\nrequest_timeout = 60s"
    patient = shop.text().replace("timeout = 2s", "timeout = 50s")
    r = start(patient)
    token, = shop.tokens
    assert status(r, token) == 200  # its first look at the database is over
    answers = []
    with shop.database.postgres.connect(shop.database.name) as c:
        c.execute("select pg_advisory_lock(%s)", [INGEST_LOCK])
        sender = threading.Thread(
            target=lambda: answers.append(Fcgi(r.address()).send(post(token, sms("slow")))))
        sender.start()
        wait_for("its commit", lambda: shop.database.value(
            "select count(*) from pg_locks where locktype = 'advisory' and not granted"))
        shop.tokens = [rx.new_token()]
        write(r.config, patient.replace(token, shop.tokens[0]), 0o600)
        r.process.send(signal.SIGHUP)
        # by a request that no database is asked for
        cut = post(shop.tokens[0], b"{}", send="cut")
        wait_for("the next one to serve", lambda: Fcgi(r.address()).send(cut).status == 400)
        assert not answers
        c.execute("select pg_advisory_unlock(%s)", [INGEST_LOCK])
        sender.join()
    assert json.loads(answers[0].body)["result"] == "stored"
    wait_for("the end of the reload", lambda: ": reloaded\n" in r.log())
