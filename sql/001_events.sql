-- smshook 001: events, message state, rejected bodies, keywords, and the one
-- function that writes them.  Applied by `smshook migrate`, or by
-- `psql -1 -f`.  Needs PostgreSQL 13, a UTF8 database, CREATE on it; no
-- extension and no superuser.

create schema sms;
comment on schema sms is
	'smshook: webhooks of an SMS gateway, as rows. Start with sms.event; \df+ sms.* '
	'is the manual of the functions. Schema version 1.';

create table sms.schema_version (
	version    int primary key,
	applied_at timestamptz not null default now()
);
comment on table sms.schema_version is
	'Migrations that were applied to this database, a row each.';
comment on column sms.schema_version.version is 'Number of the file in sql/.';
comment on column sms.schema_version.applied_at is 'When it was applied.';
insert into sms.schema_version (version) values (1);

-- ---------------------------------------------------------------- tables

create table sms.event (
	id           bigint primary key,
	received_at  timestamptz not null,
	occurred_at  timestamptz,
	source       text not null,
	kind         text not null,
	message_id   text,
	phone        text,
	device_id    text,
	device_name  text,
	channel      text,
	status       text,
	status_code  int,
	status_text  text,
	body         text,
	keyword      text,
	media_url    text,
	note         text,
	payload      jsonb,
	raw          bytea,
	ingest_id    uuid not null unique,
	duplicate_of bigint
);
comment on table sms.event is
	'Every webhook that was an event, one row each, never changed but by sms.redact '
	'and sms.forget. Ids are in commit order: WHERE id > :last ORDER BY id misses '
	'none. Gaps mean nothing.';
comment on column sms.event.id is 'Place in the log; a later commit has a larger id.';
comment on column sms.event.received_at is 'When the receiver got the request.';
comment on column sms.event.occurred_at is
	'When it happened, by the gateway''s word; null where that was unreadable.';
comment on column sms.event.source is 'Name of the [source] whose token was used.';
comment on column sms.event.kind is
	'delivery_status, incoming_sms, or an event name not known to smshook.';
comment on column sms.event.message_id is 'The gateway''s id of the message.';
comment on column sms.event.phone is
	'The other side''s number without punctuation, or its alphanumeric name.';
comment on column sms.event.device_id is 'The gateway''s id of the device.';
comment on column sms.event.device_name is 'The device''s name, as sent.';
comment on column sms.event.channel is 'SIM slot or channel of the device.';
comment on column sms.event.status is
	'delivery_status: queued, sent, delivered, failed or unknown.';
comment on column sms.event.status_code is 'The gateway''s status_id, as sent.';
comment on column sms.event.status_text is 'The gateway''s word for the status, as sent.';
comment on column sms.event.body is 'Text of an incoming SMS.';
comment on column sms.event.keyword is
	'First word of an incoming SMS, upper-cased, without punctuation around it.';
comment on column sms.event.media_url is 'Where the picture of an image message is.';
comment on column sms.event.note is 'What could not be read in the body, and why.';
comment on column sms.event.payload is
	'The whole body. What jsonb cannot hold stands as U+FFFD; see raw.';
comment on column sms.event.raw is
	'The body''s bytes, only where payload is not faithful to them.';
comment on column sms.event.ingest_id is
	'The receiver''s id of the request, by which a replay is recognised.';
comment on column sms.event.duplicate_of is
	'Id of the first event with the same bytes from the same source, if it or a '
	'later one of them came within 7 days before.';

-- Names that strangers choose may be longer than an index takes: 250 characters
-- of them.  The views show as much, so that they find by index.  They are of all
-- rows, for the planner has no statistics of a partial index's expressions.  None
-- on message ids: they come at random, and it would cost a quarter of the rate of
-- ingestion.
create index event_kind on sms.event (left(kind, 250), id);
comment on index sms.event_kind is 'For readers of some kinds of events.';
create index event_phone on sms.event (left(phone, 250));
comment on index sms.event_phone is 'What a phone number has to do with.';
create index event_received_at on sms.event (received_at);
comment on index sms.event_received_at is
	'For sms.purge and sms.redact: a spool that was drained comes late.';

create sequence sms.event_id owned by sms.event.id;
comment on sequence sms.event_id is
	'Ids of sms.event; drawn under the lock of sms.ingest alone.';

