"""smshook sample: the same bodies for the same seed, good ones, and posted ones."""
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from zoneinfo import ZoneInfo

import pytest

import process
import receiver as rx
from process import run, wait_for

SECRET = "0123456789abcdef-not-to-be-told"
STATUS = {1: "queued", 3: "queued", 2: "queued", 6: "sent", 7: "delivered",
          **dict.fromkeys((8, 9, 10, 11, 12, 100, 101), "failed")}
WORDS = {"queued", "sent", "delivered", "failed"}
# Numbers that are nobody's: +1 202 555 01xx, +44 7700 900xxx and their like.
FICTION = re.compile(r"\+?(120255501\d\d|447700900\d{3}|493023125\d{3}|492214710\d{3}|"
                     r"3363998\d{4}|46701740(605|6[0-9]{2})|6149157015[6-9])$")


@pytest.fixture
def sample(programs):
    """sample(argument...) -> finished process, without a configuration."""
    def call(*arguments, **env):
        plain = {name: value for name, value in os.environ.items()
                 if name.lower() != "no_proxy"}
        done = run([programs / "smshook", "sample", *arguments],
                   env={**plain, "SMSHOOK_CONFIG": "/nonexistent", **env})
        done.text = done.stdout.decode() + done.stderr.decode()
        for report in rx.REPORTS:
            assert report not in done.text
        return done
    return call


@pytest.fixture
def bodies(sample):
    """bodies(argument...) -> the lines, each a body as bytes."""
    def call(*arguments):
        done = sample(*arguments)
        assert done.returncode == 0 and not done.stderr, done.stderr
        assert done.stdout.endswith(b"\n") or not done.stdout
        return done.stdout.splitlines()
    return call


# ------------------------------------------------ what a body says, once more

def phone(value):
    value = str(value)
    if re.search(r"[A-Za-z]", value):
        return value
    return re.sub(r"^00", "+", re.sub(r"[ .()-]", "", value))


def when(value):
    """A datetime of the gateway's; without a zone it is UTC."""
    zone = timezone.utc
    if isinstance(value, dict):
        name = value["timezone"]
        zone = ZoneInfo(name) if name[0].isalpha() else datetime.strptime(name, "%z").tzinfo
        value = value["date"]
    if isinstance(value, int):
        return (datetime.fromtimestamp(0, timezone.utc)
                + timedelta(milliseconds=value if value > 1e11 else value * 1000))
    at = datetime.fromisoformat(value.replace("Z", "+00:00"))
    return at if at.tzinfo else at.replace(tzinfo=zone)


def dialect(body):
    if "event" in body:
        return "article " + body["event"]
    if "status_id" in body:
        return "channel" if "channel_id" in body else "sim"
    if "type" in body:
        return body["type"]
    return "old number" if isinstance(body["address"], int) else "old"


def text_or_none(value):
    return None if value is None else str(value)


def columns(body):
    """The row of sms.event that a body becomes."""
    if "event" in body:
        status = body.get("status")
        return {"kind": body["event"], "message_id": body.get("message_id"),
                "phone": phone(body["phone"]), "status_text": status, "status_code": None,
                "status": status and (status if status in WORDS else "unknown"),
                "body": body.get("message"), "occurred_at": when(body["timestamp"]),
                "device_id": body["device_id"], "device_name": None, "channel": None,
                "media_url": None}
    row = {"message_id": str(body["sms_id"]), "device_id": text_or_none(body.get("device_id")),
           "channel": text_or_none(body.get("channel_id", body.get("sim")))}
    if "status_id" in body:
        code = body["status_id"]
        return {**row, "kind": "delivery_status", "phone": phone(body["sendto"]),
                "status": STATUS.get(code, "unknown"), "status_code": code,
                "status_text": body["status_message"], "occurred_at": when(body["senttime"]),
                "body": None, "media_url": None, "device_name": None}
    return {**row, "kind": "incoming_sms", "phone": phone(body["address"]),
            "body": body["body"], "occurred_at": when(body["date_sent"] or body["date"]),
            "status": None, "status_code": None, "status_text": None,
            "media_url": body.get("img_url"), "device_name": body.get("device_name")}


def states(rows):
    """{message_id: status} by the order queued < sent < delivered or failed."""
    rank = {"unknown": 0, "queued": 1, "sent": 2, "delivered": 3, "failed": 3}
    state = {}
    for row in rows:
        if row["kind"] == "delivery_status":
            now = state.get(row["message_id"], "unknown")
            state[row["message_id"]] = max(now, row["status"], key=rank.get)
    return state


