-- Two sessions of one consumer: who waits, who gets what.  By dblink, two
-- sessions besides this one.

select not exists (select from pg_extension where extname = 'dblink') as no_dblink \gset
\if :no_dblink
\echo 1..0 # SKIP dblink is not installed
\quit
\endif

select plan(67);

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
	answer := (select d.answer from dblink_get_result(connection) as d(answer text));
	perform from dblink_get_result(connection) as d(answer text);
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

-- ------------------------------------------------------------ who waits for it

select dblink_exec('one', 'begin');
select t.on('one', $$ select t.polled('new') $$);
select dblink_send_query('two', format($$ select sms.ack('new', %s) $$, :a + 3));
select is(t.waits('two', :pid_two), true, 'ack waits for the poll of another session');
select t.on('one', format($$ select sms.ack('new', %s) $$, :a + 2));
select dblink_exec('one', 'commit');
select is(t.answer('two'), (:a + 3)::text, 'and then moves the place on');
select is((select last_id from sms.consumer where name = 'new'), :a::bigint + 3, 'it is kept');

select dblink_exec('one', 'begin');
select t.on('one', $$ select t.polled('new') $$);
select dblink_send_query('two', $$ select sms.seek('new', 0) $$);
select is(t.waits('two', :pid_two), true, 'so does seek');
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

select dblink_disconnect('one');
select dblink_disconnect('two');
select * from finish();
