-- NOTIFY: one an event, after the commit, with nothing in it that not
-- everybody may read.  A second session listens, a third one writes.

select not exists (select from pg_extension where extname = 'dblink') as no_dblink \gset
\if :no_dblink
\echo 1..0 # SKIP dblink is not installed
\quit
\endif

select plan(25);

insert into sms.keyword values
	('VERIFY', 'verify'), ('VERIFY', 'Second "channel"'), ('OTHER', 'other'),
	('TWICE', 'sms_event'), ('ÜBER', repeat('ü', 31));

select dblink_connect('listener', t.conninfo());
select dblink_connect('writer', t.conninfo());
select dblink_exec('listener', 'listen ' || quote_ident(c))
from unnest(array['sms_event', 'verify', 'Second "channel"', 'other',
	repeat('ü', 31), 'end']) c;

create table heard(nr int generated always as identity, channel text, payload text);

-- Stores events in the other session; the answer is their ids.
create function t.post(events jsonb, notify boolean default true) returns bigint[]
language sql as $$
	select d.ids from dblink('writer', format('select t.ids(%L, %L)', events, notify))
		as d(ids bigint[])
$$;

-- What was heard since the last time.  A last notification of our own tells
-- when it is all: notifications come in the order of commits.
create procedure t.hear() language plpgsql as $$
declare
	patience timestamptz := clock_timestamp() + interval '30 s';
begin
	truncate heard;
	perform dblink_exec('writer', 'notify "end"');
	loop
		insert into heard (channel, payload)
		select notify_name, extra from dblink_get_notify('listener');
		exit when exists (select from heard where channel = 'end');
		if clock_timestamp() > patience then
			raise 'no notification came in 30 s';
		end if;
		perform pg_sleep(0.01);
	end loop;
	delete from heard where channel = 'end';
end
$$;
create function t.heard() returns text language sql as $$
	select string_agg(channel || ' ' || payload, E'\n' order by nr) from heard
$$;

-- ------------------------------------------------------------- payloads

select t.post('[{"kind": "delivery_status", "message_id": "abc123",
	"status": "delivered", "phone": "+1234567890"}]') as ids \gset
call t.hear();
select is(t.heard(), format('sms_event {"id":%s,"kind":"delivery_status",'
	'"message_id":"abc123","status":"delivered"}', (:'ids'::bigint[])[1]),
	'a delivery_status');

select t.post('[{"phone": "+1234567890", "body": "Hello"}]') as ids \gset
call t.hear();
select is(t.heard(), format('sms_event {"id":%s,"kind":"incoming_sms"}',
	(:'ids'::bigint[])[1]), 'an incoming_sms');

select t.post('[{"kind": "battery \"low\"\n", "phone": "1", "message_id": "2"}]') as ids \gset
call t.hear();
select is(t.heard(), format('sms_event {"id":%s,"kind":"battery \"low\"\n"}',
	(:'ids'::bigint[])[1]), 'an event of another name');

select t.post('[{"kind": "delivery_status", "message_id": "\"\\\u0001\n ü😀",
	"status": "unknown"}]') as ids \gset
call t.hear();
select is((select payload::jsonb from heard), jsonb_build_object(
	'id', (:'ids'::bigint[])[1], 'kind', 'delivery_status', 'status', 'unknown',
	'message_id', E'"\\\u0001\n ü😀'), 'a message_id of odd characters');

-- ------------------------------------------------------- which, how many

select t.post('[{"body": "1", "digest": "\\x01"}, {"body": "2"},
	{"body": "1", "digest": "\\x01"}, {"http_status": 422, "reason": "no"},
	{"kind": "delivery_status", "message_id": "3", "status": "sent"},
	{"kind": "delivery_status", "message_id": "3", "status": "queued"}]') as ids \gset
call t.hear();
select is((select array_agg((payload::json ->> 'id')::bigint order by nr) from heard),
	array[(:'ids'::bigint[])[1], (:'ids'::bigint[])[2],
		(:'ids'::bigint[])[5], (:'ids'::bigint[])[6]],
	'one an event in order of ids; none for duplicates and rejected bodies');

select t.post('[{"body": "1", "digest": "\\x01"}]') as ids \gset
call t.hear();
select is(t.heard(), null, 'none for a duplicate of an earlier batch');

select t.post('[{"ingest_id": "00000000-0000-7000-8000-000000000001"}]') as ids \gset
select t.post('[{"ingest_id": "00000000-0000-7000-8000-000000000001"}]') as again \gset
call t.hear();
select is((select count(*)::int from heard), 1, 'none for a replay');
select is(:'again'::text, :'ids', '(which was one)');

select t.post('[]') as ids \gset
call t.hear();
select is(t.heard(), null, 'none for an empty batch');

select t.post('[{"body": "verify 1"}, {"kind": "delivery_status",
	"message_id": "4", "status": "sent"}]', false) as ids \gset