# ---------------------------------------------------------------- the bodies

def test_same_seed_same_bytes(bodies):
    assert bodies("--seed", 7, "--count", 300) == bodies("--count=300", "--seed=7")
    assert bodies("--seed", 7) == bodies("--seed", 7, "--count", 300)[:10]
    assert bodies("--seed", 7) != bodies("--seed", 8)
    assert bodies() != bodies()


def test_sequence_is_fixed(bodies):
    """A seed in a text or a test must mean the same with every version."""
    first = json.loads(bodies("--seed", 1, "--count", 1)[0])
    assert (first["phone"], first["message"]) == ("+12025550118", "NO")


@pytest.mark.parametrize("seed", [0, 1, 4294967295])
def test_all_there_is(bodies, seed):
    lines = bodies("--seed", seed, "--count", 500)
    parsed = [json.loads(line) for line in lines]
    rows = [columns(body) for body in parsed]
    count = Counter(dialect(body) for body in parsed)
    assert set(count) == {"article delivery_status", "article incoming_sms", "channel", "sim",
                          "text", "img", "old", "old number"}
    assert min(count.values()) >= 10, count
    assert {r["status"] for r in rows} == {None, "unknown", *WORDS}
    assert {r["status_code"] for r in rows} == {None, 4, *STATUS}
    assert 2 <= len(lines) - len(set(lines)) < 60
    # replies come from numbers that messages went to
    reached = {r["phone"].lstrip("+") for r in rows if r["status"]}
    written = [r["phone"].lstrip("+") for r in rows if not r["status"]]
    assert sum(p in reached for p in written) > len(written) / 2
    for word in ("VERIFY", "STOP", "HELP", "YES"):
        assert any((r["body"] or "").upper().startswith(word) for r in rows), word
    assert any(b"\\u" in line for line in lines)
    assert any(c > "\uffff" for line in lines for c in line.decode()), "emoji"
    assert any('"00' in line.decode() for line in lines)


def test_some_come_late(bodies):
    """Behind the final status of their message, with an earlier time."""
    final, n_late = {}, 0
    for line in dict.fromkeys(bodies("--seed", 2, "--count", 500)):  # without the repeats
        row = columns(json.loads(line))
        if row["status"] in ("delivered", "failed"):
            assert row["message_id"] not in final, "one end a message"
            final[row["message_id"]] = row["occurred_at"]
        elif row["message_id"] in final:
            assert row["occurred_at"] < final[row["message_id"]]
            n_late += 1
    assert n_late > 3 and len(final) > 10 * n_late / 2


def test_escapes(bodies):
    """A text is the same with PHP's escapes and without them."""
    texts = {True: set(), False: set()}
    for line in bodies("--seed", 6, "--count", 8000):
        row = columns(json.loads(line))
        if row["body"] and not re.match("verify", row["body"], re.I):
            texts[rb"\u" in line or rb"\/" in line].add(row["body"])
            assert json.loads(json.dumps(row["body"]).encode("ascii")) == row["body"]
    assert len(texts[True]) > 25 and texts[True] <= texts[False]
    for part in ('"', "\\", "/", "\n", "\t", "☕️", "👩\u200d👩\u200d👧", "नमस्ते", "مرحبا", "你好"):
        assert any(part in t for t in texts[True]), part


def test_forms_of_members(bodies):
    parsed = [json.loads(line) for line in bodies("--seed", 3, "--count", 2000)]
    times = [b.get("senttime", b.get("date")) for b in parsed if "event" not in b]
    assert {type(t) for t in times} == {int, str, dict}
    shapes = {re.sub(r"\d", "9", t) for t in times if isinstance(t, str)}
    assert {"9999-99-99 99:99:99", "9999-99-99 99:99:99.999999", "9999-99-99T99:99:99Z",
            "9999-99-99T99:99:99+99:99"} <= shapes
    incoming = [b for b in parsed if "address" in b]
    assert {type(b["internal_id"]) for b in incoming} == {int, type(None)}
    assert {type(b["sms_id"]) for b in incoming} == {int, str}
    images = [b for b in incoming if b.get("type") == "img"]
    assert {b["body"] for b in images} == {""}
    assert {"device_id" in b for b in images} == {True, False}


