"""The checker notices what it is there for, and the spool's reader too."""
from datetime import datetime, timezone
from uuid import uuid4

import pytest

import ledger as lg
import spooldir


@pytest.fixture
def book():
    """A ledger of ten answered requests, and the rows of a perfect receiver."""
    ledger, events, rejected = lg.Ledger(), [], []
    for n in range(10):
        entry, _ = ledger.request("token", n, with_rejects=True)
        entry.status, entry.answered_at = entry.expect, entry.sent_at
        entry.answer = {"result": "stored", "id": n} if entry.expect == 200 else {}
        row = {"ingest_id": uuid4(), "received_at": datetime.now(timezone.utc),
               "source": "shop"}
        if entry.expect == 200:
            is_raw = b"u0000" in entry.body
            text = entry.body.decode().replace("\\u0000", "?").replace("\\ud800", "?")
            events.append({**row, "id": n, "duplicate_of": None, "payload": text,
                           "raw": entry.body if is_raw else None})
        else:
            rejected.append({**row, "http_status": entry.expect, "body": entry.body})
    return ledger, events, rejected


def spooled(row, body):
    return spooldir.Event(row["ingest_id"], row["received_at"], "shop", body)


def only(what, found):
    assert len(found) == 1 and found[0].startswith(what), found


def test_checker_is_content(book):
    ledger, events, rejected = book
    assert not lg.problems(ledger, events, rejected)
    body = ledger.entries[lg.uid_of(events[0]["payload"].encode())].body
    # committed, and its file not yet gone; or still to come
    assert not lg.problems(ledger, events, rejected, [spooled(events[0], body)])
    ledger.entries[lg.uid_of(body)].answer = {"result": "spooled"}
    assert not lg.problems(ledger, events[1:], rejected, [spooled(events[0], body)])


def test_checker_notices_a_lost_row(book):
    ledger, events, rejected = book
    only("lost", lg.problems(ledger, events[1:], rejected))
    only("lost", lg.problems(ledger, events, []))
    assert not lg.problems(ledger, events, [], rejects_kept=False)


def test_checker_notices_a_doubled_row(book):
    ledger, events, rejected = book
    only("more than once", lg.problems(
        ledger, [*events, {**events[1], "ingest_id": uuid4(), "id": 1}], rejected))
    body = ledger.entries[lg.uid_of(events[0]["payload"].encode())].body
    only("more than once", lg.problems(
        ledger, events, rejected, [spooled({**events[0], "ingest_id": uuid4()}, body)]))
    only("more than once", lg.problems(ledger, events, rejected * 2))


def test_checker_notices_an_altered_body(book):
    ledger, events, rejected = book
    altered = {**events[0], "payload": events[0]["payload"].replace("Grü", "Gru")}
    only("altered", lg.problems(ledger, [altered, *events[1:]], rejected))
    altered = {**events[3], "raw": events[3]["raw"] + b" "}
    only("altered", lg.problems(ledger, [*events[:3], altered, *events[4:]], rejected))
    altered = {**rejected[0], "body": rejected[0]["body"] + b" "}
    only("altered", lg.problems(ledger, events, [altered]))


def test_checker_notices_an_invented_row(book):
    ledger, events, rejected = book
    foreign = {**events[0], "id": 99, "payload": '{"m":"u00000000-1e"}'}
    only("invented", lg.problems(ledger, [*events, foreign], rejected))
    never, _ = ledger.request("token", 0)
    never.was_sent = False
    row = {**events[0], "id": 99, "ingest_id": uuid4(), "payload": never.body.decode()}
    only("invented", lg.problems(ledger, [*events, row], rejected))


def test_checker_allows_what_was_not_acknowledged_once(book):
    ledger, events, rejected = book
    for entry in ledger.entries.values():
        entry.status, entry.answer = None, None
    assert not lg.problems(ledger, [], [])
    assert not lg.problems(ledger, events, rejected)
    only("more than once", lg.problems(
        ledger, [*events, {**events[0], "ingest_id": uuid4()}], rejected))


def test_checker_notices_another_time_source_id_or_answer(book):
    ledger, events, rejected = book
    for change, what in (({"received_at": datetime(2026, 1, 1, tzinfo=timezone.utc)},
                          "another received_at"), ({"source": "x"}, "another source"),
                         ({"id": 77}, "stored under"), ({"duplicate_of": 1}, "taken for")):
        only(what, lg.problems(ledger, [{**events[0], **change}, *events[1:]], rejected))
    next(iter(ledger.entries.values())).status = 401
    only("answered 401", lg.problems(ledger, events, rejected))


def test_spool_reader():
    now = datetime.now(timezone.utc)
    events = [spooldir.Event(uuid4(), now, "shop", b"{}\n\nend 1 \n", "::1", "text/json"),
              spooldir.Event(uuid4(), now, "shop", b"", None, None, "400 not JSON")]
    data = spooldir.build(events)
    assert spooldir.parse(data) == events
    for i in range(len(data)):
        for other in (data[:i], data[:i] + bytes([data[i] ^ 1]) + data[i + 1:]):
            with pytest.raises(spooldir.Invalid):
                spooldir.parse(other)
