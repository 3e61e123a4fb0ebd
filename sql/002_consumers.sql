-- smshook 002: consumers, which read sms.event each at its own place: in order
-- with sms.poll and sms.ack, or shared by many workers with sms.claim, sms.done
-- and sms.fail.  Plain SQL, nothing that a pooler in transaction mode would break.

insert into sms.schema_version (version) values (2);
comment on schema sms is
	'smshook: webhooks of an SMS gateway, as rows. Start with sms.event; \df+ sms.* '
	'is the manual of the functions. Schema version 2.';

-- ---------------------------------------------------------------- tables

create table sms.consumer (
	name         text primary key check (char_length(name) between 1 and 200),
	last_id      bigint not null default 0,
	kinds        text[],
	max_attempts int not null default 10,
	created_at   timestamptz not null default now(),
	moved_at     timestamptz
) with (fillfactor = 50); -- for updates in place
comment on table sms.consumer is
	'Applications that read the events, each with its place; see sms.consumer_lag.';
comment on column sms.consumer.name is 'What the application calls itself.';
comment on column sms.consumer.last_id is
	'Its place: it has still to see what has a larger id.';
comment on column sms.consumer.kinds is
	'Kinds that it has asked for, null: all. Only events of these are kept for it. '
	'Empty: none since sms.seek; all are kept until it asks.';
comment on column sms.consumer.max_attempts is
	'Claims of one event before it is a dead letter, as asked for last.';
comment on column sms.consumer.created_at is 'When it began.';
comment on column sms.consumer.moved_at is 'When its place was last moved.';

create table sms.lease (
	event_id bigint not null,
	consumer text not null,
	attempts int not null,
	due_at   timestamptz not null,
	reason   text,
	primary key (event_id, consumer)
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);
create index lease_due on sms.lease (consumer, due_at);
comment on index sms.lease_due is 'For sms.claim: what has come back.';
comment on table sms.lease is
	'Events that are claimed and not done: with a worker, or to be claimed again.';
comment on column sms.lease.event_id is 'The event.';
comment on column sms.lease.consumer is 'Whose workers have it.';
comment on column sms.lease.attempts is 'How often it was claimed.';
comment on column sms.lease.due_at is 'When the lease ends: then it can be claimed again.';
comment on column sms.lease.reason is 'What the last sms.fail said.';

create table sms.dead_letter (
	event_id bigint not null,
	consumer text not null,
	attempts int not null,
	reason   text not null,
	died_at  timestamptz not null,
	primary key (event_id, consumer)
);
comment on table sms.dead_letter is
	'Events that failed max_attempts times. sms.retry brings them back, sms.done '
	'strikes them off; until then they are not purged.';
comment on column sms.dead_letter.event_id is 'The event.';
comment on column sms.dead_letter.consumer is 'Whose workers gave it up.';
comment on column sms.dead_letter.attempts is 'How often it was claimed.';
comment on column sms.dead_letter.reason is 'What the last sms.fail said.';
comment on column sms.dead_letter.died_at is 'When it was given up.';

-- --------------------------------------------------------------- helpers

create function sms.refuse(what text, what_to_do text) returns void
language plpgsql as $$
begin
	raise exception using errcode = 'invalid_parameter_value',
		message = what, hint = what_to_do;
end
$$;
comment on function sms.refuse(text, text) is
	'Internal. Ends a call with an error and a hint.';

create function sms.check_call(called text, consumer text, max int, kinds text[])
returns void
language plpgsql stable as $$
begin
	if coalesce(char_length(consumer), 0) not between 1 and 200 then
		perform sms.refuse(called || ': the consumer has no name, or one of more '
			'than 200 characters', 'Name the application, the same in each call: '
			|| called || '(''shop'', ...)');
	elsif max is null or max < 1 then
		perform sms.refuse(format('%s: max is %s', called,
			coalesce(max::text, 'null')), 'Ask for 1 event or more.');
	elsif cardinality(kinds) = 0 or array_ndims(kinds) > 1 or exists (select from unnest(kinds) as k(kind)
		where k.kind is null)
	then
		perform sms.refuse(called || ': kinds is empty, no plain list, or has a null',
			'Name kinds as in ''{incoming_sms}'', or leave it out for all.');
	end if;
