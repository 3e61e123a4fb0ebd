-- sms.poll, sms.ack, sms.seek, sms.drop_consumer and sms.unseen, in one session.
-- What two sessions do to each other is in sessions.sql.

begin;
select plan(148);

-- Bodies of what a poll returns, in the order that it returns them.
create function pg_temp.polled(consumer text, max int default 100,
	kinds text[] default null) returns text language sql as $$
	select coalesce(string_agg(body, ' '), 'none') from sms.poll(consumer, max, kinds)
$$;
create function pg_temp.place(consumer text) returns bigint language sql as
	'select c.last_id from sms.consumer c where c.name = $1';

-- What it has asked for, null for all, in an order that can be compared.
create function pg_temp.kinds(consumer text) returns text[] language sql as $$
	select case when c.kinds is not null
		then array(select k from unnest(c.kinds) k order by k collate "C") end
	from sms.consumer c where c.name = $1
$$;

-- ------------------------------------------------------------- no event yet

select is(pg_temp.polled('early'), 'none', 'poll: nothing in an empty log');
select is((select to_jsonb(c) - 'created_at' from sms.consumer c),
	'{"name": "early", "last_id": 0, "kinds": null, "max_attempts": 10, "moved_at": null}',
	'poll: the consumer is there from its first call');
select is((select created_at from sms.consumer), now(), 'with the time');
select is(pg_temp.polled('early', 100, '{incoming_sms}'), 'none',
	'poll: nothing of a kind in an empty log');
select is((select count(*)::int from sms.unseen(0, null, 100)), 0, 'unseen: nothing either');
select is((select count(*)::int from sms.unseen(0, '{incoming_sms}', 100)), 0,
	'unseen: nor of a kind');
select is(sms.newest_id(), 0::bigint, 'newest_id: 0');
select is(sms.ack('early', 0), 0::bigint, 'ack: 0 changes nothing');
select is(sms.ack('early', null), 0::bigint, 'ack: nor does null');
select matches(t.error($$ select sms.ack('early', 1) $$),
	'^22023 sms\.ack: 1 is larger than the newest id, 0 \| .*sms\.poll',
	'ack: no id is as large as an event that is not there');
select is(sms.seek('early', 0), 0::bigint, 'seek: to the begin of an empty log');
select is(sms.seek('early', null), 0::bigint, 'seek: to its end');
select matches(t.error($$ select sms.seek('early', 1) $$),
	'^22023 sms\.seek: 1 is not between 0 and the newest id, 0 \| .{20}',
	'seek: not behind its end');
select is(sms.drop_consumer('nobody'), false, 'drop_consumer: false if there is none');
select is(sms.drop_consumer(null), false, 'drop_consumer: nor of no name');
select is(sms.drop_consumer('early'), true, 'drop_consumer: true if there was one');
select is((select count(*)::int from sms.consumer), 0, 'and it is gone');

-- ------------------------------------------------------------- what is read

create temp table e on commit drop as
select i.id, i.n, i.duplicate_of from t.ingest('[
	{"body": "a", "digest": "\\x01"},
	{"body": "b", "kind": "delivery_status", "message_id": "m", "status": "sent"},
	{"body": "a", "digest": "\\x01"},
	{"body": "d"},
	{"body": "e", "kind": "call"},
	{"body": "f"}]') i;
create function pg_temp.id(n int) returns bigint language sql as
	'select id from e where e.n = $1';

select is(sms.newest_id(), pg_temp.id(6), 'newest_id: of the newest event');
select is(pg_temp.polled('one'), 'a b d e f', 'poll: in order, from the oldest, no duplicates');
select results_eq($$ select * from sms.poll('one') $$,
	$$ select * from sms.event where duplicate_of is null order by id $$,
	'poll: the rows are those of sms.event');
select is(pg_temp.polled('one'), 'a b d e f', 'poll: the same again, until there is an ack');
select is(pg_temp.place('one'), 0::bigint, 'poll: moves no place');
select is(pg_temp.polled('one', 1), 'a', 'poll: no more than max, 1');
select is(pg_temp.polled('one', 3), 'a b d', 'poll: no more than max, 3');
select is(pg_temp.polled('one', 2147483647), 'a b d e f', 'poll: the largest max');

