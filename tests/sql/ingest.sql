-- sms.ingest: what it stores, and what it answers.

begin;
select plan(43);
set local timezone = 'Asia/Kolkata'; -- the session's zone must not matter

-- ------------------------------------------------------------- columns

create temp table r on commit drop as
select * from sms.ingest(
	array['00000000-0000-7000-8000-000000000001']::uuid[],
	array['2026-01-15 10:30:01.000001+00']::timestamptz[],
	array['phone1'], array['delivery_status'], array['abc123'],
	array['+1234567890'], array['device_xyz'], array['Pixel'], array['2'],
	array['failed'], array[8], array['Error 8'], array['text'],
	array['https://example.org/a.jpg'],
	array['2026-01-15 10:30:00.123456+00']::timestamptz[], array[null]::text[],
	array['a note'], array['{"a": [1, null, "ü"]}']::jsonb[],
	array['\x00ff']::bytea[], array[t.digest('\x0102')],
	array[null]::int[], array[null]::text[], array[null]::text[],
	array[null]::text[], false);

select is((select row(n, duplicate_of)::text from r), '(1,)',
	'the answer to one event: n and no duplicate_of');
select is((select to_jsonb(e) - 'id' - 'received_at' - 'occurred_at' - 'keyword'
		from sms.event e join r using (id)),
	'{"source": "phone1", "kind": "delivery_status", "message_id": "abc123",
	"phone": "+1234567890", "device_id": "device_xyz", "device_name": "Pixel",
	"channel": "2", "status": "failed", "status_code": 8,
	"status_text": "Error 8", "body": "text",
	"media_url": "https://example.org/a.jpg", "note": "a note",
	"payload": {"a": [1, null, "ü"]}, "raw": "\\x00ff",
	"ingest_id": "00000000-0000-7000-8000-000000000001",
	"duplicate_of": null}'::jsonb, 'every column arrives');
select is((select received_at from sms.event join r using (id)),
	'2026-01-15 10:30:01.000001+00', 'received_at arrives');
select is((select occurred_at from sms.event join r using (id)),
	'2026-01-15 10:30:00.123456+00', 'occurred_at without a zone is UTC');
select is((select keyword from sms.event join r using (id)), null,
	'a delivery_status has no keyword');
select is((select to_jsonb(m) - 'occurred_at' - 'received_at' - 'event_id'
		from sms.message m),
	'{"source": "phone1", "message_id": "abc123", "status": "failed",
	"status_code": 8, "status_text": "Error 8", "phone": "+1234567890",
	"device_id": "device_xyz"}'::jsonb, 'every column of sms.message arrives');
select is((select row(m.occurred_at, m.received_at, m.event_id)::text
		from sms.message m),
	(select row(e.occurred_at, e.received_at, e.id)::text
		from sms.event e join r using (id)),
	'times and event of sms.message are those of the event');

-- The least that an event can be.
truncate r;
insert into r select * from t.ingest(
	'[{"kind": "new_event", "received_at": "2026-01-15T10:30:00Z",
	"ingest_id": "00000000-0000-7000-8000-000000000002"}]');
select is((select jsonb_strip_nulls(to_jsonb(e) - 'id' - 'received_at')
		from sms.event e join r using (id)),
	'{"source": "test", "kind": "new_event",
	"ingest_id": "00000000-0000-7000-8000-000000000002"}'::jsonb,
	'what is absent stays null');

truncate r;
insert into r select * from t.ingest('[{"body": "", "phone": "Vodafone",
	"payload": null, "source": "ä ö", "device_name": "日本 \ud83d\ude00",
	"message_id": "\ufffd\u202e\u0001\""}]');
select is((select row(body, phone, source, device_name, message_id)::text
		from sms.event join r using (id)),
	row('', 'Vodafone', 'ä ö', '日本 😀',
		U&'\FFFD' || U&'\202E' || chr(1) || '"')::text,
	'text arrives as it was, an empty one too');

select is((select count(*)::int from sms.ingest(
	'{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}',
	'{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}',
	true)), 0, 'empty arrays: no rows and no error');
create function pg_temp.trial_without(missing text) returns text language plpgsql as $$
begin
	execute format('alter table sms.%I rename to elsewhere', missing);
	perform sms.ingest('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}',
		'{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', true);
	return 'none';