end
$$;
comment on function sms.check_call(text, text, int, text[]) is
	'Internal. Refuses wrong arguments of sms.poll and sms.claim.';

create function sms.check_consumer(called text, consumer text) returns void
language plpgsql stable as $$
begin
	if not exists (select from sms.consumer c where c.name = check_consumer.consumer) then
		perform sms.refuse(format('%s: there is no consumer %s', called,
			coalesce(quote_literal(consumer), 'null')),
			'A consumer begins with its first sms.poll, sms.claim or sms.seek. There '
			'are: ' || coalesce((select string_agg(x.name, ', ' order by x.name)
				from (select c.name from sms.consumer c order by c.name limit 20) x),
				'none'));
	end if;
end
$$;
comment on function sms.check_consumer(text, text) is
	'Internal. Refuses a name that is no consumer''s.';

-- sms.unseen: one way for all who read.  Plans are made once a session, when the
-- table may be empty, and must stay good when it is large: by the index that has
-- them in order, always.  A migration that adds a column to sms.event has to end
-- with `alter function ... rows ...` for all that return its rows: sessions that
-- have used them would go on with plans for the old columns, and fail.
create function sms.unseen(place bigint, kinds text[], max int) returns setof sms.event
language plpgsql stable rows 100
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_sort = off
set jit = off
set plan_cache_mode = force_generic_plan as $$
begin
	if kinds is null then
		return query select e.* from sms.event e
			where e.id > place and e.duplicate_of is null
			order by e.id limit max;
	else
		-- a range, not an equation: only event_kind has its rows in order
		return query select x.*
			from (select distinct k.kind from unnest(kinds) as k(kind)) k
			cross join lateral (
				select e.* from sms.event e
				where (left(e.kind, 250), e.id) > (left(k.kind, 250), place)
					and left(e.kind, 250) <= left(k.kind, 250)
					and e.kind = k.kind and e.duplicate_of is null
				order by left(e.kind, 250), e.id limit max) x
			order by x.id limit max;
	end if;
end
$$;
comment on function sms.unseen(bigint, text[], int) is
	'The first max events after an id, of some kinds or of all, in the order of their '
	'ids, without duplicates. Moves nothing: for a look ahead.';

-- sms.lock_consumer: by name, for it may not be there yet; and a lock on its row
-- would cost a flush of the disk though nothing is there to be read.
create function sms.lock_consumer(consumer text, is_hasty boolean) returns boolean
language plpgsql volatile as $$
declare
	key bigint := hashtextextended('smshook consumer ' || consumer, 0);
begin
	if is_hasty then
		return pg_try_advisory_xact_lock(key);
	end if;
	perform pg_advisory_xact_lock(key);
	return true;
end
$$;
comment on function sms.lock_consumer(text, boolean) is
	'Internal. Locks a consumer until the transaction ends; false: in haste, and '
	'another transaction has it.';

-- sms.take_place: of a consumer that is locked.  What it has asked for once is
-- kept for it: a look at one kind must not give the others to sms.purge.
create function sms.take_place(consumer text, kinds text[]) returns bigint
language plpgsql volatile as $$
#variable_conflict use_column
declare
	place bigint;
	known text[];
