"""FastCGI as no web server speaks it: the receiver survives and keeps nothing
that was not whole."""
import pytest

import fcgi_client as f
import receiver as rx
from cases import DELIVERY, encode
from drivers import Fcgi, cgi_variables, parse_cgi, post
from load import sms

BODY = encode(DELIVERY)


@pytest.fixture(scope="module")
def token():
    return rx.new_token()


@pytest.fixture(scope="module")
def receiver(programs, top, database, token):
    r = rx.Receiver(programs, top, rx.write_config(top, rx.config_text(
        database.writer, {"x": f"token = {token}"},
        server="threads = 4\nrequest_timeout = 3s")))
    yield r
    assert r.stop() == 0


@pytest.fixture
def connect(receiver, database):
    database.empty()
    made = []

    def make():
        made.append(f.Connection(receiver.address()))
        return made[-1]
    yield make
    for c in made:
        c.close()


def variables(token, body=BODY, **more):
    return cgi_variables(post(token, body, **more))


def status(out):
    answer = parse_cgi(out)
    return answer and answer.status


def test_many_requests_on_one_connection(connect, token, database):
    c = connect()
    for i in range(50):
        body = sms(str(i))
        assert status(c.ask(variables(token, body), body, keep=True)) == 200
    assert [e["body"] for e in database.events()] == [str(i) for i in range(50)]


def test_refusals_keep_the_connection_in_step(connect, token, database):
    """What was not read of one request is not the next one's."""
    c = connect()
    for i in range(5):
        big = b"x" * 100000
        assert status(c.ask(variables(token, big), big, keep=True)) == 413
        assert status(c.ask(variables("wrong"), BODY, keep=True)) == 401
        assert status(c.ask(variables(token, b"{"), b"{", keep=True)) == 400
        body = sms(str(i))
        assert status(c.ask(variables(token, body), body, keep=True)) == 200
    assert len(database.events()) == 5


def test_no_keep_conn_closes(connect, token):
    c = connect()
    assert status(c.ask(variables(token), BODY)) == 200
    assert c.read_record() is None


def test_small_records(connect, token, database):
    c = connect()
    c.send(f.begin() + f.stream(f.PARAMS, f.params(variables(token)), size=1)
           + f.stream(f.STDIN, BODY, size=1))
    assert status(c.answer()) == 200
    assert len(database.events()) == 1


def test_padding(connect, token, database):
    def padded(kind, content):
        # libfcgi 2.4.2 reads padding of the record that ends PARAMS as data
        return f.record(kind, content, padding=255) + f.record(kind)
    c = connect()
    c.send(f.begin() + padded(f.PARAMS, f.params(variables(token))) + padded(f.STDIN, BODY))
    assert status(c.answer()) == 200
    assert database.events()[0]["message_id"] == "abc123"


def test_parameters_of_64_kb(connect, token, database):
    pairs = variables(token)
    pairs[b"HTTP_X_LONG"] = b"x" * 60000
    pairs[b"HTTP_X_" + b"Y" * 300] = b""
    c = connect()
    assert status(c.ask(pairs, BODY)) == 200
    assert len(database.events()) == 1


def test_body_record_of_65535(connect, token):
    body = sms("y" * 65000)
    c = connect()
    assert status(c.ask(variables(token, body), body, size=65535)) == 200


def test_slow_byte_by_byte(connect, token, database):
    """A socket holds only so many writes: what is more than it holds is waited for
    by few workers, and it must be of the body."""
    body = sms("y" * 700)
    head = f.begin() + f.stream(f.PARAMS, f.params(variables(token, body)))
    c = connect()
    for i in range(0, len(head), 16):
        c.send(head[i:i + 16])
    for byte in f.stream(f.STDIN, body):
        c.send(bytes([byte]))
    assert status(c.answer()) == 200
    assert len(database.events()) == 1


