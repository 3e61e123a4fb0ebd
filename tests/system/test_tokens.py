"""Who may post: nobody without a token, and no log tells one."""
import contextlib
import hashlib
import json
import re

import pytest

import receiver as rx
import servers
from cases import DELIVERY, DRIVERS, SERVERS, encode
from drivers import Fcgi, Http, Request, basic, get, post
from process import new_folder, write
from signed import new_key, written

BODY = encode(DELIVERY)


def same(answer):
    """What a sender can see of an answer, without the time of day, and without
    what Apache decides by how fast a CGI program's bytes come in."""
    headers = {k: v for k, v in answer.headers.items()
               if k not in ("date", "content-length", "transfer-encoding")}
    return answer.status, headers, answer.body


def test_missing_and_wrong_are_the_same(driver, site):
    site.database.empty()
    wrong = "w" * 32
    requests = [
        Request("/", BODY), Request("/" + wrong, BODY), Request("/x", BODY),
        Request("/" + site.tokens["main"][0][:-1], BODY),
        Request("/", BODY, query="token=" + wrong),
        Request("/", BODY, headers=(("Authorization", "Bearer " + wrong),)),
        Request("/", BODY, headers=(("Authorization", basic(wrong)),)),
        Request("/", BODY, headers=(("X-Webhook-Token", wrong),)),
        Request("/" + wrong, b"no JSON"), Request("/" + wrong, b""),
    ]
    answers = [same(driver.send(r)) for r in requests]
    assert answers[0][0] == 401
    assert all(a == answers[0] for a in answers)
    assert site.database.events() == site.database.rejected() == []


def test_rotation(start, database, top):
    """All tokens of a source are valid, also those of a file."""
    database.empty()
    old, new, other = (rx.new_token() for _ in range(3))
    listed = [rx.new_token(), rx.new_token()]
    tokens = write(top / "tokens", "# for the till\n" + "\n".join(listed) + "\n", 0o600)
    r = start(rx.config_text(database.writer, {
        "shop": f"token = {old}\ntoken = {new}", "office": f"token = {other}",
        "till": f"token_file = {tokens}"}))
    driver = Fcgi(r.address())
    for i, token in enumerate([old, new, other, *listed]):
        assert driver.send(post(token, BODY + b" " * i)).status == 200
    assert [e["source"] for e in database.events()] == [
        "shop", "shop", "office", "till", "till"]


# ---------------------------------------------------------------- digests

def memory(pid):
    """What a process can write to, but for the shadows of sanitizers."""
    found = []
    try:
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
            for line in maps:
                begin, end, rights = re.match(r"(\w+)-(\w+) (\S+)", line).groups()
                begin, end = int(begin, 16), int(end, 16)
                if "w" in rights and end - begin <= 1 << 26:
                    mem.seek(begin)
                    with contextlib.suppress(OSError):  # a stack of a thread that has ended
                        found.append(mem.read(end - begin))
    except PermissionError:
        pytest.skip("the memory of another process cannot be read here")
    return b"\0".join(found)


def test_memory_has_digests_alone(programs, start, database, top):
    """Until a request brings a token along.  Of the keys of signatures it has the
    bytes, but not what is written down."""
    if b"__tsan_init" in (programs / "smshook.fcgi").read_bytes():
        pytest.skip("the program's memory is mostly ThreadSanitizer's")
    spool = f"timeout = 2s\n[spool]\ndirectory = {new_folder(top, 'spool')}\n"

    def configuration():
        tokens, keys = [rx.new_token() for _ in range(6)], [new_key(), new_key()]
        paths = [write(new_folder(top, "f") / "secrets", text, 0o600) for text in (
            f"# comment\n{tokens[2]}\n{tokens[3]}  \n", written(keys[1]) + "\n")]
        digest = hashlib.sha256(tokens[4].encode()).hexdigest()
        text = rx.config_text(database.writer, {
            "shop": f"token = {tokens[0]}\ntoken = {tokens[1]} ; old",
            "till": f"token_file = {paths[0]}\ntoken_sha256 = {digest}\n"
                    f"signature = standard-webhooks\nsignature_key_file = {paths[1]}\n"
                    f"signature_key = {written(keys[0])}",
            "office": f"token = {tokens[5]}"}, database=spool)
        return text, tokens, keys

    def check(tokens, keys):
        text = memory(r.process.pid)
        for token in tokens:
            assert hashlib.sha256(token.encode()).digest() in text
            assert token.encode() not in text, "a token is in the memory"
        for key in keys:
            assert key in text
            assert written(key)[6:].encode() not in text, "a written key is in the memory"

    text, tokens, keys = configuration()
    r = start(text)
    check(tokens, keys)
    text, tokens_2, keys_2 = configuration()
    r.reload(text)
    check(tokens_2, keys_2)
    assert not any(t.encode() in memory(r.process.pid) for t in tokens)