exception when others then -- and it has its name again
	return sqlerrm;
end
$$;
select is(pg_temp.trial_without(missing), format('relation "sms.%s" does not exist', missing),
	'they are a trial: an error without ' || missing)
from unnest('{event,message,rejected,recent_body}'::text[]) missing;

select throws_ok($$ select t.ingest('[{}, {"kind": "delivery_status", "message_id": "s",
	"status": "Delivered"}]') $$, '23514', null, 'a status is a word of the vocabulary');

-- ------------------------------------------------------- ids, replays

-- Larger than the largest batch, with source and digest in no order, so that
-- no plan draws ids in array order by chance alone.
create temp table big on commit drop as
select i, gen_random_uuid() as ingest_id, md5(i::text) as body
from generate_series(1, 600) i;
create temp table big_events on commit drop as
select jsonb_agg(jsonb_build_object('ingest_id', ingest_id, 'body', body,
	'source', left(body, 1), 'digest', '\x' || body) order by i) as events
from big;
create temp table r1 on commit drop as
select i.* from big_events, t.ingest(events) i;

select is((select array_agg(n) from r1),
	(select array_agg(i::bigint) from generate_series(1, 600) i),
	'n counts from 1 in order of the array');
select is((select array_agg(id order by n) from r1),
	(select array_agg(id order by id) from r1),
	'ids count up in order of the array');
select is((select count(distinct id)::int from r1), 600, 'ids are different');
select is((select array_agg(e.body order by e.id) from sms.event e join r1 using (id)),
	(select array_agg(body order by i) from big),
	'ids belong to the events that they were answered for');
select cmp_ok((select min(id) from r1), '>', (select max(id) from r),
	'ids of a later call are larger');

-- Every third one again, between new ones.
create temp table r2 on commit drop as
select i.* from (
	select jsonb_agg(jsonb_build_object('ingest_id', case when i % 3 = 0
			then ingest_id else gen_random_uuid() end,
		'body', 'again ' || i) order by i) as events from big) a, t.ingest(events) i;
select is((select array_agg(id order by n) from r2 where n % 3 = 0),
	(select array_agg(id order by n) from r1 where n % 3 = 0),
	'a replay gives the old ids');
select is((select array_agg(id order by n) from r2 where n % 3 <> 0),
	(select array_agg(id order by id) from r2 where n % 3 <> 0),
	'new ones between replays have ids in order');
select is((select min(id) from r2 where n % 3 <> 0) > (select max(id) from r1), true,
	'and larger ones than before');
select is((select array_agg(e.body order by n) from sms.event e join r2 using (id)
		where n % 3 = 0 and e.body <> (select body from big where i = n)), null,
	'a replay changes nothing of the event');
select is((select count(*)::int from sms.event where ingest_id in (select ingest_id from big)),
	600, 'a replay gives no second row');
select is((select count(*)::int from sms.event e join r2 using (id)), 600,
	'all others of its batch are stored');

-- A whole batch again: a COMMIT answer was lost.
create temp table r3 on commit drop as
select i.* from big_events, t.ingest(events) i;
select bag_eq('table r3', 'table r1', 'a batch again gives the same answer');

-- ------------------------------------------------------------ rejected

create temp table bad on commit drop as
select * from t.ingest('[
	{"http_status": 422, "reason": "no phone", "content_type": "text/plain",
	"remote_addr": "192.0.2.1", "source": "phone1", "raw": "\\x7b00ff7d",
	"received_at": "2026-01-15T10:30:00Z", "digest": "\\xaa",
	"ingest_id": "00000000-0000-7000-8000-00000000000a"}]', true);
select is((select row(n, id, duplicate_of)::text from bad), '(1,,)',
	'a rejected body is answered with a null id');
select is((select to_jsonb(x) - 'id' - 'received_at' from sms.rejected x),
	'{"source": "phone1", "remote_addr": "192.0.2.1", "http_status": 422,
	"reason": "no phone", "content_type": "text/plain", "body": "\\x7b00ff7d",
	"ingest_id": "00000000-0000-7000-8000-00000000000a"}'::jsonb,
	'every column of sms.rejected arrives');