begin
	if current_setting('transaction_isolation') <> 'read committed' then
		-- an error where the place has moved since the snapshot
		perform from sms.consumer c where c.name = take_place.consumer
			for no key update;
	end if;
	select c.last_id, c.kinds into place, known from sms.consumer c
		where c.name = take_place.consumer;
	if place is null then
		insert into sms.consumer (name, kinds) values (consumer, take_place.kinds)
			on conflict do nothing; -- but with an old snapshot: an error
		return 0;
	end if;
	if known is not null and (take_place.kinds <@ known) is not true then
		update sms.consumer c set kinds = case when take_place.kinds is not null
				then array(select distinct unnest(known || take_place.kinds)) end
			where c.name = take_place.consumer;
	end if;
	return place;
end
$$;
comment on function sms.take_place(text, text[]) is
	'Internal. The place of a consumer, which is made if it is new.';

create function sms.newest_id() returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_sort = off
set jit = off
set plan_cache_mode = force_generic_plan as $$
begin
	return coalesce((select e.id from sms.event e order by e.id desc limit 1), 0);
end
$$;
comment on function sms.newest_id() is 'The id of the newest event, 0 if there is none.';

-- -------------------------------------------------------------- in order

create function sms.poll(consumer text, max int default 100, kinds text[] default null)
returns setof sms.event
language plpgsql volatile security definer rows 100
set search_path = pg_catalog, pg_temp as $$
declare
	place bigint;
	newest bigint;
begin
	perform sms.check_call('sms.poll', consumer, max, kinds);
	if not sms.lock_consumer(consumer, true) then
		return;
	end if;
	place := sms.take_place(consumer, kinds);
	newest := sms.newest_id();
	return query select u.* from sms.unseen(place, kinds, max) u;
	-- What it does not read, such as a flood of duplicates, is passed once and not
	-- with each poll.
	if not found and newest > place + 1000 then
		update sms.consumer c set last_id = newest
			where c.name = poll.consumer and c.last_id < newest
				and (poll.kinds is null or c.kinds <@ poll.kinds);
	end if;
end
$$;
comment on function sms.poll(text, int, text[]) is
	'The next events of a consumer: max rows of sms.event at most, oldest first, '
	'without duplicates, of the kinds named or of all. A consumer begins with its '
	'first poll, at the oldest event. It is locked until the transaction ends: '
	'another session that polls it meanwhile gets no rows. BEGIN; sms.poll, your '
	'work in this database, sms.ack with the last id; COMMIT: that is exactly once. '
	'With a commit between poll and ack it is at least once.';

create function sms.ack(consumer text, id bigint) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
	newest bigint := sms.newest_id();
	place bigint;
begin
	perform sms.check_consumer('sms.ack', consumer);
	update sms.consumer c set last_id = ack.id, moved_at = clock_timestamp()
		where c.name = ack.consumer and c.last_id < ack.id and ack.id <= newest
		returning c.last_id into place;
	if place is null then
		select c.last_id into place from sms.consumer c where c.name = ack.consumer;
		if ack.id > place then
			perform sms.refuse(format('sms.ack: %s is larger than the newest id, %s',
				ack.id, newest), 'Give the last id that sms.poll has returned; what comes later '
				'would be skipped.');
		end if;
	end if;
	return place;
end
$$;
comment on function sms.ack(text, bigint) is
	'Moves a consumer''s place: it has seen all events up to this id. Returns the '
	'place. It never moves back (sms.seek does): a smaller id, or null, changes '
	'nothing.';

create function sms.seek(consumer text, id bigint) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
	newest bigint;
begin
	perform sms.check_call('sms.seek', consumer, 1, null);
	perform sms.lock_consumer(consumer, false);
	newest := sms.newest_id(); -- after the wait for the lock
	-- one that was purged counts, too
	if id < 0 or id > greatest(newest, (select q.last_value from sms.event_id q
		where q.is_called))
	then
		perform sms.refuse(format('sms.seek: %s is not between 0 and the newest id, %s',
			id, newest), '0 is before the oldest event; null is after the newest.');
	end if;
	insert into sms.consumer as c (name, last_id, kinds, moved_at)
		values (seek.consumer, coalesce(seek.id, newest), '{}', clock_timestamp())
		on conflict (name) do update set last_id = excluded.last_id,
		kinds = excluded.kinds, moved_at = excluded.moved_at;
	delete from sms.lease l
		where l.consumer = seek.consumer and l.event_id > coalesce(seek.id, newest);
	delete from sms.dead_letter d
		where d.consumer = seek.consumer and d.event_id > coalesce(seek.id, newest);
	return coalesce(id, newest);