create table sms.message (
	source      text not null,
	message_id  text not null,
	status      text not null,
	status_code int,
	status_text text,
	phone       text,
	device_id   text,
	occurred_at timestamptz,
	received_at timestamptz not null,
	event_id    bigint not null,
	primary key (message_id, source) -- a reader may know no source
) with (fillfactor = 80);
create index message_phone on sms.message (left(phone, 250));
comment on index sms.message_phone is 'What was sent to a phone number.';
comment on table sms.message is
	'The current delivery status of each message, by the rules of sms.status_rank.';
comment on column sms.message.source is 'As in sms.event.';
comment on column sms.message.message_id is 'As in sms.event.';
comment on column sms.message.status is 'The status that holds now.';
comment on column sms.message.status_code is 'status_code of that event.';
comment on column sms.message.status_text is 'status_text of that event.';
comment on column sms.message.phone is 'The recipient.';
comment on column sms.message.device_id is 'The device that sent it.';
comment on column sms.message.occurred_at is 'When the status began to hold.';
comment on column sms.message.received_at is 'When that event was received.';
comment on column sms.message.event_id is 'The event that decided the status.';

create table sms.rejected (
	id           bigint generated always as identity primary key,
	received_at  timestamptz not null,
	source       text not null,
	remote_addr  text,
	http_status  int not null,
	reason       text not null,
	content_type text,
	body         bytea,
	ingest_id    uuid not null unique
);
create index rejected_received_at on sms.rejected (received_at);
comment on index sms.rejected_received_at is 'For sms.purge and sms.redact.';
comment on table sms.rejected is
	'Bodies that came with a valid token and are no event, kept as they came.';
comment on column sms.rejected.id is 'Counts up; not in commit order.';
comment on column sms.rejected.received_at is 'When the receiver got the request.';
comment on column sms.rejected.source is 'Name of the [source] whose token was used.';
comment on column sms.rejected.remote_addr is 'Address that the web server saw.';
comment on column sms.rejected.http_status is 'The answer that the sender got.';
comment on column sms.rejected.reason is 'What was wrong with the body.';
comment on column sms.rejected.content_type is 'Content-Type of the request.';
comment on column sms.rejected.body is 'The bytes as they came.';
comment on column sms.rejected.ingest_id is 'As in sms.event.';

create table sms.keyword (
	keyword text not null,
	channel text not null check (octet_length(channel) between 1 and 63),
	primary key (keyword, channel)
);
comment on table sms.keyword is
	'Channels to NOTIFY when an incoming SMS begins with a word: insert rows here.';
comment on column sms.keyword.keyword is 'The word in upper case, such as VERIFY.';
comment on column sms.keyword.channel is 'Channel that is notified, 63 bytes at most.';

create table sms.recent_body (
	digest   uuid primary key,
	first_id bigint not null,
	last_at  timestamptz not null
);
create index recent_body_last_at on sms.recent_body (last_at);
comment on index sms.recent_body_last_at is 'To forget old bodies.';
comment on table sms.recent_body is
	'Bodies of the last 7 days, by which sms.ingest knows duplicates.';
comment on column sms.recent_body.digest is
	'First 16 bytes of the SHA-256 of the source''s name, a zero byte and the body.';
comment on column sms.recent_body.first_id is 'The first event with these bytes.';
comment on column sms.recent_body.last_at is 'When the latest of them was received.';

-- ------------------------------------------------------------- functions

-- sms.status_rank: the order of statuses within one message.  A larger rank
-- replaces a smaller one, whatever order the events come in; equal ranks go by
-- time.  The gateway's queued codes come in the order 1, 3, 2.
create function sms.status_rank(status text, status_code int) returns int
language sql immutable parallel safe as $$
	select case status
		when 'delivered' then 5
		when 'failed' then 5
		when 'sent' then 4
		when 'queued' then case status_code when 2 then 3 when 3 then 2 else 1 end
		else 0 end
$$;
comment on function sms.status_rank(text, int) is
	'Order of statuses of one message: unknown < queued < sent < delivered, failed.';

-- sms.first_word: the word that sms.keyword is asked for.  One expression, so that
-- it is inlined; in a short text no word is too long, and it is looked for once.
create function sms.first_word(body text) returns text
language sql immutable parallel safe as $$
	select case when octet_length(body) <= 64
			or char_length(btrim(substring(body from '[^[:space:]]+'),
				'.,:;!?"''()[]<>')) <= 64
		then nullif(upper(btrim(substring(body from '[^[:space:]]+'),
			'.,:;!?"''()[]<>')), '') end
$$;
comment on function sms.first_word(text) is
	'First word of a text, upper-cased, without punctuation around it; null if '
	'there is none or it is longer than 64 characters.';
