-- sms.message: the current status of a message, whatever order events come in.

begin;
select plan(45);

-- The events of one message; a case is what they say of the time.  All are
-- received at 10:05, so that is the time of one that says none.
create temp table said(name text, status text, occurred_at timestamp) on commit drop;
insert into said
select c.name, s.status, t.at
from (values
	('in order', '10:00', '10:01', '10:02', '10:03'),
	('failed, then delivered', '10:00', '10:01', '10:03', '10:02'),
	('against their rank', '10:03', '10:02', '10:01', '10:00'),
	('delivered late', '10:02', '10:01', '10:09', '10:00'),
	('finals first', '10:08', '10:09', '10:02', '10:01'),
	('delivered has none', '10:00', '10:01', null, '10:03'),
	('failed has none', '10:00', '10:01', '10:02', null),
	('failed has none, delivered late', '10:00', '10:01', '10:09', null),
	('queued has none', null, '10:01', '10:02', '10:03'),
	('only queued has one', '10:00', null, null, null),
	('none', null, null, null, null),
	('all equal', '10:00', '10:00', '10:00', '10:00'),
	('finals equal', '10:00', '10:01', '10:02', '10:02')
) c(name, q, s, d, f), lateral (values
	('queued', c.q), ('sent', c.s), ('delivered', c.d), ('failed', c.f)
) s(status, clock), lateral (select ('2026-01-15 ' || s.clock)::timestamp) t(at);

-- All orders of four: 24.
create temp table orders on commit drop as
select row_number() over () as nr, array[a, b, c, d] as statuses
from unnest('{queued,sent,delivered,failed}'::text[]) a,
	unnest('{queued,sent,delivered,failed}'::text[]) b,
	unnest('{queued,sent,delivered,failed}'::text[]) c,
	unnest('{queued,sent,delivered,failed}'::text[]) d
where a <> b and a <> c and a <> d and b <> c and b <> d and c <> d;

-- One message a case, order and way: message_id 'CASE/NR/WAY'.
create function pg_temp.event(name text, way text, nr bigint, status text)
returns jsonb language sql as $$
	select jsonb_build_object('kind', 'delivery_status', 'status', status,
		'message_id', concat_ws('/', name, nr, way), 'phone', '+491',
		'occurred_at', occurred_at, 'received_at', '2026-01-15T10:05:00Z')
	from said s where (s.name, s.status) = (event.name, event.status)
$$;
do $$
declare
	o record;
	s text;
	c text;
begin
	for o in select * from orders loop
		for c in select distinct name from said loop
			perform t.ids(jsonb_agg(pg_temp.event(c, 'batch', o.nr, u.s) order by i))
				from unnest(o.statuses) with ordinality u(s, i);
			foreach s in array o.statuses loop
				perform t.ids(jsonb_build_array(
					pg_temp.event(c, 'single', o.nr, s)));
			end loop;
			-- Two and two.
			perform t.ids(jsonb_agg(pg_temp.event(c, 'pairs', o.nr, u.s) order by i))
				from unnest(o.statuses[1:2]) with ordinality u(s, i);
			perform t.ids(jsonb_agg(pg_temp.event(c, 'pairs', o.nr, u.s) order by i))
				from unnest(o.statuses[3:4]) with ordinality u(s, i);
		end loop;
		-- All cases in one batch, messages mixed.
		perform t.ids((select jsonb_agg(pg_temp.event(n.name, 'mixed', o.nr, u.s)
				order by i, n.name)
			from unnest(o.statuses) with ordinality u(s, i),
				(select distinct name from said) n));
	end loop;
end
$$;

select is((select count(*)::int from sms.message), 24 * 13 * 4,
	'24 orders, 13 cases, 4 ways of posting');

-- Where the times of delivered and failed differ the order cannot matter.
-- A missing time is the time of receipt, 10:05 here.
create temp table want(name text, status text) on commit drop;
insert into want values
	('in order', 'failed'),
	('failed, then delivered', 'delivered'),
	('against their rank', 'delivered'),
	('delivered late', 'delivered'),
	('finals first', 'delivered'),
	('delivered has none', 'delivered'),
	('failed has none', 'failed'),
	('failed has none, delivered late', 'delivered'),
	('queued has none', 'failed');
select is((select jsonb_object_agg(x.s, x.n) from (
		select m.status || coalesce(to_char(m.occurred_at at time zone 'UTC', ' HH24:MI'), ' none')
			as s, count(*) as n
		from sms.message m where split_part(m.message_id, '/', 1) = w.name
		group by 1) x),
	(select jsonb_build_object(w.status || coalesce(to_char(s.occurred_at, ' HH24:MI'), ' none'),
		96) from said s where (s.name, s.status) = (w.name, w.status)),
	w.name || ': one state for all orders and ways') from want w;

-- Of equal ones the later in the log wins.
select is((select count(*)::int from sms.message m, orders o
		where split_part(m.message_id, '/', 1) = c
		and split_part(m.message_id, '/', 2) = o.nr::text
		and m.status = case when array_position(o.statuses, 'failed')
			> array_position(o.statuses, 'delivered')
			then 'failed' else 'delivered' end),
	96, c || ': the final that came last holds')
