-- Two sessions of one consumer: who waits, who gets what.  By dblink, two
-- sessions besides this one.

select not exists (select from pg_extension where extname = 'dblink') as no_dblink \gset
\if :no_dblink
\echo 1..0 # SKIP dblink is not installed
\quit
\endif

select plan(101);

select dblink_connect('one', t.conninfo());
select dblink_connect('two', t.conninfo());
select pid as pid_two from dblink('two', 'select pg_backend_pid()') as d(pid int) \gset
-- A call that is not to wait fails when it does.
select dblink_exec('two', 'set lock_timeout = ''10s''');

-- What a query answers in a session: one text, or the error's SQLSTATE.
create function t.on(connection text, query text) returns text language plpgsql as $$
begin
	return (select d.answer from dblink(connection, query) as d(answer text));
exception when others then
	return sqlstate;
end
$$;
-- The answer to dblink_send_query, and the end of it.
create function t.answer(connection text) returns text language plpgsql as $$
declare
	answer text;
begin
	begin
		answer := (select d.answer from dblink_get_result(connection) as d(answer text));
	exception when others then
		answer := sqlstate || ' ' || sqlerrm;
	end;
	perform from dblink_get_result(connection) as d(answer text);
	return answer;
end
$$;
-- What a query answers in a transaction of a session, and whether it writes: that
-- takes a transaction id, and at the commit a flush of the disk.
create function t.writes(connection text, query text) returns text language plpgsql as $$
declare
	answer text;
begin
	perform dblink_exec(connection, 'begin');
	answer := coalesce(t.on(connection, query), 'null') || coalesce(t.on(connection,
		'select '' writes'' from pg_current_xact_id_if_assigned() x where x is not null'), '');
	perform dblink_exec(connection, 'rollback');
	return answer;
end
$$;
-- Bodies that a poll or a claim returns.
create function t.polled(consumer text, kinds text[] default null) returns text
language sql as $$
	select coalesce(string_agg(body, ' '), 'none') from sms.poll(consumer, 100, kinds)
$$;
create function t.claimed(consumer text, max int, lease interval default '1 hour')
returns text language sql as $$
	select coalesce(string_agg(body || attempt, ' '), 'none')
	from sms.claim(consumer, max, lease)
$$;

select t.ids('[{"body": "a"}, {"body": "b"}, {"body": "c"}, {"body": "d"}]');
select min(id) as a from sms.event \gset

-- ---------------------------------------------------------- poll against poll

select dblink_exec('one', 'begin');
select is(t.on('one', $$ select t.polled('new') $$), 'a b c d', 'one session polls a new consumer');
select is(t.on('two', $$ select t.polled('new') $$), 'none',
	'another one gets nothing meanwhile, without waiting');
select is(t.on('two', $$ select t.polled('new', '{call}') $$), 'none', 'nor of other kinds');
select is(t.on('two', $$ select t.polled('elsewhere') $$), 'a b c d', 'other consumers do');
select is((select count(*)::int from sms.consumer where name = 'new'), 0, '(it is not there yet)');
select dblink_exec('one', 'rollback');
select is(t.on('two', $$ select t.polled('new') $$), 'a b c d', 'after a rollback all come');
select is((select count(*)::int from sms.consumer where name = 'new'), 1, 'and it is made');

select dblink_exec('one', 'begin');
select is(t.on('one', $$ select t.polled('new') $$), 'a b c d',
	'one session polls a known consumer');
select is(t.on('two', $$ select t.polled('new') $$), 'none', 'another one gets nothing meanwhile');
select is(t.on('two', $$ select t.polled('new', '{call}') $$), 'none', 'nor of other kinds');
select is((select kinds from sms.consumer where name = 'new'), null,
	'and it has not changed what the consumer asks for');
select is(t.on('one', format($$ select sms.ack('new', %s) $$, :a + 1)), (:a + 1)::text, 'then ack');
select is(t.on('two', $$ select t.polled('new') $$), 'none', 'still nothing for the other one');
select is((select last_id from sms.consumer where name = 'new'), 0::bigint,
	'others see the place of before');
select dblink_exec('one', 'rollback');
select is(t.on('two', $$ select t.polled('new') $$), 'a b c d',
	'a rollback takes the ack back: the same events again');