alter table sms.keyword add constraint keyword_is_a_word_in_upper_case
	check (keyword is not distinct from sms.first_word(keyword));

-- sms.at_zone: wall clock time in a named zone; null for a zone that this
-- PostgreSQL does not know.  The name comes from a webhook: no error for it.
create function sms.at_zone(wall_clock timestamp, zone text) returns timestamptz
language plpgsql stable parallel restricted as $$
begin
	return wall_clock at time zone zone;
exception when data_exception then
	return null;
end
$$;
comment on function sms.at_zone(timestamp, text) is
	'Time of a wall clock in a named zone; null for an unknown zone.';

-- sms.ingest: the only way in.  One array a column, one element an event, one
-- commit for all; n counts from 1.  An element with an http_status is a body
-- that was rejected.  An ingest_id that is there already is not stored again.
--
-- The lock is taken before ids are drawn and held until the commit is done:
-- that is what puts ids in commit order.  Every statement after it has a
-- snapshot of its own (READ COMMITTED), which sees all earlier batches.
--
-- Elements are read by their number: PL/pgSQL holds its arrays taken apart, so that
-- this costs less than one unnest() a column.
create function sms.ingest(
	ingest_id    uuid[],
	received_at  timestamptz[],
	source       text[],
	kind         text[],
	message_id   text[],
	phone        text[],
	device_id    text[],
	device_name  text[],
	channel      text[],
	status       text[],
	status_code  int[],
	status_text  text[],
	body         text[],
	media_url    text[],
	occurred_at  timestamptz[], -- where there is a zone: what its clock showed, as if UTC
	zone         text[],        -- null: occurred_at holds as it is
	note         text[],
	payload      jsonb[],
	raw          bytea[],
	digest       uuid[],       -- null: not compared
	http_status  int[],         -- null: an event
	reason       text[],
	content_type text[],
	remote_addr  text[],
	notify       boolean,
	patience     int default 1500 -- ms
) returns table (n bigint, id bigint, duplicate_of bigint)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
-- Plans are made once a session, when tables may be empty, and must stay good
-- when they are large: by index, always.  A plan that can do without none costs
-- so much by that, on paper, that it would be compiled: hence jit.
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
	ok boolean; -- expressions are cheaper than statements
	n_events int := cardinality(ingest_id);
	fresh int[];         -- the numbers of the events that are not there yet
	n_fresh int;
	before bigint;       -- the k-th of fresh becomes event before + k
	firsts bigint[];     -- duplicate_of of each; null: no event is a duplicate
	is_doubtful boolean := false; -- some may be there, or be duplicates
	best int[];          -- the k of each message's best receipt
	phones text[];       -- and what it, or another, tells of number and device
	devices text[];
	n_stored int;
