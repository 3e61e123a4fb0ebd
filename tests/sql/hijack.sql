-- A writer and reader makes objects of the names that sms.ingest and the consumer
-- functions use, types too, in a schema of its own and in pg_temp, and puts them first
-- in its search_path.  Whatever of them can run raises an exception: the functions that
-- run as their owner must not meet one.  Nor must those that the owner calls, who
-- may have a schema in the search_path where others can make objects.

create role t_hijacker login in role smshook_writer, smshook_reader;
select format('grant create on database %I to t_hijacker', current_database()) \gexec
grant usage on schema t to t_hijacker, smshook_owner;
insert into sms.keyword values ('HIJACK', 'hijack');

-- Every branch: a message, a keyword, zones, a duplicate, a rejected body.  No
-- function, operator or type of the caller's in it.
create function t.call() returns table (n bigint, id bigint, duplicate_of bigint)
language sql as $$
	select * from sms.ingest(
		array['00000000-0000-7000-8000-000000000001',
			'00000000-0000-7000-8000-000000000002',
			'00000000-0000-7000-8000-000000000003',
			'00000000-0000-7000-8000-000000000004',
			'00000000-0000-7000-8000-000000000005']::pg_catalog.uuid[],
		array['2026-01-15', '2026-01-15', '2026-01-15', '2026-01-15', '2026-01-15']::pg_catalog.timestamptz[],
		array['h', 'h', 'h', 'h', 'h'],
		array['delivery_status', 'incoming_sms', 'incoming_sms', null, 'delivery_status'],
		array['m', null, null, null, 'm'],
		array['1', '1', '1', null, '1'],
		array[null, null, null, null, null]::pg_catalog.text[],
		array[null, null, null, null, null]::pg_catalog.text[],
		array[null, null, null, null, null]::pg_catalog.text[],
		array['queued', null, null, null, 'delivered'],
		array[2, null, null, null, 7],
		array[null, null, null, null, null]::pg_catalog.text[],
		array[null, 'hijack me', 'hijack me', null, null],
		array[null, null, null, null, null]::pg_catalog.text[],
		array['2026-01-15', '2026-01-15', '2026-01-15', null, '2026-01-15']::pg_catalog.timestamptz[],
		array[null, 'Europe/Berlin', 'Mars/Olympus', null, 'UTC'],
		array[null, null, 'a note', null, null],
		array[null, null, null, null, null]::pg_catalog.jsonb[],
		array[null, null, null, '\x01', null]::pg_catalog.bytea[],
		array['00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000002',
			'00000000-0000-0000-0000-000000000002', null,
			'00000000-0000-0000-0000-000000000004']::pg_catalog.uuid[],
		array[null, null, null, 422, null],
		array[null, null, null, 'no', null],
		array[null, null, null, null, null]::pg_catalog.text[],
		array[null, null, null, null, null]::pg_catalog.text[],
		true)
$$;

-- Every function and branch of the consumers, wrong arguments too.  The events are
-- those of t.call, of 2026-01-15.
create function t.consume() returns void language plpgsql as $$
begin
	perform from sms.poll('poller');
	perform from sms.poll('poller', 2);
	perform from sms.poll('poller', 2, '{incoming_sms,delivery_status}');
	perform sms.ack('poller', 2);
	perform sms.ack('poller', 1);
	perform sms.seek('poller', 1);
	perform sms.seek('poller', null);
	perform from sms.claim('worker', 1, '1 microsecond', null, 1);
	perform pg_catalog.pg_sleep(0.001);
	perform from sms.claim('worker', 9, '1 microsecond', null, 1); -- buries one
	perform from sms.claim('worker', 9, '1 hour', null, 3);
	perform sms.fail('worker', 2, 'x');
	perform sms.fail('worker', 2, 'x', '2 days', 1);
	perform sms.done('worker', '{2}');
	perform sms.retry('worker', '{1}');
	perform sms.retry('worker');
	perform from sms.take_reply('1', 'hijack', '2026-01-14', '10 days');
	perform from sms.take_reply('00 1', null, '2026-01-14', '10 days');
	perform sms.drop_consumer('worker');
	perform sms.newest_id();
	perform from sms.unseen(0, null, 9);
	perform from sms.unseen(0, '{call,incoming_sms}', 9);
	perform t.refused('select sms.poll('''')');
	perform t.refused('select sms.poll(''x'', 0)');
	perform t.refused('select sms.poll(''x'', 1, ''{null}'')');
	perform t.refused('select sms.ack(''nobody'', 1)');
	perform t.refused('select sms.ack(''poller'', 999)');
	perform t.refused('select sms.seek(''poller'', 999)');
	perform t.refused('select sms.claim(''x'', 1, ''0'')');
	perform t.refused('select sms.claim(''poller'', kinds => ''{call}'')');
	perform t.refused('select sms.fail(''poller'', null, ''x'')');
	perform t.refused('select sms.take_reply(null, null, null, null)');
	perform t.refused('select sms.take_reply(''1'', ''a b'', ''2026-01-14'', ''1 day'')');
end
$$;
-- What the owner calls, and what they lead to; undone, for it purges all.  The
-- consumers hold the events back by each of the ways, then by none.
create function t.keep() returns void language plpgsql as $$
begin
	perform from sms.poll('behind', 1, '{incoming_sms,delivery_status}');
	perform from sms.claim('at work', 2, '1 hour', null, 1);
	perform sms.fail('at work', 1, 'x');
	perform sms.newest_id();
	perform from sms.unseen(0, null, 9);
	perform from sms.unseen(0, '{call,incoming_sms}', 9);
	perform pg_catalog.to_jsonb(l) from sms.consumer_lag l;
	perform sms.purge('0');
	perform from sms.forget('1');
	perform from sms.redact('0');
	perform from sms.purge_step('2100-01-01', null, 1);
	perform sms.drop_consumer('behind');
	perform sms.drop_consumer('at work');
	perform from sms.forget('1');
	perform from sms.forget('00 123-456');
	perform from sms.redact('0');
	perform from sms.purge_step('2100-01-01', null, 1);
	perform sms.purge('0');
	perform t.refused('select sms.purge(null)');
	perform t.refused('select sms.redact(''-1 s'')');
	perform t.refused('select sms.forget('''')');
	raise sqlstate 'UNDO1';