def test_numbers_are_nobodys(bodies):
    for line in bodies("--seed", 11, "--count", 3000):
        number = columns(json.loads(line))["phone"]
        assert FICTION.match(number) or re.fullmatch(r"[A-Za-z]+", number), number


def test_small_samples_show_both_kinds(bodies):
    for seed in range(40):
        parsed = [json.loads(line) for line in bodies("--seed", seed)]
        assert {columns(b)["kind"] for b in parsed} == {"delivery_status", "incoming_sms"}


def test_times(bodies):
    """From a fixed second on with a seed, else of now."""
    start = datetime(2026, 1, 15, 10, tzinfo=timezone.utc)
    fixed = [columns(json.loads(line))["occurred_at"] for line in bodies("--seed", 5)]
    assert all(start <= at < start + timedelta(seconds=100) for at in fixed)
    before = datetime.now(timezone.utc) - timedelta(seconds=5)
    now = [columns(json.loads(line))["occurred_at"] for line in bodies()]
    after = datetime.now(timezone.utc) + timedelta(seconds=1)
    assert all(before <= at <= after for at in now)


def test_no_repeats_by_chance(bodies):
    """Of what is the same twice the first stands just before: it was meant so."""
    lines = bodies("--count", 3000)
    for i, line in enumerate(lines):
        if line in lines[:i]:
            assert line in lines[max(0, i - 30):i], line


def test_rate(bodies):
    start = time.monotonic()
    assert len(bodies("--rate", "50", "--count", 21)) == 21
    assert time.monotonic() - start >= 0.38  # 20 pauses of 1/50 s, at least
    assert len(bodies("--rate", "0.5", "--count", 1)) == 1
    assert len(bodies("--rate", "2500.5", "--count", 300)) == 300