def test_body_longer_than_told(connect, token, database):
    """CONTENT_LENGTH says where the body ends (RFC 3875, section 4.2)."""
    c = connect()
    assert status(c.ask(variables(token), BODY + b"garbage")) in (200, 400)
    for e in database.events():
        assert e["payload"] == DELIVERY


def test_no_length_means_to_the_end(connect, token, database):
    """Apache's mod_proxy_fcgi tells no length of a long chunked body."""
    body = sms("z" * 40000)
    c = connect()
    assert status(c.ask(variables(token, body, send="chunked"), body)) == 200
    assert len(database.events()) == 1


ENDINGS = {
    "after the header": f.begin(),
    "amid parameters": f.begin() + f.record(f.PARAMS, b"\x0b\x01SERVER"),
    "parameters that lie about their length":
        f.begin() + f.stream(f.PARAMS, b"\x0b\x7fSERVER_PORT80"),
    "other version": f.record(f.BEGIN, b"\0\x01\0\0\0\0\0\0", version=9),
    "unknown type": f.record(99, b"what"),
    "no record": b"GET / HTTP/1.1\r\n\r\n",
    "end of file": b"",
    "body without begin": f.stream(f.STDIN, BODY),
    "other role": f.begin(role=2) + f.stream(f.PARAMS, b"") + f.stream(f.STDIN, b""),
    "abort without begin": f.record(f.ABORT),
}


@pytest.mark.parametrize("sent", ENDINGS.values(), ids=ENDINGS)
def test_nonsense(sent, connect, token, receiver, database):
    """Whatever comes and then ends, the next client is served."""
    c = connect()
    c.send(sent)
    c.socket.shutdown(1)
    try:
        while c.socket.recv(4096):
            pass
    except ConnectionError:
        pass
    assert database.events() == []
    assert Fcgi(receiver.address()).send(post(token, BODY)).status == 200
    assert receiver.process.running()


@pytest.mark.parametrize("how", ["abort", "close", "short", "half a record"])
def test_body_that_is_cut(how, connect, token, receiver, database):
    """All of a good JSON is there, and yet it is not the whole body."""
    c = connect()
    start = f.begin() + f.stream(f.PARAMS, f.params(variables(token, send="cut")))
    end = {"abort": f.record(f.ABORT), "close": b"", "short": f.record(f.STDIN),
           "half a record": f.record(f.STDIN, b"x" * 10)[:12]}[how]
    c.send(start + f.record(f.STDIN, BODY) + end)
    if how in ("close", "half a record"):
        c.socket.shutdown(1)
    try:
        out = c.answer()
    except ConnectionError:
        out = None
    assert not out or status(out) == 400
    assert database.events() == database.rejected() == []
    assert Fcgi(receiver.address()).send(post(token, BODY)).status == 200


def test_abort_of_a_body_without_length(connect, token, receiver, database):
    c = connect()
    c.send(f.begin() + f.stream(f.PARAMS, f.params(variables(token, send="chunked")))
           + f.record(f.STDIN, BODY))
    c.socket.shutdown(1)
    try:
        out = c.answer()
    except ConnectionError:
        out = None
    assert not out or status(out) == 400
    assert database.events() == []


def test_parameters_that_are_not_there(connect, token, receiver, database):
    """No method, no path: refused, not a crash."""
    for pairs in ({}, {b"REQUEST_METHOD": b"POST"}, {b"REQUEST_METHOD": b""},
                  {b"PATH_INFO": b"/x"}, {b"": b""}, {b"REQUEST_METHOD": b"POST",
                                                    b"PATH_INFO": b""}):
        c = connect()
        assert status(c.ask(pairs, b"")) in (400, 401, 405, None)
    assert database.events() == []
    assert Fcgi(receiver.address()).send(post(token, BODY)).status == 200


def test_path_from_request_uri(connect, token, database):
    """A host that gives no PATH_INFO."""
    pairs = variables(token)
    del pairs[b"PATH_INFO"]
    c = connect()
    assert status(c.ask(pairs, BODY)) == 200
    assert len(database.events()) == 1
