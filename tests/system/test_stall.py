"""A database that takes connections and then says nothing, clients that leave,
and a stop amid all that: nobody waits for long, and nothing refused is kept."""
import json
import time

import pytest

import fcgi_client
import receiver as rx
from drivers import Fcgi, Http, cgi_variables, parse_cgi, post
from load import at_once, sms
from postgres import INGEST_LOCK
from process import run, wait_for, write

# What an answer may take (4 s), with room for a busy machine.
SOON = 7


def waiting(database):
    return database.value("""select count(*) from pg_locks
        where locktype = 'advisory' and not granted""")


def test_every_answer_is_soon(start, text, token, locked):
    """Three times as many as there are threads: those that wait for their turn
    do not wait for one time-out after the other."""
    address = start(text(server="threads = 16")).address()

    def timed(request):
        began = time.monotonic()
        return Fcgi(address).send(request).status, time.monotonic() - began
    answers = at_once(timed, [post(token, sms(str(i))) for i in range(48)])
    assert {status for status, _ in answers} == {200}
    assert max(took for _, took in answers) < SOON


def test_what_hung_is_stored_once(start, text, token, database, locked):
    """A call that was given up must not be carried out beside the spool's."""
    driver = Fcgi(start(text()).address())
    for i in range(3):
        assert driver.send(post(token, sms(f"late {i}"))).status == 200
        time.sleep(0.6)  # past the pause between trials of the database
    locked.release()
    wait_for("the spool to be drained", lambda: len(database.events()) >= 3)
    time.sleep(0.5)
    assert [e["body"] for e in database.events()] == ["late 0", "late 1", "late 2"]
    assert waiting(database) == 0


def test_stop_while_the_database_hangs(start, text, token, locked):
    """Accepted or not: everyone gets an answer, and the process ends."""
    r = start(text(server="threads = 4"))
    body = sms("x")
    clients = [fcgi_client.Connection(r.address(), 60) for _ in range(40)]
    for c in clients:
        c.send(fcgi_client.request(cgi_variables(post(token, body)), body))
    time.sleep(0.5)
    began = time.monotonic()
    assert r.stop() == 0
    assert time.monotonic() - began < SOON
    for c in clients[:4]:
        assert parse_cgi(c.answer()).status == 200


def test_one_that_is_late_does_not_hurry_its_batch(start, text, token, database, locked):
    """A body that took most of its request's time arrives while a commit
    is under way; those beside it in the next batch have all of theirs."""
    r = start(text())
    body = sms("late")
    late = fcgi_client.Connection(r.address(), 60)
    whole = fcgi_client.request(cgi_variables(post(token, body)), body)
    late.send(whole[:-20])
    time.sleep(2.6)
    plug = fcgi_client.Connection(r.address(), 60)
    plug.send(fcgi_client.request(cgi_variables(post(token, sms("plug"))), sms("plug")))
    wait_for("the first commit", lambda: waiting(database) == 1)
    late.send(whole[-20:])
    bodies = [sms(f"on time {i}") for i in range(10)]
    others = [fcgi_client.Connection(r.address(), 60) for _ in bodies]
    for c, b in zip(others, bodies):
        c.send(fcgi_client.request(cgi_variables(post(token, b)), b))
    time.sleep(0.5)
    locked.release()
    assert parse_cgi(plug.answer()).status == 200
    assert [parse_cgi(c.answer()).status for c in others] == [200] * 10
    assert parse_cgi(late.answer()).status in (200, 400)


def test_client_that_leaves_before_its_answer(start, text, token, database, locked):
    """On a connection that was to be kept: it is neither kept nor closed twice."""
    r = start(text())
    for i in range(3):
        body = sms(f"gone {i}")
        with fcgi_client.Connection(r.address()) as c:
            c.send(fcgi_client.request(cgi_variables(post(token, body)), body, keep=True))
            wait_for("its commit", lambda: waiting(database) == 1)
        locked.release()
        wait_for("its row", lambda: len(database.events()) == i + 1)
        locked.execute("select pg_advisory_lock(%s)", [INGEST_LOCK])
    locked.release()
    assert Fcgi(r.address()).send(post(token, sms("after"))).status == 200
    assert "epoll_ctl" not in r.log()
    assert r.stop() == 0


def test_stop_of_one_of_several_on_a_listener(start, text, token, top, database):
    """Processes that share a listener race in accept; a loser of the race is not
    held up by it when it is stopped."""
    import socket
    path = top / f"shared-{token[:8]}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(64)
        path.chmod(0o666)
        several = [start(text(server="threads = 4"), stdin=listener) for _ in range(4)]
        for i in range(10):
            answers = at_once(Fcgi(path).send, [post(token, sms(f"{i} {j}")) for j in range(16)])
            assert {a.status for a in answers} == {200}
        for r in several[1:]:
            assert r.stop() == 0
            assert "did not end" not in r.log()
        assert Fcgi(path).send(post(token, sms("the last one"))).status == 200
    assert len(database.events()) == 161