end
$$;
comment on function sms.seek(text, bigint) is
	'Puts a consumer''s place after an id, back or forward; 0: before the oldest '
	'event, null: after the newest. All after it come (again), claimed ones and dead '
	'letters too; what is leased before it stays with its worker, and an sms.ack of '
	'what was polled before may move the place on again. Makes a consumer that is not '
	'there; its next call says what kinds it reads. Returns the place.';

create function sms.drop_consumer(consumer text) returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
	perform sms.lock_consumer(consumer, false);
	delete from sms.consumer c where c.name = drop_consumer.consumer;
	if not found then
		return false;
	end if;
	delete from sms.lease l where l.consumer = drop_consumer.consumer;
	delete from sms.dead_letter d where d.consumer = drop_consumer.consumer;
	return true;
end
$$;
comment on function sms.drop_consumer(text) is
	'Forgets a consumer with its place, leases and dead letters: sms.purge waits for '
	'it no longer. False if there was none.';

-- ------------------------------------------------------------- work queue

create function sms.claim(
	consumer     text,
	max          int default 10,
	lease        interval default '1 minute',
	kinds        text[] default null,
	max_attempts int default 10
) returns table (id bigint, received_at timestamptz, occurred_at timestamptz, source text,
	kind text, message_id text, phone text, device_id text, device_name text,
	channel text, status text, status_code int, status_text text, body text,
	keyword text, media_url text, note text, payload jsonb, raw bytea,
	ingest_id uuid, duplicate_of bigint, attempt int, leased_until timestamptz)
language plpgsql volatile security definer rows 10
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_sort = off
set jit = off
set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
	place bigint;
	claimed_at timestamptz;
	again bigint[];
	dead bigint[];
	gone bigint[];
	fresh bigint[];
	newest bigint;
	last bigint;
