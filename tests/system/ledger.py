"""Load with a ledger of every request, and the checker of what became of it.

Each body is unique and names its entry, so the row or the spooled event that it
became is known by the bytes alone."""
import itertools
import json
import re
import secrets
import threading
import time
from dataclasses import dataclass
from decimal import Decimal

import psycopg

from drivers import Request, cgi_variables, parse_cgi
from fcgi_client import Connection
from load import Threads

UID = re.compile(rb"u[0-9a-f]{8}-[0-9]+e")
CLOCK_SLACK = 1.0  # s between this process's clock reading and the receiver's

# A request that failed with one of these never left.
NOT_SENT = (ConnectionRefusedError, FileNotFoundError, BlockingIOError)


@dataclass
class Entry:
    uid: str
    body: bytes
    expect: int  # the status of its answer, if there is one that is no 5xx
    sent_at: float
    was_sent: bool = True
    answered_at: float = None
    status: int = None  # None: no answer
    answer: dict = None

    @property
    def is_acknowledged(self):
        return self.status is not None and 200 <= self.status < 300


# Bodies by turns: both dialects, what jsonb cannot hold, and what is no event; with
# what no log may hold: canary.py.
EVENTS = (
    '{"event":"incoming_sms","phone":"+4915112345678","message":"%s Zitronenfalter Grüße 🙂"}',
    '{"event":"delivery_status","message_id":"%s","status":"delivered"}',
    '{"address":"+4915112345678","date":"2026-01-15 10:30:00","body":"%s Zitronenfalter","sms_id":1,'
    '"type":"text"}',
    '{"event":"incoming_sms","phone":"Shop","message":"%s Zitronenfalter\\u0000 \\ud800","x":1e400}',
    '{ "sms_id" : "%s", "status_id" : 7, "sendto" : "+4915112345678", "n" : 12345678901234567890.50 }',
)
REJECTS = (('{"nothing":"%s Zitronenfalter"}', 422, "application/json"),
           ('{"cut":"%s Zitronenfalter"', 400, "application/json"),
           ("a=%s+Zitronenfalter", 415, "application/x-www-form-urlencoded"))


def count(counts, key):
    counts[key] = counts.get(key, 0) + 1


