-- duplicate_of: the same bytes from the same source within 7 days.

begin;
select plan(19);

-- received_at lies ahead of the clock: what is 7 days behind it is forgotten.
create function pg_temp.event(digest text, days numeric default 0,
	source text default 'dup') returns jsonb language sql as $$
	select jsonb_build_array(jsonb_build_object('digest', digest,
		'source', source, 'received_at', now() + days * interval '1 day'))
$$;
create temp table d on commit drop as
select 1 as batch, * from t.ingest(pg_temp.event('\x01') || pg_temp.event('\x01')
	|| pg_temp.event('\x02') || pg_temp.event('\x01') || pg_temp.event(null)
	|| pg_temp.event(null) || pg_temp.event('\x01', 0, 'other')
	|| pg_temp.event('\x02'));
create function pg_temp.id(batch int, n bigint) returns bigint language sql as
	'select id from d where d.batch = $1 and d.n = $2';
select is((select duplicate_of from d where n = 1), null,
	'one batch: the first is no duplicate');
select is((select array_agg(duplicate_of order by n) from d where n in (2, 4)),
	array[pg_temp.id(1, 1), pg_temp.id(1, 1)],
	'one batch: the second and third point to the first');
select is((select duplicate_of from d where n = 3), null,
	'other bytes are no duplicate');
select is((select duplicate_of from d where n = 8), pg_temp.id(1, 3),
	'one batch: two groups do not mix');
select is((select array_agg(duplicate_of) from d where n in (5, 6)),
	array[null, null]::bigint[], 'without a digest nothing is a duplicate');
select is((select duplicate_of from d where n = 7), null,
	'the same bytes from another source are no duplicate');
select is((select count(*)::int from sms.event join d using (id)), 8,
	'duplicates are stored');
select bag_eq('select id, duplicate_of from d',
	'select id, e.duplicate_of from sms.event e join d using (id)',
	'the answer is what is stored');

insert into d select 2, * from t.ingest(pg_temp.event('\x01')
	|| pg_temp.event('\x03') || pg_temp.event('\x01', 0, 'other'));
select is((select duplicate_of from d where batch = 2 and n = 1), pg_temp.id(1, 1),
	'next batch: points to the first');
select is((select duplicate_of from d where batch = 2 and n = 2), null,
	'next batch: new bytes are no duplicate');
select is((select duplicate_of from d where batch = 2 and n = 3), pg_temp.id(1, 7),
	'next batch: points to the first of its own source');

-- A chain: each within 7 days of the one before.
insert into d select 3, * from t.ingest(pg_temp.event('\x03', 6));
insert into d select 4, * from t.ingest(pg_temp.event('\x03', 12));
insert into d select 5, * from t.ingest(pg_temp.event('\x03', 18));
select is((select array_agg(duplicate_of order by batch) from d where batch in (3, 4, 5)),
	array[pg_temp.id(2, 2), pg_temp.id(2, 2), pg_temp.id(2, 2)],
	'a chain points to its first event');
insert into d select 6, * from t.ingest(pg_temp.event('\x03', 25.1));
insert into d select 7, * from t.ingest(pg_temp.event('\x03', 26));
select is((select duplicate_of from d where batch = 6), null,
	'after more than 7 days it is a new first event');
select is((select duplicate_of from d where batch = 7), pg_temp.id(6, 1),
	'and the next one points to that');

-- Batches of a spool: many days of received_at at once.
insert into d select 8, * from t.ingest(
	pg_temp.event('\x04', 1) || pg_temp.event('\x04', 7));
insert into d select 9, * from t.ingest(pg_temp.event('\x04', 12));
select is((select duplicate_of from d where batch = 9), pg_temp.id(8, 1),
	'the latest of a batch counts for the 7 days');

-- A spool is read when later ones are stored already.
insert into d select 10, * from t.ingest(pg_temp.event('\x05', 6));
insert into d select 11, * from t.ingest(pg_temp.event('\x05', 0));
insert into d select 12, * from t.ingest(pg_temp.event('\x05', 12));
select is((select array_agg(duplicate_of order by batch) from d where batch in (10, 11, 12)),
	array[null, pg_temp.id(10, 1), pg_temp.id(10, 1)],
	'an older one does not shorten the 7 days');

create temp table again on commit drop as
select * from t.ingest('[{"digest": "\\x06", "source": "dup"},
	{"digest": "\\x06", "source": "dup",
	"ingest_id": "00000000-0000-7000-8000-00000000000b"}]');
insert into again select 3, id, duplicate_of from t.ingest('[{"digest": "\\x06",
	"ingest_id": "00000000-0000-7000-8000-00000000000b", "source": "dup"}]');
select is((select row(id, duplicate_of)::text from again where n = 3),
	(select row(id, duplicate_of)::text from again where n = 2),
	'a replayed duplicate is answered as before');
select is((select id from t.ingest('[{"digest": "\\x07",
	"ingest_id": "00000000-0000-7000-8000-00000000000b"}]'))
	= (select id from again where n = 2)
	and not exists (select from sms.recent_body where digest = t.digest('\x07')), true,
	'a replay is not remembered for duplicates');

select t.ids(pg_temp.event('\x08', -7.1) || pg_temp.event('\x09', -6.9));
select t.ids(jsonb_agg('{}'::jsonb)) from generate_series(1, 256); -- some, now and then
select is((select array_agg(digest) from sms.recent_body
		where digest in (t.digest('\x08', 'dup'), t.digest('\x09', 'dup'))), array[t.digest('\x09', 'dup')],
	'bodies are forgotten after 7 days, not before');

select * from finish();
rollback;
