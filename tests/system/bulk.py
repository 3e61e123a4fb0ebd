"""A log of many events, and what it costs to read from it."""
import os
import statistics
import time

import psycopg

EVENTS = int(os.environ.get("SMSHOOK_LOG_EVENTS", "100000"))
PHONES = 200000
BEHIND = 0.98  # the part of the log that the consumers have seen

# Of 50 events 5 come in; 9 messages have 5 events each, ten places apart.  Their
# ids are random, as a gateway's are; a phone has some 25 events in 5 million.
NUMBERS = f"""
create function pg_temp.phone(n bigint) returns text language sql as $$
	select '+4915' || lpad(((hashint8(n) & 1073741823) % {PHONES})::text, 8, '0')
$$"""
FILL = """
insert into sms.event (id, received_at, occurred_at, source, kind, message_id, phone, device_id,
	status, status_code, body, keyword, payload, ingest_id)
select i, at, at, 'bulk', kind, message_id, phone, 'device1', status, status_code, body, keyword,
	jsonb_strip_nulls(jsonb_build_object('event', kind, 'message_id', message_id, 'phone', phone,
		'status', status, 'message', body, 'timestamp', at, 'device_id', 'device1')),
	lpad(to_hex(i), 32, '0')::uuid
from (
	select i, at, 'incoming_sms' as kind, null as message_id, pg_temp.phone(-i) as phone,
		null as status, null::int as status_code,
		case when i %% 50 = 0 then 'VERIFY ' || i
			else 'Hello, I need help with my order ' || i end as body,
		case when i %% 50 = 0 then 'VERIFY' else 'HELLO' end as keyword
	from generate_series(%(first)s::bigint, %(last)s, 10) i, pg_temp.time_of(i) at
	union all
	select i, at, 'delivery_status', md5(m::text), pg_temp.phone(m),
		(array['queued', 'queued', 'sent', 'sent', 'delivered'])[i / 10 %% 5 + 1],
		(array[1, 3, 6, 6, 7])[i / 10 %% 5 + 1], null, null
	from generate_series(%(first)s::bigint, %(last)s) i, pg_temp.time_of(i) at,
		lateral (select i / 50 * 10 + i %% 10) as x(m)
	where i %% 10 <> 0
) e order by i"""
MESSAGES = """
insert into sms.message (source, message_id, status, status_code, phone, device_id, occurred_at,
	received_at, event_id)
select distinct on (message_id) source, message_id, status, status_code, phone, device_id,
	occurred_at, received_at, id
from sms.event where kind = 'delivery_status' order by message_id, id desc"""


def fill(connection, n=EVENTS):
    """n events with the messages that they tell of, by a superuser."""
    with connection.transaction():
        connection.execute(NUMBERS)
        connection.execute(f"""create function pg_temp.time_of(i bigint) returns timestamptz
            language sql as $$ select now() - ({n} - i) * interval '1 second' $$""")
        for first in range(0, n, 500000):
            connection.execute(FILL, {"first": first or 10, "last": min(first + 500000, n) - 1})
        connection.execute(MESSAGES)
        connection.execute("select setval('sms.event_id', (select max(id) from sms.event))")
    connection.execute("vacuum analyze sms.event, sms.message")


class Log:
    """A filled database, with three consumers that have seen most of it."""

    def __init__(self, bench, n=EVENTS):
        with bench.connect() as c:
            fill(c, n)
            self.place = int(n * BEHIND)
            for consumer in ("poll", "claim", "some"):
                c.execute("select sms.seek(%s, %s)", [consumer, self.place])
            c.execute("select from sms.poll('some', 1, '{incoming_sms}')")
            self.phone, self.message_id = c.execute("""select phone, message_id from sms.event
                where id >= %s and message_id is not null order by id limit 1""",
                                                    [n // 3]).fetchone()
            self.sender, = c.execute("""select phone from sms.event where id >= %s
                and keyword = 'VERIFY' order by id limit 1""", [n // 3]).fetchone()

    def queries(self):
        """{what: (SQL, values, pages of 8 kB at most)}.  Some 20 events are on a page;
        those of one phone, or of one kind, are on a page each."""
        return {
            "poll of 100": ("select * from sms.poll('poll', 100)", (), 40),
            "poll of 100 of a kind": (
                "select * from sms.poll('some', 100, '{incoming_sms}')", (), 150),
            "claim of 100": ("select * from sms.claim('claim', 100)", (), 1500),
            "consumer_lag": ("select * from sms.consumer_lag", (), 800),
            "conversation": ("select * from sms.conversation where phone = %s order by at",
                             (self.phone,), 100),
            "state of a message": ("select * from sms.message where message_id = %s",
                                   (self.message_id,), 8),
            "history of a message": (
                """select * from sms.delivery_status where phone = %s and message_id = %s
                order by id""", (self.phone, self.message_id), 100),
            "take_reply": ("""select * from sms.take_reply(%s, 'VERIFY',
                now() - interval '10 years', '10 years')""", (self.sender,), 100),
        }


SCANS = """select coalesce(sum(seq_scan), 0)::int from pg_stat_xact_user_tables
	where relid in ('sms.event'::regclass, 'sms.message'::regclass)"""

PAGES = ("Shared Hit Blocks", "Shared Read Blocks", "Temp Read Blocks", "Temp Written Blocks")


def cost(connection, sql, values=()):
    """(pages, sequential scans of the two large tables, also within functions) of
    a session's later calls, of which nothing stays."""
    with connection.transaction(force_rollback=True):
        for _ in range(2):  # the first one reads catalogs and makes plans
            with connection.transaction(force_rollback=True):
                scans, = connection.execute(SCANS).fetchone()
                plan, = connection.execute(
                    f"explain (analyze, buffers, format json) {sql}", values).fetchone()
                scans = connection.execute(SCANS).fetchone()[0] - scans
    top = plan[0]["Plan"]
    return sum(top[key] for key in PAGES), scans


def median_ms(connection, sql, values=(), times=50):
    """Of calls of which nothing stays, answer and all, which Python leaves unread."""
    text = psycopg.ClientCursor(connection).mogrify(sql, values).encode()
    took = []
    for _ in range(times):
        with connection.transaction(force_rollback=True):
            began = time.perf_counter()
            assert connection.pgconn.exec_(text).status == psycopg.pq.ExecStatus.TUPLES_OK
            took.append(1000 * (time.perf_counter() - began))
    return statistics.median(took)
