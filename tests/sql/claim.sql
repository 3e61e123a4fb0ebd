-- sms.claim, sms.done, sms.fail and sms.retry, in one session.  What two
-- sessions do to each other is in sessions.sql.

begin;
select plan(164);

-- Bodies and attempts that a claim returns, in the order that it returns them.
create function pg_temp.claimed(consumer text, max int default 10,
	kinds text[] default null, max_attempts int default 10) returns text
language sql as $$
	select coalesce(string_agg(body || attempt, ' '), 'none')
	from sms.claim(consumer, max, '1 hour', kinds, max_attempts)
$$;
-- What is leased, dead, and where the consumer is.
create function pg_temp.state(consumer text) returns text language sql as $$
	select concat_ws(', ',
		'leased ' || (select string_agg(e.body || l.attempts, ' ' order by e.id)
			from sms.lease l join sms.event e on e.id = l.event_id
			where l.consumer = state.consumer),
		'dead ' || (select string_agg(e.body || d.attempts, ' ' order by e.id)
			from sms.dead_letter d join sms.event e on e.id = d.event_id
			where d.consumer = state.consumer),
		'seen ' || (select string_agg(e.body, ' ' order by e.id) from sms.event e
			join sms.consumer c on c.last_id >= e.id where c.name = state.consumer))
$$;
create function pg_temp.id(body text) returns bigint language sql as
	'select min(id) from sms.event e where e.body = $1';
-- The leases of a consumer end: a slow worker, or one that is no more.
create function pg_temp.lapse(consumer text, body text default null) returns void
language sql as $$
	update sms.lease l set due_at = clock_timestamp() - interval '1 s'
	where l.consumer = lapse.consumer
		and (body is null or l.event_id = pg_temp.id(body))
$$;

-- ------------------------------------------------------------- no event yet

select is(pg_temp.claimed('early'), 'none', 'claim: nothing in an empty log');
select is((select to_jsonb(c) - 'created_at' from sms.consumer c),
	'{"name": "early", "last_id": 0, "kinds": null, "max_attempts": 10, "moved_at": null}',
	'claim: the consumer is there from its first call');
select is(pg_temp.claimed('early', 1, null, 3), 'none', 'claim: for other attempts');
select is((select row(kinds, max_attempts)::text from sms.consumer), '(,3)',
	'claim: what was asked for last is remembered');
select is(sms.done('early', '{1,2}'), 0::bigint, 'done: nothing was leased');
select is(sms.fail('early', 1, 'x'), null, 'fail: nothing was leased');
select is(sms.retry('early'), 0::bigint, 'retry: nothing was dead');
select is(sms.retry('early', '{1,2}'), 0::bigint, 'retry: nor were these');

-- ----------------------------------------------------------------- the claim

select t.ids('[{"body": "a", "digest": "\\x01", "phone": "+491", "payload": {"a": 1}, "raw": "\\x02"},
	{"body": "b", "kind": "delivery_status", "message_id": "m", "status": "sent", "status_code": 6},
	{"body": "a", "digest": "\\x01"},
	{"body": "d"},
	{"body": "e", "kind": "call"},
	{"body": "f"}]');

select is((select array_agg(format('%s %s', name, type) order by nr)
		from pg_proc p, unnest(p.proargnames, p.proargmodes::text[], p.proallargtypes::regtype[])
			with ordinality as c(name, mode, type, nr)
		where p.oid = 'sms.claim'::regproc and mode = 't'),
	(select array_agg(format('%s %s', attname, atttypid::regtype) order by attnum)
		from pg_attribute where attrelid = 'sms.event'::regclass and attnum > 0
			and not attisdropped)
		|| '{attempt integer,leased_until timestamp with time zone}',
	'claim: the columns of sms.event, attempt and leased_until');

select clock_timestamp() as before \gset
create temp table c on commit drop as select * from sms.claim('work', 2);
select is((select array_agg(body order by id) from c), '{a,b}', 'claim: max, the oldest first');
select results_eq('select to_jsonb(c) - ''{attempt,leased_until}''::text[] from c order by id',
	$$ select to_jsonb(e) from sms.event e
		where body in ('a', 'b') and duplicate_of is null order by id $$,
	'claim: the columns are those of sms.event');
