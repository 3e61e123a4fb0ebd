-- sms.redact and sms.forget: what tells of a person goes, what counts stays.

-- The notice of sms.forget: it needs a session of its own and rows that are
-- committed.
select t.ids('[{"phone": "+491701234"}, {"phone": "+491701234"}]');
select sms.poll('shop');
\set notice `psql -XqAt -d :'DBNAME' -c "select sms.forget('+491701234')" 2>&1`
select sms.drop_consumer('shop');
\set silence `psql -XqAt -d :'DBNAME' -c "select sms.forget('+491701234')" 2>&1`

begin;
set local client_min_messages = warning; -- of the many that come below
select plan(87);

select matches(:'notice'::text, 'NOTICE:  sms\.forget: 2 events of this number are left',
	'forget: a notice tells of what is left');
select matches(:'notice'::text, 'HINT: .*sms\.consumer_lag', 'and says what to do');
select unalike(:'notice'::text, '%1701234%', 'it does not name the number');
select is(:'silence'::text, '(2,0)', 'no notice when nothing is left');
delete from sms.event;

-- ------------------------------------------------------------- no event yet

select is(sms.redact('0'), 0::bigint, 'redact: an empty log');
select is((select row(f.*)::text from sms.forget('+491') f), '(0,0)', 'forget: an empty log');

-- -------------------------------------------------------------------- redact

-- Every column has something in it; n is in device_id.
create function pg_temp.event(n text, age interval, more jsonb default '{}') returns jsonb
language sql as $$
	select jsonb_build_array(jsonb_build_object('device_id', n, 'received_at', now() - age,
		'occurred_at', '2026-01-15 10:00', 'kind', 'incoming_sms', 'message_id', 'm' || n,
		'phone', '+491701234', 'device_name', 'phone of Bob', 'channel', '1', 'status', 'sent',
		'status_code', 6, 'status_text', 'Sent', 'body', 'VERIFY me', 'media_url', 'http://x',
		'note', 'a note', 'payload', '{"phone": "+491701234"}'::jsonb, 'raw', '\x01') || more)
$$;
-- What an event has, or has lost, of what it was made of.
create function pg_temp.state(n text) returns text language sql as $$
	select case
		when (e.phone, e.body, e.keyword, e.media_url, e.payload, e.raw)
			= ('+491701234', 'VERIFY me', 'VERIFY', 'http://x', '{"phone": "+491701234"}', '\x01')
		then 'as it was'
		when num_nonnulls(e.phone, e.body, e.keyword, e.media_url, e.payload, e.raw) = 0
		then 'empty' else 'half' end
	from sms.event e where e.device_id = n
$$;

select t.ids(pg_temp.event('old', '9 days') || pg_temp.event('new', '1 day')
	|| pg_temp.event('edge', '5 days'));
create temp table before on commit drop as select * from sms.event;
savepoint s;
select is(sms.redact('5 days'), 1::bigint, 'redact: returns how many');
select is(pg_temp.state('old'), 'empty',
	'redact: phone, body, keyword, media_url, payload and raw go');
select is((select to_jsonb(e) - '{phone,body,keyword,media_url,payload,raw}'::text[]
		from sms.event e where device_id = 'old'),
	(select to_jsonb(b) - '{phone,body,keyword,media_url,payload,raw}'::text[]
		from before b where device_id = 'old'), 'redact: all other columns stay');
select is((select to_jsonb(e) from sms.event e where device_id = 'new'),
	(select to_jsonb(b) from before b where device_id = 'new'), 'redact: what is younger stays');
select is(pg_temp.state('edge'), 'as it was', 'redact: exactly that old is not older');
select is(sms.redact('5 days'), 0::bigint, 'redact: nothing the second time');
select is(sms.redact('0'), 2::bigint, 'redact: only what was not before');
select is((select string_agg(pg_temp.state(device_id), ' ') from sms.event), 'empty empty empty',
	'redact: all that is older than now');
rollback to s;
savepoint s2;
select sms.redact('0');
rollback to s2;
select is(pg_temp.state('old'), 'as it was', 'a rollback takes it back');

-- Each of the columns alone is enough to be emptied.
update sms.event set phone = null, body = null, keyword = null, media_url = null,
	payload = null, raw = null where device_id = 'old';
savepoint s3;
select is(sms.redact('5 days'), 0::bigint,
	'redact: an event that has nothing of it is not counted');
create function pg_temp.only(assignment text) returns text language plpgsql as $$
begin
	execute format('update sms.event set %s where device_id = ''old''', assignment);
	return sms.redact('5 days') || ' ' || pg_temp.state('old');
