-- Ids are in commit order: a second sms.ingest waits for the end of the first
-- transaction before it draws one.  Two sessions besides this one, by dblink.

select not exists (select from pg_extension where extname = 'dblink') as no_dblink \gset
\if :no_dblink
\echo 1..0 # SKIP dblink is not installed
\quit
\endif

select plan(21);

select dblink_connect('one', t.conninfo());
select dblink_connect('two', t.conninfo());
select pid as pid_two from dblink('two', 'select pg_backend_pid()') as d(pid int) \gset

-- Waits until session two waits for a lock; false if it never does.
create function t.two_waits(pid int) returns boolean language plpgsql as $$
begin
	for i in 1 .. 3000 loop
		if exists (select from pg_locks l where l.pid = two_waits.pid
			and l.locktype = 'advisory' and not l.granted) then
			return true;
		end if;
		exit when dblink_is_busy('two') = 0;
		perform pg_sleep(0.01);
	end loop;
	return false;
end
$$;

-- --------------------------------------------------- the first one commits

select dblink_exec('one', 'begin');
select id as id_one from dblink('one', $$ select (t.ids('[{"body": "one"}]'))[1] $$) as d(id bigint) \gset
select last_value as drawn from sms.event_id \gset
select dblink_send_query('two', $$ select (t.ids('[{"body": "two"}, {"body": "three"}]'))[1] $$);

select is(t.two_waits(:pid_two), true, 'a second call waits for the first transaction');
select is(dblink_is_busy('two'), 1, 'and has no answer');
select is((select last_value from sms.event_id), :drawn::bigint,
	'it has drawn no id');
select is((select count(*)::int from sms.event), 0, 'a reader sees nothing yet');

select dblink_exec('one', 'commit');
select id as id_two from dblink_get_result('two') as d(id bigint) \gset
select count(*) from dblink_get_result('two') as d(id bigint);
select cmp_ok(:id_two::bigint, '>', :id_one::bigint, 'its ids are larger');
select is((select array_agg(body order by id) from sms.event), '{one,two,three}',
	'the log is in order of the commits');

-- --------------------------------------------- the first one is rolled back

select dblink_exec('one', 'begin');
select id as id_one from dblink('one', $$ select (t.ids('[{"body": "none"}]'))[1] $$) as d(id bigint) \gset
select dblink_send_query('two', $$ select (t.ids('[{"body": "four"}]'))[1] $$);
select is(t.two_waits(:pid_two), true, 'a second call waits for one that will not commit');
select dblink_exec('one', 'rollback');
select id as id_two from dblink_get_result('two') as d(id bigint) \gset
select count(*) from dblink_get_result('two') as d(id bigint);
select cmp_ok(:id_two::bigint, '>', :id_one::bigint, 'its id is larger too');
select is((select array_agg(body order by id) from sms.event), '{one,two,three,four}',
	'a gap says nothing');

-- ----------------------------------- what the second one knows of the first

-- The same request and the same bytes: both are seen, though the second call
-- began before they were committed.
select dblink_exec('one', 'begin');
select id as id_one from dblink('one', $$ select (t.ids('[{"digest": "\\x01",
	"ingest_id": "00000000-0000-7000-8000-000000000001"},
	{"kind": "delivery_status", "message_id": "m", "status": "delivered"}]'))[1] $$) as d(id bigint) \gset
select dblink_send_query('two', $$ select string_agg(concat_ws(' ', n, id, duplicate_of), ',' order by n)
	from t.ingest('[{"digest": "\\x01",
	"ingest_id": "00000000-0000-7000-8000-000000000001"},
	{"digest": "\\x01", "body": "again"},
	{"kind": "delivery_status", "message_id": "m", "status": "sent"}]') $$);
select is(t.two_waits(:pid_two), true, 'a replay waits for the original');
select dblink_exec('one', 'commit');
select answer as answer_two from dblink_get_result('two') as d(answer text) \gset
select count(*) from dblink_get_result('two') as d(answer text);
select matches(:'answer_two'::text, '^1 ' || :id_one || ',2 [0-9]+ ' || :id_one || ',3 [0-9]+$',
	'it has the id of the original, and the duplicate points to it');
select is((select count(*)::int from sms.event
		where ingest_id = '00000000-0000-7000-8000-000000000001'), 1,
	'and there is one row of it');
select is((select status from sms.message where message_id = 'm'), 'delivered',
	'the state of a message is that of both');

-- A transaction that reads but the past cannot see the original.  It fails, so
-- that the caller comes again, rather than store twice.
select dblink_exec('two', 'begin isolation level repeatable read');
select count(*) from dblink('two', 'select count(*) from sms.event') as d(n bigint);
select t.ids('[{"ingest_id": "00000000-0000-7000-8000-000000000002"}]');
select throws_ok($$ select * from dblink('two', $q$
	select t.ids('[{"ingest_id": "00000000-0000-7000-8000-000000000002"}]') $q$)
	as d(ids bigint[]) $$, '23505', null, 'repeatable read: a replay is not stored twice');
select dblink_exec('two', 'rollback; begin isolation level repeatable read');
select count(*) from dblink('two', 'select count(*) from sms.event') as d(n bigint);
select t.ids('[{"digest": "\\x02"}]');
select throws_ok($$ select * from dblink('two', $q$
	select t.ids('[{"digest": "\\x02"}]') $q$) as d(ids bigint[]) $$,
	'40001', null, 'nor a duplicate taken for the first');
select dblink_exec('two', 'rollback');

-- ------------------------------------------------------- who does not wait

select dblink_exec('one', 'begin');
select id as id_one from dblink('one', $$ select (t.ids('[{"body": "open"}]'))[1] $$) as d(id bigint) \gset
select is((select pg_try_advisory_xact_lock(32489964762525547)), false,
	'the lock is the one that the SQL names');
select dblink_exec('two', 'set lock_timeout = 1000');
select is((select count(*)::int from dblink('two', 'select id from sms.event') as d(id bigint)),
	(select count(*)::int from sms.event), 'readers do not wait');
select dblink_exec('two', 'set lock_timeout = 0');
select throws_ok(format($$ select sms.ingest('{}', '{}', '{}', '{}', '{}', '{}',
	'{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}',
	'{}', '{}', '{}', '{}', '{}', false, %L) $$, patience), '55P03', null,
	'a call waits no longer than it is told, in ms: ' || coalesce(patience, 'null'))
from unnest(array['1', '0', null]) patience;
select dblink_exec('one', 'rollback');

select is((select count(*)::int from t.ingest('[{"http_status": 400, "reason": "x"}]')), 1,
	'after the end of a transaction nobody waits');

select dblink_disconnect('one');
select dblink_disconnect('two');
select * from finish();
