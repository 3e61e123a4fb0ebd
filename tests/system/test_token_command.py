"""smshook token new: a URL and a line of the configuration that belong together."""
import hashlib
import re

import pytest

import receiver as rx
from cases import DELIVERY, encode
from drivers import Http, Request
from process import run, tool
from servers import SOURCE, Nginx

BODY = encode(DELIVERY)
LINES = re.compile(r"(\S+)/([0-9a-f]{48})\ntoken_sha256 = ([0-9a-f]{64})\n")


@pytest.fixture
def smshook(programs):
    def call(*arguments, code=0):
        done = run([programs / "smshook", *arguments], env={"SMSHOOK_CONFIG": "/nonexistent"})
        assert done.returncode == code, done
        return done.stdout.decode(), done.stderr.decode()
    return call


@pytest.mark.parametrize("url,shown", [
    (None, "https://YOUR-SERVER/smshook"),
    ("https://example.org/smshook", "https://example.org/smshook"),
    ("https://example.org/smshook/", "https://example.org/smshook"),
    ("http://localhost:8080/cgi-bin/smshook.cgi", "http://localhost:8080/cgi-bin/smshook.cgi")])
def test_token_new(url, shown, smshook):
    """Two lines for a script on stdout; what to do with them beside it."""
    out, said = smshook("token", "new", *([url] if url else []))
    base, token, digest = LINES.fullmatch(out).groups()
    assert base == shown
    assert hashlib.sha256(token.encode()).hexdigest() == digest
    for word in ("gateway", "smshook.conf", "reload", "SIGHUP"):
        assert word in said
    assert token not in said and digest not in said


def test_token_new_is_another_each_time(smshook):
    tokens = {LINES.fullmatch(smshook("token", "new")[0])[2] for _ in range(20)}
    assert len(tokens) == 20
    assert all(len(set(token)) > 8 for token in tokens)


def test_token_new_lets_in_its_url_alone(smshook, start, database, top):
    """By what it has printed, through nginx; the file may be read by everybody."""
    database.empty()
    r = start(rx.config_text(database.writer, {"shop": "token = 0123456789abcdef"},
                             server="socket_mode = 0666"))
    server = Nginx(top, r.socket)
    try:
        base = f"http://127.0.0.1:{server.port}/smshook"
        two = [LINES.fullmatch(smshook("token", "new", base)[0]) for _ in range(2)]
        text = r.config.read_text().replace("token = 0123456789abcdef",
                                            two[0][0].splitlines()[1])
        r.reload(text)
        path = two[0][1].removeprefix(base) + "/" + two[0][2]
        http = Http(server.port)
        assert http.send(Request(path, BODY)).status == 200
        for other in (two[1][2], two[0][3], "0123456789abcdef", two[0][2].upper(), two[0][2][:-1]):
            assert http.send(Request("/" + other, BODY)).status == 401
    finally:
        server.stop()
    assert len(database.events()) == 1


@pytest.mark.parametrize("arguments", [
    [], ["old"], ["new", "example.org"], ["new", ""], ["new", "ftp://example.org"],
    ["new", "https://a", "https://b"], ["new", "--count"], ["New"]])
def test_token_usage(arguments, smshook):
    out, said = smshook("token", *arguments, code=64)
    assert out == "" and "smshook token --help" in said


def test_token_help_and_manual(smshook):
    out, _ = smshook("token", "--help")
    assert out.startswith("Usage: smshook token new [URL]\n")
    assert "digest" in out
    assert "token new [URL]" in smshook("--help")[0]
    page = (SOURCE / "man/smshook.1").read_text()
    assert ".It Cm token new Op Ar url" in page


def test_token_new_on_a_full_disk(programs):
    if not tool("sh"):
        pytest.skip("no sh")
    done = run(["sh", "-c", f"{programs}/smshook token new >/dev/full"])
    assert done.returncode == 1
    assert b"cannot be written" in done.stderr
