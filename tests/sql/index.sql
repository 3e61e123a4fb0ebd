-- What is asked of a large log is found by index: no scan of sms.event, and no
-- more pages than the answer needs, whatever a session knew when it made its plans.

-- What a query touches: pages of all tables and indexes, scans of sms.event.
create table t.measured (nr int generated always as identity, in_session text, query text,
	most int, pages int, scans bigint);
create function t.measure(in_session text, query text, most int) returns void
language plpgsql as $$
declare
	scans bigint;
	plan json;
begin
	begin -- what a session reads of the catalog once is not meant
		execute query;
		raise exception 'undo';
	exception when raise_exception then
		scans := pg_stat_get_xact_numscans('sms.event'::regclass);
	end;
	execute 'explain (analyze, buffers, timing off, format json) ' || query into plan;
	insert into t.measured (in_session, query, most, pages, scans)
	values (measure.in_session, measure.query, measure.most,
		(plan #>> '{0,Plan,Shared Hit Blocks}')::int
		+ (plan #>> '{0,Plan,Shared Read Blocks}')::int,
		pg_stat_get_xact_numscans('sms.event'::regclass) - scans);
end
$$;
-- Tables that the plan of a query reads from end to end.
create function t.scanned(query text) returns text language plpgsql as $$
declare
	plan jsonb;
begin
	execute 'explain (format json) ' || query into plan;
	return coalesce((select string_agg(name #>> '{}', ' ') from jsonb_path_query(plan,
		'$.** ? (@."Node Type" == "Seq Scan")."Relation Name"') name), 'none');
end
$$;

set client_min_messages = warning;

-- Nothing but this file makes statistics, and plans with them.
alter table sms.event set (autovacuum_enabled = off);
alter table sms.message set (autovacuum_enabled = off);
alter table sms.lease set (autovacuum_enabled = off);

-- ------------------------------------- a session that knew the log when empty

-- More often than the server makes plans for the values at hand.
create function t.ask_all() returns void language plpgsql as $$
begin
	for i in 1 .. 7 loop
		perform from sms.poll('all');
		perform from sms.poll('rare', 100, '{call}');
		perform from sms.poll('two kinds', 100, '{incoming_sms,delivery_status}');
		perform from sms.unseen(0, null, 1);
		perform sms.ack('all', 0);
		perform sms.seek('all', 0);
		perform from sms.claim('work');
		perform sms.done('work', '{1}'), sms.fail('work', 1, 'x'), sms.retry('work');
		perform from sms.consumer_lag;
		perform from sms.take_reply('+491', 'X', now(), '1 hour');
		perform from sms.purge_step(now(), null, 100);
		perform sms.redact('100 years'), sms.forget('+491');
	end loop;
end
$$;
-- 20,000 events: two of a rare kind, 2,000 phone numbers, bodies as long as SMS.
-- Returns the id in the middle.
create function t.fill() returns bigint language sql as $$
	select (t.ids(jsonb_agg(jsonb_build_object(
		'kind', case when i in (9000, 19000) then 'call' when i % 2 = 0 then 'incoming_sms'
			else 'delivery_status' end,
		'phone', '+49' || i % 2000, 'message_id', 'm' || i, 'device_id', 'd',
		'status', case when i % 2 = 1 then 'sent' end,
		'body', case when i % 2 = 0 then 'X ' || repeat('lorem ipsum ', 30) end,
		'payload', jsonb_build_object('text', repeat('dolor sit ', 20)),
		'received_at', timestamptz '2026-01-01 00:00Z' + i * interval '1 minute'))))[10000]
	from generate_series(1, 20000) i
$$;

-- What each call may touch at most: several times what it needs, a fraction of
-- what the log has.
create function t.measure_all(in_session text, middle bigint) returns void
language plpgsql as $$
declare
	q record;
begin
	perform sms.seek('all', middle), sms.seek('two kinds', middle), sms.seek('rare', 0),
		sms.seek('unknown', 0), sms.seek('work', middle), sms.seek('behind', 0);
	perform from sms.poll('rare', 1, '{call}');
	perform from sms.poll('unknown', 1, '{nonsense}');
	perform from sms.poll('two kinds', 1, '{incoming_sms,delivery_status}');
	perform from sms.take_reply('+4910', null, '2020-01-01', '1 hour');
	perform sms.seek('again', middle);
	perform from sms.claim('again', 10, '1 microsecond');
	perform pg_sleep(0.001);
	for q in values
		('select * from sms.poll(''all'', 100)', 60),
		('select * from sms.poll(''all'', 1)', 40),
		('select * from sms.poll(''rare'', 100, ''{call}'')', 40),
		('select * from sms.poll(''unknown'', 100, ''{nonsense}'')', 40),
		('select * from sms.poll(''two kinds'', 100, ''{incoming_sms,delivery_status}'')', 80),
		(format('select * from sms.unseen(%s, null, 100)', middle), 50),
		(format('select sms.ack(''all'', %s)', middle + 100), 40),
		(format('select sms.seek(''all'', %s)', middle), 60),
		('select * from sms.claim(''work'', 10)', 300),
		('select * from sms.claim(''again'', 10)', 300),
		(format('select sms.done(''work'', array[%s])', middle + 1), 60),
		(format('select sms.fail(''work'', %s, ''x'')', middle + 2), 80),
		('select * from sms.consumer_lag where consumer = ''behind''', 150),
		('select * from sms.consumer_lag where consumer = ''rare''', 60),
		('select * from sms.take_reply(''+4910'', null, ''2026-01-01'', ''1 year'')', 80),
		('select * from sms.take_reply(''+4911'', null, ''2026-01-01'', ''1 year'')', 80),
		(format('select sms.is_unseen(%s, ''call'', null)', middle), 40),
		('select sms.newest_id()', 20),
		('select t.ids(''[{"phone": "+4910", "body": "X y", "digest": "\\x01"}]'')', 120),
		('select t.ids(''[{"kind": "delivery_status", "message_id": "m11", "status": "sent"}]'')',
			120)
	loop
		perform t.measure(in_session, q.column1, q.column2);
	end loop;
	-- These look for each event whether somebody has still to see it.
	perform sms.seek(name, null) from sms.consumer;
	for q in values
		('select * from sms.purge_step(''2026-01-01 01:00Z'', null, 20)'),
		('select sms.forget(''+4911'')'),
		('select sms.redact(now() - timestamptz ''2026-01-01 00:30Z'')')
	loop
		perform t.measure(in_session, q.column1, 1000);
	end loop;
end
$$;
select t.ask_all();
select t.fill() as middle \gset
select t.measure_all('that knew the log when empty', :middle);

-- The same where it was known to be empty: vacuumed, as a whole server is at night.
-- The planner believes that, and it is not what it thinks of a table it never saw.
truncate sms.event, sms.message, sms.consumer, sms.lease, sms.dead_letter, sms.reply_taken;
vacuum analyze;
\c -
set client_min_messages = warning;
select t.ask_all();
select t.fill() as middle \gset
select t.measure_all('that knew the log when empty, and vacuumed', :middle);

-- ------------------------------------------------ sessions that begin with it

analyze;
\c -
set client_min_messages = warning;
select t.measure_all('of today', :middle);

-- A kind that is rare, 1 in 10,000, in the views of one kind.
update sms.event set kind = case
	when id in (:middle - 5000, :middle) then 'incoming_sms'
	when id in (:middle - 4000, :middle + 1) then 'delivery_status' else 'call' end;
vacuum analyze sms.event;
select t.measure('with rare kinds', format(x.query, v.name, :middle - 4500), 30)
from (values ('sms.incoming_sms'), ('sms.delivery_status')) v(name)
cross join (values ('select * from %s order by id desc limit 10'),
	('select * from %s where id > %s order by id limit 10'),
	('select count(*) from %s')) x(query);
select t.scanned('select * from sms.incoming_sms order by id desc limit 10') as rare_scanned \gset

select plan(171);

select cmp_ok((select count(*)::int from sms.event), '>', 19000, '(the log is large)');
select cmp_ok(pg_relation_size('sms.event')::int / current_setting('block_size')::int, '>', 1000,
	'(by its pages too)');
select is((select array_agg(n order by n) from (select count(*)::int as n from sms.incoming_sms
		union all select count(*) from sms.delivery_status) x), '{2,2}', '(two kinds are rare)');
select is(:'rare_scanned'::text, 'none', 'by index: a rare kind');
select is(scans, 0::bigint, format('no scan of sms.event, in a session %s: %s', in_session, query))
from t.measured order by nr;
select cmp_ok(pages, '<=', most, format('few pages, in a session %s: %s', in_session, query))
from t.measured order by nr;

-- --------------------------------------------------------- what readers ask

select is(t.scanned(x.query), 'none', 'by index: ' || x.query)
from (values
	('select * from sms.conversation where phone = ''+4910'' order by at'),
	('select * from sms.delivery_status where phone = ''+4911'' and message_id = ''m11'' order by id'),
	('select * from sms.incoming_sms where phone = ''+4910'' order by id'),
	('select * from sms.incoming_sms where received_at >= ''2026-01-01'' '
		'and received_at < ''2026-01-01 03:00'''),
	('select * from sms.incoming_sms order by id desc limit 10'),
	('select * from sms.delivery_status order by id desc limit 10'),
	('select * from sms.message where message_id = ''m11'''),
	('select * from sms.message where message_id = ''m11'' and source = ''test'''),
	('select * from sms.event where id > 10000 order by id limit 100'),
	('select count(*) from sms.event where received_at < ''2026-01-01 03:00''')
) x(query);

-- Drivers that prepare their statements get a plan for any value.
set plan_cache_mode = force_generic_plan;
prepare conversation(text) as select * from sms.conversation where phone = $1 order by at;
prepare history(text, text) as
	select * from sms.delivery_status where phone = $1 and message_id = $2 order by id;
prepare texts(text) as select * from sms.incoming_sms where phone = $1 order by id;
prepare message(text) as select * from sms.message where message_id = $1;
prepare after(bigint) as select * from sms.event where id > $1 order by id limit 100;
select is(t.scanned('execute ' || x), 'none', 'by index, prepared: ' || x)
from unnest(array['conversation(''+4910'')', 'history(''+4911'', ''m11'')', 'texts(''+4910'')',
	'message(''m11'')', 'after(10000)']) x;
select is(t.scanned('select * from sms.event where body = ''x'''), 'event',
	'(a scan would have been seen)');

-- A plan that has no index to use costs 1e10 where scans are switched off: it
-- would be compiled for each call, for 40 ms.
select is_empty($$ select oid::regprocedure from pg_proc
	where pronamespace = 'sms'::regnamespace and 'enable_seqscan=off' = any (proconfig)
	and not 'jit=off' = any (proconfig) $$, 'functions that scan by index alone compile no plan');

select * from finish();