select dblink_exec('one', 'begin');
select t.on('one', $$ select t.polled('new') $$);
select t.on('one', format($$ select sms.ack('new', %s) $$, :a + 1));
select dblink_exec('one', 'commit');
select is(t.on('two', $$ select t.polled('new') $$), 'c d', 'after a commit what comes next');

-- A poll that was sent before the commit and has its snapshot from then.
select dblink_exec('two', 'begin isolation level repeatable read');
select t.on('two', 'select count(*) from sms.event');
select t.on('one', format($$ select sms.ack('new', %s) $$, :a + 2));
select is(t.on('two', $$ select t.polled('new') $$), '40001',
	'repeatable read: an error, rather than what was seen already');
select dblink_exec('two', 'rollback');
select dblink_exec('two', 'begin isolation level repeatable read');
select t.on('two', 'select count(*) from sms.event');
select t.claimed('of today', 1);
select is(t.on('two', $$ select t.claimed('of today', 1) $$), '40001',
	'repeatable read: the same for a claim, and for a new consumer');
select dblink_exec('two', 'rollback');
select dblink_exec('two', 'begin isolation level repeatable read');
select t.on('two', 'select count(*) from sms.event');
select t.claimed('of today', 1);
select is(t.on('two', $$ select t.claimed('of today', 1) $$), '40001',
	'repeatable read: the same for a claim of a known one');
select dblink_exec('two', 'rollback');
select dblink_exec('two', 'begin isolation level repeatable read');
select t.on('two', 'select count(*) from sms.event');
select t.polled('new today');
select is(t.on('two', $$ select t.polled('new today') $$), '40001',
	'repeatable read: the same for a poll of a new one');
select dblink_exec('two', 'rollback');
select dblink_exec('two', 'begin isolation level repeatable read');
select t.on('two', 'select count(*) from sms.event');
select is(t.on('two', format($$ select t.polled('new today') || ' ' || sms.ack('new today', %s) $$,
	:a + 3)), 'a b c d ' || :a + 3, 'repeatable read: no error where nobody else was');
select dblink_exec('two', 'rollback');
select sms.drop_consumer('of today'), sms.drop_consumer('new today');

-- ------------------------------------------------------------ who waits for it

select dblink_exec('one', 'begin');
select t.on('one', $$ select t.polled('new') $$);
select is(t.on('two', format($$ select sms.ack('new', %s) $$, :a + 3)), (:a + 3)::text,
	'ack does not wait for the poll of another session');
select is(t.on('one', format($$ select sms.ack('new', %s) $$, :a + 2)), (:a + 3)::text,
	'whose own ack does not move the place back');
select dblink_exec('one', 'commit');
select is((select last_id from sms.consumer where name = 'new'), :a::bigint + 3, 'it is kept');
select dblink_exec('one', 'begin');
select t.on('one', format($$ select sms.ack('new', %s) $$, :a + 3));
select is(t.on('two', $$ select t.polled('new') $$), 'none', '(all is seen)');
select dblink_exec('one', 'rollback');

select dblink_exec('one', 'begin');
select t.on('one', $$ select t.polled('new') $$);
select dblink_send_query('two', $$ select sms.seek('new', 0) $$);
select is(t.waits('two', :pid_two), true, 'seek does');
select is(t.on('one', $$ select sms.seek('new', 0) $$), '0',
	'a seek of the one that has it does not wait for the other');
select dblink_exec('one', 'commit');
select is(t.answer('two'), '0', 'which is done then');
select is(t.on('two', $$ select t.polled('new') $$), 'a b c d', 'all come again');

select dblink_exec('one', 'begin');
select t.on('one', $$ select t.polled('elsewhere') $$);
select dblink_send_query('two', $$ select sms.drop_consumer('elsewhere') $$);
select is(t.waits('two', :pid_two), true, 'so does drop_consumer');
select dblink_exec('one', 'commit');
select is(t.answer('two'), 't', 'which is done then');

-- Events that come, and those who only look, wait for nobody.
select dblink_exec('one', 'begin');
select t.on('one', $$ select t.polled('new') $$);
select is(t.on('two', $$ select cardinality(t.ids('[{"body": "e"}]')) $$), '1',
	'sms.ingest does not wait');