select is(sms.ack('one', pg_temp.id(2)), pg_temp.id(2), 'ack: returns the place');
select is(pg_temp.polled('one'), 'd e f', 'ack: what was seen does not come again');
select is((select moved_at between now() and clock_timestamp() from sms.consumer
		where name = 'one'), true, 'ack: says when');
update sms.consumer set moved_at = '2026-01-15' where name = 'one';
select is(sms.ack('one', pg_temp.id(1)), pg_temp.id(2), 'ack: does not move back');
select is(sms.ack('one', -1), pg_temp.id(2), 'ack: not below 0 either');
select is(sms.ack('one', null), pg_temp.id(2), 'ack: null does not move');
select is(sms.ack('one', pg_temp.id(2)), pg_temp.id(2), 'ack: nor does the same again');
select is((select moved_at from sms.consumer where name = 'one'), '2026-01-15',
	'and then says no other time');
select matches(t.error(format($$ select sms.ack('one', %s) $$, pg_temp.id(6) + 1)),
	'^22023 sms\.ack: ' || pg_temp.id(6) + 1 || ' is larger than the newest id, '
	|| pg_temp.id(6) || ' \| .*last id that sms\.poll has returned',
	'ack: refuses what is not there yet');
select is(pg_temp.place('one'), pg_temp.id(2), 'and stays');
select is(sms.ack('one', pg_temp.id(3)), pg_temp.id(3), 'ack: a duplicate''s id is one too');
select is(sms.ack('one', pg_temp.id(6)), pg_temp.id(6), 'ack: up to the newest');
select is(pg_temp.polled('one'), 'none', 'then there is nothing');
select is(pg_temp.polled('two', 2), 'a b', 'another consumer has its own place');

-- Nothing of it is there when it is rolled back.
savepoint s;
select pg_temp.polled('three', 100, '{call}');
select sms.ack('two', pg_temp.id(6));
rollback to s;
select is((select array_agg(name order by name) from sms.consumer), '{one,two}',
	'a rollback takes a new consumer back');
select is(pg_temp.polled('two', 2), 'a b', 'and the place that ack moved');

-- -------------------------------------------------------------------- kinds

select is(pg_temp.polled('kinds', 100, '{incoming_sms}'), 'a d f', 'kinds: one');
select is(pg_temp.kinds('kinds'), '{incoming_sms}', 'kinds: they are remembered');
select is(pg_temp.polled('kinds', 100, '{incoming_sms,call}'), 'a d e f', 'kinds: two, in order');
select is(pg_temp.polled('kinds', 100, '{call,incoming_sms,delivery_status}'), 'a b d e f',
	'kinds: three, in order of their ids');
select is(pg_temp.polled('kinds', 2, '{call,incoming_sms,delivery_status}'), 'a b',
	'kinds: max counts over all of them');
select is(pg_temp.polled('kinds', 100, '{call,call,incoming_sms,call}'), 'a d e f',
	'kinds: named twice, returned once');
select matches(t.error($$ select sms.poll('kinds', 100, '{{call,incoming_sms}}') $$),
	'^22023 sms.poll: kinds is .* no plain list', 'kinds: no array of arrays');
select is(pg_temp.polled('kinds', 100, '{nonsense}'), 'none', 'kinds: an unknown one');
select is(pg_temp.polled('kinds', 100, '{nonsense,call}'), 'e',
	'kinds: an unknown one and a known');
select is(pg_temp.polled('kinds', 100, '{""}'), 'none', 'kinds: an empty name is a name');
select is(pg_temp.polled('kinds', 100, '{Call}'), 'none', 'kinds: by their letters');
select is(pg_temp.kinds('kinds'), '{"",Call,call,delivery_status,incoming_sms,nonsense}',
	'kinds: all that it ever asked for are remembered');
select is(pg_temp.polled('kinds'), 'a b d e f', 'kinds: all, when left out');
select is(pg_temp.kinds('kinds'), null, 'which is remembered too');
select is(pg_temp.polled('kinds', 100, '{call}'), 'e', 'kinds: a look at one of them');
select is(pg_temp.kinds('kinds'), null, 'kinds: it still reads all');
select sms.seek('kinds', 0);
select is(pg_temp.kinds('kinds'), '{}', 'kinds: none are known after sms.seek');
select is(pg_temp.polled('kinds', 100, '{call}'), 'e', 'kinds: then it asks for some');
select is(pg_temp.kinds('kinds'), '{call}', 'kinds: and has asked for these alone');
select sms.seek('kinds', 0);
select is(pg_temp.polled('kinds'), 'a b d e f', 'kinds: or for all');
select is(pg_temp.kinds('kinds'), null, 'kinds: and has asked for all');