select is((select array_agg(distinct attempt) from c), '{1}', 'claim: the first attempt');
select is((select bool_and(leased_until between :'before'::timestamptz + interval '1 minute'
		and clock_timestamp() + interval '1 minute') from c), true, 'claim: leased for a minute');
select bag_eq($$ select id, attempt, leased_until, 'work' as consumer, null::text as reason from c $$,
	'select event_id, attempts, due_at, consumer, reason from sms.lease', 'claim: there are leases');
select is((select moved_at between now() and clock_timestamp() from sms.consumer
		where name = 'work'), true, 'claim: moves the place, and says when');
select is(pg_temp.state('work'), 'leased a1 b1, seen a b', 'claim: to the last of them');
select is(pg_temp.claimed('work'), 'd1 e1 f1', 'claim: then the next, no duplicates');
select is(pg_temp.claimed('work'), 'none', 'claim: then none');
select is(pg_temp.claimed('other', 1), 'a1', 'claim: another consumer has its own');
select is((select string_agg(body, ' ') from sms.poll('work')), null,
	'poll: nothing is left of what is claimed');

-- Leases are as long as one says.
select clock_timestamp() as before \gset
create temp table long on commit drop as select * from sms.claim('long', 1, '3 days 1 second');
select is((select leased_until between :'before'::timestamptz + interval '3 days 1 second'
		and clock_timestamp() + interval '3 days 1 second' from long), true, 'claim: a lease of days');
select count(*) from sms.claim('short', 6, '1 microsecond');
select pg_sleep(0.001);
select is((select string_agg(body || attempt, ' ') from sms.claim('short', 6, '1 hour')),
	'a2 b2 d2 e2 f2', 'claim: what was leased for too short comes back');

savepoint s;
select pg_temp.claimed('other', 3), pg_temp.claimed('undone', 1);
rollback to s;
select is(pg_temp.state('other'), 'leased a1, seen a', 'a rollback takes a claim back');
select is((select count(*)::int from sms.consumer where name = 'undone'), 0,
	'and a new consumer');

-- Kinds.
select is(pg_temp.claimed('k1', 10, '{incoming_sms}'), 'a1 d1 f1', 'kinds: one');
select is(pg_temp.claimed('k2', 2, '{incoming_sms,call}'), 'a1 d1',
	'kinds: two, max counts over both');
select is(pg_temp.claimed('k2', 2, '{call,incoming_sms}'), 'e1 f1', 'kinds: the rest, in order');
select is(pg_temp.claimed('k3', 10, '{nonsense}'), 'none', 'kinds: an unknown one');
select is(pg_temp.claimed('k3', 10, '{call,nonsense,call}'), 'e1', 'kinds: named twice, claimed once');
select t.ids(jsonb_build_array(
	jsonb_build_object('body', 'L', 'kind', repeat('k', 250) || '1'),
	jsonb_build_object('body', 'M', 'kind', repeat('k', 250) || '2')));
select is(pg_temp.claimed('k4', 10, array[repeat('k', 250) || '2']), 'M1',
	'kinds: told apart behind their 250th letter');
delete from sms.event where kind like 'kk%';
select is(pg_temp.claimed('Käufer ''"📱', 1), 'a1', 'name: any characters');
select is(sms.done('Käufer ''"📱', array[pg_temp.id('a')]), 1::bigint, 'by each function');

-- Workers of one consumer that ask for different kinds: what one of them passes,
-- the other would never see.  It is refused; more kinds than before are not.
create function pg_temp.refused(kinds text[]) returns boolean language sql as $$
	select t.error(format('select sms.claim(''both'', kinds => %L)', kinds)) ~
		'^22023 sms\.claim: ''both'' has asked for other kinds .* \| .*another name.*sms\.seek'
$$;
create function pg_temp.kinds() returns text[] language sql as $$
	select array(select k from unnest(c.kinds) k order by k collate "C") from sms.consumer c
	where c.name = 'both' and c.kinds is not null