begin
	-- A SET clause of the function would end before the commit.  The receiver does
	-- not wait longer than patience: an event that it has refused must not be
	-- stored later, nor a session be left behind for each.
	ok := set_config('synchronous_commit', 'on', true) is not null;
	ok := set_config('lock_timeout', greatest(patience, 1)::text, true) is not null;
	ok := pg_advisory_xact_lock(32489964762525547) is null; -- 'smshook' in ASCII

	-- A constraint of the table would be compiled anew by each call.
	if not array_remove(status, null) <@ '{queued,sent,delivered,failed,unknown}' then
		raise exception using errcode = 'check_violation', message =
			'sms.ingest: a status is not one of queued, sent, delivered, failed, unknown';
	end if;

	if n_events = 0 or array_remove(zone, null) <> '{}' then -- 0: a trial
		select array_agg(at), array_agg(case when at is null and occurred_at[i] is not null
			then concat_ws('; ', note[i], 'occurred_at: unknown time zone') else note[i] end)
		into occurred_at, note
		from (
			select i, case when zone[i] is null then occurred_at[i]
				else sms.at_zone(occurred_at[i] at time zone 'UTC', zone[i]) end as at
			from generate_series(1, n_events) i
			offset 0 -- looked up once
		) t;
	end if;

	if n_events = 0 or array_remove(http_status, null) <> '{}' then
		insert into sms.rejected (received_at, source, remote_addr, http_status,
			reason, content_type, body, ingest_id)
		select received_at[i], source[i], remote_addr[i], http_status[i],
			reason[i], content_type[i], raw[i], ingest.ingest_id[i]
		from generate_series(1, n_events) i
		where http_status[i] is not null and ( -- by smshook rejected retry
			select e.id from sms.event e where e.ingest_id = ingest.ingest_id[i]) is null
		on conflict do nothing;
	end if;

	-- Events that were stored before, and bodies that came before, are rare: unique
	-- keys tell of them.  Under the lock nobody else adds any.
	loop
	begin
		fresh := array_positions(http_status, null);
		if is_doubtful then
			fresh := array(select i from unnest(fresh) i where (
				select e.id from sms.event e where e.ingest_id = ingest.ingest_id[i]) is null);
		end if;
		n_fresh := cardinality(fresh);
		if not is_doubtful and n_fresh > 0 then
			before := nextval('sms.event_id') - 1;
			ok := n_fresh = 1 or setval('sms.event_id', before + n_fresh) > 0;
		elsif n_events = 0 then
			ok := pg_sequence_last_value('sms.event_id') is null;
		end if;

		if not is_doubtful then
			insert into sms.recent_body (digest, first_id, last_at)
			select digest[i], before + k, received_at[i]
			from unnest(fresh) with ordinality as f(i, k)
			where digest[i] is not null;
		else
			insert into sms.recent_body as r (digest, first_id, last_at)
			select digest[i], min(before + k), max(received_at[i])
			from unnest(fresh) with ordinality as f(i, k)
			where digest[i] is not null
			group by digest[i]
			on conflict (digest) do update set -- sms.forget deletes some
				first_id = case when r.last_at >= excluded.last_at - interval '7 days'
					then r.first_id else excluded.first_id end,
				last_at = greatest(r.last_at, excluded.last_at);
			firsts := array(
				select nullif((select r.first_id from sms.recent_body r
					where r.digest = ingest.digest[i]), before + k)
				from unnest(fresh) with ordinality as f(i, k) order by k);
		end if;

		insert into sms.event (id, received_at, occurred_at, source, kind, message_id,
			phone, device_id, device_name, channel, status, status_code, status_text,
			body, keyword, media_url, note, payload, raw, ingest_id, duplicate_of)
		select before + k, received_at[i], occurred_at[i], source[i], kind[i],
			message_id[i], phone[i], device_id[i], device_name[i], channel[i], status[i],
			status_code[i], status_text[i], body[i],
			case when kind[i] = 'incoming_sms' then sms.first_word(body[i]) end,
			media_url[i], note[i], payload[i], raw[i], ingest.ingest_id[i], firsts[k]
		from unnest(fresh) with ordinality as f(i, k)
		-- Never false: here, for it is one statement less.  Anyone may LISTEN: no
		-- number and no text.  A payload is 8000 bytes at most.
		where notify is not true or firsts[k] is not null
			or pg_notify('sms_event', '{"id":' || before + k || ',"kind":' || case
				when kind[i] = 'delivery_status' and octet_length(message_id[i]) <= 1024
				then '"delivery_status","message_id":' || to_json(message_id[i])
					|| ',"status":"' || coalesce(status[i], '') || '"}'
				else to_json(left(kind[i], 64)) || '}' end) is not null;
		get diagnostics n_stored = row_count; -- a trigger may swallow some
		exit;
	exception when unique_violation then
		if is_doubtful then
			raise;
		end if;
		is_doubtful := true;
	end;
	end loop;

	if n_events = 0 or notify and 'incoming_sms' = any (kind) then
		perform pg_notify(w.channel, '{"id":' || before + k || ',"kind":"incoming_sms"}')
		from unnest(fresh) with ordinality as f(i, k)
		join sms.keyword w on w.keyword = sms.first_word(body[i])
		where kind[i] = 'incoming_sms' and firsts[k] is null
			and exists (select from sms.keyword); -- none: no word is looked for
	end if;

	-- The batch's best receipt of each message meets what is known of it.  What the
	-- better one does not tell (number, device) is taken from the others.  Ids longer
	-- than an index takes stay in sms.event alone.
	if n_events = 0 or 'delivery_status' = any (kind) then
		if n_events = 1 then -- by itself, it is the best
			best := case when n_fresh = 1 and status[1] is not null and firsts[1] is null
				and octet_length(message_id[1]) <= 1024 then '{1}' end;
			phones := phone;
			devices := device_id;
		else
			select array_agg(b.k), array_agg(b.phone), array_agg(b.device_id)
			into best, phones, devices
			from (
				select distinct on (r.source, r.message_id) k,
					coalesce(phone[i], max(phone[i]) over same) as phone,
					coalesce(device_id[i], max(device_id[i]) over same) as device_id
				from (
					select i, k, source[i] as source, message_id[i] as message_id,
						sms.status_rank(status[i], status_code[i]) as rank,
						coalesce(occurred_at[i], received_at[i]) as at
					from unnest(fresh) with ordinality as f(i, k)
					where kind[i] = 'delivery_status' and status[i] is not null
						and firsts[k] is null and octet_length(message_id[i]) <= 1024
				) r
				window same as (partition by r.source, r.message_id)
				order by r.source, r.message_id, r.rank desc, r.at desc, k desc
			) b;
		end if;
		insert into sms.message as m (source, message_id, status, status_code,
			status_text, occurred_at, received_at, event_id, phone, device_id)
		select source[i], message_id[i], status[i], status_code[i], status_text[i],
			occurred_at[i], received_at[i], before + k, phones[j], devices[j]
		from unnest(best) with ordinality as b(k, j)
		cross join lateral (select fresh[k]) as f(i)
		on conflict (source, message_id) do update set
			(status, status_code, status_text, occurred_at, received_at, event_id,
				phone, device_id)
			= (select (x.b).status, (x.b).status_code, (x.b).status_text,
					(x.b).occurred_at, (x.b).received_at, (x.b).event_id,
					coalesce((x.b).phone, m.phone, excluded.phone),
					coalesce((x.b).device_id, m.device_id, excluded.device_id)
				from (select case when
					(sms.status_rank(excluded.status, excluded.status_code),
						coalesce(excluded.occurred_at, excluded.received_at),
						excluded.event_id)
					> (sms.status_rank(m.status, m.status_code),
						coalesce(m.occurred_at, m.received_at), m.event_id)
					then excluded else m end as b offset 0) x);
	end if;

	-- Bodies that are too old to compare with, some now and then.
	if before / 256 <> (before + n_fresh) / 256 then
		delete from sms.recent_body r where r.ctid = any (array(
			select o.ctid from sms.recent_body o
			where o.last_at < now() - interval '7 days'
			order by o.last_at limit 512 + 2 * n_events));
	end if;

	if n_stored = n_events then
		for i in 1 .. n_events loop
			n := i;
			id := before + i;
			duplicate_of := firsts[i];
			return next;
		end loop;
	else -- bodies that are no events, and events that were stored before
		return query
		select i.n, e.id, e.duplicate_of
		from unnest(ingest.ingest_id) with ordinality as i(ingest_id, n)
		left join lateral (
			select e.id, e.duplicate_of from sms.event e
			where e.ingest_id = i.ingest_id
			offset 0 -- looked up one by one
		) e on true
		order by i.n;
	end if;