begin
	perform sms.check_call('sms.claim', consumer, max, kinds);
	if lease is null or lease <= '0' or max_attempts is null or max_attempts < 1 then
		perform sms.refuse(format('sms.claim: lease is %s, max_attempts %s',
			coalesce(lease::text, 'null'), coalesce(max_attempts::text, 'null')),
			'A lease is longer than the work on all that is claimed takes, such as '
			'''1 minute''; max_attempts is 1 or more.');
	end if;
	perform sms.lock_consumer(consumer, false);
	place := sms.take_place(consumer, kinds);
	if kinds is not null and exists (select from sms.consumer c
		where c.name = claim.consumer and (c.kinds <@ claim.kinds) is not true)
	then
		perform sms.refuse(format('sms.claim: %L has asked for other kinds too, and '
			'would never see them', consumer), 'Some sms.poll or sms.claim of this name '
			'was for more. Claim these by another name; or stop its workers and call '
			'sms.seek with its last_id: then the next call says what it reads.');
	end if;
	update sms.consumer c set max_attempts = claim.max_attempts
		where c.name = claim.consumer and c.max_attempts <> claim.max_attempts;
	claimed_at := clock_timestamp(); -- after the wait for the lock

	-- What has come back, first; what has come back too often is a dead letter.
	select array_agg(d.event_id) filter (where d.is_there and d.attempts < claim.max_attempts),
		array_agg(d.event_id) filter (where d.is_there and d.attempts >= claim.max_attempts),
		array_agg(d.event_id) filter (where not d.is_there)
	into again, dead, gone
	from (
		select l.event_id, l.attempts, (select e.id from sms.event e
			where e.id >= l.event_id and e.id <= l.event_id
			order by e.id limit 1) is not null as is_there
		from sms.lease l
		where l.consumer = claim.consumer and l.due_at <= claimed_at
		order by l.consumer, l.due_at limit claim.max
		for update of l skip locked
	) d;
	-- What was purged after an sms.seek back is of no more use.
	delete from sms.lease l
		where l.consumer = claim.consumer and l.event_id = any (gone);
	perform sms.bury(consumer, dead);
	update sms.lease l set attempts = l.attempts + 1, due_at = claimed_at + lease
		where l.consumer = claim.consumer and l.event_id = any (again);

	if coalesce(cardinality(again), 0) < max then
		newest := sms.newest_id();
		with unseen as materialized (
			select u.id from sms.unseen(place, kinds,
				claim.max - coalesce(cardinality(again), 0)) u
		), leased as (
			insert into sms.lease (event_id, consumer, attempts, due_at)
			select u.id, claim.consumer, 1, claimed_at + lease from unseen u
			on conflict do nothing
			returning event_id
		)
		select (select array_agg(l.event_id) from leased l),
			(select u.id from unseen u order by u.id desc limit 1)
		into fresh, last;
		if last is null and newest > place + 1000 then
			last := newest; -- as sms.poll does
		end if;
		update sms.consumer c set last_id = last, moved_at = claimed_at
			where c.name = claim.consumer and c.last_id < last;
	end if;

	return query
	select e.id, e.received_at, e.occurred_at, e.source, e.kind, e.message_id, e.phone,
		e.device_id, e.device_name, e.channel, e.status, e.status_code,
		e.status_text, e.body, e.keyword, e.media_url, e.note, e.payload, e.raw,
		e.ingest_id, e.duplicate_of, l.attempts, l.due_at
	from sms.lease l
	cross join lateral (
		select x.* from sms.event x where x.id >= l.event_id and x.id <= l.event_id
		order by x.id limit 1) e -- by a range: never through the whole index
	where l.consumer = claim.consumer and l.event_id = any (again || fresh)
	order by e.id;
end
$$;
comment on function sms.claim(text, int, interval, text[], int) is
	'For many workers of one consumer: leases max events at most to the caller, those '
	'that have come back first, then the next. Each has one worker at a time, until '
	'sms.done, sms.fail or the end of its lease; then it can be claimed again, and '
	'after max_attempts claims it is a dead letter. attempt counts from 1. Commit the '
	'claim before the work: it makes the other workers wait.';

create function sms.done(consumer text, ids bigint[]) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
	n bigint;
begin
	perform sms.check_consumer('sms.done', consumer);
	with leased as (
		delete from sms.lease l
		where l.consumer = done.consumer and l.event_id = any (ids)
		returning l.event_id
	), dead as (
		delete from sms.dead_letter d
		where d.consumer = done.consumer and d.event_id = any (ids)
		returning d.event_id
	)
	select (select count(*) from leased) + (select count(*) from dead) into n;
	return n;
end
$$;
comment on function sms.done(text, bigint[]) is
	'Ends the work on claimed events, or strikes off dead letters: they do not come '
	'again, but by sms.seek. Returns how many of them were still to be done. Called in the '
	'transaction of the work, with a rollback where it is less than you gave, it makes '
	'the work exactly once.';

create function sms.bury(consumer text, ids bigint[]) returns void
language sql volatile as $$
	with gone as (
		delete from sms.lease l
		where l.consumer = bury.consumer and l.event_id = any (ids)
		returning l.*
	)
	insert into sms.dead_letter as d (event_id, consumer, attempts, reason, died_at)
	select g.event_id, g.consumer, g.attempts,
		coalesce(g.reason, 'no worker called sms.done before its lease ended'),
		clock_timestamp()
	from gone g
	on conflict (event_id, consumer) do update
	set attempts = excluded.attempts, reason = excluded.reason,
		died_at = excluded.died_at
$$;
comment on function sms.bury(text, bigint[]) is
	'Internal. Makes leased events dead letters.';

create function sms.fail(
	consumer    text,
	id          bigint,
	reason      text,
	retry_after interval default '10 seconds',
	attempt     int default null
) returns timestamptz
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
	attempts int;
	due_at timestamptz;
begin
	perform sms.check_consumer('sms.fail', consumer);
	if id is null or retry_after is null or retry_after < '0' then
		perform sms.refuse(format('sms.fail: id is %s, retry_after %s',
			coalesce(id::text, 'null'), coalesce(retry_after::text, 'null')),
			'Give the id of a claimed event, and an interval of 0 or more.');
	end if;
	update sms.lease l
		set reason = left(coalesce(fail.reason, 'no reason given'), 1000),
			due_at = clock_timestamp() + case
				when retry_after >= '1 day' then retry_after
				else least(extract(epoch from retry_after)
					* 2 ^ least(l.attempts - 1, 40), 86400) * interval '1 second' end
		where l.consumer = fail.consumer and l.event_id = fail.id
			and (attempt is null or l.attempts = attempt)
		returning l.attempts, l.due_at into attempts, due_at;
	if attempts >= (select c.max_attempts from sms.consumer c
		where c.name = fail.consumer)
	then
		perform sms.bury(consumer, array[id]);
		return null;
	end if;
	return due_at;
end
$$;
comment on function sms.fail(text, bigint, text, interval, int) is
	'Gives a claimed event back. It can be claimed again after retry_after, doubled '
	'with each further attempt up to a day; this time is returned. Null: it is a dead '
	'letter now, for it had max_attempts; or it was not leased. Give attempt as '
	'sms.claim told it where work may outlast its lease: another worker''s lease is '
	'then left alone.';

create function sms.retry(consumer text, ids bigint[] default null) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
	n bigint;
begin
	perform sms.lock_consumer(consumer, false);
	perform sms.check_consumer('sms.retry', consumer);
	with back as (
		delete from sms.dead_letter d
		where d.consumer = retry.consumer and (ids is null or d.event_id = any (ids))
		returning d.*
	), leased as (
		insert into sms.lease (event_id, consumer, attempts, due_at, reason)
		select b.event_id, b.consumer, 0, clock_timestamp(), b.reason from back b
		on conflict do nothing
	)
	select count(*) into n from back;
	return n;
end
$$;
comment on function sms.retry(text, bigint[]) is
	'Brings dead letters back, those with these ids or all: they are claimed again, '
	'with their attempts counted anew. Returns how many.';

-- ------------------------------------------------------------------- lag

create view sms.consumer_lag as
	select c.name as consumer, c.last_id, n.newest_id,
		case when u.n <= 500 then u.n else n.newest_id - c.last_id end as lag,
		u.oldest_at, now() - u.oldest_at as waiting, l.leased, d.dead, l.next_due_at,
		c.kinds, c.moved_at
	from sms.consumer c
	cross join (select sms.newest_id()) as n(newest_id)
	cross join lateral (
		select count(*) as n, (array_agg(e.received_at))[1] as oldest_at
		from sms.unseen(c.last_id, nullif(c.kinds, '{}'), 501) e) u
	cross join lateral (
		select count(*) as leased, min(x.due_at) as next_due_at
		from sms.lease x where x.consumer = c.name) l
	cross join lateral (
		select count(*) as dead from sms.dead_letter x where x.consumer = c.name) d;
comment on view sms.consumer_lag is
	'How far each consumer is behind. lag: events that it has still to see, above '
	'500 the difference of ids, which is no smaller. oldest_at: when the first of '
	'them was received; waiting: for how long. leased: claimed and not done; '
	'next_due_at: when the first of these can be claimed again.';

-- That there are few is known from now on: sms.consumer_lag is planned for them.
analyze sms.consumer;

revoke all on all functions in schema sms from public;
