"""Reading from a long log costs what is read, not what there is: in pages, by
EXPLAIN; `make bench` tells the times."""
import psycopg
import pytest

import bulk
from harness import Bench
from readers import prepare

WHAT = ("poll of 100", "poll of 100 of a kind", "claim of 100", "consumer_lag", "conversation",
        "state of a message", "history of a message", "take_reply")


@pytest.fixture(scope="module")
def log(programs, top, postgres, template):
    bench = prepare(Bench(programs, top, postgres, postgres.create(f"template {template}")))
    bench.queries = bulk.Log(bench).queries()
    assert set(bench.queries) == set(WHAT)
    return bench


@pytest.mark.parametrize("what", WHAT)
def test_pages(log, what):
    sql, values, most = log.queries[what]
    with psycopg.connect(log.reader) as c:
        rows = len(c.execute(sql, values).fetchall())
        c.rollback()
        pages, scans = bulk.cost(c, sql, values)
    assert rows == 100 if "100" in what else rows > 0
    assert pages <= most
    assert scans == 0


@pytest.mark.parametrize("index, what", [("event_phone", "conversation"),
                                         ("event_phone", "take_reply"),
                                         ("message_pkey", "state of a message")])
def test_pages_without_an_index(log, index, what):
    """The proof that the test above can fail."""
    sql, values, most = log.queries[what]
    with log.connect() as c, c.transaction(force_rollback=True):
        if index.endswith("_pkey"):
            c.execute(f"alter table sms.message drop constraint {index}")
        else:
            c.execute(f"drop index sms.{index}")
        pages, scans = bulk.cost(c, sql, values)
    assert pages > most
    assert scans > 0 or what == "take_reply"  # in whose plan there is another index