exception when sqlstate 'UNDO1' then
	null;
end
$$;
create function t.refused(call text) returns void language plpgsql as $$
begin
	execute call;
exception when invalid_parameter_value then
	null;
end
$$;

\c - t_hijacker
create schema evil;
grant usage on schema evil to public; -- sms.ingest runs as another role
create temp table x(); -- makes pg_temp
do $$
declare
	s text;
	f text;
	o text[];
begin
	foreach s in array '{evil,pg_temp}'::text[] loop
		foreach f in array array[
			'set_config(text, text, boolean) returns text',
			'pg_advisory_xact_lock(bigint) returns void',
			'nextval(regclass) returns bigint', 'nextval(text) returns bigint',
			'unnest(uuid[]) returns setof uuid',
			'btrim(text, text) returns text', 'upper(text) returns text',
			'char_length(text) returns int', 'octet_length(text) returns int',
			'substring(text, text) returns text',
			'timezone(text, timestamp) returns timestamptz',
			'concat_ws(text, text, text) returns text',
			'format(text, bigint, json) returns text',
			'format(text, bigint, json, text) returns text',
			'format(text, bigint) returns text', 'to_json(text) returns json',
			'left(text, int) returns text', 'pg_notify(text, text) returns void',
			'now() returns timestamptz', 'cardinality(uuid[]) returns int',
			'first_word(text) returns text', 'status_rank(text, int) returns int',
			'at_zone(timestamp, text) returns timestamptz',
			'ingest(uuid[]) returns void',
			'cardinality(text[]) returns int', 'cardinality(bigint[]) returns int',
			'unnest(text[]) returns setof text',
			'format(text, text, int) returns text',
			'format(text, text) returns text', 'format(text, text, text) returns text',
			'format(text, bigint, text) returns text',
			'format(text, bigint, bigint) returns text',
			'format(text, text, text, text) returns text',
			'quote_literal(text) returns text',
			'hashtextextended(text, bigint) returns bigint',
			'hashtextextended(text, int) returns bigint',
			'pg_try_advisory_xact_lock(bigint) returns boolean',
			'clock_timestamp() returns timestamptz',
			'array_append(bigint[], bigint) returns bigint[]',
			'array_cat(bigint[], bigint[]) returns bigint[]',
			'translate(text, text, text) returns text',
			'regexp_replace(text, text, text) returns text',
			'extract(text, interval) returns numeric',
			'refuse(text, text) returns void', 'bury(text, bigint[]) returns void',
			'take_place(text, text[]) returns bigint', 'newest_id() returns bigint',
			'phone_number(text) returns text', 'current_setting(text) returns text',
			'lock_consumer(text, boolean) returns boolean',
			'ltrim(text, text) returns text', 'convert_to(text, text) returns bytea',
			'encode(bytea, text) returns text', 'position(text, text) returns int',
			'position(bytea, bytea) returns int',
			'check_age(text, interval) returns timestamptz',
			'is_unseen(bigint, text, bigint) returns boolean',
			'unseen(bigint, text[], int) returns setof int',
			'purge_step(timestamptz, timestamptz, int) returns int',
			'later(timestamptz, timestamptz) returns timestamptz',
			'counted(bigint) returns bigint',
			'check_call(text, text, int, text[]) returns void',
			'collect(bigint[], bigint) returns bigint[]'] loop
			execute format('create function %s.%s language plpgsql as '
				'''begin raise exception $m$hijacked: %s$m$; end''', s, f, f);
		end loop;
		execute format('create aggregate %s.array_agg(bigint) '
			'(sfunc = %1$s.collect, stype = bigint[])', s);
		execute format('create aggregate %s.max(timestamptz) '
			'(sfunc = %1$s.later, stype = timestamptz)', s);
		execute format('create aggregate %s.count(*) '
			'(sfunc = %1$s.counted, stype = bigint, initcond = 0)', s);
		foreach o slice 1 in array '{{=,text,text},{=,uuid,uuid},{=,bigint,bigint},
			{=,integer,integer},{>,integer,integer},{<=,integer,integer},
			{*,integer,integer},{/,bigint,integer},{<,timestamptz,timestamptz},{=,bytea,bytea},
			{>,timestamptz,timestamptz},{-,timestamptz,interval},{>,bigint,bigint},
			{=,tid,tid},{~,text,text},{||,text,text},{<,bigint,bigint},
			{<=,bigint,bigint},{<,integer,integer},{>=,integer,integer},
			{<>,integer,integer},{-,integer,integer},{+,bigint,bigint},
			{+,bigint,integer},{<=,timestamptz,timestamptz},
			{>=,timestamptz,timestamptz},{+,timestamptz,interval},
			{<=,interval,interval},{<,interval,interval},{>=,interval,interval},
			{*,interval,float8},{*,numeric,float8},{^,float8,float8},
			{||,bigint[],bigint[]},{!~,text,text},{<>,text,text},
			{>,bigint,integer},{<=,bigint,integer},{-,bigint,bigint},
			{||,text[],text[]},{<@,text[],text[]},{=,text[],text[]}}'::text[] loop
			f := format('%s.%I', s, 'operator ' || array_to_string(o, ' '));
			execute format('create function %s(%s, %s) returns %s language plpgsql '
				'as ''begin raise exception $m$hijacked: %s$m$; end''', f, o[2], o[3],
				case when o[1] in ('*', '-', '+', '^', '||', '/') then o[2] else 'boolean' end, o);
			execute format('create operator %s.%s (leftarg = %s, rightarg = %s, '
				'function = %s)', s, o[1], o[2], o[3], f);
		end loop;
		foreach f in array '{event,message,rejected,keyword,recent_body,input,
			seen,stored,fresh,again,unnest,m,r,s,k,o,i,e,consumer,lease,dead_letter,reply_taken,
			c,l,d,t,u,g,h,back,gone,leased,dead,unseen,his}'::text[] loop
			execute format('create table %s.%I as select 1 as hijacked', s, f);
			execute format('grant all on %s.%I to public', s, f);
		end loop;
		execute format('create sequence %s.event_id', s);
	end loop;
	-- At last: of types pg_temp comes first without being asked for.
	foreach s in array '{evil,pg_temp}'::text[] loop
		execute format('create function %s.trap() returns pg_catalog.bool language plpgsql as '
			'''begin raise exception $m$hijacked: a type$m$; end''', s);
		foreach f in array '{text,uuid,bytea,json,jsonb,int8,int4,bool,numeric,float8,
			timestamp,timestamptz,interval,regclass,tid,name}'::pg_catalog.text[] loop
			execute format('create domain %s.%I as pg_catalog.%2$I check (%1$s.trap())', s, f);
		end loop;
	end loop;
