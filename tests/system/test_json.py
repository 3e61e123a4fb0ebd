"""Whatever JSON is sent, through nginx into PostgreSQL: what is stored is what a
reference in Python says."""
import http.client
import json
import os
import random
import re

import pytest

import drivers
import json_cases as jc
import process
import receiver as rx
import servers
from cases import DELIVERY, DELIVERY_ROW, INCOMING, INCOMING_ROW, REPORT, REPORT_ROW, SMS, \
    SMS_ROW, encode, without
from test_cases import COLUMNS, exact, row_of

SUITE = servers.SOURCE.parent / "shared/corpora/json-test-suite/test_parsing"
LARGEST = 1 << 19

needs_suite = pytest.mark.skipif(not SUITE.is_dir(), reason="no JSONTestSuite here")


class Nginx(servers.Nginx):
    """Which takes the largest body that max_body may be set to, and has patience."""

    def write(self):
        super().write()
        for path in self.folder.glob("*.conf"):
            text = re.sub(r"(client_max_body_size) \w+;", r"\1 1m;", path.read_text())
            process.write(path, re.sub(r"(fastcgi_(send|read)_timeout) \w+;", r"\1 60s;", text))


class Hook:
    """A receiver behind nginx, one connection to it, and what came of each body."""

    def __init__(self, programs, top, database):
        self.database, self.token, self.n = database, rx.new_token(), 0
        config = rx.write_config(top, rx.config_text(
            database.writer, {"shop": f"token = {self.token}"},
            "max_body = 512KiB\nrequest_timeout = 60s\nsocket_mode = 0666", "timeout = 30s",
            log="info"))
        self.receiver = rx.Receiver(programs, top, config)
        self.server = Nginx(top, self.receiver.socket)
        self.http = http.client.HTTPConnection("127.0.0.1", self.server.port, 2 * process.SLOW)

    def stop(self):
        self.http.close()
        self.server.stop()
        rx.check_log(self.server.errors(), self.receiver.config.read_text())
        assert self.receiver.stop() == 0

    def post(self, body):
        """(status, id or None)"""
        self.http.request("POST", f"/smshook/{self.token}", body,
                          {"Content-Type": "application/json"})
        answer = self.http.getresponse()
        reply = json.loads(answer.read())
        if answer.status == 200:
            assert reply["result"] == "stored", reply
        return answer.status, reply.get("id")

    def unique(self, body):
        """An object with one member more."""
        self.n += 1
        return body[:-1] + b',"\xc2\xb7":%d}' % self.n

    def check(self, cases):
        """Stores each of [(name, body, row)], and compares all that is kept of it."""
        stored = []
        for name, body, row in cases:
            status, row_id = self.post(body)
            assert status == 200, name
            stored.append((row_id, name, body, row))
        found = {r["id"]: r for r in self.database.rows(
            f"""select id, {', '.join(COLUMNS)}, raw, payload::text from sms.event
            where id = any (%s)""", [s[0] for s in stored])}
        assert len(found) == len(stored)
        for row_id, name, body, row in stored:
            got = found[row_id]
            assert row_of(got) == row, name
            assert got["raw"] == (None if jc.is_faithful(body) else body), name
            assert [exact(got["payload"])] == jc.parse(body), name

    def check_rejected(self, cases):
        """Each of {name: body} is kept as no JSON or no event, whichever it is."""
        self.database.empty()
        for name, body in cases.items():
            status = 422 if jc.parse(body) else 400
            assert self.post(body) == (status, None), name
        kept = [(r["http_status"], r["body"]) for r in self.database.rejected()]
        assert kept == [(422 if jc.parse(b) else 400, b) for b in cases.values()]
        assert not self.database.events()


@pytest.fixture(scope="module")
def hook(programs, top, new_database):
    h = Hook(programs, top, new_database())
    yield h
    h.stop()


# {place: (event without its last member, that member's name, row, its column)}
PLACES = {
    "message": (without(SMS, "message"), "message", without(SMS_ROW, "body"), "body"),
    "body": (without(INCOMING, "body"), "body", without(INCOMING_ROW, "body"), "body"),
    "sms_id": (without(REPORT, "sms_id"), "sms_id", without(REPORT_ROW, "message_id"),
               "message_id"),
    "device_id": (without(SMS, "device_id"), "device_id", without(SMS_ROW, "device_id"),
                  "device_id"),
    "unknown": (DELIVERY, "x", DELIVERY_ROW, None),
}


def placed(hook, place, value):
    """(body, row) of a good event with that JSON value at a place."""
    event, name, row, column = PLACES[place]
    body = encode(event)[:-1] + b',"' + name.encode() + b'":' + value.encode() + b"}"
    text = jc.column(value)
    # Empty is absent, but for the text of a message.
    if column and text is not None and (text or column == "body"):
        row = {**row, column: text}
    return hook.unique(body), row


