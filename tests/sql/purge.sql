-- sms.purge, sms.purge_step and sms.is_unseen: what is old goes, what somebody
-- has still to see stays.

-- First what psql alone can see, the notice: it needs a session of its own and
-- rows that are committed.
select t.ids('[{"received_at": "2020-01-01T00:00:00Z"}]');
begin;
select sms.poll('Bob''s shop'), sms.poll('up to date');
select sms.ack('up to date', (select max(id) from sms.event));
commit;
\set notice `psql -XqAt -d :'DBNAME' -c "select sms.purge('1 day')" 2>&1`
-- Now by a lease and by a dead letter alone.
select sms.seek('Bob''s shop', null);
select count(*) from sms.claim('at work');
select sms.fail('buried', id, 'x') from sms.claim('buried', max_attempts => 1);
\set held `psql -XqAt -d :'DBNAME' -c "select sms.purge('1 day')" 2>&1`
select sms.drop_consumer('at work'), sms.drop_consumer('buried');
\set silence `psql -XqAt -d :'DBNAME' -c "select sms.purge('1 day')" 2>&1`

begin;
set local client_min_messages = warning; -- of the many that come below
select plan(104);

select matches(:'notice'::text, 'NOTICE:  sms\.purge: consumer ''Bob''''s shop'' has still to see',
	'purge: a notice names who holds events');
select matches(:'notice'::text, 'HINT: .*sms\.consumer_lag.*sms\.drop_consumer',
	'and says what to do');
select unalike(:'notice'::text, '%up to date%', 'it does not name others');
select matches(:'notice'::text, '(^|\n)0(\n|$)', 'what they hold is not counted');
select matches(:'held'::text, 'NOTICE: .* consumer ''at work'' has', 'who has one claimed is named');
select matches(:'held'::text, 'NOTICE: .* consumer ''buried'' has', 'who has a dead letter, too');
select matches(:'held'::text, 'HINT: .*sms\.lease.*sms\.dead_letter.*sms\.drop_consumer',
	'and where they are');
select is((select count(*)::int from regexp_matches(:'held'::text, 'NOTICE', 'g')), 2, 'nobody else');
select matches(:'held'::text, '(^|\n)0(\n|$)', 'these are not counted either');
select is(:'silence'::text, '1', 'no notice when nobody holds any');
select sms.drop_consumer(name) from sms.consumer;

-- ------------------------------------------------------------- no event yet

select is(sms.purge('0'), 0::bigint, 'purge: an empty log');
select is((select row(s.*)::text from sms.purge_step(now(), null, 100) s), '(,0)',
	'purge_step: an empty log is at its end');
select is((select row(s.*)::text from sms.purge_step(now(), now() - interval '1 day', 100) s), '(,0)',
	'purge_step: from a place on');
select is(sms.is_unseen(1, 'incoming_sms', null), false, 'is_unseen: without a consumer');

-- ---------------------------------------------------------------- what is old

-- Bodies in the order of their ids.
create function pg_temp.left_over() returns text language sql as
	$$ select coalesce(string_agg(body, ' ' order by id), 'none') from sms.event $$;
create function pg_temp.id(body text) returns bigint language sql as
	'select min(id) from sms.event e where e.body = $1';
-- Bodies, a day of age each: {"body": 3} was received 3 days ago.
create function pg_temp.store(bodies json) returns void language sql as $$
	select t.ids(jsonb_agg(jsonb_build_object('body', key,
		'received_at', now() - value::numeric * interval '1 day')))
	from json_each_text(bodies)
$$;

savepoint s;
select pg_temp.store('{"a": 1, "b": 5, "c": 2, "d": 4, "e": 3, "f": -1}');
select is(sms.purge('4 days 1 hour'), 1::bigint, 'purge: returns how many');
select is(pg_temp.left_over(), 'a c d e f', 'purge: by the time of reception, not by id');
select is(sms.purge('2 days'), 2::bigint, 'purge: more of them');
select is(pg_temp.left_over(), 'a c f', 'purge: exactly that old is not older');
select is(sms.purge('2 days'), 0::bigint, 'purge: nothing the second time');
select is(sms.purge('100 years'), 0::bigint, 'purge: nothing is that old');
select is(sms.purge('0'), 2::bigint, 'purge: all that is older than now');
select is(pg_temp.left_over(), 'f', 'purge: what is to come stays');
select pg_temp.store('{"g": 32}');
select is(sms.purge('1 month'), 1::bigint, 'purge: by months');
rollback to s;

select pg_temp.store('{"a": 3}');
savepoint s2;
select sms.purge('1 day');
rollback to s2;
select is(pg_temp.left_over(), 'a', 'a rollback takes it back');
rollback to s;

-- ---------------------------------------------------- what goes with an event

select t.ids(jsonb_build_array(
	jsonb_build_object('kind', 'delivery_status', 'message_id', 'old', 'status', 'delivered',
		'received_at', now() - interval '9 days'),
	jsonb_build_object('kind', 'delivery_status', 'message_id', 'both', 'status', 'sent',
		'received_at', now() - interval '9 days'),
	jsonb_build_object('kind', 'delivery_status', 'message_id', 'both', 'status', 'delivered'),
	jsonb_build_object('kind', 'delivery_status', 'message_id', 'new', 'status', 'delivered'),
	jsonb_build_object('kind', 'delivery_status', 'message_id', 'same', 'source', 'one',
		'status', 'sent',
		'received_at', now() - interval '9 days'),
	jsonb_build_object('kind', 'delivery_status', 'message_id', 'same', 'source', 'two',
		'status', 'sent'),
	jsonb_build_object('phone', '+491', 'body', 'old', 'received_at', now() - interval '9 days'),
	jsonb_build_object('phone', '+491', 'body', 'new'),
	jsonb_build_object('digest', '\x01', 'received_at', now() - interval '6 days'),
	jsonb_build_object('digest', '\x01', 'received_at', now() - interval '6 days'),
	jsonb_build_object('http_status', 422, 'reason', 'old', 'received_at', now() - interval '9 days'),
	jsonb_build_object('http_status', 422, 'reason', 'new')));
select count(*) from sms.take_reply('+491', null, '2020-01-01', '100 years');
select count(*) from sms.take_reply('+491', null, '2020-01-01', '100 years');
select is(sms.purge('8 days'), 4::bigint, 'purge: events of 9 days');
select is((select string_agg(concat_ws(' ', message_id, source), ', ' order by message_id)
	from sms.message), 'both test, new test, same two', 'with messages whose status they decided');
select is((select status from sms.message where message_id = 'both'), 'delivered',
	'what a newer event decided stays');
select is((select array_agg(body) from sms.reply_taken r join sms.event e on e.id = r.event_id),
	'{new}',
	'with the note that a reply was taken');
select is((select count(*)::int from sms.reply_taken), 1, 'and no other is left');
select is((select array_agg(reason) from sms.rejected), '{new}',
	'with rejected bodies of that age');
select is(sms.purge('5 days'), 2::bigint, 'purge: duplicates too');
rollback to s;
select t.ids(jsonb_build_array(jsonb_build_object('http_status', 422, 'reason', 'old',
	'received_at', now() - interval '9 days')));
select is(sms.purge('1 day'), 0::bigint, 'purge: rejected bodies are not counted');
select is((select count(*)::int from sms.rejected), 0, 'but go without any event too');
rollback to s;

-- ------------------------------------------------------ who has still to see it

select pg_temp.store('{"a": 9, "b": 8, "c": 7, "d": 6, "e": 1}');
select t.ids(jsonb_build_array(jsonb_build_object('body', 'call', 'kind', 'call',
	'received_at', now() - interval '9 days')));
savepoint s3;
select sms.poll('slow');
select is(sms.purge('2 days'), 0::bigint, 'held: a consumer from its first poll');
select sms.ack('slow', pg_temp.id('b'));
select is(sms.purge('2 days'), 2::bigint, 'held: what it has seen is free');
select is(pg_temp.left_over(), 'c d e call', 'held: exactly what it has still to see');
select sms.ack('slow', pg_temp.id('c')), sms.poll('slower');
select is(sms.purge('2 days'), 0::bigint, 'held: by the slowest');
select sms.drop_consumer('slower');
select is(sms.purge('2 days'), 1::bigint, 'held: not by one that was dropped');
select sms.seek('slow', null);
select is(sms.purge('2 days'), 2::bigint, 'held: not by one that was put to the end');
select is(pg_temp.left_over(), 'e', 'what is younger stays');
rollback to s3;

select sms.poll('kinds', 1, '{call}');
select is(sms.purge('2 days'), 4::bigint, 'held: with kinds, those kinds alone');
select is(pg_temp.left_over(), 'e call', 'held: the call');
select sms.poll('kinds', 1, '{nonsense,Call}');
select is(sms.purge('2 days'), 0::bigint, 'held: by kinds that it ever asked for');
select is(pg_temp.left_over(), 'e call', 'held: the call still');
select sms.seek('kinds', 0), sms.poll('kinds', 1, '{nonsense,Call}');
select is(sms.purge('2 days'), 1::bigint, 'held: after sms.seek, by those that it asks for then');
rollback to s3;

-- A look at one kind, without an ack, gives the others to nobody.
select sms.poll('shop', 1), sms.poll('shop', 1, '{call}');
select is(sms.purge('2 days'), 0::bigint, 'held: all, after a look at one kind');
select is((select string_agg(body, ' ') from sms.poll('shop')), 'a b c d e call', 'held: to be read');
rollback to s3;
select sms.poll('shop', 1, '{call}'), sms.poll('shop', 1, '{incoming_sms}');
select is(sms.purge('2 days'), 0::bigint, 'held: of both kinds, after a look at the second');
rollback to s3;
select sms.seek('any', 0);
select is(sms.purge('2 days'), 0::bigint, 'held: all, by one that has not asked yet');
select sms.poll('any', 1, '{call}');
select is(sms.purge('2 days'), 4::bigint, 'held: until it does');
select is(pg_temp.left_over(), 'e call', 'held: then its kinds alone');
rollback to s3;
select t.ids(jsonb_build_array(
	jsonb_build_object('body', 'first', 'digest', '\x0f', 'received_at', now() - interval '3 days'),
	jsonb_build_object('body', 'again', 'digest', '\x0f', 'received_at', now() - interval '3 days')));
select sms.poll('slow'), sms.ack('slow', pg_temp.id('call'));
select is(sms.purge('2 days'), 6::bigint, 'held: no duplicate, for nobody sees it');
select is(pg_temp.left_over(), 'e first', 'but the first of them');
rollback to s3;

-- Claimed events and dead letters.
select count(*) from sms.claim('work', 3, '1 hour', '{incoming_sms}', 1);
select is(sms.purge('2 days'), 1::bigint, 'held: what is claimed, with what is to come');
select is(pg_temp.left_over(), 'a b c d e', 'held: of its kinds');
select sms.seek('end', null), sms.done('work', array[pg_temp.id('b')]);
select sms.fail('work', pg_temp.id('c'), 'x');
select is(sms.purge('2 days'), 1::bigint, 'held: not what is done');
select is(pg_temp.left_over(), 'a c d e', 'held: leased, dead and unseen ones');
update sms.lease set due_at = now() - interval '1 hour';
select is(sms.purge('2 days'), 0::bigint, 'held: also when its lease has ended');
select sms.retry('work'), sms.purge('2 days');
select is(pg_temp.left_over(), 'a c d e', 'held: also when it was brought back');
select sms.seek('work', null), sms.poll('other', 1, '{nonsense}');
select is(sms.purge('2 days'), 1::bigint, 'held: leases outlast a seek to the end');
select is(pg_temp.left_over(), 'a c e', 'held: and nothing else');
select sms.drop_consumer('work');
select is(sms.purge('2 days'), 2::bigint, 'held: not by what a dropped consumer had');
rollback to s3;

-- Old by its reception, new by its id: a spool that was drained late.
select sms.seek('slow', null);
select pg_temp.store('{"late": 9}');
select is(sms.purge('2 days'), 5::bigint, 'held: what came late is not seen yet');
select is(pg_temp.left_over(), 'e late', 'it stays');
select is((select string_agg(body, ' ') from sms.poll('slow')), 'late', 'and is read');
rollback to s3;

-- What purge leaves, a consumer reads.
select sms.poll('slow'), sms.ack('slow', pg_temp.id('b'));
select sms.purge('0');
select is((select string_agg(body, ' ') from sms.poll('slow')), 'c d e call', 'nothing is missed');
select is((select lag from sms.consumer_lag), 4::bigint, 'nor is the lag another');
rollback to s3;

-- is_unseen by itself.
select is(sms.is_unseen(pg_temp.id('b'), 'incoming_sms', null), false,
	'is_unseen: without a consumer');
select sms.poll('slow', 1, '{incoming_sms,call}'), sms.ack('slow', pg_temp.id('b'));
insert into sms.lease (consumer, event_id, attempts, due_at) values ('x', 5, 1, now());
insert into sms.dead_letter (consumer, event_id, attempts, reason, died_at)
values ('x', 6, 1, 'x', now());
select is(sms.is_unseen(pg_temp.id('b') + x.n, x.kind, x.duplicate_of), x.want, 'is_unseen: ' || x.what)
from (values
	(-1, 'incoming_sms', null, false, 'before the place'),
	(0, 'incoming_sms', null, false, 'at the place'),
	(1, 'incoming_sms', null, true, 'after it'), (1, 'call', null, true, 'of another of its kinds'),
	(1, 'nonsense', null, false, 'of none of its kinds'), (1, 'incoming_sms', 1, false, 'a duplicate'),
	(999999, 'call', null, true, 'an event that is to come')
) x(n, kind, duplicate_of, want, what);
select is(sms.is_unseen(5, 'nonsense', 1), true, 'is_unseen: one that is leased');
select is(sms.is_unseen(6, 'nonsense', 1), true, 'is_unseen: a dead letter');
select is(sms.is_unseen(null, null, null), false, 'is_unseen: no event');
select sms.seek('slow', pg_temp.id('b'));
select is(sms.is_unseen(pg_temp.id('b') + x.n, 'nonsense', x.duplicate_of), x.want,
	'is_unseen, of any kind: ' || x.what)
from (values (0, null, false, 'at the place'), (1, null, true, 'after it'),
	(1, 1, false, 'a duplicate')) x(n, duplicate_of, want, what);
rollback to s;

-- ------------------------------------------------------------------ the steps

-- a and b have one time, so do c, d and e.
select t.ids(jsonb_agg(jsonb_build_object('body', x.body, 'received_at', x.at)))
from (values ('f', '2026-01-04T00:00Z'), ('a', '2026-01-01T00:00Z'), ('c', '2026-01-02T00:00Z'),
	('b', '2026-01-01T00:00Z'), ('d', '2026-01-02T00:00Z'), ('e', '2026-01-02T00:00Z'),
	('g', '2026-01-05T00:00Z')) x(body, at);
create function pg_temp.step(batch int, place text default null,
	cutoff text default '2026-01-05 00:00Z') returns text language sql as $$
	select format('%s, to %s', deleted, coalesce(to_char(s.place at time zone 'UTC', 'DD'), 'the end'))
	from sms.purge_step(cutoff::timestamptz, place::timestamptz, batch) s
$$;
-- All of them, as smshook purge does it.
create function pg_temp.steps(batch int, out steps int, out deleted bigint) language plpgsql as $$
declare
	s record;
	place timestamptz;
begin
	steps := 0;
	deleted := 0;
	loop
		select * into s from sms.purge_step('2026-01-05 00:00Z', place, batch);
		steps := steps + 1;
		deleted := deleted + s.deleted;
		place := s.place;
		exit when place is null or steps > 100;
	end loop;
end
$$;
savepoint s4;
select is(pg_temp.step(1), '2, to 01', 'purge_step: a batch of 1, with all of the same time');
select is(pg_temp.left_over(), 'f c d e g', 'purge_step: they are gone');
select is(pg_temp.step(1, '2026-01-01 00:00Z'), '3, to 02',
	'purge_step: from there on, three at once');
select is(pg_temp.step(1, '2026-01-02 00:00Z'), '1, to 04', 'purge_step: one');
select is(pg_temp.step(1, '2026-01-04 00:00Z'), '0, to the end', 'purge_step: the end');
select is(pg_temp.left_over(), 'g', 'purge_step: before cutoff alone');
rollback to s4;
select is(pg_temp.step(3), '5, to 02', 'purge_step: a batch ends among equal times');
rollback to s4;
select is(pg_temp.step(100), '6, to 04', 'purge_step: more than there is');
rollback to s4;
select is(pg_temp.step(100, '2026-01-01 00:00Z'), '4, to 04', 'purge_step: after a place alone');
select is(pg_temp.left_over(), 'a b g', 'purge_step: what was before it is left');
rollback to s4;
select is(pg_temp.step(100, null, '2026-01-02 00:00Z'), '2, to 01',
	'purge_step: cutoff is not before itself');
select is(pg_temp.step(1, null, null), '0, to the end', 'purge_step: without cutoff nothing');
rollback to s4;
select sms.poll('slow');
select is(pg_temp.step(1), '0, to 01', 'purge_step: what is held is passed');
select is(pg_temp.step(100, '2026-01-01 00:00Z'), '0, to 04', 'purge_step: to the end');
rollback to s4;

-- Rejected bodies in batches of their own, that hold nobody up.
select t.ids(jsonb_agg(jsonb_build_object('http_status', 400, 'reason', i,
	'received_at', '2026-01-01T00:00Z'))) from generate_series(1, 5) i;
select is((select row(s.*)::text from pg_temp.steps(1) s), '(6,6)',
	'purge_step: as many steps as there are rejected bodies, where these are more');
select is((select row(count(*), (select count(*) from sms.rejected))::text from sms.event), '(1,0)',
	'all are gone');
rollback to s4;
select t.ids(jsonb_agg(jsonb_build_object('http_status', 400, 'reason', i,
	'received_at', '2026-01-01T00:00Z'))) from generate_series(1, 5) i;
delete from sms.event;
select is((select row(s.*)::text from pg_temp.steps(2) s), '(3,0)',
	'purge_step: rejected bodies alone');
select is((select count(*)::int from sms.rejected), 0, 'all are gone too');
rollback to s;

-- More than one batch of sms.purge, many of one time.
select t.ids(jsonb_agg(jsonb_build_object('received_at',
	timestamptz '2026-01-01' + i / 4000 * interval '1 s'))) from generate_series(1, 9000) i;
select sms.poll('slow', 1);
update sms.consumer set last_id = (select min(id) from sms.event) + 8998;
select is(sms.purge('1 day'), 8999::bigint, 'purge: batches');
select is((select count(*)::int from sms.event), 1, 'one is held');
rollback to s;

-- ---------------------------------------------------------- wrong arguments

select matches(t.error(x.call), x.want, 'refused: ' || x.call)
from (values
	($$ select sms.purge(null) $$, '^22023 sms\.purge: older_than is null \| .*''90 days'''),
	($$ select sms.purge('-1 s') $$, '^22023 sms\.purge: older_than is -00:00:01 \| .*''90 days'''),
	($$ select sms.purge('1 day -25 hours') $$,
		'^22023 sms\.purge: older_than is .* \| .*''90 days''')
) x(call, want);

select * from finish();
rollback;