$$;
select is(pg_temp.claimed('both', 1, '{incoming_sms}'), 'a1', 'kinds: of a consumer, its first');
select is(pg_temp.refused('{call}'), true, 'kinds: a claim for others is refused');
select is(pg_temp.kinds(), '{incoming_sms}', 'kinds: which leaves them as they are');
select is(pg_temp.state('both'), 'leased a1, seen a', 'and the place');
select is(pg_temp.claimed('both', 1, '{call,incoming_sms}'), 'd1', 'kinds: a claim for more');
select is(pg_temp.kinds(), '{call,incoming_sms}', 'kinds: which are remembered');
select is(pg_temp.refused('{incoming_sms}'), true, 'kinds: those of before are refused then');
select is(pg_temp.refused('{call,delivery_status}'), true, 'kinds: so are some of them and others');
select is(pg_temp.claimed('both', 1, '{incoming_sms,call,call}'), 'e1', 'kinds: in any order');
select string_agg(body, ' ') from sms.poll('both', 1, '{delivery_status}');
select is(pg_temp.kinds(), '{call,delivery_status,incoming_sms}', 'kinds: more by a poll');
select is(pg_temp.refused('{incoming_sms,call}'), true, 'kinds: fewer than those are refused');
select is(pg_temp.claimed('both', 1), 'f1', 'kinds: all, when left out');
select is(pg_temp.kinds(), null, 'kinds: which are remembered');
select is(pg_temp.refused('{incoming_sms,call,delivery_status}'), true,
	'kinds: then any are too few');
select is(pg_temp.claimed('both'), 'none', 'kinds: all are not');
select sms.seek('both', c.last_id) from sms.consumer c where name = 'both';
select t.ids('[{"body": "x", "kind": "call"}, {"body": "y"}]');
select is(pg_temp.claimed('both', 9, '{incoming_sms}'), 'y1',
	'kinds: after sms.seek to its place, those that it likes');
select is(pg_temp.kinds(), '{incoming_sms}', 'kinds: and these alone');
select is(pg_temp.state('both'), 'leased a1 d1 e1 f1 y1, seen a b a d e f x y',
	'and no lease is lost by it');
delete from sms.event where body in ('x', 'y');
select sms.drop_consumer('both');

-- ---------------------------------------------------------- the lease's end

select pg_temp.lapse('work', 'd');
select pg_temp.lapse('work', 'b');
select is(pg_temp.claimed('work', 1), 'd2', 'what has come back first is claimed first');
select is(pg_temp.claimed('work', 9), 'b2', 'then the next, and no other');
select t.ids('[{"body": "g"}, {"body": "h"}]');
select pg_temp.lapse('work', 'e');
select is(pg_temp.claimed('work', 1), 'e2', 'what has come back goes before what is new');
select pg_temp.lapse('work', 'f');
select is(pg_temp.claimed('work', 2), 'f2 g1', 'both, up to max, in the order of ids');
select pg_temp.lapse('work', 'g');
select is(pg_temp.claimed('work', 9), 'g2 h1', 'max is more than there is');
select is(pg_temp.state('work'), 'leased a1 b2 d2 e2 f2 g2 h1, seen a b a d e f g h',
	'none of them twice');

-- --------------------------------------------------------------------- done

select is(sms.done('work', array[pg_temp.id('a'), pg_temp.id('b')]), 2::bigint,
	'done: how many leases ended');
select is(sms.done('work', array[pg_temp.id('a'), pg_temp.id('b')]), 0::bigint,
	'done: none the second time');
select is(sms.done('work', array[pg_temp.id('a'), pg_temp.id('d'), pg_temp.id('d'), null, -1]),
	1::bigint, 'done: only what was leased, and once');
select is(sms.done('work', '{}'), 0::bigint, 'done: no ids');
select is(sms.done('work', null), 0::bigint, 'done: null ids');
select is(pg_temp.state('work'), 'leased e2 f2 g2 h1, seen a b a d e f g h', 'the others are left');
select is(pg_temp.state('other'), 'leased a1, seen a', 'and those of another consumer');
select pg_temp.lapse('work', 'e');
select is(sms.done('work', array[pg_temp.id('e')]), 1::bigint,
	'done: too late, but nobody else has it');
select pg_temp.lapse('work');
select is(pg_temp.claimed('work', 1), 'f3', 'what is done never comes again');
select pg_temp.claimed('work');

-- --------------------------------------------------------------------- fail