from unnest(array['only queued has one', 'none', 'all equal', 'finals equal']) c;

-- The whole table by the rule as the contract has it, said in other words.
select is_empty($$
	select m.message_id, m.event_id
	from sms.message m
	where exists (
		select from sms.event better, sms.event e
		where e.id = m.event_id and better.message_id = m.message_id
		and better.id <> e.id and case
			when better.status in ('delivered', 'failed')
				and e.status in ('delivered', 'failed')
			then row(coalesce(better.occurred_at, better.received_at), better.id)
				> row(coalesce(e.occurred_at, e.received_at), e.id)
			else array_position('{queued,sent,delivered,failed}', better.status)
				> array_position('{queued,sent,delivered,failed}', e.status)
			end)
$$, 'no message has a better event than the one that holds');
select is_empty($$
	select m.* from sms.message m left join sms.event e on e.id = m.event_id
	where (e.source, e.message_id, e.status, e.phone, e.received_at)
		is distinct from (m.source, m.message_id, m.status, m.phone, m.received_at)
		or e.occurred_at is distinct from m.occurred_at
		or e.status_code is distinct from m.status_code
		or e.status_text is distinct from m.status_text
$$, 'every message is as the event that decided it');

-- --------------------------------------------------- the rest, by small tales

create function pg_temp.tell(id text, statuses text[], times text[] default '{}',
	codes int[] default '{}') returns void language plpgsql as $$
begin
	for i in 1 .. cardinality(statuses) loop
		perform t.ids(jsonb_build_array(jsonb_build_object(
			'kind', 'delivery_status', 'message_id', id, 'status', statuses[i],
			'status_code', codes[i], 'status_text', 'text ' || i,
			'occurred_at', '2026-01-15 ' || times[i],
			'received_at', timestamptz '2026-01-15 12:00Z' + i * interval '1 s')));
	end loop;
end
$$;
create function pg_temp.state(id text) returns text language sql as $$
	select concat_ws(' ', status, status_code, status_text) from sms.message m
	where m.message_id = state.id and source = 'test'
$$;

select pg_temp.tell('u1', '{unknown}');
select is(pg_temp.state('u1'), 'unknown text 1', 'unknown is a state where nothing else is known');
select pg_temp.tell('u1', '{queued}', '{09:00}');
select is(pg_temp.state('u1'), 'queued text 1', 'an earlier queued replaces it');
select pg_temp.tell('u2', '{sent,unknown}', '{10:00,11:00}');
select is(pg_temp.state('u2'), 'sent text 1', 'unknown does not replace sent');
select pg_temp.tell('u3', '{queued,unknown}', '{10:00,11:00}');
select is(pg_temp.state('u3'), 'queued text 1', 'nor queued');
select pg_temp.tell('u4', '{failed,unknown,unknown}', '{10:00,11:00,12:00}');
select is(pg_temp.state('u4'), 'failed text 1', 'nor failed');

select pg_temp.tell('l1', '{delivered,queued}', '{10:00,11:00}');
select is(pg_temp.state('l1'), 'delivered text 1', 'a late queued does not undo delivered');
select pg_temp.tell('l2', '{failed,queued,sent}', '{10:00,11:00,12:00}');
select is(pg_temp.state('l2'), 'failed text 1', 'nor failed, nor does a late sent');
select pg_temp.tell('l3', '{sent,sent,sent}', '{10:01,10:02,10:00}');
select is(pg_temp.state('l3'), 'sent text 2', 'of two sent the later time holds');

-- The gateway's queued codes come in the order 1, 3, 2.
select pg_temp.tell('c1', '{queued,queued,queued}', '{10:00,10:01,10:02}', '{1,3,2}');
select is(pg_temp.state('c1'), 'queued 2 text 3', 'codes 1, 3, 2: 2 holds');
select pg_temp.tell('c2', '{queued,queued,queued}', '{10:02,10:01,10:00}', '{2,3,1}');
select is(pg_temp.state('c2'), 'queued 2 text 1', 'codes 2, 3, 1: 2 holds');
select pg_temp.tell('c3', '{queued,queued,queued}', '{10:00,10:00,10:00}', '{3,2,1}');
select is(pg_temp.state('c3'), 'queued 2 text 2', 'codes 3, 2, 1 at the same time: 2 holds');
select pg_temp.tell('c4', '{queued,queued}', '{10:00,10:01}', '{3,1}');
select is(pg_temp.state('c4'), 'queued 3 text 1', 'codes 3, 1: 3 holds');
select pg_temp.tell('c5', '{failed,failed}', '{10:00,10:01}', '{8,9}');
select is(pg_temp.state('c5'), 'failed 9 text 2', 'two failures: the later time holds');

-- The deciding event may lack the number or the device: not all dialects have
-- both.  Another event of the message tells them, before or after, or in the
-- same batch.
create function pg_temp.part(id text, status text, phone text, device_id text)
returns jsonb language sql as $$
	select jsonb_build_array(jsonb_build_object('kind', 'delivery_status',
		'message_id', id, 'status', status, 'phone', phone, 'device_id', device_id))