def suite():
    return {p.name: p.read_bytes() for p in sorted(SUITE.iterdir())}


def is_id(text):
    """What a message id may be."""
    return text not in (None, "")


# ------------------------------------------------------------ JSONTestSuite

@needs_suite
def test_suite_as_body(hook):
    files = suite()
    assert len(files) == 318
    for name, body in files.items():
        if name[0] != "i":
            assert bool(jc.parse(body)) == (name[0] == "y"), name
    hook.check_rejected(files)


@needs_suite
def test_suite_in_an_event(hook):
    cases = []
    for name, body in suite().items():
        if not jc.parse(body) or body.startswith(jc.BOM):
            continue
        value = body.decode()
        for place in ("message", "body", "sms_id", "unknown"):
            if place != "sms_id" or is_id(jc.column(value)):
                cases.append((f"{name} as {place}", *placed(hook, place, value)))
    assert len(cases) > 400
    hook.check(cases)


# ------------------------------------------------------------- own cases

def test_numbers(hook):
    cases = []
    for source, code, time in jc.NUMBERS:
        for place in PLACES:
            body, row = placed(hook, place, source)
            if PLACES[place][3]:
                assert row[PLACES[place][3]] == source
            cases.append((f"{source} as {place}", body, row))
        row = without(REPORT_ROW, "status_code")
        row["status"] = "unknown"
        if code is None:
            row["note"] = "status_id: not a whole number of 32 bits"
        else:
            row["status_code"] = code
        body = encode(without(REPORT, "status_id"))[:-1] + f',"status_id":{source}}}'.encode()
        cases.append((f"{source} as status_id", hook.unique(body), row))
        row = without(DELIVERY_ROW, "occurred_at")
        row.update({"occurred_at": time} if time else {"note": "occurred_at: not a datetime"})
        body = encode(without(DELIVERY, "timestamp"))[:-1] + f',"timestamp":{source}}}'.encode()
        cases.append((f"{source} as timestamp", hook.unique(body), row))
    hook.check(cases)


def test_numbers_beyond_jsonb(hook):
    cases = []
    for source in jc.BEYOND:
        assert not jc.is_faithful(source.encode())
        for place in PLACES:
            body, row = placed(hook, place, source)
            if PLACES[place][3]:
                assert row[PLACES[place][3]] == "\ufffd"
            cases.append((f"{source[:20]} as {place}", body, row))
    hook.check(cases)


def test_strings(hook):
    cases = []
    for inside, text, is_faithful in jc.STRINGS:
        assert jc.is_faithful(f'"{inside}"'.encode()) == is_faithful
        for place in PLACES:
            body, row = placed(hook, place, f'"{inside}"')
            if PLACES[place][3]:
                assert row[PLACES[place][3]] == text
            cases.append((f"{inside} as {place}", body, row))
    hook.check(cases)


def test_naughty_strings(hook):
    cases = []
    for text in jc.NAUGHTY:
        for i, place in enumerate(PLACES):
            if place == "sms_id" and not is_id(text):
                continue
            body, row = placed(hook, place, json.dumps(text, ensure_ascii=i % 2 == 0))
            if text and PLACES[place][3]:
                assert row[PLACES[place][3]] == text
            assert jc.is_faithful(body)
            cases.append((f"{text!a} as {place}", body, row))
    hook.check(cases)


def test_names(hook):
    cases = []
    for members, value, text, is_faithful in jc.NAMES:
        body = b'{"event":"x",' + members.encode() + b"}"
        assert jc.is_faithful(body) == is_faithful
        assert jc.parse(body) == [{"event": "x", **value}]
        row = {"kind": "x", "body": text}
        cases.append((members[:60], hook.unique(body),
                      {k: v for k, v in row.items() if v is not None}))
    hook.check(cases)


def test_depth(hook):
    cases = [(str(n), hook.unique(encode(DELIVERY)[:-1] + b',"x":' + b"[" * (n - 1)
                                  + b"]" * (n - 1) + b"}"), DELIVERY_ROW) for n in (31, 32)]
    hook.check(cases)


def test_no_json(hook):
    cases = dict(jc.NO_JSON)
    for name, text in jc.NO_TEXT.items():
        cases[name] = b'{"event":"incoming_sms","phone":"+1","message":"a' + text + b'b"}'
        cases[name + "_at_end"] = b'{"event":"x","x":"' + text
        cases[name + "_in_name"] = b'{"event":"x","a' + text + b'":1}'
    assert not any(jc.parse(body) for body in cases.values())
    hook.check_rejected(cases)


def test_byte_order_mark(hook):
    """In front it is dropped; raw has it."""
    hook.check([("bom", jc.BOM + hook.unique(encode(SMS)), SMS_ROW)])