-- The wait: at least as long as said, from the moment of the call.
create temp table w on commit drop as
select x.*, null::boolean as good
from (values
	(1, 'default', '10 s'), (2, 'default', '20 s'), (3, 'default', '40 s'),
	(5, 'default', '160 s'), (14, 'default', '81920 s'), (15, 'default', '1 day'),
	(40, 'default', '1 day'), (50, 'default', '1 day'), (999, 'default', '1 day'),
	(1, '0', '0'), (50, '0', '0'), (1, '90 s', '90 s'), (2, '90 s', '180 s'),
	(1, '23:59:59', '23:59:59'), (2, '23:59:59', '1 day'), (50, '23:59:59', '1 day'),
	(1, '1 day', '1 day'), (9, '1 day', '1 day'), (1, '2 days', '2 days'),
	(50, '1 month', '1 month'), (3, '1 millisecond', '4 milliseconds')
) x(attempts, retry_after, want);
select pg_temp.claimed('w', 1, null, 1000000);
do $$
declare
	r record;
	earliest timestamptz;
	due timestamptz;
begin
	for r in select * from w loop
		update sms.lease set attempts = r.attempts where consumer = 'w';
		earliest := clock_timestamp();
		begin
			if r.retry_after = 'default' then
				due := sms.fail('w', pg_temp.id('a'), 'x');
			else
				due := sms.fail('w', pg_temp.id('a'), 'x', r.retry_after::interval);
			end if;
			update w set good = due between earliest + r.want::interval
				and clock_timestamp() + r.want::interval
				and due = (select due_at from sms.lease where consumer = 'w')
			where (attempts, retry_after) = (r.attempts, r.retry_after);
		exception when data_exception then
			null;
		end;
	end loop;
end
$$;
select is(good, true, format('fail: attempt %s, retry_after %s: it waits %s', attempts,
	retry_after, want)) from w;

select is(sms.fail('work', pg_temp.id('f'), 'shop is closed', '1 hour')
	> clock_timestamp() + interval '3 hours', true, 'fail: of the third attempt');
select is((select row(attempts, reason)::text from sms.lease where consumer = 'work'
		and event_id = pg_temp.id('f')), '(3,"shop is closed")', 'fail: the reason is kept');
select is(pg_temp.claimed('work'), 'none', 'fail: it is not claimed before its time');
select pg_temp.lapse('work', 'f');
select is(pg_temp.claimed('work'), 'f4', 'and is when that has come');
select isnt(sms.fail('work', pg_temp.id('f'), null), null, 'fail: without a reason');
select is((select reason from sms.lease where consumer = 'work' and event_id = pg_temp.id('f')),
	'no reason given', 'which is said');
select isnt(sms.fail('work', pg_temp.id('f'), repeat('ü', 5000)), null, 'fail: with a long one');
select is((select reason from sms.lease where consumer = 'work' and event_id = pg_temp.id('f')),
	repeat('ü', 1000), 'which is cut');
select is(sms.fail('work', pg_temp.id('a'), 'x'), null, 'fail: null for what is done');
select is(sms.fail('work', -1, 'x'), null, 'fail: and for what never was');
select is(sms.fail('other', pg_temp.id('f'), 'x'), null, 'fail: and for what another consumer has');
-- Fencing: a worker that outlasted its lease leaves that of the next one alone.
select is(sms.fail('work', pg_temp.id('f'), 'late', '0', x), null,
	'fail: null for another attempt, ' || x) from unnest('{3,5,0,-1}'::int[]) x;
select is((select row(attempts, left(reason, 1), due_at > clock_timestamp() + interval '10 s')::text
		from sms.lease where consumer = 'work' and event_id = pg_temp.id('f')), '(4,ü,t)',
	'whose lease and reason stay');
select isnt(sms.fail('work', pg_temp.id('f'), 'in time', '1 hour', 4), null,
	'fail: of this attempt');
select is((select reason from sms.lease where consumer = 'work' and event_id = pg_temp.id('f')),
	'in time', 'that counts');
select isnt(sms.fail('work', pg_temp.id('f'), 'x', '1 hour', null), null, 'fail: of any, null');
select is(pg_temp.state('work') || '; ' || pg_temp.state('other'),
	'leased f4 g3 h2, seen a b a d e f g h; leased a1, seen a', 'and nothing has changed by it');

-- ------------------------------------------------------------- dead letters

