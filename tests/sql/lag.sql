-- sms.consumer_lag: how far each consumer is behind.

begin;
select plan(35);

select is((select string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', '
		order by attnum) from pg_attribute
		where attrelid = 'sms.consumer_lag'::regclass and attnum > 0),
	'consumer text, last_id bigint, newest_id bigint, lag bigint, '
	'oldest_at timestamp with time zone, waiting interval, leased bigint, dead bigint, '
	'next_due_at timestamp with time zone, kinds text[], moved_at timestamp with time zone',
	'its columns');

-- ---------------------------------------------------------- nothing there yet

select is((select count(*)::int from sms.consumer_lag), 0, 'no consumer, no row');
select sms.poll('empty');
select is((select to_jsonb(l) from sms.consumer_lag l), '{"consumer": "empty", "last_id": 0,
	"newest_id": 0, "lag": 0, "oldest_at": null, "waiting": null, "leased": 0, "dead": 0,
	"next_due_at": null, "kinds": null, "moved_at": null}', 'a consumer of an empty log');
select sms.drop_consumer('empty');
select is((select count(*)::int from sms.consumer_lag), 0, 'dropped, its row is gone');

-- ------------------------------------------------------------------ the count

create temp table e on commit drop as
select i.id, i.n from t.ingest('[
	{"received_at": "2026-01-15T10:00:00Z", "digest": "\\x01"},
	{"received_at": "2026-01-15T09:00:00Z", "kind": "delivery_status",
		"message_id": "m", "status": "sent"},
	{"received_at": "2026-01-15T11:00:00Z", "digest": "\\x01"},
	{"received_at": "2026-01-15T12:00:00Z"},
	{"received_at": "2026-01-15T13:00:00Z", "kind": "call"},
	{"received_at": "2026-01-15T14:00:00Z"}]') i;
create function pg_temp.id(n int) returns bigint language sql as
	'select id from e where e.n = $1';
-- lag and the UTC hour of oldest_at
create function pg_temp.lag(consumer text) returns text language sql as $$
	select concat_ws(' ', lag, to_char(oldest_at at time zone 'UTC', 'HH24'))
	from sms.consumer_lag l where l.consumer = $1
$$;

select sms.poll('all'), sms.poll('kinds', 1, '{incoming_sms,call}'),
	sms.poll('none', 1, '{nonsense}'), sms.seek('end', null);
select is(pg_temp.lag('all'), '5 10', 'lag: all but duplicates; the oldest is the first by id');
select is(pg_temp.lag('kinds'), '4 10', 'lag: of the kinds that were asked for');
select is((select kinds from sms.consumer_lag where consumer = 'kinds'), '{incoming_sms,call}',
	'which are shown');
select is(pg_temp.lag('none'), '0', 'lag: 0 for a kind that never comes');
select is(pg_temp.lag('end'), '0', 'lag: 0 at the end');
select is((select kinds from sms.consumer_lag where consumer = 'end'), '{}',
	'kinds: empty, while it has asked for none');
select is((select waiting from sms.consumer_lag where consumer = 'end'), null, 'and none waits');
select is((select array_agg(distinct newest_id) from sms.consumer_lag), array[pg_temp.id(6)],
	'newest_id: the same for all');
select is((select waiting from sms.consumer_lag where consumer = 'all'),
	now() - timestamptz '2026-01-15 10:00Z', 'waiting: since oldest_at');
select is((select moved_at from sms.consumer_lag where consumer = 'all'), null,
	'moved_at: not yet');

select sms.ack('all', pg_temp.id(1));
select is(pg_temp.lag('all'), '4 09', 'after an ack it is less, and the oldest another');
select is((select last_id from sms.consumer_lag where consumer = 'all'), pg_temp.id(1),
	'last_id: the place');
select is((select moved_at between now() and clock_timestamp() from sms.consumer_lag
		where consumer = 'all'), true, 'moved_at: the time of the ack');
select sms.ack('all', pg_temp.id(2));
select is(pg_temp.lag('all'), '3 12', 'a duplicate is never the oldest');
select sms.ack('all', pg_temp.id(6));
select is(pg_temp.lag('all'), '0', 'nothing is left');
select sms.seek('all', 0);
select is(pg_temp.lag('all'), '5 10', 'after a seek back it is what it was');
select sms.seek('kinds', 0);
select is(pg_temp.lag('kinds'), '5 10', 'lag: of all kinds, while it may ask for any');
select sms.poll('kinds', 1, '{call}');
select is(pg_temp.lag('kinds'), '1 13', 'lag: of what it then asks for');
select t.ids('[{}]');
select is(pg_temp.lag('end'), to_char(now() at time zone 'UTC', '"1 "HH24'), 'a new event counts');
select is((select array_agg(consumer order by consumer) from sms.consumer_lag),
	'{all,end,kinds,none}', 'a row a consumer');

-- ---------------------------------------------------------- leases, dead ones

select is((select string_agg(distinct concat_ws(' ', leased, dead, next_due_at), ',')
	from sms.consumer_lag), '0 0', 'nobody has claimed');
select count(*) from sms.claim('work', 3, '1 hour');
select count(*) from sms.claim('work', 2, '2 hours', max_attempts => 1);
select is((select row(lag, leased, dead, next_due_at = (select min(due_at) from sms.lease))::text
		from sms.consumer_lag where consumer = 'work'), '(1,5,0,t)',
	'leased: what is claimed, which is seen; next_due_at: the first lease to end');
select sms.fail('work', pg_temp.id(6), 'x');
select is((select row(lag, leased, dead)::text from sms.consumer_lag where consumer = 'work'),
	'(1,4,1)', 'dead: dead letters, which are not leased');
select sms.fail('work', pg_temp.id(1), 'x'), sms.done('work', array[pg_temp.id(2), pg_temp.id(4)]);
select is((select row(lag, leased, dead, next_due_at = (select due_at from sms.lease))::text
		from sms.consumer_lag where consumer = 'work'), '(1,1,2,t)',
	'what is done is neither');
select is((select string_agg(distinct concat_ws(' ', leased, dead, next_due_at), ',')
	from sms.consumer_lag where consumer <> 'work'), '0 0', 'others have none of it');

-- ------------------------------------------------------------- large numbers

-- Up to 500 they are counted; duplicates are among the ids.
select t.ids('[{"digest": "\\x02"}]');
select sms.seek('all', null), sms.seek('kinds', null);
update sms.consumer set kinds = '{call}' where name = 'kinds';
select t.ids('[{"digest": "\\x02"}, {"digest": "\\x02"}]'::jsonb || jsonb_agg(
	jsonb_build_object('received_at', '2026-01-15T16:00:00Z')))
	from generate_series(1, 500);
select is(pg_temp.lag('all'), '500 16', 'lag: 500, counted');
select t.ids('[{"received_at": "2026-01-15T17:00:00Z"}]');
select is(pg_temp.lag('all'), '503 16', 'lag: above, the difference of ids');
select is(pg_temp.lag('kinds'), '0', 'lag: with kinds, still counted');
select t.ids('[{"kind": "call", "received_at": "2026-01-15T18:00:00Z"}]');
select is(pg_temp.lag('kinds'), '1 18', 'lag: one among many');
select is((select count(*)::int from sms.unseen((select last_id from sms.consumer where name = 'all'),
		null, 5000)), 502, 'the difference is no smaller');

-- To look is not to read.
select is((select max(last_id) from sms.consumer where name in ('all', 'kinds')),
	(select max(id) from sms.event where received_at = now() and duplicate_of is null),
	'no place has been moved by it');

select * from finish();
rollback;