def test_digest_is_as_good_as_its_token(start, database):
    """Upper or lower case, amid others, in a file that everybody may read."""
    database.empty()
    tokens = [rx.new_token() for _ in range(3)]
    digests = [hashlib.sha256(t.encode()).hexdigest() for t in tokens]
    r = start(rx.config_text(database.writer, {
        "shop": f"token_sha256 = {digests[0]}\ntoken_sha256 = {digests[1].upper()}\n"
                f"token = {tokens[2]}"}))
    driver = Fcgi(r.address())
    for i, token in enumerate(tokens):
        assert driver.send(post(token, BODY + b" " * i)).status == 200
    for digest in digests:
        assert driver.send(post(digest, BODY)).status == 401, "a digest is no token"


def test_same_body_of_two_sources_is_no_duplicate(site):
    site.database.empty()
    driver = site.driver("fcgi")
    for source in ("main", "berlin"):
        answer = driver.send(post(site.tokens[source][0], BODY))
        assert json.loads(answer.body)["result"] == "stored"
    assert [e["duplicate_of"] for e in site.database.events()] == [None, None]


def all_places(token):
    encoded = "".join(f"%{ord(c):02X}" for c in token)
    return [
        post(token, BODY), post(token, BODY, query="a=b"), post(encoded, BODY),
        Request("//" + token + "/", BODY), Request("/", BODY, query="token=" + token),
        Request("", BODY, query="token=" + token),
        Request("/x/../" + token, BODY), Request("/%2F" + token, BODY),
        Request("/", BODY, headers=(("Authorization", "Bearer " + token),)),
        Request("/", BODY, headers=(("Authorization", basic(token)),)),
        Request("/", BODY, headers=(("X-Webhook-Token", token),)),
        get("/" + token), post(token, b"{"), post(token, b" " * 70000),
        post(token + "x", BODY), post("x/" + token, BODY), post(token, BODY, send="chunked"),
        Request("/" + token, BODY, send="cut"),
        Request("/" + token, BODY, headers=(("Referer", "http://x/smshook"),)),
    ]


@pytest.mark.parametrize("name", SERVERS)
def test_no_log_holds_a_token(name, site, start):
    token = site.tokens["main"][0]
    secrets = (token, "".join(f"%{ord(c):02X}" for c in token), basic(token)[6:])
    receiver = start(site.text)
    server = site.start_server(name, receiver.socket)
    http = Http(server.port)
    for request in all_places(token):
        http.send(request)
    receiver.stop()
    for request in all_places(token)[:3]:
        http.send(request)  # the web server's own errors
    server.stop()
    assert "/smshook/***" in server.access_logs()
    text = server.access_logs() + server.errors()
    for secret in secrets:
        assert secret.lower() not in text.lower()


def test_shipped_files_need_no_other_changes():
    """What the tests replace are paths, all of them known."""
    for name in ("nginx/smshook-http.conf", "nginx/smshook.conf", "lighttpd/smshook.conf",
                 "apache/smshook-proxy.conf", "apache/smshook-fcgid.conf",
                 "apache/smshook-cgi.conf", "apache/htaccess"):
        assert (servers.SOURCE / name).read_text().startswith("# smshook ")


def test_every_driver_is_there():
    assert set(SERVERS) | {"cgi", "fcgi"} == set(DRIVERS)