$$;
select t.ids(pg_temp.part('p1', 'sent', '+1', 'x'));
select t.ids(pg_temp.part('p1', 'delivered', null, null));
select t.ids(pg_temp.part('p2', 'delivered', null, null));
select t.ids(pg_temp.part('p2', 'sent', '+1', 'x'));
select t.ids(pg_temp.part('p3', 'sent', '+1', 'x')
	|| pg_temp.part('p3', 'delivered', null, null));
select t.ids(pg_temp.part('p4', 'delivered', null, null)
	|| pg_temp.part('p4', 'sent', '+1', null) || pg_temp.part('p4', 'queued', null, 'x'));
select t.ids(pg_temp.part('p5', 'sent', '+1', 'x')
	|| pg_temp.part('p5', 'delivered', '+2', 'y'));
select t.ids(pg_temp.part('p5', 'queued', '+3', 'z'));
select t.ids(pg_temp.part('p6', 'delivered', null, 'x'));
select t.ids(pg_temp.part('p6', 'sent', '+1', null));
select t.ids(pg_temp.part('p7', 'delivered', '+1', null));
select t.ids(pg_temp.part('p7', 'sent', null, 'x'));
select is((select concat_ws(' ', status, phone, device_id)
		from sms.message where message_id = p.id), p.want, p.how)
from (values
	('p1', 'delivered +1 x', 'number and device are kept'),
	('p2', 'delivered +1 x', 'they are taken from a late event'),
	('p3', 'delivered +1 x', 'they are taken from another event of the batch'),
	('p4', 'delivered +1 x', 'each from where it is'),
	('p5', 'delivered +2 y', 'those of the deciding event come first'),
	('p6', 'delivered +1 x', 'the number alone is taken'),
	('p7', 'delivered +1 x', 'the device alone is taken')
) p(id, want, how);

-- ---------------------------------------------- sources, duplicates, kinds

select t.ids('[{"kind": "delivery_status", "message_id": "s", "status": "sent", "source": "a"},
	{"kind": "delivery_status", "message_id": "s", "status": "failed", "source": "b"}]');
select is((select array_agg(source || ' ' || status order by source)
		from sms.message where message_id = 's'), '{a sent,b failed}',
	'messages of two sources are two');

-- delivered, failed, and the first of them again: later by its id, if it counted.
create temp table dup on commit drop as
select jsonb_agg(jsonb_build_object('kind', 'delivery_status',
	'message_id', 'd', 'status', s, 'digest', d)) as events
from (values ('delivered', '\x01'), ('failed', '\x02'), ('delivered', '\x01')) v(s, d);
select t.ids(events) from dup;
select is((select status from sms.message where message_id = 'd'), 'failed',
	'a duplicate does not count in its batch');
select t.ids(jsonb_build_array(events -> 0)) from dup;
select is((select status from sms.message where message_id = 'd'), 'failed',
	'nor does one in a later batch');

-- The same bytes after more than 7 days are news, in a batch and by itself.
create function pg_temp.again(status text, days int) returns jsonb language sql as $$
	select jsonb_build_object('kind', 'delivery_status', 'message_id', 'again', 'status', status,
		'digest', '\x0' || length(status), 'received_at', now() + days * interval '1 day')
$$;
select t.ids(jsonb_build_array(pg_temp.again('delivered', 0)));
select t.ids(jsonb_build_array(pg_temp.again('failed', 1)));
select t.ids(jsonb_build_array(pg_temp.again('delivered', 2)));
select is((select status from sms.message where message_id = 'again'), 'failed',
	'a duplicate by itself does not count');
select t.ids(jsonb_build_array(pg_temp.again('delivered', 10)));
select is((select status from sms.message where message_id = 'again'), 'delivered',
	'what is none any more, by itself, counts');
select t.ids(jsonb_build_array(pg_temp.again('failed', 11), pg_temp.again('failed', 11)));
select is((select status from sms.message where message_id = 'again'), 'failed',
	'and in a batch, beside a duplicate of its own');

-- However many receipts of one message a batch has, its row is written once.
create function pg_temp.n_written() returns bigint language sql as $$
	select n_tup_ins + n_tup_upd from pg_stat_xact_user_tables
	where relid = 'sms.message'::regclass
$$;
select pg_temp.n_written() as before \gset
select t.ids(jsonb_agg(jsonb_build_object('kind', 'delivery_status', 'message_id', 'many',
	'status', 'sent', 'status_text', i))) from generate_series(1, 64) i;
select is(pg_temp.n_written() - :before, 1::bigint, '64 receipts of a message: one write');
select is((select status_text from sms.message where message_id = 'many'), '64',
	'and the last one holds');

select t.ids('[{"kind": "incoming_sms", "message_id": "k", "phone": "1"},
	{"kind": "new_event", "message_id": "k", "status": "sent"}]');
select is((select count(*)::int from sms.message where message_id = 'k'), 0,
	'only a delivery_status is a state');

select * from finish();
rollback;