select is(t.on('two', $$ select lag from sms.consumer_lag $$), '5', 'nor does sms.consumer_lag');
select is(t.on('two', $$ select string_agg(body, ' ') from sms.unseen(0, null, 9) $$), 'a b c d e',
	'nor sms.unseen');
select t.on('one', format($$ select sms.ack('new', %s) $$, :a + 3));
select is(t.on('two', $$ select sms.purge('0') $$), '0',
	'nor sms.purge: it keeps what is acked and not committed');
select dblink_exec('one', 'rollback');
select is((select count(*)::int from sms.event), 5, 'all events are there');

-- Who makes the consumer does not matter.
select dblink_exec('one', 'begin');
select t.on('one', $$ select t.claimed('first claim', 1) $$);
select is(t.on('two', $$ select t.polled('first claim') $$), 'none',
	'a poll gets nothing, without waiting, while a claim makes the consumer');
select dblink_exec('one', 'rollback');
select dblink_exec('one', 'begin');
select t.on('one', $$ select sms.seek('first seek', 0) $$);
select is(t.on('two', $$ select t.polled('first seek') $$), 'none', 'nor while sms.seek does');
select dblink_exec('one', 'rollback');

-- --------------------------------------------------------- claim against claim

select dblink_exec('one', 'begin');
select is(t.on('one', $$ select t.claimed('work', 2) $$), 'a1 b1',
	'one session claims for a new consumer');
select dblink_send_query('two', $$ select t.claimed('work', 2) $$);
select is(t.waits('two', :pid_two), true, 'a claim of another one waits');
select dblink_exec('one', 'commit');
select is(t.answer('two'), 'c1 d1', 'and gets others');
select is((select count(*)::int from sms.lease), 4, 'four leases');
select is(t.on('one', $$ select t.claimed('work', 9) $$), 'e1', 'the last one goes to one');
select is(t.on('two', $$ select t.claimed('work', 9) $$), 'none', 'and nothing is left for two');

select dblink_exec('one', 'begin');
select t.on('one', $$ select t.claimed('undone', 2) $$);
select dblink_send_query('two', $$ select t.claimed('undone', 3) $$);
select is(t.waits('two', :pid_two), true, 'a claim waits for one that will not commit');
select dblink_exec('one', 'rollback');
select is(t.answer('two'), 'a1 b1 c1', 'and gets the same, for the first time');

select dblink_exec('one', 'begin');
select t.on('one', $$ select t.claimed('undone', 1) $$);
select is(t.on('two', $$ select t.polled('undone') $$), 'none',
	'a poll gets nothing beside a claim');
select is(t.on('two', format($$ select sms.done('undone', array[%s]) $$, :a)), '1',
	'done does not wait for a claim');
select is(t.on('two', format($$ select sms.fail('undone', %s, 'x') is not null $$, :a + 1)), 't',
	'nor does fail');
select dblink_exec('one', 'rollback');

-- What has come back goes to one of them.
update sms.lease set due_at = now() - interval '1 hour' + event_id * interval '1 s'
	where consumer = 'work';
select dblink_exec('one', 'begin');
select is(t.on('one', $$ select t.claimed('work', 3) $$), 'a2 b2 c2',
	'leases that have ended are claimed again');
select dblink_send_query('two', $$ select t.claimed('work', 9) $$);
select is(t.waits('two', :pid_two), true, 'a claim of another session waits');
select dblink_exec('one', 'commit');
select is(t.answer('two'), 'd2 e2', 'and gets the rest');

-- ------------------------------------------------------------- done and fail

select dblink_exec('one', 'begin');
select is(t.on('one', format($$ select sms.done('work', array[%s]) $$, :a)), '1',
	'done in an open transaction');
select dblink_send_query('two', format($$ select sms.done('work', array[%s]) $$, :a));
select is(t.waits('two', :pid_two), true, 'the same by another worker waits');
select dblink_exec('one', 'commit');
select is(t.answer('two'), '0', 'and is told that somebody else had it');

select dblink_exec('one', 'begin');
select t.on('one', format($$ select sms.done('work', array[%s]) $$, :a + 1));
select dblink_send_query('two', format($$ select sms.done('work', array[%s]) $$, :a + 1));
select is(t.waits('two', :pid_two), true, 'done waits for one that is not committed');
select dblink_exec('one', 'rollback');
select is(t.answer('two'), '1', 'after a rollback it is the one that counts');