end
$$;
-- A type that becomes text by a function of the caller's: who runs it?
create table evil.ran(who pg_catalog.name);
create type evil.word as enum ('poller', 'VERIFY');
create function evil.as_text(word evil.word) returns pg_catalog.text language plpgsql as $$
begin
	insert into evil.ran values (current_user);
	return pg_catalog.enum_out(word)::pg_catalog.text;
end
$$;
create cast (evil.word as pg_catalog.text) with function evil.as_text(evil.word) as implicit;

-- The traps are armed: what asks without a schema falls into them.
create procedure evil.fall(statement pg_catalog.text,
	inout result pg_catalog.text default 'free')
language plpgsql as $$
begin
	execute statement;
exception when raise_exception then
	result := 'caught';
end
$$;
set search_path = evil, pg_temp, pg_catalog;
call evil.fall('select upper(''x'')') \gset function_
call evil.fall('select ''a''::pg_catalog.text = ''b''::pg_catalog.text') \gset operator_
call evil.fall('select array_agg(1::bigint)') \gset aggregate_
call evil.fall('select ''a''::text') \gset type_
table event \gset event_

create table evil.answer1 as select * from t.call();
set search_path = pg_temp, evil, pg_catalog;
create table evil.answer2 as select * from t.call();
-- A connection that never called sms.ingest: no plan of the first is left.
\c - t_hijacker
set search_path = evil, pg_catalog;
create table evil.answer3 as select * from t.call();