def test_reader_that_leaves(programs):
    """--count 0 goes on until the reader has enough, and ends without a word."""
    with subprocess.Popen([programs / "smshook", "sample", "--count", "0"], cwd="/",
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as p:
        for _ in range(1000):
            json.loads(p.stdout.readline())
        p.stdout.close()
        assert p.wait(process.SLOW) == -signal.SIGPIPE
        assert p.stderr.read() == b""


def test_full_disk(programs):
    with open("/dev/full", "wb") as full:
        done = subprocess.run([programs / "smshook", "sample"], stdout=full, cwd="/",
                              stderr=subprocess.PIPE, timeout=process.SLOW)
    assert done.returncode == 1
    assert b"is the disk full" in done.stderr


@pytest.mark.parametrize("arguments, word", [
    (["--count"], "value"), (["--count", "x"], "--count"), (["--count", "-1"], "--count"),
    (["--count", "1.5"], "--count"), (["--count", ""], "--count"), (["--count=0x10"], "--count"),
    (["--count", "99999999999999999999"], "--count"), (["--count", " 1"], "--count"),
    (["--rate", "0"], "--rate"), (["--rate", "-1"], "--rate"), (["--rate", "1e3"], "--rate"),
    (["--rate", "1.2.3"], "--rate"), (["--rate", "."], "--rate"), (["--rate", "nan"], "--rate"),
    (["--rate", "inf"], "--rate"), (["--seed", "x"], "--seed"), (["--seed", "4294967296"], "--seed"),
    (["--counts", "1"], "unknown"), (["10"], "unknown"), (["--post"], "value"),
    (["--post", f"ftp://x/{SECRET}"], "http"), (["--post", SECRET], "http"),
    (["--post", f"http:///{SECRET}"], "HOST"), (["--post", f"http://x/{SECRET} y"], "space"),
    ([f"http://x/{SECRET}"], "unknown"), ([f"--url=http://x/{SECRET}"], "unknown"),
])
def test_wrong_arguments(sample, arguments, word):
    done = sample(*arguments)
    assert done.returncode == 64
    assert done.stdout == b"" and word in done.stderr.decode(), done.stderr
    assert SECRET not in done.text


# ------------------------------------------------------------------- posted

def answers(done):
    """The lines but the last, and what the last says."""
    *lines, last = done.stdout.decode().splitlines()
    return lines, last


@pytest.fixture
def url(site):
    site.database.empty()
    return f"http://127.0.0.1:{site.server('nginx').port}/smshook/{site.tokens['main'][0]}"


def test_posted(site, url, sample, bodies):
    """Each is answered 200 and becomes the row that it says, in its order."""
    arguments = ("--count", 500, "--seed", 42)
    done = sample(*arguments, "--post", url)
    assert done.returncode == 0, done.text[-2000:]
    lines, last = answers(done)
    assert last == "500 posted: 500 answered 200"
    parsed = [json.loads(line) for line in bodies(*arguments)]
    rows = [columns(body) for body in parsed]
    events = site.database.events()
    assert len(lines) == len(events) == 500
    for line, event, body, row in zip(lines, events, parsed, rows):
        assert {name: event[name] for name in row} == row
        assert event["payload"] == body
        assert event["note"] is None and event["raw"] is None
        result = "duplicate" if event["duplicate_of"] else "stored"
        assert line == '200 {"result":"%s","id":%d}' % (
            result, event["duplicate_of"] or event["id"])
    assert not site.database.rejected()
    kept = site.database.rows("select message_id, status from sms.message")
    assert {m["message_id"]: m["status"] for m in kept} == states(rows)
    assert {m["status"] for m in kept} >= {"delivered", "failed"}


def test_posted_again_is_duplicate(site, url, sample):
    for _ in range(2):
        assert sample("--seed", 1, "--post", url).returncode == 0
    assert sum(e["duplicate_of"] is not None for e in site.database.events()) == 10


def test_posted_with_a_rate(site, url, sample):
    n = 0
    for rate, count in (("8", 3), ("95.5", 40), ("3000", 250)):
        done = sample("--rate", rate, "--count", count, "--post", url)
        assert done.returncode == 0, done.text[-2000:]
        n += count
        assert len(site.database.events()) == n


def test_proxy_of_the_environment(site, url, sample):
    """Not for this machine: it would be shown the token, and could not reach us."""
    dead = "http://127.0.0.1:1"
    assert sample("--post", url, http_proxy=dead, ALL_PROXY=dead).returncode == 0
    url = url.replace("127.0.0.1", "smshook.example")
    done = sample("--post", url, http_proxy=dead)
    assert done.returncode == 1 and "no answer: " in done.text
    assert site.tokens["main"][0] not in done.text


def test_wrong_token(url, sample, site):
    done = sample("--post", url + "x", "--count", 3)
    assert done.returncode == 1
    lines, last = answers(done)
    assert last == "3 posted: 3 answered 401"
    assert all(line.startswith("401 {") for line in lines)
    assert site.tokens["main"][0] not in done.text


def test_unreachable(sample):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))  # and does not listen
        place = f"127.0.0.1:{s.getsockname()[1]}"
        for user in ("", f"gateway:{SECRET}@"):
            done = sample("--post", f"http://{user}{place}/smshook/{SECRET}", "--count", 250)
            assert done.returncode == 1
            assert "no answer: " in done.stderr.decode()
            assert SECRET not in done.text
            assert done.stdout == b"1 posted: 1 not answered\n"


@pytest.mark.parametrize("url", [f"http://localhost:{SECRET}/", f"http://{SECRET}\x01/",
                                 f"http://localhost/\x7f{SECRET}"])
def test_address_that_libcurl_refuses(sample, url):
    done = sample("--post", url)
    assert done.returncode == 1 and "no answer: " in done.text and SECRET not in done.text


def test_libcurl_is_missing(sample, top):
    """The rest goes without it."""
    folder = process.new_folder(top)
    folder.chmod(0o755)
    for name in ("libcurl.so.4", "libcurl-gnutls.so.4"):
        process.write(folder / name, "")
    done = sample("--post", f"http://127.0.0.1/{SECRET}", LD_LIBRARY_PATH=str(folder))
    assert done.returncode == 1 and done.stdout == b""
    assert "install the package libcurl4" in done.text and SECRET not in done.text
    assert sample(LD_LIBRARY_PATH=str(folder)).returncode == 0


# ------------------------------------------------- a web server of the test

class Handler(BaseHTTPRequestHandler):
    """Answers as server.answer says; keeps connections."""
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes

    def setup(self):
        self.server.n_connections += 1
        super().setup()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(body)
        status, answer = self.server.answer(self)
        answer = answer.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.fixture
