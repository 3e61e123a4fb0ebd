-- smshook 004: how long personal data is kept.  Nothing here takes an event from
-- a consumer that has still to see it.  For the owner of the schema alone.

insert into sms.schema_version (version) values (4);
comment on schema sms is
	'smshook: webhooks of an SMS gateway, as rows. Start with sms.event; \df+ sms.* '
	'is the manual of the functions. Schema version 4.';

create function sms.is_unseen(id bigint, kind text, duplicate_of bigint)
returns boolean
language sql stable as $$
	select duplicate_of is null and exists (select from sms.consumer c
			where c.last_id < id
				and (c.kinds is null or c.kinds = '{}' or kind = any (c.kinds)))
		or exists (select from sms.lease l where l.event_id = id)
		or exists (select from sms.dead_letter d where d.event_id = id)
$$;
comment on function sms.is_unseen(bigint, text, bigint) is
	'Whether a consumer has still to see an event, or is at work on it.';

create function sms.check_age(called text, older_than interval) returns timestamptz
language plpgsql stable as $$
begin
	if older_than is null or older_than < '0' then
		perform sms.refuse(format('%s: older_than is %s', called,
			coalesce(older_than::text, 'null')), 'Give an age such as ''90 days''.');
	end if;
	return now() - older_than;
end
$$;
comment on function sms.check_age(text, interval) is
	'Internal. The time before which an event is older than this.';

-- sms.purge_step: the next batch in the order of reception.  All that have the
-- time of its last one belong to it.
create function sms.purge_step(
	cutoff  timestamptz,
	inout   place timestamptz,
	batch   int,
	out     deleted bigint
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan as $$
declare
	first timestamptz := coalesce(place, '-infinity');
	n_rejected bigint;
begin
	select max(b.received_at) into place
	from (
		select e.received_at from sms.event e
		where e.received_at > first and e.received_at < cutoff
		order by e.received_at limit greatest(batch, 1)
	) b;
	with gone as (
		delete from sms.event e
		where e.received_at > first and e.received_at <= place
			and not sms.is_unseen(e.id, e.kind, e.duplicate_of)
		returning e.id, e.source, e.message_id
	), messages as (
		delete from sms.message m using gone g
		where m.message_id = g.message_id and m.source = g.source
			and m.event_id = g.id
	), replies as (
		delete from sms.reply_taken t using gone g where t.event_id = g.id
	)
	select count(*) into deleted from gone;
	delete from sms.rejected r where r.ctid = any (array(
		select o.ctid from sms.rejected o where o.received_at < cutoff
		order by o.received_at limit greatest(batch, 1)));
	get diagnostics n_rejected = row_count;
	if place is null and n_rejected = greatest(batch, 1) then
		place := first;
	end if;
end
$$;
comment on function sms.purge_step(timestamptz, timestamptz, int) is
	'One batch of sms.purge, to be committed by itself: events received before cutoff '
	'and after place (null: from the oldest). Returns where to go on, null at the end.';

create function sms.purge(older_than interval) returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
	cutoff timestamptz := sms.check_age('sms.purge', older_than);
	place timestamptz;
	deleted bigint;
	total bigint := 0;
	waiting record;
begin
	loop
		select s.place, s.deleted into place, deleted
			from sms.purge_step(cutoff, place, 5000) s;
		total := total + deleted;
		exit when place is null;
	end loop;
	for waiting in
		select l.consumer from sms.consumer_lag l where l.oldest_at < cutoff
		union
		select l.consumer from sms.lease l join sms.event e on e.id = l.event_id
		where e.received_at < cutoff
		union
		select d.consumer from sms.dead_letter d join sms.event e on e.id = d.event_id
		where e.received_at < cutoff
		order by 1
	loop
		raise notice 'sms.purge: consumer % has still to see events of that age; they '
			'stay', quote_literal(waiting.consumer)
			using hint = 'See sms.consumer_lag, sms.lease and sms.dead_letter; if it is '
				'gone for good: select sms.drop_consumer(...).';
	end loop;
	return total;
end
$$;
comment on function sms.purge(interval) is
	'Deletes events and rejected bodies that are older, with the messages whose '
	'status they decided; none that a consumer has still to see, has claimed, or has '
	'as a dead letter. Returns how many events. It is one transaction; smshook purge '
	'commits after each 5000.';

-- What tells of a person goes, what counts stays.
create function sms.redact(older_than interval) returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan as $$
declare
	cutoff timestamptz := sms.check_age('sms.redact', older_than);
	n bigint;
begin
	with emptied as (
		update sms.event e
		set phone = null, body = null, keyword = null, media_url = null,
			payload = null, raw = null
		where e.received_at < cutoff
			and (e.payload is not null or e.raw is not null or e.phone is not null
				or e.body is not null or e.keyword is not null
				or e.media_url is not null)
			and not sms.is_unseen(e.id, e.kind, e.duplicate_of)
		returning e.id
	)
	select count(*) into n from emptied;
	update sms.rejected r set body = null
		where r.received_at < cutoff and r.body is not null;
	-- Last: a status of a message that is locked stops sms.ingest.
	update sms.message m set phone = null
		where m.received_at < cutoff and m.phone is not null
			and not sms.is_unseen(m.event_id, 'delivery_status', null);
	return n;
end
$$;
comment on function sms.redact(interval) is
	'Empties phone, text, picture and payload of events that are older, and rejected '
	'bodies; what was sent when, and its status, stay. None that a consumer has still '
	'to see. Returns how many events.';

create function sms.forget(phone text, out forgotten bigint, out waiting bigint)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
	number text := sms.phone_number(phone);
	digits text := ltrim(number, '+');
	ids bigint[];
begin
	if number is null then
		perform sms.refuse('sms.forget: no phone number', 'Give it as in sms.event.');
	end if;
	select array_agg(e.id) filter (where not e.is_unseen),
		count(*) filter (where e.is_unseen)
	into ids, waiting
	from (
		select e.id, sms.is_unseen(e.id, e.kind, e.duplicate_of) as is_unseen
		from sms.event e
		where left(e.phone, 250) = left(number, 250) and e.phone = number
	) e;
	forgotten := coalesce(cardinality(ids), 0);
	update sms.event e
		set phone = null, body = null, keyword = null, media_url = null,
			payload = null, raw = null
		where left(e.phone, 250) = left(number, 250) and e.phone = number
			and e.id = any (ids);
	delete from sms.recent_body r where r.first_id = any (ids);
	-- A rejected body was not decoded: its digits may be apart.
	update sms.rejected r set body = null
		where char_length(number) >= 6
			and position(convert_to(number, 'UTF8') in r.body) > 0
			or char_length(digits) >= 6 and digits !~ '[^0-9]'
			and position(digits in translate(encode(r.body, 'escape'), ' .-()', '')) > 0;
	update sms.message m set phone = null
		where left(m.phone, 250) = left(number, 250) and m.phone = number;
	if waiting > 0 then
		raise notice 'sms.forget: % events of this number are left, for a consumer has '
			'still to see them', waiting
			using hint = 'See sms.consumer_lag, and call sms.forget again later.';
	end if;
end
$$;
comment on function sms.forget(text) is
	'For one person''s request: empties all events, messages and rejected bodies of a '
	'phone number like sms.redact. waiting: events that are left because a consumer '
	'has still to see them; call it again when it has.';

revoke all on all functions in schema sms from public;