def test_serialization_conflicts_are_tried_again(start, text, token, database):
    """Another default isolation must not cost an event."""
    with database.postgres.connect(database.name) as c:
        c.execute("alter role receiver set default_transaction_isolation = 'repeatable read'")
    try:
        several = [Fcgi(start(text()).address()) for _ in range(3)]
        answers = at_once(lambda n: several[n % 3].send(post(token, sms("the same"))),
                          list(range(90)))
    finally:
        with database.postgres.connect(database.name) as c:
            c.execute("alter role receiver reset default_transaction_isolation")
    assert {a.status for a in answers} == {200}
    wait_for("those that took the way of the spool", lambda: len(database.events()) >= 90)
    assert len(database.events()) == 90


def test_notification_that_cannot_be_sent(start, text, token, database):
    """As when the queue of NOTIFY is full (54000 at the commit): the event is
    stored without it."""
    with database.postgres.connect(database.name) as c:
        c.execute("insert into sms.keyword values ('FULL', 'full')")
        c.execute("""alter function sms.ingest rename to ingest_as_shipped""")
        definition = c.execute("""select pg_get_functiondef('sms.ingest_as_shipped'::regproc)
            as d""").fetchone()
        definition = definition["d"] if isinstance(definition, dict) else definition[0]
        broken = definition.replace("ingest_as_shipped", "ingest").replace(
            "-- The batch's best receipt",
            "if notify and exists (select from sms.event e where e.id > before "
            "and e.keyword = 'FULL') then raise program_limit_exceeded; end if; -- ")
        assert broken.count("program_limit_exceeded") == 1
        c.execute(broken)
        c.execute("grant execute on function sms.ingest to smshook_writer")
    r = start(text())
    answers = at_once(Fcgi(r.address()).send,
                      [post(token, sms(w)) for w in ("full", "one", "two", "three")])
    assert [a.status for a in answers] == [200] * 4
    assert database.rejected() == []
    assert r.log().count("nobody is notified") == 1
    with database.postgres.connect(database.name) as c:
        c.execute("drop function sms.ingest")
        c.execute("alter function sms.ingest_as_shipped rename to ingest")
    bodies = iter(range(100000))

    def is_back():
        Fcgi(r.address()).send(post(token, sms(f"more {next(bodies)}")))
        return "notifications: back" in r.log()
    wait_for("notifications", is_back)


def test_a_file_in_the_place_of_the_socket_is_left_alone(programs, top, text):
    config = rx.write_config(top, text())
    precious = write(top / "precious", "mine", 0o666)
    done = run([programs / "smshook.fcgi", "-c", config, "-s", precious])
    assert done.returncode != 0
    assert precious.read_text() == "mine"


def test_body_far_beyond_max_body(site):
    """Where the web server has no limit of its own, the answer still arrives."""
    http = Http(site.server("apache-proxy").port)
    token = site.tokens["main"][0]
    for size in (500_000, 5_000_000):
        assert http.send(post(token, b" " * size)).status == 413


def test_start_without_descriptors_fails(programs, top, text):
    config = rx.write_config(top, text())
    done = run(["sh", "-c", 'ulimit -n 12; exec "$@"', "sh", programs / "smshook.fcgi",
                "-c", config, "-s", top / "few"])
    assert done.returncode == 71
    assert b"Too many open files" in done.stderr


def test_silent_host_is_passed_over(start, text, token, database):
    """Of several hosts in conninfo one that takes connections and says nothing
    has no more than its share of the time."""
    import socket
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        hosts = database.writer.replace(
            f"host={database.postgres.folder}",
            f"host=127.0.0.1,{database.postgres.folder} port={silent.getsockname()[1]},5432")
        r = start(rx.config_text(hosts, {"x": f"token = {token}"}))
        driver = Fcgi(r.address())
        wait_for("a row by the second host", lambda: json.loads(
            driver.send(post(token, sms("x"))).body)["result"] != "spooled")


@pytest.mark.parametrize("uri", [
    "postgresql://receiver@/{name}?host=/nowhere,{folder}",
    "postgresql://receiver@/{name}?host=/nowhere,{folder}&port=5432,",
    "postgresql://receiver@:5432,:5432/{name}?host=/nowhere,{folder}"])
def test_hosts_in_a_uri(uri, start, database, token):
    """What libpq understands is understood; an empty element is libpq's own."""
    conninfo = uri.format(name=database.name, folder=database.postgres.folder)
    r = start(rx.config_text(conninfo, {"x": f"token = {token}"}))
    answer = Fcgi(r.address()).send(post(token, sms("by a URI")))
    assert json.loads(answer.body)["result"] != "spooled", r.log()