def web():
    """A web server; answer(request) -> (status, text)."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.n_connections, server.bodies = 0, []
    server.answer = lambda _: (200, "{}")
    server.handle_error = lambda *_: None  # clients that are stopped
    server.url = f"http://127.0.0.1:{server.server_port}/smshook/{SECRET}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_bytes_are_those_printed(web, sample, bodies):
    assert sample("--seed", 4, "--count", 250, "--post", web.url).returncode == 0
    assert web.bodies == bodies("--seed", 4, "--count", 250)
    assert web.n_connections == 1


def test_answers_of_many_kinds(web, sample):
    """Counted by status; a page is one line; what it shows of the address is not."""
    pages = [(200, "{}"), (503, "\n\nbusy\nmore"), (404, f"<p>no /smshook/{SECRET} here"),
             (500, ""), (200, "\x1b[2J\x07 ok \u00fc\r\n"), (200, "x" * 100000)]
    web.answer = lambda _: pages[len(web.bodies) - 1]
    done = sample("--count", 6, "--post", web.url)
    lines, last = answers(done)
    assert done.returncode == 1
    assert last == "6 posted: 3 answered 200, 1 answered 404, 1 answered 500, 1 answered 503"
    hidden = "." * len(SECRET)
    assert lines[:5] == ["200 {}", "503 busy", f"404 <p>no /smshook/{hidden} here", "500 ",
                         "200 \ufffd[2J\ufffd ok \u00fc"]
    assert len(lines[5]) < 600


def test_connection_that_breaks(web, sample):
    """The answers before it count; nothing is posted after it."""
    def answer(handler):
        if len(web.bodies) >= 3:  # libcurl tries a connection that was kept once more
            handler.connection.shutdown(socket.SHUT_RDWR)
        return 200, "{}"
    web.answer = answer
    done = sample("--count", 250, "--post", web.url)
    assert done.returncode == 1
    assert answers(done)[1] == "3 posted: 1 not answered, 2 answered 200"
    assert "no answer: " in done.stderr.decode() and SECRET not in done.text
    assert len(set(web.bodies)) == 3


def stop_amid(programs, web, number, **more):
    """The command, ended by a signal once three were answered: its outcome."""
    go_on = threading.Event()
    web.answer = lambda _: (200, "{}") if len(web.bodies) <= 3 or go_on.wait(
        process.SLOW) else (200, "{}")
    with subprocess.Popen([programs / "smshook", "sample", "--count", "0", "--post", web.url],
                          cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more) as p:
        try:
            wait_for("three answers", lambda: len(web.bodies) > 3)
            p.send_signal(number)
            out, err = p.communicate(timeout=process.SLOW)
        finally:
            p.kill()
            go_on.set()
    return p.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal(programs, web, number):
    """It still tells the counts, and says nothing else."""
    code, out, err = stop_amid(programs, web, number)
    assert code == -number and err == ""
    lines = out.splitlines()
    assert lines[:3] == ["200 {}"] * 3
    assert re.fullmatch(r"[34] posted:( 1 not answered,)? 3 answered 200", lines[-1])


def test_reader_of_answers_that_leaves(programs, web):
    with subprocess.Popen([programs / "smshook", "sample", "--count", "0", "--post", web.url],
                          cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as p:
        p.stdout.readline()
        p.stdout.close()
        assert p.wait(process.SLOW) != 0
        assert p.stderr.read() == b""


def test_progress_on_a_terminal(programs, web):
    terminal, end = pty.openpty()
    try:
        done = subprocess.run(
            [programs / "smshook", "sample", "--rate", "5", "--count", "9", "--post", web.url],
            cwd="/", stdout=subprocess.PIPE, stderr=end, timeout=process.SLOW)
        shown = ""
        while not shown.endswith("\n") and select.select([terminal], [], [], process.SLOW)[0]:
            shown += os.read(terminal, 4096).decode()
    finally:
        os.close(terminal)
        os.close(end)
    assert done.returncode == 0
    assert shown.endswith("\r9 posted, 9 answered 200\r\n")
    assert SECRET not in shown


def test_valgrind(programs, web):
    program = programs / "smshook"
    if not shutil.which("valgrind"):
        pytest.skip("valgrind is not installed")
    if any(name in program.read_bytes() for name in (b"__asan_init", b"__tsan_init")):
        pytest.skip("the program has a sanitizer")
    command = ["valgrind", "-q", "--leak-check=full", "--error-exitcode=99", program, "sample"]
    for arguments in (["--count", "500", "--seed", "9"],
                      ["--count", "120", "--post", web.url, "--rate", "5000"],
                      ["--post", "http://127.0.0.1:1/"]):
        done = run([*command, *arguments])
        assert b"==" not in done.stderr and done.returncode in (0, 1), done.stderr
