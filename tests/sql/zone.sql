-- occurred_at: wall clock times in named zones.

begin;
select plan(26);
set local timezone = 'Asia/Kolkata'; -- the session's zone must not matter

create function pg_temp.store(wall_clock text, zone text, note text default null)
returns bigint language sql as $$
	select (t.ids(jsonb_build_array(jsonb_build_object(
		'occurred_at', wall_clock, 'zone', zone, 'note', note))))[1]
$$;
create temp table z(id bigint, wall_clock text, zone text, want text) on commit drop;
insert into z select pg_temp.store(a, b), a, b, c from (values
	('2026-01-15 10:30', 'UTC', '2026-01-15 10:30:00'),
	('2026-01-15 10:30', 'Europe/Berlin', '2026-01-15 09:30:00'),
	('2026-07-15 10:30', 'Europe/Berlin', '2026-07-15 08:30:00'),
	('2026-03-29 01:59:59.5', 'Europe/Berlin', '2026-03-29 00:59:59.5'),
	('2026-03-29 02:30', 'Europe/Berlin', '2026-03-29 01:30:00'),
	('2026-03-29 03:00', 'Europe/Berlin', '2026-03-29 01:00:00'),
	('2026-10-25 01:59', 'Europe/Berlin', '2026-10-24 23:59:00'),
	('2026-10-25 02:30', 'Europe/Berlin', '2026-10-25 01:30:00'),
	('2026-10-25 03:00', 'Europe/Berlin', '2026-10-25 02:00:00'),
	('2026-01-15 10:30', 'America/New_York', '2026-01-15 15:30:00'),
	('2026-07-15 10:30', 'America/New_York', '2026-07-15 14:30:00'),
	('2026-03-08 02:00', 'America/New_York', '2026-03-08 07:00:00'),
	('2026-11-01 00:59', 'America/New_York', '2026-11-01 04:59:00'),
	('2026-11-01 02:00', 'America/New_York', '2026-11-01 07:00:00'),
	('2026-01-15 10:30', 'Asia/Kathmandu', '2026-01-15 04:45:00'),
	('1970-01-01 00:00', 'Pacific/Kiritimati', '1970-01-01 10:40:00')
) v(a, b, c);
select is((select (e.occurred_at at time zone 'UTC')::text || coalesce(e.note, '')
		from sms.event e where e.id = z.id), z.want,
	z.wall_clock || ' in ' || z.zone) from z order by id;

create temp table u on commit drop as
select zone, wall_clock, note, pg_temp.store(wall_clock, zone, note) as id
from (values
	('2026-01-15 10:30', 'Mars/Olympus', null),
	('2026-01-15 10:30', 'Mars/Olympus', 'a note'),
	('2026-01-15 10:30', '', null),
	('2026-01-15 10:30', ''' or 1=1 --', null),
	('2026-01-15 10:30', repeat('x', 70000), null),
	('2026-01-15 10:30', '../../../../etc/passwd', null),
	('294276-12-31 23:59:59', 'America/New_York', null),
	('4714-11-24 00:00:00 BC', 'Asia/Tokyo', null)
) v(wall_clock, zone, note);
select is((select row(e.occurred_at, e.note)::text from sms.event e where e.id = u.id),
	row(null, case when u.note is not null then u.note || '; ' else '' end
		|| 'occurred_at: unknown time zone')::text,
	'no time, but a note: ' || wall_clock || ' in "' || left(zone, 30) || '"')
from u order by id;
select pg_temp.store(null, 'Mars/Olympus');
select is((select row(occurred_at, note)::text from sms.event order by id desc limit 1),
	'(,)', 'a zone without a time is nothing to note');

select t.ids('[{"occurred_at": "2026-01-15 10:30", "zone": "Europe/Berlin", "body": "z1"},
	{"occurred_at": "2026-01-15 10:30", "zone": "Mars/Olympus", "body": "z2"},
	{"occurred_at": "2026-01-15 10:30", "zone": "America/New_York", "body": "z3"}]');
select is((select array_agg(occurred_at at time zone 'UTC' order by id)
		from sms.event where body in ('z1', 'z2', 'z3')),
	array['2026-01-15 09:30', null, '2026-01-15 15:30']::timestamp[],
	'an unknown zone does not touch the others of its batch');

select * from finish();
rollback;