call t.hear();
select is(t.heard(), null, 'none with notify false');
select is((select count(*)::int from sms.event where id = any (:'ids'::bigint[])), 2,
	'which stores events all the same');
select t.post('[{"body": "verify 2"}]', null) as ids \gset
call t.hear();
select is(t.heard(), null, 'nor with notify null');

select t.post((select jsonb_agg(jsonb_build_object('body', i))
	from generate_series(1, 300) i)) as ids \gset
call t.hear();
select is((select array_agg((payload::json ->> 'id')::bigint order by nr) from heard),
	:'ids'::bigint[], 'a batch of 300 gives 300');

select dblink_exec('writer', 'begin');
select t.post('[{"body": "rolled back"}]');
select dblink_exec('writer', 'rollback');
call t.hear();
select is(t.heard(), null, 'none for a transaction that was rolled back');

select dblink_exec('writer', 'begin');
select t.post('[{"body": "committed"}]');
select pg_sleep(0.1);
select is((select count(*)::int from dblink_get_notify('listener')), 0,
	'none before the commit');
select dblink_exec('writer', 'commit');
call t.hear();
select is((select count(*)::int from heard), 1, 'and then it comes');

-- ------------------------------------------------------------- keywords

select t.post('[{"body": "Verify: 123456", "phone": "+1234567890"}]') as ids \gset
call t.hear();
select bag_eq('select channel, payload from heard', format($$
	select c, '{"id":%s,"kind":"incoming_sms"}'
	from unnest(array['sms_event', 'verify', 'Second "channel"']) c $$,
	(:'ids'::bigint[])[1]), 'the channels of a keyword are notified too');

select t.post('[{"body": "other", "digest": "\\x0a"},
	{"body": "other", "digest": "\\x0a"}]') as ids \gset
call t.hear();
select is((select count(*)::int from heard where channel = 'other'), 1,
	'but not for a duplicate');

select t.post('[{"kind": "delivery_status", "status": "sent",
	"message_id": "5", "body": "verify"}, {"body": "verified"}, {"body": "to verify"}]') as ids \gset
call t.hear();
select is((select count(*)::int from heard where channel <> 'sms_event'), 0,
	'nor for other kinds and other words');

select t.post('[{"body": "twice"}]') as ids \gset
call t.hear();
select is((select count(*)::int from heard where channel = 'sms_event'), 1,
	'a keyword on sms_event itself does no harm');

select t.post(jsonb_build_array(jsonb_build_object('body', lower('ÜBER')))) as ids \gset
call t.hear();
select is((select count(*)::int from heard where channel = repeat('ü', 31)), 1,
	'a keyword and a channel beyond ASCII');

-- ---------------------------------------------------------------- sizes

-- A payload has less than 8000 bytes, and a control character needs six.
select t.post(jsonb_agg(jsonb_build_object('kind', 'delivery_status',
	'status', 'delivered', 'message_id', repeat(chr(1), n)))) as ids
from unnest(array[1024, 1025, 65536]) n \gset
call t.hear();
select is((select array_agg(coalesce(length(payload::json ->> 'message_id'), 0) order by nr)
		from heard), array[1024, 0, 0],
	'a message_id of more than 1024 bytes is left out');

select t.post(jsonb_agg(jsonb_build_object('kind', repeat(c, 65536)))) as ids
from unnest(array['x', chr(1), '😀']) c \gset
call t.hear();
select is((select array_agg(payload::json ->> 'kind' order by nr) from heard),
	array[repeat('x', 64), repeat(chr(1), 64), repeat('😀', 64)],
	'a long event name is cut');

-- ------------------------------------------------------------ privacy

-- The phone number with and without its punctuation, and every other text.
select t.post(jsonb_agg(jsonb_build_object('kind', kind, 'status', status,
	'message_id', case when kind <> 'incoming_sms' then 'id-' || nr end,
	'phone', '+4917012345', 'body', 'verify SECRET', 'device_id', 'SECRET',
	'device_name', 'SECRET', 'channel', 'SECRET', 'status_text', 'SECRET',
	'media_url', 'SECRET', 'note', 'SECRET', 'source', 'SECRET',
	'raw', '\x534543524554', 'payload', '{"SECRET": "+49 170 12345"}'::json,
	'content_type', 'SECRET', 'remote_addr', 'SECRET', 'reason', 'SECRET'))) as ids
from (values (1, 'incoming_sms', null), (2, 'delivery_status', 'failed'),
	(3, 'new_event', null)) v(nr, kind, status) \gset
call t.hear();
select is((select count(*)::int from heard), 5, 'five notifications');
select is((select count(*)::int from heard
		where payload ~ 'SECRET|170|12345|534543|verify'), 0,
	'with no phone number and no text in them');

select dblink_disconnect('listener');
select dblink_disconnect('writer');
select * from finish();