def fill(before, unit, after, size=LARGEST):
    """As many units as fit a body."""
    return before + unit * ((size - len(before) - len(after)) // len(unit)) + after


def test_largest(hook):
    """Bodies as large as can be."""
    keys, n, size = [b'{"event":"x"'], 0, 20
    while size < LARGEST - 20:
        keys.append(b',"%x":0' % n)
        size, n = size + len(keys[-1]), n + 1
    row = {"kind": "x"}
    sms = b'{"event":"x","message":"'
    bodies = [
        ("names", b"".join(keys) + b"}", row),
        ("names that are equal", fill(b'{"event":"x"', b',"":0', b"}"), row),
        ("text", fill(sms, b"m", b'"}'), "m"),
        ("text of escapes", fill(sms, b"\\n", b'"}'), "\n"),
        ("text of pairs", fill(sms, b"\\ud83d\\ude00", b'"}'), "\U0001f600"),
        ("text of lone surrogates", fill(sms, b"\\udfff", b'"}'), "\ufffd"),
        ("text of U+0000", fill(sms, b"\\u0000", b'"}'), "\ufffd"),
        ("name", fill(b'{"event":"x","', b"k", b'":0}'), row),
        ("objects", fill(b'{"event":"x","x":[', b"{},", b"0]}"), row),
        ("digits", fill(b'{"event":"x","x":[', b"9223372036854775808,", b"0]}"), row),
        ("one number", fill(b'{"event":"x","x":', b"1", b"}"), row),
    ]
    cases = []
    for name, body, row in bodies:
        if isinstance(row, str):
            [value] = jc.parse(body)
            assert set(value["message"]) == {row}
            row = {"kind": "x", "body": value["message"]}
        assert LARGEST - 40 < len(body) <= LARGEST
        cases.append((name, body, row))
    hook.check(cases)


NASTY = [
    ("brackets", b"", b"[", b""), ("objects", b'{"event":"x","x":[', b"{},", b"0]}"),
    ("names", b'{"event":"x"', b',"":0', b"}"),
    ("names of U+0000", b'{"event":"x"', b',"\\u0000":0', b"}"),
    ("escapes", b'{"event":"x","message":"', b"\\n", b'"}'),
    ("U+0000", b'{"event":"x","message":"', b"\\u0000", b'"}'),
    ("large numbers", b'{"event":"x","message":[', b"1e131071,", b"1]}"),
    ("digits", b'{"event":"x","message":', b"1", b"}"),
    ("zone", b'{"event":"x","timestamp":{"date":""', b',"zone\\n":"\\t"', b"}}"),
    ("not JSON", b'{"event":"x",', b"\xff", b"}"),
]


def high_water(pid):
    """The most memory, in bytes, that the process ever had."""
    for line in open(f"/proc/{pid}/status", encoding="ascii"):
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])


def test_memory_of_a_request(programs, top, database):
    """From the connection to the statement, less than 2 MiB beside the body."""
    if any(name in (programs / "smshook.fcgi").read_bytes()
           for name in (b"__asan_init", b"__tsan_init")):
        pytest.skip("the program has a sanitizer")
    token = rx.new_token()
    receiver = rx.Receiver(programs, top, rx.write_config(top, rx.config_text(
        database.writer, {"shop": f"token = {token}"}, "threads = 1")))
    try:
        driver = drivers.Fcgi(receiver.address())
        assert driver.send(drivers.post(token, encode(SMS))).status == 200
        before = high_water(receiver.process.pid)
        for name, head, unit, tail in NASTY:
            body = fill(head, unit, tail, 65536)
            assert driver.send(drivers.post(token, body)).status in (200, 400, 422), name
            assert high_water(receiver.process.pid) < before + len(body) + (2 << 20), name
    finally:
        assert receiver.stop() == 0


def test_flood_of_digits(hook):
    """jsonb writes numbers in full: a short body must not become one that nobody
    can read."""
    cases = []
    for number in (b"1e131071,", b"1e-16383,", b"0e-16383,", b"-9.99E+9999,"):
        body = fill(b'{"event":"x","x":[', number, b"0]}", 65536)
        cases.append((number, hook.unique(body), {"kind": "x"}))
    hook.check(cases)
    longest = hook.database.value("select max(length(payload::text)) from sms.event")
    assert longest < 3 * LARGEST


def test_round_trip(hook):
    """Random objects: jsonb has what Python has, or raw is set and U+FFFD stands for
    what jsonb cannot hold."""
    maker = jc.Maker(random.Random(20260115))
    cases = []
    for i in range(int(os.environ.get("SMSHOOK_JSON_OBJECTS", "1500"))):
        source = maker.object()
        cases.append((f"{i}: {source}", hook.unique(b'{"event":"x","x":' + source.encode() + b"}"),
                      {"kind": "x"}))
    faithful = sum(jc.is_faithful(body) for _, body, _ in cases)
    assert len(cases) / 4 < faithful < len(cases) * 3 / 4
    hook.check(cases)
