"""Every case by every driver: the same answers, and the same rows."""
import json
from datetime import timezone
from decimal import Decimal

import pytest

from cases import CASES
from drivers import Request, basic

COLUMNS = ("kind", "message_id", "phone", "status", "status_code", "status_text", "body",
           "media_url", "occurred_at", "device_id", "device_name", "channel", "note")


def fill(case, tokens):
    """The case's request with its tokens."""
    token, second = tokens[case.source]
    words = {"{token}": token, "{second}": second, "{wrong}": "w" * len(token),
             "{encoded}": "".join(f"%{ord(c):02X}" for c in token),
             "{basic}": basic(token), "{upper}": token.upper(), "{cut}": token[:-1]}

    def put(text):
        for word, value in words.items():
            text = text.replace(word, value) if text else text
        return text
    r = case.request
    return Request(put(r.path), r.body, r.method, put(r.query),
                   tuple((n, put(v)) for n, v in r.headers), r.send, r.length)


def row_of(event):
    row = {c: event[c] for c in COLUMNS if event[c] is not None}
    if "occurred_at" in row:
        at = row["occurred_at"].astimezone(timezone.utc).replace(tzinfo=None)
        row["occurred_at"] = at.isoformat() + "Z"
    return row


def check_reply(answer, request, token):
    """Every reply is JSON, errors are problems, and none tells what was sent."""
    assert token.encode() not in answer.body
    assert b"CANARY" not in answer.body
    if request.method == "HEAD":
        assert answer.body == b""
        return {}
    kind = answer.header("Content-Type").partition(";")[0]
    if request.path.startswith("/metrics") and answer.status == 200:
        assert kind == "text/plain"
        return {}
    reply = json.loads(answer.body)
    if answer.status == 200:
        assert kind == "application/json"
        return reply
    assert kind == "application/problem+json"
    assert reply["status"] == answer.status
    assert {"type", "title", "detail"} <= set(reply)
    assert len(reply["detail"]) > 10
    return reply


def check_events(case, database, replies):
    rows = database.events()
    assert len(rows) == (case.times if case.event else 0)
    for i, row in enumerate(rows):
        assert row_of(row) == case.event
        assert row["source"] == case.source
        assert row["duplicate_of"] == (rows[0]["id"] if i else None)
        check_payload(case, row)
        if replies:
            assert replies[i] == {"result": "duplicate" if i else "stored",
                                  "id": rows[0]["id"]}


def exact(text):
    """JSON without rounding a number."""
    return json.loads(text, parse_int=Decimal, parse_float=Decimal)


def check_payload(case, row):
    body = case.request.body
    if case.raw:
        assert row["raw"] == body
        assert row["payload"]["event"] == json.loads(body.decode("utf-8-sig"))["event"]
    else:
        assert row["raw"] is None
        assert exact(row["payload_text"]) == exact(body)


def check_rejected(case, database):
    rows = database.rejected()
    assert len(rows) == (1 if case.rejected else 0)
    for row in rows:
        for column, value in case.rejected.items():
            assert value == row[column]
        assert row["body"] == case.request.body
        assert row["source"] == case.source
        assert row["remote_addr"] == "127.0.0.1"
        types = dict(case.request.headers)
        assert row["content_type"] in (types.get("Content-Type"),
                                       types.get("Content-Type") or "")


def for_driver(case, name):
    override = dict(case.on.get(name, {}))
    if "skip" in override:
        pytest.skip(override["skip"])
    return type(case)(**{**vars(case), **override})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case, driver_name, driver, site):
    case = for_driver(case, driver_name)
    site.database.empty()
    request = fill(case, site.tokens)
    replies = []
    for _ in range(case.times):
        answer = driver.send(request)
        statuses = case.status if isinstance(case.status, tuple) else (case.status,)
        assert (answer and answer.status) in statuses
        if not case.by_server:
            replies.append(check_reply(answer, request, site.tokens[case.source][0]))
        if case.allow:
            assert answer.header("Allow") == case.allow
    check_events(case, site.database, replies if case.event else None)
    check_rejected(case, site.database)


def test_names_are_unique():
    names = [case.name for case in CASES]
    assert len(names) == len(set(names)) >= 60
