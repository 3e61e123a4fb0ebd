"""The shipped files of the web servers, beyond the list of cases."""
import json
import shutil
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import receiver as rx
from cases import DELIVERY, SERVERS, encode
from drivers import Http, Request, get, post
from load import sms
from process import new_folder, wait_for, write
from servers import ApacheCgid, shipped

BODY = encode(DELIVERY)


@pytest.fixture(params=SERVERS)
def name(request):
    return request.param


def outside_address():
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))
            address = s.getsockname()[0]
        except OSError:
            address = "127.0.0.1"
    if address.startswith("127."):
        pytest.skip("this machine has no address but loopback")
    return address


CLOSED = ["/healthz", "/metrics", "/healthz/", "//healthz", "/healthz//", "/%68ealthz",
          "/x/../healthz", "/./metrics", "/metrics?x=1", "/healthz;x"]


def test_health_is_closed_to_the_outside(name, site):
    http = Http(site.server(name).port, source=(outside_address(), 0))
    for path in CLOSED:
        assert http.send(get(path)).status in (401, 403, 404, 405), path
    # and the way in is open
    token = site.tokens["main"][0]
    assert http.send(post(token, BODY)).status == 200
    site.database.empty()


def test_health_is_open_to_this_machine(name, site):
    http = Http(site.server(name).port)
    for path in ("/healthz", "/healthz/", "//healthz", "/%68ealthz"):
        answer = http.send(get(path))
        assert answer.status == 200, path
        assert json.loads(answer.body)["database"] == "up"


def test_neighbours_are_not_ours(name, site):
    """/smshookx belongs to somebody else."""
    token = site.tokens["main"][0]
    http = Http(site.server(name).port, base="")
    for path in ("/smshookx/" + token, "/smshook-other/" + token, "/x/smshook/" + token):
        assert http.send(Request(path, BODY)).status in (403, 404, 405)


def test_prefix_in_other_spellings(name, site):
    site.database.empty()
    token = site.tokens["main"][0]
    http = Http(site.server(name).port, base="")
    paths = ("/%73mshook/", "//smshook/", "/x/../smshook/")
    for i, path in enumerate(paths):
        assert http.send(Request(path + token, BODY + b" " * i)).status == 200, path
    assert len(site.database.events()) == len(paths)


def test_no_redirect_loses_the_body(name, site):
    """A redirect would be followed by GET, and would show the token."""
    site.database.empty()
    token = site.tokens["main"][0]
    http = Http(site.server(name).port)
    assert http.send(Request("", BODY, query="token=" + token)).status == 200


def test_receiver_goes_and_comes_back(site, start):
    """No pause after its return in which a webhook is lost."""
    token = site.tokens["main"][0]
    for name in ("nginx", "apache-proxy", "lighttpd"):
        site.database.empty()
        r = start(site.text)
        server = site.start_server(name, r.socket)
        http = Http(server.port)
        assert http.send(post(token, sms(name + "1"))).status == 200
        assert r.stop() == 0
        for i in range(5):
            assert http.send(post(token, sms(f"{name} {i}"))).status in (502, 503)
        r = start(site.text, socket=r.socket)
        again = post(token, sms(name + "3"))
        if name == "lighttpd":  # at its clock's next second
            wait_for(name, lambda: http.send(again).status == 200)
        assert http.send(again).status == 200, name
        assert r.stop() == 0
        server.stop()


def test_kept_connections_survive_a_restart(site, start):
    """nginx holds connections to a receiver that is another one now."""
    site.database.empty()
    token = site.tokens["main"][0]
    r = start(site.text)
    nginx = site.start_server("nginx", r.socket)
    http = Http(nginx.port)
    for i in range(5):
        assert http.send(post(token, sms(f"a{i}"))).status == 200
        r.stop()
        r = start(site.text, socket=r.socket)
        assert http.send(post(token, sms(f"b{i}"))).status == 200
    nginx.stop()
    assert len(site.database.events()) == 10


def test_nginx_sends_again_what_a_dead_receiver_had(site, start):
    """The receiver behind a kept connection dies with a request in hand; the
    other one on the same listener gets it."""
    site.database.empty()
    token = site.tokens["main"][0]
    listener, path = listening(site.top)
    first = start(site.text, socket=path, stdin=listener)
    nginx = site.start_server("nginx", path)
    http = Http(nginx.port)
    kept = kept_connections(nginx, http, token)
    first.process.send(signal.SIGSTOP)
    start(site.text, socket=path, stdin=listener)
    answers = []
    threads = [threading.Thread(target=lambda i=i: answers.append(
        http.send(post(token, sms(f"in hand {i}"))))) for i in range(kept)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    first.process.kill()
    for thread in threads:
        thread.join()
    listener.close()
    assert [a.status for a in answers] == [200] * kept


def listening(top):
    """A listening socket and its path."""
    path = new_folder(top, "l") / "s"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o666)
    listener.listen(512)
    return listener, path