-- The consumers' functions, called in the same ways.
call evil.fall('select t.consume()') \gset last_
select from sms.poll('poller'::evil.word);
select from sms.take_reply('1', 'VERIFY'::evil.word, '2026-01-14', '10 days');
set search_path = evil, pg_temp, pg_catalog;
call evil.fall('select t.consume()') \gset first_
\c - t_hijacker
create temp table x(); -- makes pg_temp, with traps again
create function pg_temp.clock_timestamp() returns timestamptz language plpgsql as
	'begin raise exception ''hijacked''; end';
create temp table consumer as select 1 as hijacked;
set search_path = pg_temp, evil, pg_catalog;
call evil.fall('select t.consume()') \gset temp_

-- The owner, in the same ways.
\c - smshook_owner
set client_min_messages = warning;
set search_path = evil, pg_catalog;
call evil.fall('select t.keep()') \gset owner_last_
\c - smshook_owner
set client_min_messages = warning;
create temp table x(); -- makes pg_temp
create temp table event as select 1 as hijacked;
create temp table consumer as select 1 as hijacked;
create temp table consumer_lag as select 1 as hijacked;
create temp table lease as select 1 as hijacked;
set search_path = pg_temp, evil, pg_catalog;
call evil.fall('select t.keep()') \gset owner_first_
call evil.fall('select format(''%s'', ''x''::pg_catalog.text)') \gset owner_armed_
-- As public was before PostgreSQL 15: behind pg_catalog, where what fits better wins.
\c - smshook_owner
set client_min_messages = warning;
set search_path = pg_catalog, evil;
call evil.fall('select t.keep()') \gset owner_public_
call evil.fall('select from unnest(''{x}''::pg_catalog.text[])') \gset better_

\c - postgres
begin;
select plan(14);
select is(concat_ws(' ', :'function_result', :'operator_result',
	:'aggregate_result', :'type_result', :'event_hijacked'), 'caught caught caught caught 1',
	'(the traps are armed)');
select is((select string_agg(concat_ws(' ', n, (id is null)::text, a.duplicate_of
		- (select min(id) from evil.answer1)), ', ' order by n) from evil.answer1 a),
	'1 false, 2 false, 3 false 1, 4 true, 5 false', 'no trap was met, the answer is the honest one');
select bag_eq('table evil.answer2', 'table evil.answer1', 'nor with pg_temp first');
select bag_eq('table evil.answer3', 'table evil.answer1', 'nor in a fresh connection');
select is((select array_agg(hijacked::text) from (select hijacked from evil.event
		union select hijacked from evil.message union select hijacked from evil.rejected
		union select hijacked from evil.keyword union select hijacked from evil.recent_body) x),
	'{1}', 'the false tables are as they were');
select is((select is_called from evil.event_id), false, 'so is the false sequence');
select is((select string_agg(concat_ws(' ', kind, keyword, note,
		to_char(occurred_at at time zone 'UTC', 'MM-DD HH24:MI')), ', ' order by id)
		from sms.event),
	'delivery_status 01-15 00:00, incoming_sms HIJACK 01-14 23:00, '
	'incoming_sms HIJACK a note; occurred_at: unknown time zone, '
	'delivery_status 01-15 00:00', 'the events are the honest ones');
select is((select array_agg(status) from sms.message), '{delivered}',
	'so is the message');
select is((select array_agg(reason) from sms.rejected), '{no}',
	'and the rejected body');
select is(concat_ws(' ', :'last_result', :'first_result', :'temp_result'), 'free free free',
	'nor did a function of the consumers meet one');
select is(concat_ws(' ', :'owner_armed_result', :'better_result'), 'caught caught',
	'(the traps are armed for the owner)');
select is(concat_ws(' ', :'owner_last_result', :'owner_first_result', :'owner_public_result'),
	'free free free', 'nor did what the owner calls');
select is((select string_agg(concat_ws(' ', name, last_id), ', ' order by name)
		from sms.consumer), (select 'poller ' || max(id) from sms.event),
	'and they did what they say');
select is((select array_agg(distinct who::text) from evil.ran), '{t_hijacker}',
	'what makes an argument of a type of the caller''s runs as the caller');
select * from finish();
rollback;