select dblink_exec('one', 'begin');
select t.on('one', format($$ select sms.done('work', array[%s]) $$, :a + 2));
select dblink_send_query('two', format($$ select sms.fail('work', %s, 'x') $$, :a + 2));
select is(t.waits('two', :pid_two), true, 'fail waits for it too');
select dblink_exec('one', 'commit');
select is(t.answer('two'), null, 'and finds nothing to give back');
select is((select count(*)::int from sms.lease where consumer = 'work'), 2, 'two are left');

-- The lease has ended, the worker is at its last step.
update sms.lease set due_at = now() where consumer = 'work';
select dblink_exec('one', 'begin');
select t.on('one', format($$ select sms.done('work', array[%s]) $$, :a + 3));
select is(t.on('two', $$ select t.claimed('work', 9) $$), 'e3',
	'a claim passes by what is done in an open transaction, without waiting');
select dblink_exec('one', 'rollback');
select is(t.on('two', $$ select t.claimed('work', 9) $$), 'd3',
	'after a rollback it can be claimed');

-- Two bring the same dead letters back.
insert into sms.dead_letter (consumer, event_id, attempts, reason, died_at)
	values ('work', :a, 10, 'x', now());
select dblink_exec('one', 'begin');
select is(t.on('one', $$ select sms.retry('work') $$), '1', 'retry in an open transaction');
select dblink_send_query('two', $$ select sms.retry('work') $$);
select is(t.waits('two', :pid_two), true, 'the same in another session waits');
select dblink_exec('one', 'commit');
select is(t.answer('two'), '0', 'and brings nothing back a second time');

-- Dead letters that come back to a consumer that goes: no lease is left without one.
create function t.held(consumer text) returns int language sql as $$
	select (select count(*) from sms.consumer c where c.name = held.consumer)
		+ (select count(*) from sms.lease l where l.consumer = held.consumer)
		+ (select count(*) from sms.dead_letter d where d.consumer = held.consumer)
$$;
insert into sms.dead_letter (consumer, event_id, attempts, reason, died_at)
	values ('work', :a + 1, 10, 'x', now());
select dblink_exec('one', 'begin');
select is(t.on('one', $$ select sms.retry('work') $$), '1', 'retry in an open transaction');
select dblink_send_query('two', $$ select sms.drop_consumer('work') $$);
select is(t.waits('two', :pid_two), true, 'drop_consumer waits for it');
select dblink_exec('one', 'commit');
select is(t.answer('two'), 't', 'and then drops the consumer');
select is(t.held('work'), 0, 'with all that it had');

select t.claimed('work', 1, '1 hour');
insert into sms.dead_letter (consumer, event_id, attempts, reason, died_at)
	values ('work', :a + 1, 10, 'x', now());
select dblink_exec('one', 'begin');
select is(t.on('one', $$ select sms.drop_consumer('work') $$), 't',
	'drop_consumer in an open transaction');
select dblink_send_query('two', $$ select sms.retry('work') $$);
select is(t.waits('two', :pid_two), true, 'retry waits for it');
select dblink_exec('one', 'commit');
select is(t.answer('two'), '22023 sms.retry: there is no consumer ''work''',
	'and is told that there is no such consumer');
select is(t.held('work'), 0, 'nothing of it is left');

-- ------------------------------------------------------- those who find nothing

-- An application that asks each second must not write each second.
select is(t.writes('two', $$ select t.polled('idle') $$), 'a b c d e writes',
	'(that a consumer begins is written)');
select t.polled('idle'), t.polled('idle some', '{call,nonsense}');
select t.claimed('busy', 3), t.claimed('busy', 2);
select is(t.writes('two', $$ select t.polled('idle') $$), 'a b c d e',
	'a poll without an ack writes nothing');
select sms.ack('idle', sms.newest_id());
select is(t.writes('two', $$ select t.polled('idle') $$), 'none', 'nor one that finds nothing');
select is(t.writes('two', $$ select t.polled('idle some', '{nonsense,call}') $$), 'none',
	'nor one for kinds that never came');
select is(t.writes('two', $$ select t.polled('idle some', '{call}') $$), 'none',
	'nor one for fewer of them');