-- By leases that ended.
select is(pg_temp.claimed('dead', 3, null, 2), 'a1 b1 d1', '(claimed for 2 attempts at most)');
select pg_temp.lapse('dead');
select is(pg_temp.claimed('dead', 3, null, 2), 'a2 b2 d2', 'the last attempt');
select sms.fail('dead', pg_temp.id('d'), 'no such customer');
select is((select row(consumer, attempts, reason, died_at between now() and clock_timestamp())::text
		from sms.dead_letter where event_id = pg_temp.id('d')),
	'(dead,2,"no such customer",t)', 'fail: after the last attempt it is a dead letter');
select is(sms.fail('dead', pg_temp.id('d'), 'again'), null, 'fail: null, for it is dead');
select is((select reason from sms.dead_letter), 'no such customer', 'and that changes nothing');
select is(pg_temp.state('dead'), 'leased a2 b2, dead d2, seen a b a d', 'its lease has ended');
select pg_temp.lapse('dead');
select is(pg_temp.claimed('dead', 1, null, 2), 'e1',
	'claim: one that came back too often is passed, and does not count for max');
select is(pg_temp.claimed('dead', 10, null, 2), 'f1 g1 h1', 'so is the next');
select is(pg_temp.state('dead'), 'leased e1 f1 g1 h1, dead a2 b2 d2, seen a b a d e f g h',
	'they are dead letters');
select is((select array_agg(distinct reason) from sms.dead_letter
		where event_id <> pg_temp.id('d')),
	'{"no worker called sms.done before its lease ended"}', 'with a reason');
select sms.fail('dead', pg_temp.id('e'), 'printer on fire', '0');
select pg_temp.claimed('dead', 10, null, 2);
select pg_temp.lapse('dead', 'e');
select pg_temp.claimed('dead', 10, null, 2);
select is((select reason from sms.dead_letter where event_id = pg_temp.id('e')),
	'printer on fire', 'or with that of its last sms.fail');
select pg_temp.lapse('dead', 'f');
select is(pg_temp.claimed('dead', 10, null, 1), 'none',
	'claim: fewer attempts than before count at once');
select is((select attempts from sms.dead_letter where event_id = pg_temp.id('f')), 1,
	'it has died of its first');
select is(sms.fail('dead', pg_temp.id('g'), 'x'), null, 'for sms.fail too');
select is(pg_temp.claimed('once', 1, null, 1), 'a1', 'claim: of one attempt');
select pg_temp.lapse('once');
select is(pg_temp.claimed('once', 1, null, 1), 'b1', 'which does not come again');
select is(sms.fail('once', pg_temp.id('b'), 'x'), null, 'fail: of one attempt');

-- done and retry.
select is(pg_temp.state('dead'), 'leased h1, dead a2 b2 d2 e2 f1 g1, seen a b a d e f g h',
	'(so far)');
select is(sms.done('dead', array[pg_temp.id('a'), pg_temp.id('h')]), 2::bigint,
	'done: strikes off a dead letter too');
select is(sms.done('dead', array[pg_temp.id('a')]), 0::bigint, 'done: once');
select is(sms.retry('dead', array[pg_temp.id('b'), pg_temp.id('a'), pg_temp.id('b'), null]), 1::bigint,
	'retry: those that are named');
select is(sms.retry('dead', '{}'), 0::bigint, 'retry: none');
select is(pg_temp.state('dead'), 'leased b0, dead d2 e2 f1 g1, seen a b a d e f g h',
	'what is brought back is leased to nobody');
select is(pg_temp.claimed('dead', 10, null, 2), 'b1',
	'and is claimed again, its attempts counted anew');
select is(sms.retry('dead'), 4::bigint, 'retry: all');
select is((select string_agg(reason, ', ' order by event_id) from sms.lease where consumer = 'dead'
		and attempts = 0), 'no such customer, printer on fire, no worker called sms.done before its '
	'lease ended, x', 'retry: what they died of stays to be read');
select is(pg_temp.claimed('dead', 10, null, 2), 'd1 e1 f1 g1', 'all are claimed again');
select is(sms.retry('dead'), 0::bigint, 'retry: nothing is left');
select is((select string_agg(consumer, ' ') from sms.dead_letter), 'once once',
	'retry: others keep theirs');
select is(sms.done('dead', (select array_agg(event_id) from sms.lease where consumer = 'dead')),
	5::bigint, 'done: of all that is left');
select is(pg_temp.claimed('dead'), 'none', 'nothing more comes');

