-- The views, and the columns that the contract promises.

begin;
select plan(26);

create function pg_temp.columns(name regclass) returns text language sql as $$
	select string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', '
		order by attnum)
	from pg_attribute
	where attrelid = name and attnum > 0 and not attisdropped
$$;
select is(pg_temp.columns(x.name::regclass), x.want, 'columns of ' || x.name)
from (values
	('sms.event', 'id bigint, received_at timestamp with time zone, '
		'occurred_at timestamp with time zone, source text, kind text, '
		'message_id text, phone text, device_id text, device_name text, '
		'channel text, status text, status_code integer, status_text text, '
		'body text, keyword text, media_url text, note text, payload jsonb, '
		'raw bytea, ingest_id uuid, duplicate_of bigint'),
	('sms.message', 'source text, message_id text, status text, '
		'status_code integer, status_text text, phone text, device_id text, '
		'occurred_at timestamp with time zone, '
		'received_at timestamp with time zone, event_id bigint'),
	('sms.rejected', 'id bigint, received_at timestamp with time zone, '
		'source text, remote_addr text, http_status integer, reason text, '
		'content_type text, body bytea, ingest_id uuid'),
	('sms.keyword', 'keyword text, channel text'),
	('sms.delivery_status', 'id bigint, received_at timestamp with time zone, '
		'occurred_at timestamp with time zone, source text, message_id text, '
		'phone text, device_id text, channel text, status text, '
		'status_code integer, status_text text'),
	('sms.incoming_sms', 'id bigint, received_at timestamp with time zone, '
		'occurred_at timestamp with time zone, source text, message_id text, '
		'phone text, device_id text, device_name text, channel text, body text, '
		'keyword text, media_url text'),
	('sms.conversation', 'phone text, at timestamp with time zone, '
		'direction text, body text, media_url text, status text, source text, '
		'message_id text, event_id bigint'),
	('sms.consumer', 'name text, last_id bigint, kinds text[], max_attempts integer, '
		'created_at timestamp with time zone, moved_at timestamp with time zone'),
	('sms.lease', 'event_id bigint, consumer text, attempts integer, '
		'due_at timestamp with time zone, reason text'),
	('sms.dead_letter', 'event_id bigint, consumer text, attempts integer, '
		'reason text, died_at timestamp with time zone'),
	('sms.reply_taken', 'event_id bigint, taken_at timestamp with time zone')
) x(name, want);

select is((select array_agg(relname::text order by relname) from pg_class
		where relnamespace = 'sms'::regnamespace and relkind in ('v', 'm')),
	'{consumer_lag,conversation,delivery_status,incoming_sms}', 'these are all views');
select is((select array_agg(version order by version) from sms.schema_version),
	(select array_agg(i) from generate_series(1,
		(select max(version) from sms.schema_version)) i),
	'sms.schema_version has every migration');

-- ---------------------------------------------------------------- rows

select is((select count(*)::int from sms.incoming_sms), 0, 'incoming_sms: empty at first');
select is((select count(*)::int from sms.delivery_status), 0, 'so is delivery_status');
select is((select count(*)::int from sms.conversation), 0, 'and conversation');

create temp table at on commit drop as
select timestamptz '2026-01-15 12:00Z' as received_at;
create temp table e on commit drop as
select i.* from at, t.ingest(jsonb_build_array(
	jsonb_build_object('phone', '+1', 'body', 'Hello', 'message_id', 'in1',
		'occurred_at', '2026-01-15 10:00', 'received_at', received_at,
		'digest', '\x01', 'device_id', 'd', 'device_name', 'n', 'channel', '1',
		'media_url', 'u'),
	jsonb_build_object('phone', '+1', 'body', 'Hello', 'digest', '\x01',
		'occurred_at', '2026-01-15 10:00', 'received_at', received_at),
	jsonb_build_object('kind', 'delivery_status', 'phone', '+1',
		'message_id', 'out1', 'status', 'sent', 'status_code', 6,
		'status_text', 'Sent', 'occurred_at', '2026-01-15 11:00',
		'received_at', received_at, 'digest', '\x02', 'device_id', 'd',
		'channel', '1'),
	jsonb_build_object('kind', 'delivery_status', 'phone', '+1',
		'message_id', 'out1', 'status', 'delivered',
		'occurred_at', '2026-01-15 11:01', 'received_at', received_at),
	jsonb_build_object('kind', 'delivery_status', 'phone', '+1',
		'message_id', 'out1', 'status', 'sent', 'digest', '\x02',
		'occurred_at', '2026-01-15 11:00', 'received_at', received_at),
	jsonb_build_object('kind', 'delivery_status', 'message_id', 'out2',
		'status', 'sent', 'received_at', received_at),
	jsonb_build_object('phone', '+2', 'body', 'Hi', 'received_at', received_at),
	jsonb_build_object('kind', 'call', 'phone', '+1', 'body', 'ring',
		'received_at', received_at))) i;

select is((select array_agg(n order by n) from e join sms.incoming_sms using (id)),
	'{1,7}', 'incoming_sms: messages, without duplicates and other kinds');
select is((select array_agg(n order by n) from e join sms.delivery_status using (id)),
	'{3,4,6}', 'delivery_status: receipts, without duplicates and other kinds');
select is((select to_jsonb(v) from sms.incoming_sms v join e using (id) where n = 1),
	(select (select jsonb_object_agg(key, value) from jsonb_each(to_jsonb(x))
			where key in ('id', 'received_at', 'occurred_at', 'source',
			'message_id', 'phone', 'device_id', 'device_name', 'channel',
			'body', 'keyword', 'media_url'))
		from sms.event x join e using (id) where n = 1),
	'incoming_sms: values are those of the event');
select is((select to_jsonb(v) from sms.delivery_status v join e using (id) where n = 3),
	(select (select jsonb_object_agg(key, value) from jsonb_each(to_jsonb(x))
			where key in ('id', 'received_at', 'occurred_at', 'source',
			'message_id', 'phone', 'device_id', 'channel', 'status',
			'status_code', 'status_text'))
		from sms.event x join e using (id) where n = 3),
	'delivery_status: values are those of the event');

select is((select string_agg(concat_ws(' ', direction, body, status, message_id), ', '
		order by at) from sms.conversation where phone = '+1'),
	'in Hello in1, out delivered out1',
	'conversation: both directions of a number, each message once');
select is((select array_agg(at at time zone 'UTC' order by at)
		from sms.conversation where phone = '+1'),
	'{"2026-01-15 10:00", "2026-01-15 11:01"}',
	'conversation: at is when it happened');
select is((select at from sms.conversation where phone = '+2'),
	(select received_at from at), 'or was received, where that is not known');
select is((select array_agg(n order by n) from sms.conversation c join e on e.id = c.event_id),
	'{1,4,7}', 'conversation: event_id leads to the event');
select is((select media_url from sms.conversation where message_id = 'in1'), 'u',
	'conversation: pictures too');
select is((select count(*)::int from sms.conversation
		where phone is null or message_id = 'out2'), 0,
	'conversation: nothing without a number');

select * from finish();
rollback;