select is(t.writes('two', $$ select t.claimed('busy', 9) $$), 'none',
	'nor a claim that finds nothing, while others are at work');
select sms.done('busy', (select array_agg(id) from sms.event));
select is(t.writes('two', $$ select t.claimed('busy', 9) $$), 'none',
	'nor one when all is done');
select is(t.writes('two', $$ select string_agg(lag::text, ' ' order by consumer) from sms.consumer_lag
	where consumer in ('busy', 'idle', 'idle some') $$), '0 0 0', 'nor does a look at the lag');
select sms.seek('busy', 0);
select is(t.writes('two', $$ select t.claimed('busy', 1) $$), 'a1 writes',
	'(one that finds something does)');

-- ---------------------------------------------------- a claim of what is purged

delete from sms.event;
select sms.drop_consumer(name) from sms.consumer;
select t.ids('[{"body": "a"}, {"body": "b"}]');
select sms.seek('work', null);
select dblink_exec('one', 'begin');
select is(t.on('one', $$ select sms.purge('0') $$), '2', 'purge in an open transaction');
select is(t.on('two', $$ select sms.seek('work', 0) $$), '0', 'a seek back meanwhile');
select is(t.on('two', $$ select t.claimed('work', 1, '1 microsecond') $$), 'a1',
	'and a claim of what is being purged');
select dblink_exec('one', 'commit');
select is(t.on('one', $$ select cardinality(t.ids('[{"body": "c"}, {"body": "d"}]')) $$), '2',
	'(others come)');
select is(t.on('two', $$ select t.claimed('work', 1) $$), 'c1', 'the next claim gets the next event');
select is((select count(*)::int from sms.lease), 1, 'and ends the lease of the one that is gone');
select is(t.on('two', $$ select sms.done('work', array[sms.newest_id() - 1]) $$), '1', 'that is done');
select is(t.on('one', $$ select sms.purge('0') $$), '1', 'nothing of it stops the next purge');

-- -------------------------------------------------------------------- replies

delete from sms.event;
select t.ids('[{"body": "VERIFY 1", "phone": "+491"}, {"body": "VERIFY 2", "phone": "+491"}]');
create function t.reply() returns text language sql as $$
	select coalesce(string_agg(body, ', '), 'none')
	from sms.take_reply('+491', 'VERIFY', '2026-01-01', '1000 years')
$$;
select dblink_exec('one', 'begin');
select is(t.on('one', 'select t.reply()'), 'VERIFY 1', 'one session takes a reply');
select dblink_send_query('two', 'select t.reply()');
select is(t.waits('two', :pid_two), true, 'another one waits for what becomes of it');
select dblink_exec('one', 'rollback');
select is(t.answer('two'), 'VERIFY 1', 'and takes it after a rollback');

select dblink_exec('one', 'begin');
select is(t.on('one', 'select t.reply()'), 'VERIFY 2', 'the first session takes the next one');
select dblink_send_query('two', 'select t.reply()');
select is(t.waits('two', :pid_two), true, 'the other one waits');
select dblink_exec('one', 'commit');
select is(t.answer('two'), 'none', 'after a commit there is none left');
select is(t.on('one', 'select t.reply()'), 'none', 'for nobody');

-- --------------------------------------------------------------------- forget

delete from sms.event;
select sms.drop_consumer(name) from sms.consumer;
select t.ids('[{"body": "once", "phone": "+492", "digest": "\\x01"}]');
select dblink_exec('one', 'begin');
select is(t.on('one', $$ select sms.forget('+492')::text $$), '(1,0)', 'an event is being forgotten');
select dblink_send_query('two', $$ select coalesce(i.duplicate_of::text, 'none')
	from t.ingest('[{"body": "once", "phone": "+492", "digest": "\\x01"}]') i $$);
select is(t.waits('two', :pid_two), true, 'the same body comes, and waits for what becomes of it');
select dblink_exec('one', 'commit');
select is(t.answer('two'), 'none', 'it is no duplicate of what is gone');
select is((select count(*)::int from sms.recent_body join sms.event on id = first_id
	where body = 'once'), 1, 'but others are of it');

select dblink_disconnect('one');
select dblink_disconnect('two');
select * from finish();