class Ledger:
    """Every request, by the id in its body."""

    def __init__(self, source="shop"):
        self.source, self.entries = source, {}
        self.run, self.counter = secrets.token_hex(4), itertools.count()
        self.lock = threading.Lock()
        self.n_statuses, self.n_results = {}, {}  # by lock

    def request(self, token, n, with_rejects=False):
        """The n-th kind of request, and its entry."""
        uid = f"u{self.run}-{next(self.counter)}e"
        expect, kind = 200, "application/json"
        if with_rejects and n % 10 == 9:
            text, expect, kind = REJECTS[n // 10 % len(REJECTS)]
        else:
            text = EVENTS[n % len(EVENTS)]
        entry = Entry(uid, (text % uid).encode(), expect, time.time())
        self.entries[uid] = entry
        return entry, Request(f"/{token}", entry.body, headers=(("Content-Type", kind),))

    def send(self, sender, token, n=0, with_rejects=False):
        """One request, in the ledger whatever becomes of it."""
        entry, request = self.request(token, n, with_rejects)
        try:
            answer = sender.send(request)
        except NOT_SENT:
            entry.was_sent, answer = False, None
        except OSError:
            answer = None
        entry.answered_at = time.time()
        if answer:
            entry.answer = json.loads(answer.body) if answer.status < 300 else {}
            entry.status = answer.status
        with self.lock:
            count(self.n_statuses, entry.status)
            if entry.is_acknowledged:
                count(self.n_results, entry.answer["result"])
        return entry

    def statuses(self):
        """{status: how many}; None: no answer."""
        with self.lock:
            return dict(self.n_statuses)

    def results(self):
        """{"stored": how many, ...} of those that were acknowledged."""
        with self.lock:
            return dict(self.n_results)

    def slowest(self):
        return max((e.answered_at - e.sent_at for e in list(self.entries.values())
                    if e.status is not None), default=0)

    def is_all_answered_well(self):
        return all(e.status == e.expect for e in list(self.entries.values()))


class Fcgi:
    """A FastCGI connection that is kept while it lasts."""

    def __init__(self, address, keep=True):
        self.address, self.keep, self.connection = address, keep, None

    def send(self, request):
        answer = None
        if not self.connection:
            self.connection = Connection(self.address, 60)
        try:
            answer = parse_cgi(self.connection.ask(cgi_variables(request), request.body,
                                                   keep=self.keep))
        finally:
            if answer is None or not self.keep:
                self.close()
        return answer

    def close(self):
        if self.connection:
            self.connection.close()
            self.connection = None


class Load(Threads):
    """n threads that post until they are told to stop, and go on when the
    receiver is away for a moment.  make_sender() gives each its sender."""

    def __init__(self, ledger, n, token, make_sender, pause=0.0, with_rejects=True):
        self.ledger, self.token, self.pause = ledger, token, pause
        self.with_rejects = with_rejects
        self.stopping, self.errors = threading.Event(), []
        self.threads = [threading.Thread(target=self.work, args=(make_sender(), i))
                        for i in range(n)]
        for thread in self.threads:
            thread.start()

    def work(self, sender, n):
        try:
            while not self.stopping.is_set():
                entry = self.ledger.send(sender, self.token, n, self.with_rejects)
                n += 1
                pause = self.pause if entry.was_sent else max(self.pause, 0.02)
                if pause:
                    self.stopping.wait(pause)
        except Exception as e:  # told by stop(), which the test calls
            self.errors.append(e)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


# ------------------------------------------------------------- the checker

def kept(connection):
    """(events, rejected) of a database, as dicts."""
    cursor = connection.cursor(row_factory=psycopg.rows.dict_row)
    cursor.execute("begin isolation level repeatable read")
    try:
        events = cursor.execute(
            """select id, ingest_id, received_at, source, payload::text as payload,
            raw, duplicate_of from sms.event order by id""").fetchall()
        rejected = cursor.execute(
            """select ingest_id, received_at, source, http_status, body
            from sms.rejected order by id""").fetchall()
    finally:
        cursor.execute("commit")
    return events, rejected


def as_json(text):
    return json.loads(text, parse_int=Decimal, parse_float=Decimal)


def uid_of(data):
    found = UID.search(data)
    return found[0].decode() if found else None


class Checker:
    """Compares a ledger with what was kept; problems: a sentence each."""

    def __init__(self, ledger):
        self.ledger, self.problems = ledger, []
        self.places = {}  # uid: [(place, ingest_id)]

    def problem(self, what, about):
        self.problems.append(f"{what}: {about}")

    def place(self, where, data, row):
        """Notes where the body of data is kept; returns its entry."""
        entry = self.ledger.entries.get(uid_of(data))
        if not entry or not entry.was_sent:
            self.problem("invented", f"{where} {row['ingest_id']} {data[:80]!r}")
            return None
        self.places.setdefault(entry.uid, []).append((where, str(row["ingest_id"])))
        if row["source"] != self.ledger.source:
            self.problem("another source", f"{where} {entry.uid} {row['source']}")
        received = row["received_at"].timestamp()
        if not (entry.sent_at - CLOCK_SLACK < received
                < (entry.answered_at or time.time()) + CLOCK_SLACK):
            self.problem("another received_at", f"{where} {entry.uid} {row['received_at']}")
        return entry

    def event(self, row):
        raw = row["raw"]
        entry = self.place("event", row["payload"].encode() if raw is None else bytes(raw), row)
        if not entry:
            return
        if entry.expect != 200:
            self.problem("an event that is none", entry.uid)
        elif raw is not None and bytes(raw) != entry.body:
            self.problem("altered", entry.uid)
        elif raw is None and as_json(row["payload"]) != as_json(entry.body):
            self.problem("altered", entry.uid)
        if row["duplicate_of"] is not None:
            self.problem("taken for a duplicate", entry.uid)
        answer = entry.answer or {}
        if answer.get("result") == "stored" and answer["id"] != row["id"]:
            self.problem("stored under another id than was answered", entry.uid)

    def rejected(self, row):
        entry = self.place("rejected", bytes(row["body"]), row)
        if not entry:
            return
        if bytes(row["body"]) != entry.body:
            self.problem("altered", entry.uid)
        if row["http_status"] != entry.expect:
            self.problem(f"rejected as {row['http_status']}", entry.uid)

    def spooled(self, event):
        entry = self.place("spool", event.body, vars(event))
        if not entry:
            return
        if event.body != entry.body:
            self.problem("altered", entry.uid)
        if (event.http_status or 200) != entry.expect:
            self.problem(f"spooled as {event.http_status}", entry.uid)

    def counts(self, rejects_kept):
        for entry in self.ledger.entries.values():
            places = self.places.get(entry.uid, [])
            # A file goes a moment after its commit: both hold it then.
            if (len({i for _, i in places}) > 1
                    or any(w[0] == v[0] for w, v in itertools.combinations(places, 2))):
                self.problem("more than once", f"{entry.uid} {places}")
            must = entry.is_acknowledged or (rejects_kept and entry.status in (400, 415, 422))
            if must and not places:
                self.problem("lost", f"{entry.uid} {entry.status} {entry.answer}")
            if entry.status is not None and entry.status < 500 and entry.status != entry.expect:
                self.problem(f"answered {entry.status}", entry.uid)


def problems(ledger, events, rejected=(), spooled=(), rejects_kept=True):
    """What contract section 6 forbids.  rejects_kept: PostgreSQL or the spool
    could be written at any time, so rejected bodies are there too."""
    checker = Checker(ledger)
    for row in events:
        checker.event(row)
    for row in rejected:
        checker.rejected(row)
    for event in spooled:
        checker.spooled(event)
    checker.counts(rejects_kept)
    return checker.problems


def check(ledger, connection, spool=None, rejects_kept=True):
    """Acknowledged is a subset of PostgreSQL and spool, each exactly once, with
    its bytes and time, and nothing is there that was not sent."""
    spooled = spool.events() if spool else ()  # first: they go to PostgreSQL
    events, rejected = kept(connection)
    found = problems(ledger, events, rejected, spooled, rejects_kept)
    assert not found, "\n".join([f"{len(found)} problems", *found[:20]])
    return events