-- --------------------------------------------- leases of what is there no more

-- sms.seek back, while sms.purge is at work, can lead to them.
select is(pg_temp.claimed('late', 1), 'a1', '(one is claimed)');
delete from sms.event where id = pg_temp.id('a');
select pg_temp.lapse('late');
select is(pg_temp.claimed('late', 1), 'b1',
	'claim: a lease whose event was purged does not count for max: the next comes in its place');
select is((select array_agg(event_id) from sms.lease where consumer = 'late'),
	array[pg_temp.id('b')], 'it leaves by itself');
select pg_temp.id('d') as d, pg_temp.claimed('late', 1) \gset
delete from sms.event where id = :d;
select pg_temp.lapse('late');
select is(pg_temp.claimed('late', 2), 'b2 e1', 'the next, beside what has come back');
select pg_temp.lapse('late', 'e');
delete from sms.event where id = pg_temp.id('e');
select is(pg_temp.claimed('late', 1, null, 1), 'f1', 'also after its last attempt');
select is((select count(*)::int from sms.dead_letter where consumer = 'late'), 0,
	'and is no dead letter then');

-- ---------------------------------------------------------- wrong arguments

select matches(t.error(x.call), x.want, 'refused: ' || x.call)
from (values
	($$ select sms.claim(null) $$,
		'^22023 sms\.claim: the consumer has no name.* \| .*sms\.claim\('),
	($$ select sms.claim('') $$, '^22023 sms\.claim: the consumer has no name.* \| .*sms\.claim\('),
	($$ select sms.claim(repeat('n', 201)) $$,
		'^22023 sms\.claim: .* more than 200 characters \| .*sms\.claim\('),
	($$ select sms.claim('x', 0) $$, '^22023 sms\.claim: max is 0 \| .*1 event or more'),
	($$ select sms.claim('x', null) $$, '^22023 sms\.claim: max is null \| .*1 event or more'),
	($$ select sms.claim('x', 1, '0') $$,
		'^22023 sms\.claim: lease is 00:00:00, .* \| .*''1 minute'''),
	($$ select sms.claim('x', 1, '-1 s') $$,
		'^22023 sms\.claim: lease is -00:00:01, .* \| .*''1 minute'''),
	($$ select sms.claim('x', 1, null) $$,
		'^22023 sms\.claim: lease is null, .* \| .*''1 minute'''),
	($$ select sms.claim('x', kinds => '{}') $$,
		'^22023 sms\.claim: kinds is empty.* \| .*incoming_sms'),
	($$ select sms.claim('x', kinds => '{a,null}') $$,
		'^22023 sms\.claim: kinds .*null.* \| .*incoming_sms'),
	($$ select sms.claim('x', max_attempts => 0) $$,
		'^22023 sms\.claim: .* max_attempts 0 \| .*1 or more'),
	($$ select sms.claim('x', max_attempts => null) $$,
		'^22023 sms\.claim: .* max_attempts null \| .*1 or more'),
	($$ select sms.done('x', '{1}') $$,
		'^22023 sms\.done: there is no consumer ''x'' \| .*sms\.claim.*work'),
	($$ select sms.done(null, '{1}') $$,
		'^22023 sms\.done: there is no consumer null \| .*sms\.claim.*work'),
	($$ select sms.fail('x', 1, 'y') $$,
		'^22023 sms\.fail: there is no consumer ''x'' \| .*sms\.claim.*work'),
	($$ select sms.fail('work', null, 'y') $$,
		'^22023 sms\.fail: id is null, .* \| .*id of a claimed event'),
	($$ select sms.fail('work', 1, 'y', null) $$,
		'^22023 sms\.fail: .* retry_after null \| .*0 or more'),
	($$ select sms.fail('work', 1, 'y', '-1 s') $$,
		'^22023 sms\.fail: .* retry_after -00:00:01 \| .*0 or more'),
	($$ select sms.retry('x') $$,
		'^22023 sms\.retry: there is no consumer ''x'' \| .*sms\.claim.*work'),
	($$ select sms.retry(null, '{1}') $$,
		'^22023 sms\.retry: there is no consumer null \| .*sms\.claim.*work')
) x(call, want);
select is((select count(*)::int from sms.consumer where name = 'x'), 0,
	'a call that is refused makes no consumer');

select * from finish();
rollback;