select is((select received_at from sms.rejected), '2026-01-15 10:30:00+00',
	'its received_at too');
select is((select count(*)::int from sms.event
		where ingest_id = '00000000-0000-7000-8000-00000000000a'), 0,
	'a rejected body is no event');
select is((select count(*)::int from sms.recent_body where digest = t.digest('\xaa', 'phone1')), 0,
	'a rejected body is not remembered for duplicates');

select is((select id from t.ingest('[{"http_status": 400, "reason": "other",
	"ingest_id": "00000000-0000-7000-8000-00000000000a"}]')), null,
	'a replay of a rejected body: null id');
select is((select array_agg(reason) from sms.rejected), array['no phone'],
	'no second row and no change by it');

create temp table mixed on commit drop as
select * from t.ingest('[
	{"body": "m1"},
	{"http_status": 400, "reason": "not JSON", "raw": "\\x01"},
	{"body": "m3"},
	{"http_status": 415, "reason": "form", "raw": "\\x02"},
	{"http_status": 422, "reason": "array", "raw": "\\x02"},
	{"body": "m6"}]');
select is((select array_agg(n::text || (id is null)::text order by n) from mixed),
	'{1false,2true,3false,4true,5true,6false}',
	'mixed batch: ids for the events, nulls for the rejected');
select is((select array_agg(e.body order by m.n) from mixed m join sms.event e using (id)),
	'{m1,m3,m6}', 'mixed batch: the ids are of the right events');
select is((select array_agg(reason order by id) from sms.rejected),
	array['no phone', 'not JSON', 'form', 'array'],
	'mixed batch: the rejected are in sms.rejected');
select is((select max(id) - min(id) from mixed), 2::bigint,
	'rejected bodies draw no id');

-- --------------------------------------------------------------- sizes

-- 64 KiB that do not compress: an index would refuse them.
create function pg_temp.noise() returns text language sql volatile as
	$$ select string_agg(md5(random()::text), '') from generate_series(1, 2048) $$;
create temp table long on commit drop as
select jsonb_build_object('kind', 'delivery_status', 'status', 'sent',
	'message_id', pg_temp.noise(), 'phone', pg_temp.noise(),
	'body', pg_temp.noise(), 'device_id', pg_temp.noise(),
	'device_name', pg_temp.noise(), 'channel', pg_temp.noise(),
	'status_text', pg_temp.noise(), 'media_url', pg_temp.noise(),
	'note', pg_temp.noise(), 'raw', '\x' || pg_temp.noise(),
	'payload', jsonb_build_object('a', pg_temp.noise())) as event;
create temp table l on commit drop as
select i.* from long, t.ingest(jsonb_build_array(event), true) i;
select is((select to_jsonb(e) @> event from sms.event e join l using (id), long),
	true, 'values of 64 KiB are stored');
select is((select count(*)::int from sms.message m, long
		where m.message_id = event ->> 'message_id'), 0,
	'a message_id of 64 KiB has no place in sms.message');

create temp table long_id on commit drop as
select string_agg(chr(33 + (random() * 90)::int), '') as message_id
from generate_series(1, 1024);
select t.ids(jsonb_agg(jsonb_build_object('kind', 'delivery_status',
	'status', 'sent', 'message_id', message_id || x))) from long_id, (values (''), ('x')) v(x);
select is((select array_agg(length(m.message_id)) from sms.message m, long_id l
		where m.message_id like 'x%' or starts_with(m.message_id, l.message_id)),
	array[1024], 'one of 1024 bytes has, one of 1025 has not');

-- -------------------------------------------------- a bad element, the rest

create temp table before on commit drop as
select (select count(*) from sms.event) as events,
	(select count(*) from sms.rejected) as rejected;
select throws_ok($$ select t.ids('[{"body": "good"},
	{"http_status": 400, "reason": "good"},
	{"kind": "delivery_status", "message_id": "1", "status": "lost"}]') $$,
	'23514', null, 'a status outside the vocabulary is refused');
select is((select row(count(*), (select count(*) from sms.rejected))::text
		from sms.event), (select row(events, rejected)::text from before),
	'and nothing of its batch is kept: the caller sends the others again');

select * from finish();
rollback;