end
$$;
comment on function sms.ingest(uuid[], timestamptz[], text[], text[], text[],
	text[], text[], text[], text[], text[], int[], text[], text[], text[],
	timestamptz[], text[], text[], jsonb[], bytea[], uuid[], int[], text[], text[],
	text[], boolean, int) is
	'Stores a batch of webhooks: one array a column, one element an event. '
	'Returns n (from 1), the id (null for a rejected body) and duplicate_of. '
	'Used by the receiver alone.';

-- ----------------------------------------------------------------- views

create view sms.delivery_status as
	select id, received_at, occurred_at, source, message_id,
		left(phone, 250) as phone, device_id, channel, status, status_code,
		status_text
	from sms.event
	where kind = 'delivery_status' and left(kind, 250) = 'delivery_status' -- by index
		and duplicate_of is null;
comment on view sms.delivery_status is
	'Delivery receipts in the order they came. The current state of a message is in '
	'sms.message; its history is here, WHERE phone = ... AND message_id = ..., by the '
	'index on the phone number.';

create view sms.incoming_sms as
	select id, received_at, occurred_at, source, message_id,
		left(phone, 250) as phone, device_id, device_name, channel, body, keyword,
		media_url
	from sms.event
	where kind = 'incoming_sms' and left(kind, 250) = 'incoming_sms' -- by index
		and duplicate_of is null;
comment on view sms.incoming_sms is 'Messages that people sent, without duplicates.';

create view sms.conversation as
	select left(phone, 250) as phone, coalesce(occurred_at, received_at) as at,
		'in' as direction, body, media_url, null as status, source, message_id,
		id as event_id
	from sms.event
	where kind = 'incoming_sms' and duplicate_of is null and phone is not null
	union all
	select left(phone, 250), coalesce(occurred_at, received_at), 'out',
		null, null, status, source, message_id, event_id
	from sms.message
	where phone is not null;
comment on view sms.conversation is
	'Both directions of a phone number: WHERE phone = ... ORDER BY at. Of sent '
	'messages the gateway tells the status, not the text.';

-- Nobody but the owner, until roles.sql or an administrator says otherwise.
revoke all on all functions in schema sms from public;
