"""A further migration of a long log, while the receiver writes and readers read."""
import psycopg
import pytest

import bulk
import ledger as lg
from harness import pause
from process import run, tool, wait_for, write
from readers import (ById, Claiming, Listening, Polling, effects, shop, stored,  # noqa: F401
                     wait_seen)

# As a later release may have it; `smshook migrate` begins in the same way.
MIGRATION = """
set local lock_timeout = '10s';
insert into sms.schema_version (version) select max(version) + 1 from sms.schema_version;
alter table sms.event add column priority int not null default 7;
alter table sms.message add column note text;
alter function sms.unseen(bigint, text[], int) rows 100;
alter function sms.poll(text, int, text[]) rows 100;
alter function sms.take_reply(text, text, timestamptz, interval) rows 1;
create index event_priority on sms.event (priority, id);
create or replace function sms.first_word(body text) returns text
language sql immutable parallel safe as $$ select upper(substring(body from '[^[:space:]]+')) $$;
create or replace view sms.delivery_status as
	select id, received_at, occurred_at, source, message_id, left(phone, 250) as phone,
		device_id, channel, status, status_code, status_text, priority
	from sms.event where kind = 'delivery_status' and duplicate_of is null;
"""


def apply(shop):
    """As an administrator may do it, again when a lock was not to be had."""
    file = write(shop.folder / "999_priority.sql", MIGRATION)
    for _ in range(5):
        done = run([tool("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-1", "-f", file,
                    shop.cluster.conninfo(shop.name)])
        if done.returncode == 0:
            return
        assert b"lock timeout" in done.stderr, done.stderr
        pause(0, 0.5)
    raise AssertionError("the migration never got its lock")


@pytest.mark.long
def test_migration_under_load(shop):
    """Nothing is lost and nobody gets another answer than 200.  A reader's call
    that is under way may fail, once, and the next one does well."""
    with shop.connect() as c:
        bulk.fill(c)
        before = c.execute("select max(id) from sms.event").fetchone()[0]
        for consumer in ("poll", "prepared", "claim"):
            c.execute("select sms.seek(%s, %s)", [consumer, before])
    r = shop.start()
    amid = [psycopg.errors.DatatypeMismatch]
    # of a statement that was prepared before: "cached plan must not change result type"
    before_it = [*amid, psycopg.errors.FeatureNotSupported]

    def wait_more(n=50):
        wanted = sum(shop.ledger.results().values()) + n
        wait_for("more events", lambda: sum(shop.ledger.results().values()) >= wanted)
    with (Polling(shop.reader, "poll", amid) as a, Polling(shop.reader, "poll", amid) as b,
          Claiming(shop.reader, "claim", amid) as d, Claiming(shop.reader, "claim", amid) as e,
          Polling(shop.reader, "prepared", before_it, reconnects=True) as f,
          ById(shop.reader) as by_id, Listening(shop.reader) as listening):
        by_id.wait(before)
        listening.wait(before)
        with shop.load(4, lambda: lg.Fcgi(r.address()), pause=0.02):
            wait_more()
            apply(shop)
            wait_more()
        shop.wait_drained()
        shop.send(lg.Fcgi(r.address()))
        wait_seen(shop, readers=[a, b, d, e, f])
        events = stored(shop)
        by_id.wait(events[-1])
        listening.wait(events[-1])
    for reader, most in ((a, 1), (b, 1), (d, 1), (e, 1), (f, 2), (by_id, 0), (listening, 0)):
        assert len(reader.failures) <= most, reader.failures
        assert reader.sessions == 1 or reader.reconnects
    assert by_id.seen == listening.seen == events
    new = [i for i in events if i > before]
    assert effects(shop, "poll") == effects(shop, "prepared") == new
    assert sorted(effects(shop, "claim")) == new
    assert shop.execute("select distinct priority from sms.event") == [(7,)]
    shop.execute("delete from sms.event where source = 'bulk'")  # not in the ledger
    shop.check_all_kept()