end
$$;
select is(pg_temp.only(x), '1 empty', 'redact: one with nothing but ' || x)
from unnest(array['phone = ''1''', 'body = ''x''', 'body = ''''', 'keyword = ''X''',
	'media_url = ''x''', 'payload = ''{}''', 'raw = ''''']) x;
rollback to s;

-- Younger by its id, older by its reception; duplicates.
select t.ids(pg_temp.event('late', '8 days') || pg_temp.event('first', '6 days', '{"digest": "\\x01"}')
	|| pg_temp.event('again', '6 days', '{"digest": "\\x01"}'));
select is(sms.redact('5 days'), 4::bigint, 'redact: by the time of reception, duplicates too');
select is(pg_temp.state('again'), 'empty', 'a duplicate is empty');
select is((select duplicate_of is not null from sms.event where device_id = 'again'), true,
	'and still a duplicate');
rollback to s;

-- Messages.
select t.ids(
	pg_temp.event('sent', '9 days', '{"kind": "delivery_status"}')
	|| pg_temp.event('delivered', '9 days', '{"kind": "delivery_status", "message_id": "later"}')
	|| pg_temp.event('later', '1 day', '{"kind": "delivery_status", "message_id": "later",
		"status": "delivered"}')
	|| pg_temp.event('other', '1 day', '{"kind": "delivery_status", "message_id": "msent",
		"source": "other"}'));
create temp table messages on commit drop as select * from sms.message;
select is(sms.redact('5 days'), 3::bigint, 'redact: delivery receipts too');
select is((select string_agg(concat_ws(' ', message_id, source, phone), ', '
		order by message_id, source)
	from sms.message), 'later test +491701234, msent other +491701234, msent test',
	'redact: the number of a message goes with the event that decided its status');
select bag_eq('select to_jsonb(m) - ''phone'' from sms.message m',
	'select to_jsonb(m) - ''phone'' from messages m', 'all else of messages stays');
select is((select count(*)::int from sms.conversation where at < '2026-02-01'
		and event_id in (select id from sms.event where received_at < now() - interval '5 days')), 0,
	'nothing of it is in sms.conversation');
rollback to s;

-- A number that comes back: of a message whose status was decided long ago a late
-- receipt tells it again.
select t.ids(pg_temp.event('final', '9 days', '{"kind": "delivery_status", "message_id": "back",
	"status": "delivered"}'));
select sms.redact('5 days');
select is((select phone from sms.message where message_id = 'back'), null, '(it has gone)');
select t.ids(pg_temp.event('late', '1 day', '{"kind": "delivery_status", "message_id": "back",
	"status": "queued"}'));
select is((select phone from sms.message where message_id = 'back'), '+491701234', '(it is back)');
savepoint s4;
select is(sms.redact('5 days'), 0::bigint, 'redact: no event of that age has a number');
select is((select phone from sms.message where message_id = 'back'), null,
	'redact: but the message, which loses it again');
rollback to s4;
select sms.poll('slow');
select sms.redact('5 days');
select is((select phone from sms.message where message_id = 'back'), '+491701234',
	'redact: not while a consumer has still to see what decided it');
rollback to s;

-- Rejected bodies.
select t.ids(jsonb_build_array(
	jsonb_build_object('http_status', 400, 'reason', 'old', 'raw', '\x01',
		'received_at', now() - interval '9 days',
		'content_type', 'text/plain', 'remote_addr', '::1'),
	jsonb_build_object('http_status', 400, 'reason', 'new', 'raw', '\x02',
		'received_at', now() - interval '1 day')));
create temp table rejected on commit drop as select * from sms.rejected;
select is(sms.redact('5 days'), 1::bigint, 'redact: rejected bodies are not counted');
select is((select string_agg(concat_ws(' ', reason, body), ', ' order by reason) from sms.rejected),
	'new \x02, old', 'redact: their bodies go');
select bag_eq('select to_jsonb(r) - ''body'' from sms.rejected r',
	'select to_jsonb(r) - ''body'' from rejected r', 'all else of them stays');
rollback to s;

-- What a consumer has still to see.
select sms.poll('slow', 1, '{call}'), sms.poll('slow2'), sms.ack('slow2', (select id from sms.event
	where device_id = 'old'));
select is(sms.redact('0'), 1::bigint, 'redact: not what a consumer has still to see');
select is((select string_agg(pg_temp.state(device_id), ', ' order by id) from sms.event),
	'empty, as it was, as it was', 'that is as it was');
select sms.seek('slow2', null);
select t.ids(pg_temp.event('claimed', '9 days') || pg_temp.event('dead', '9 days'));
select sms.seek('slow2', null), sms.seek('work', (
	select min(id) from sms.event where device_id = 'edge'));
select count(*) from sms.claim('work', max_attempts => 1);
select sms.fail('work', (select id from sms.event where device_id = 'dead'), 'x');
select is(sms.redact('0'), 2::bigint, 'redact: not what is claimed, or a dead letter');
select is((select string_agg(device_id, ' ' order by id) from sms.event where phone is not null),
	'claimed dead', 'these are as they were');
select sms.done('work', (select array_agg(id) from sms.event));
select is(sms.redact('0'), 2::bigint, 'redact: when they are done, they are emptied');
select is((select count(*)::int from sms.poll('slow2')), 0, 'nobody has missed one');
rollback to s;

-- -------------------------------------------------------------------- forget

delete from sms.event;
select t.ids(
	pg_temp.event('one', '9 days') || pg_temp.event('two', '1 s')
	|| pg_temp.event('call', '1 s', '{"kind": "call"}')
	|| pg_temp.event('again', '1 s', '{"digest": "\\x02"}')
	|| pg_temp.event('again', '1 s', '{"digest": "\\x02"}')
	|| pg_temp.event('longer', '1 s', '{"phone": "+4917012345"}')
	|| pg_temp.event('other', '1 s', '{"phone": "+492", "body": "+491701234"}')
	|| pg_temp.event('name', '1 s', '{"phone": "Bob"}'));
truncate before;
insert into before select * from sms.event;
savepoint f;
select is((select row(f.*)::text from sms.forget('+491701234') f), '(5,0)',
	'forget: returns how many');
select is((select string_agg(distinct pg_temp.state(device_id), ', ') from sms.event
		where device_id in ('one', 'two', 'call')), 'empty',
	'forget: all events of the number, of any age and kind');
select is((select count(*)::int from sms.event where device_id = 'again' and payload is null), 2,
	'forget: duplicates too');
select is((select array_agg(to_jsonb(e) - '{phone,body,keyword,media_url,payload,raw}'::text[]
		order by id)
		from sms.event e),
	(select array_agg(to_jsonb(b) - '{phone,body,keyword,media_url,payload,raw}'::text[] order by id)
		from before b), 'forget: the columns that sms.redact leaves stay');
select is((select array_agg(to_jsonb(e) order by id) from sms.event e
		where device_id in ('longer', 'other', 'name')),
	(select array_agg(to_jsonb(b) order by id) from before b
		where device_id in ('longer', 'other', 'name')), 'forget: other numbers stay');
select is((select count(*)::int from sms.recent_body where digest = t.digest('\x02')), 0,
	'forget: nor is a digest left of them');
select is((select row(f.*)::text from sms.forget('+491701234') f), '(0,0)',
	'forget: nothing the second time');
rollback to f;
select is((select forgotten from sms.forget('00491701234')), 5::bigint, 'forget: with 00 for +');
rollback to f;
select is((select forgotten from sms.forget('+49 (170) 12-34')), 5::bigint,
	'forget: with punctuation');
rollback to f;
select is((select forgotten from sms.forget('491701234')), 0::bigint,
	'forget: it is that number or it is not');
select is((select forgotten from sms.forget('Bob')), 1::bigint, 'forget: a name');
select is((select forgotten from sms.forget('bob')), 0::bigint, 'forget: by its letters');
rollback to f;
select t.ids(pg_temp.event('l1', '1 s', jsonb_build_object('phone', repeat('9', 250) || '1'))
	|| pg_temp.event('l2', '1 s', jsonb_build_object('phone', repeat('9', 250) || '2')));
select is((select forgotten from sms.forget(repeat('9', 250) || '1')), 1::bigint,
	'forget: numbers are told apart behind 250 characters');
rollback to f;

-- A body that was forgotten may come again, and is new.
select sms.forget('+491701234');
select t.ids(pg_temp.event('afresh', '1 s', '{"digest": "\\x02"}'));
select is((select duplicate_of from sms.event where device_id = 'afresh'), null,
	'forget: the same bytes later are no duplicate');
rollback to f;

-- Messages.
select t.ids(pg_temp.event('1', '9 days', '{"kind": "delivery_status"}')
	|| pg_temp.event('2', '9 days', '{"kind": "delivery_status", "phone": "+492"}'));
create temp table messages2 on commit drop as select * from sms.message;
select sms.forget('+491701234');
select is((select string_agg(concat_ws(' ', message_id, phone), ', ' order by message_id)
	from sms.message),
	'm1, m2 +492', 'forget: the number of its messages goes');
select bag_eq('select to_jsonb(m) - ''phone'' from sms.message m',
	'select to_jsonb(m) - ''phone'' from messages2 m', 'all else of messages stays');
select is((select count(*)::int from sms.conversation where phone = '+491701234'), 0,
	'forget: no conversation is left');
rollback to f;

-- Rejected bodies, which nobody has decoded.
create function pg_temp.rejected(said text) returns text language plpgsql as $$
declare
	is_left boolean;
begin
	perform t.ids(jsonb_build_array(jsonb_build_object('http_status', 400, 'reason', 'x',
		'raw', '\x' || encode(convert_to(said, 'UTF8'), 'hex'))));
	perform sms.forget('+491701234');
	is_left := (select bool_or(body is not null) from sms.rejected);
	delete from sms.rejected;
	return case when is_left then 'left' else 'empty' end;
end
$$;
select is(pg_temp.rejected(x.said), x.want,
	format('forget: a rejected body with %s is %s', x.said, x.want))
from (values
	('{"phone":"+491701234"', 'empty'), ('+491701234', 'empty'), ('{"a": 491701234}', 'empty'),
	('00491701234', 'empty'), ('call +49 (170) 12-34 now', 'empty'), ('49.170.1234', 'empty'),
	('grüße, +49 170-1234 ü', 'empty'), ('+491701235', 'left'), ('49170', 'left'), ('', 'left')
) x(said, want);
rollback to f;
select t.ids('[{"http_status": 400, "reason": "bytes", "raw": "\\x00ff2b343931373031323334fe"},
	{"http_status": 400, "reason": "none"},
	{"http_status": 400, "reason": "other", "raw": "\\x00ff"}]');
create temp table rejected2 on commit drop as select * from sms.rejected;
select is((select row(f.*)::text from sms.forget('+491701234') f), '(5,0)',
	'forget: rejected bodies are not counted');
select is((select string_agg(concat_ws(' ', reason, body), ', ' order by reason) from sms.rejected),
	'bytes, none, other \x00ff', 'forget: of bytes that are no text too');
select bag_eq('select to_jsonb(r) - ''body'' from sms.rejected r',
	'select to_jsonb(r) - ''body'' from rejected2 r', 'all else of them stays');
rollback to f;
select t.ids('[{"http_status": 400, "reason": "x", "raw": "\\x312d31"}]');
select is((select row(f.*)::text from sms.forget('11') f), '(0,0)', 'forget: a short number');
select is((select body from sms.rejected), '\x312d31',
	'is not put together from digits that are apart');
rollback to f;

-- What a consumer has still to see.
select sms.poll('slow'), sms.ack('slow', (select id from sms.event where device_id = 'one'));
select is((select row(f.*)::text from sms.forget('+491701234') f), '(2,3)',
	'forget: waiting is what a consumer has still to see; it sees no duplicates');
select is(pg_temp.state('two'), 'as it was', 'which is as it was');
select is((select row(f.*)::text from sms.forget('+491701234') f), '(0,3)',
	'forget: it still waits');
select sms.seek('slow', null);
select is((select row(f.*)::text from sms.forget('+491701234') f), '(3,0)',
	'forget: and then goes');
rollback to f;
select count(*) from sms.claim('work', 1);
select sms.seek('work', null);
select is((select row(f.*)::text from sms.forget('+491701234') f), '(4,1)',
	'forget: what is claimed waits too');
select is(pg_temp.state('one'), 'as it was', 'that is the one');
rollback to f;

-- ---------------------------------------------------------- wrong arguments

select matches(t.error(x.call), x.want, 'refused: ' || x.call)
from (values
	($$ select sms.redact(null) $$, '^22023 sms\.redact: older_than is null \| .*''90 days'''),
	($$ select sms.redact('-1 s') $$,
		'^22023 sms\.redact: older_than is -00:00:01 \| .*''90 days'''),
	($$ select sms.forget(null) $$, '^22023 sms\.forget: no phone number \| Give it'),
	($$ select sms.forget('') $$, '^22023 sms\.forget: no phone number \| Give it'),
	($$ select sms.forget(' (-) ') $$, '^22023 sms\.forget: no phone number \| Give it')
) x(call, want);

select * from finish();
rollback;