def kept_connections(nginx, http, token, n=4):
    """Makes nginx hold some connections to the receiver."""
    with ThreadPoolExecutor(n) as pool:
        answers = list(pool.map(http.send, [post(token, sms(f"kept {i}")) for i in range(n)]))
    assert [a.status for a in answers] == [200] * n
    return n


def test_killed_receiver_under_nginx(site, start):
    """Its kept connections break without a word: nginx tries the new one."""
    site.database.empty()
    token = site.tokens["main"][0]
    r = start(site.text)
    nginx = site.start_server("nginx", r.socket)
    http = Http(nginx.port)
    assert http.send(post(token, sms("a"))).status == 200
    r.process.kill()
    r = start(site.text, socket=r.socket)
    assert http.send(post(token, sms("b"))).status == 200
    nginx.stop()


def test_client_that_leaves_is_stored(name, site):
    """All of the request came, and the client did not wait."""
    site.database.empty()
    token = site.tokens["main"][0]
    request = (f"POST /smshook/{token} HTTP/1.1\r\nHost: x\r\nContent-Length: "
               f"{len(BODY)}\r\n\r\n").encode() + BODY
    with socket.create_connection(("127.0.0.1", site.server(name).port)) as s:
        s.sendall(request)
        time.sleep(0.01)
    wait_for("the row", site.database.events)
    assert len(site.database.events()) == 1


def test_pipelined_and_kept_http(name, site):
    """Two requests on one connection are two events."""
    site.database.empty()
    token = site.tokens["main"][0]
    with socket.create_connection(("127.0.0.1", site.server(name).port), 30) as s:
        for i in range(3):
            body = sms(str(i))
            s.sendall(f"POST /smshook/{token} HTTP/1.1\r\nHost: x\r\nContent-Length: "
                      f"{len(body)}\r\n\r\n".encode() + body)
            data = b""
            while b'"id":' not in data:
                part = s.recv(4096)
                assert part, data
                data += part
    assert [e["body"] for e in site.database.events()] == ["0", "1", "2"]


def test_proxy_header_is_no_setting(name, site):
    """CVE-2016-5385: only that it does no harm can be seen from here."""
    site.database.empty()
    token = site.tokens["main"][0]
    answer = Http(site.server(name).port).send(Request(
        "/" + token, BODY, headers=(("Proxy", "http://evil.example"),)))
    assert answer.status == 200


# --------------------------------------------------------- a shared host

class SharedHost(ApacheCgid):
    """A cgi-bin with apache/htaccess, the configuration in the user's home."""

    def write_shipped(self):
        folder = self.folder / "cgi-bin"
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        shutil.copy(self.receiver, folder / "smshook.cgi")
        write(folder / ".htaccess", shipped("apache/htaccess", {}))
        write(folder / "smshook.conf", "a mistake of the owner")
        write(self.folder / "smshook.conf", f"""
<FilesMatch "^\\.ht">
	Require all denied
</FilesMatch>
<Directory {self.folder}/www>
	Require all granted
</Directory>
Alias /cgi-bin {folder}
<Directory {folder}>
	AllowOverride All
	Require all granted
</Directory>
SetEnv SMSHOOK_CONFIG {self.config}
""")


@pytest.fixture
def shared_host(site):
    server = SharedHost(site.top, None, site.program, site.config)
    site.database.empty()
    yield server
    server.stop()
    rx.check_log(server.errors(), site.text)


def test_shared_host(shared_host, site):
    http = Http(shared_host.port, base="/cgi-bin/smshook.cgi")
    token = site.tokens["main"][0]
    assert http.send(post(token, sms("1"))).status == 200
    assert http.send(Request("", sms("2"), headers=(
        ("Authorization", "Bearer " + token),))).status == 200
    assert http.send(post("wrong", sms("3"))).status == 401
    assert http.send(post(token, b" " * 65537)).status == 413
    assert http.send(get("/healthz")).status == 200
    assert [e["body"] for e in site.database.events()] == ["1", "2"]


def test_shared_host_shows_no_files(shared_host):
    http = Http(shared_host.port, base="/cgi-bin")
    for path in ("/.htaccess", "/smshook.conf"):
        answer = http.send(get(path))
        assert answer.status == 403 and b"mistake" not in answer.body


def test_shared_host_is_closed_to_the_outside(shared_host):
    http = Http(shared_host.port, base="/cgi-bin/smshook.cgi",
                source=(outside_address(), 0))
    for path in ("/healthz", "/metrics", "/healthz/", "/%68ealthz"):
        assert http.send(get(path)).status in (401, 403, 404), path