select t.ids(jsonb_build_array(
	jsonb_build_object('body', 'long1', 'kind', repeat('k', 250) || '1'),
	jsonb_build_object('body', 'long2', 'kind', repeat('k', 250) || '2'),
	jsonb_build_object('body', 'long0', 'kind', repeat('k', 250))));
select is(pg_temp.polled('kinds', 100, array[repeat('k', 250) || x.suffix]), x.want,
	'kinds: told apart behind their 250th letter: ' || x.want)
from (values ('1', 'long1'), ('2', 'long2'), ('', 'long0'), ('3', 'none')) x(suffix, want);
select is(pg_temp.polled('kinds', 100, array[repeat('k', 250) || '2',
	repeat('k', 250) || '1', repeat('k', 250) || '1']), 'long1 long2', 'also two of them');
delete from sms.event where kind like 'kk%';

-- -------------------------------------------------------------------- names

select is(pg_temp.polled(x.name, 1), 'a', 'name: ' || x.what)
from (values ('Käufer 📱 سلام', 'unicode'), (repeat('n', 200), '200 characters'),
	(repeat('ü', 200), '200 characters of two bytes'),
	('o''Brien "; drop schema sms; --', 'quotes'), (' ', 'a blank'),
	('%s $1 \', 'others')) x(name, what);
select is((select count(*)::int from sms.consumer where name like 'Käufer%'
		or name in (repeat('n', 200), repeat('ü', 200), ' ', '%s $1 \')
		or name = 'o''Brien "; drop schema sms; --'), 6, 'they are kept as they are');
select is(sms.ack('o''Brien "; drop schema sms; --', pg_temp.id(1)), pg_temp.id(1),
	'and can be called again');
select is(sms.seek(repeat('ü', 200), pg_temp.id(4)), pg_temp.id(4), 'by each function');
select is(sms.drop_consumer('Käufer 📱 سلام'), true, 'which knows them');

-- ---------------------------------------------------------- wrong arguments

select matches(t.error(x.call), x.want, 'refused: ' || x.call)
from (values
	($$ select sms.poll(null) $$, '^22023 sms\.poll: the consumer has no name.* \| .*sms\.poll\('),
	($$ select sms.poll('') $$, '^22023 sms\.poll: the consumer has no name.* \| .*sms\.poll\('),
	($$ select sms.poll(repeat('n', 201)) $$,
		'^22023 sms\.poll: .* more than 200 characters \| .*sms\.poll\('),
	($$ select sms.poll('x', 0) $$, '^22023 sms\.poll: max is 0 \| .*1 event or more'),
	($$ select sms.poll('x', -1) $$, '^22023 sms\.poll: max is -1 \| .*1 event or more'),
	($$ select sms.poll('x', null) $$, '^22023 sms\.poll: max is null \| .*1 event or more'),
	($$ select sms.poll('x', 1, '{}') $$, '^22023 sms\.poll: kinds is empty.* \| .*incoming_sms'),
	($$ select sms.poll('x', 1, '{null}') $$, '^22023 sms\.poll: kinds .*null.* \| .*incoming_sms'),
	($$ select sms.poll('x', 1, '{a,null}') $$,
		'^22023 sms\.poll: kinds .*null.* \| .*incoming_sms'),
	($$ select sms.ack('x', 1) $$,
		'^22023 sms\.ack: there is no consumer ''x'' \| .*first sms\.poll'),
	($$ select sms.ack(null, 1) $$,
		'^22023 sms\.ack: there is no consumer null \| .*first sms\.poll'),
	($$ select sms.ack('One', 1) $$,
		'^22023 sms\.ack: there is no consumer ''One'' \| .* one, two'),
	($$ select sms.seek(null, 0) $$,
		'^22023 sms\.seek: the consumer has no name.* \| .*sms\.seek\('),
	($$ select sms.seek('', 0) $$, '^22023 sms\.seek: the consumer has no name.* \| .*sms\.seek\('),
	($$ select sms.seek(repeat('n', 201), 0) $$,
		'^22023 sms\.seek: .* more than 200 .* \| .*sms\.seek\('),
	($$ select sms.seek('one', -1) $$,
		'^22023 sms\.seek: -1 is not between 0 and .* \| 0 is .*null is'),
	($$ select sms.seek('one', 9223372036854775807) $$,
		'^22023 sms\.seek: 9223372036854775807 is not between 0 and .* \| 0 is .*null is')
) x(call, want);
select is((select count(*)::int from sms.consumer where name = 'x'), 0,
	'a call that is refused makes no consumer');
select throws_ok($$ insert into sms.consumer (name) values ('') $$, '23514', null,
	'nor is one without a name there by hand');

-- The hint names consumers, but not thousands of them.
savepoint s;
insert into sms.consumer (name) select 'many' || lpad(i::text, 4, '0') from generate_series(1, 1000) i;
delete from sms.consumer where name not like 'many%';
select matches(t.error($$ select sms.ack('x', 1) $$),
	'There are: many0001, many0002, .*, many0020$', 'the hint names 20 at most');
delete from sms.consumer;
select matches(t.error($$ select sms.ack('x', 1) $$), 'There are: none$',
	'or says that there are none');
rollback to s;

-- --------------------------------------------------------------------- seek

select is(sms.seek('one', 0), 0::bigint, 'seek: back to the begin, returns the place');
select is(pg_temp.polled('one'), 'a b d e f', 'all come again');
select is(sms.seek('one', pg_temp.id(4)), pg_temp.id(4), 'seek: forward');
select is(pg_temp.polled('one'), 'e f', 'what is after it comes');
select is(sms.seek('one', pg_temp.id(2)), pg_temp.id(2), 'seek: back, not to the begin');
select is(pg_temp.polled('one'), 'd e f', 'what is after it comes again');
select is(sms.seek('one', null), pg_temp.id(6), 'seek: null is after the newest');
select is(pg_temp.polled('one'), 'none', 'nothing is left');
select is(sms.seek('one', pg_temp.id(6)), pg_temp.id(6), 'seek: to the newest id');
select is((select moved_at between now() and clock_timestamp() from sms.consumer
		where name = 'one'), true, 'seek: says when');
select is(sms.seek('sought', null), pg_temp.id(6), 'seek: makes a consumer');
select is(pg_temp.polled('sought'), 'none', 'which does not see what was before it');
select t.ids('[{"body": "g"}]');
select is(pg_temp.polled('sought'), 'g', 'but what comes later');

-- An application that keeps its own place puts it back after all was purged.
savepoint s;
delete from sms.event;
select is(sms.newest_id(), 0::bigint, 'newest_id: 0 when all was purged');
select is(sms.seek('one', pg_temp.id(4)), pg_temp.id(4), 'seek: to an id that was purged');
select last_value as drawn from sms.event_id \gset
select is(sms.seek('one', :drawn), :drawn::bigint, 'seek: to the last of these');
select matches(t.error(format($$ select sms.seek('one', %s) $$, :drawn + 1)),
	'^22023 sms\.seek: ' || :drawn + 1 || ' is not between 0 and the newest id, 0 \|',
	'seek: not to one that never was');
select is(sms.seek('one', null), 0::bigint, 'seek: null is then before what comes');
rollback to s;
select is(sms.seek('one', pg_temp.id(6)), pg_temp.id(6), '(back to where it was)');

-- Claimed events and dead letters: of events 1, 2, 4 and 5, some for another.
insert into sms.consumer (name, last_id, kinds, max_attempts)
values ('work', pg_temp.id(5), '{incoming_sms}', 7), ('other', pg_temp.id(5), null, 10);
insert into sms.lease (consumer, event_id, attempts, due_at)
select c, pg_temp.id(n), 1, 'infinity' from unnest('{work,other}'::text[]) c, unnest('{1,4}'::int[]) n;
insert into sms.dead_letter (consumer, event_id, attempts, reason, died_at)
select c, pg_temp.id(n), 1, 'x', now() from unnest('{work,other}'::text[]) c, unnest('{2,5}'::int[]) n;
create function pg_temp.held(consumer text) returns text language sql as $$
	select string_agg(x.what || e.n, ' ' order by e.n)
	from e join (select 'lease' as what, event_id, l.consumer from sms.lease l
		union all select 'dead', event_id, d.consumer from sms.dead_letter d) x
		on x.event_id = e.id
	where x.consumer = held.consumer
$$;
select sms.seek('work', pg_temp.id(5));
select is(pg_temp.held('work'), 'lease1 dead2 lease4 dead5',
	'seek: what is leased or dead before the new place stays');
select sms.seek('work', pg_temp.id(2));
select is(pg_temp.held('work'), 'lease1 dead2', 'seek: what is after it goes, to come again');
select is((select string_agg(body, ' ' order by id) from sms.claim('work')), 'd e f g',
	'and comes');
select sms.seek('work', 0);
select is(pg_temp.held('work'), null, 'seek: to the begin, all goes');
insert into sms.lease (consumer, event_id, attempts, due_at)
values ('work', pg_temp.id(1), 1, 'infinity');
select sms.seek('work', null);
select is(pg_temp.held('work'), 'lease1', 'seek: to the end, all stays');
select is(pg_temp.held('other'), 'lease1 dead2 lease4 dead5', 'seek: others keep theirs');

-- ------------------------------------------------------------ drop_consumer

insert into sms.dead_letter (consumer, event_id, attempts, reason, died_at)
values ('work', pg_temp.id(2), 1, 'x', now());
select is(sms.drop_consumer('work'), true, 'drop_consumer: a consumer with all that it has');
select is(pg_temp.held('work'), null, 'its leases and dead letters are gone');
select is(pg_temp.held('other'), 'lease1 dead2 lease4 dead5', 'those of others are not');
select is((select count(*)::int from sms.event), 7, 'nor is an event');
select is(sms.drop_consumer('work'), false, 'drop_consumer: it is gone the second time');
select is(pg_temp.polled('work', 2), 'a b', 'by the same name it begins at the oldest');

-- ------------------------------------------------------- floods of duplicates

-- More than 1000 ids with nothing to see are passed once, but not by a look at less
-- than the consumer reads.
select sms.seek(x, null) from unnest('{one,two,kinds,reads all,reads two}'::text[]) x;
select pg_temp.polled('reads all'), pg_temp.polled('reads two', 1, '{call,incoming_sms}');
select pg_temp.place('one') as place \gset
select t.ids(jsonb_agg(jsonb_build_object('digest', '\x01', 'body', 'a')))
	from generate_series(1, 1000);
select is(pg_temp.polled('one'), 'none', 'poll: none of 1000 duplicates');
select is(pg_temp.place('one'), :place::bigint, 'poll: their place is not moved');
select t.ids('[{"digest": "\\x01", "body": "a"}]');
select is(pg_temp.polled('kinds', 100, '{call}'), 'none', 'poll: none of 1001 and a kind');
select is(pg_temp.place('kinds'), (select max(id) from sms.event),
	'poll: it passes them, and would pass other kinds');
select is(pg_temp.polled(x, 100, '{call}'), 'none', 'poll: none of a kind, ' || x)
from unnest('{reads all,reads two}'::text[]) x;
select is(pg_temp.place(x), :place::bigint, 'poll: no place is moved by a look at it, ' || x)
from unnest('{reads all,reads two}'::text[]) x;
select is(pg_temp.polled('one'), 'none', 'poll: none of 1001');
select is(pg_temp.place('one'), (select max(id) from sms.event), 'poll: it passes them');
select t.ids('[{"body": "h"}]');
select is(pg_temp.polled('two'), 'h', 'poll: what is behind a flood comes');
select is(pg_temp.place('two'), :place::bigint, 'and no place is moved past it');
select is(pg_temp.polled(x), 'h', 'also for who has passed it or looked, ' || x)
from unnest('{one,reads all,reads two}'::text[]) x;

-- ------------------------------------------------------------------- unseen

select results_eq(format($$ select * from sms.unseen(%s, null, 2) $$, pg_temp.id(1)),
	$$ select * from sms.event where id in (pg_temp.id(2), pg_temp.id(4)) order by id $$,
	'unseen: max rows of sms.event after an id');
select is((select string_agg(body, ' ') from sms.unseen(0, '{call,incoming_sms}', 3)), 'a d e',
	'unseen: of some kinds');
select is((select count(*)::int from sms.unseen(null, null, 10)), 0, 'unseen: no place, no rows');
select is((select string_agg(body, ' ') from sms.unseen(0, null, null)), 'a b d e f g h',
	'unseen: max null is all');

select * from finish();
rollback;
