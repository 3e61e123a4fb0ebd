-- What is left of smshook's database when all is taken out that sms.ingest does beside
-- storing a row: duplicates, the state of messages, keywords, the indexes that readers
-- use, time zones, replays, rejected bodies.  What is left is the lock, ids in commit order, a
-- row with its two keys, and a NOTIFY of a bare id: a floor of what a table of events costs.
drop index sms.event_kind, sms.event_phone, sms.event_received_at;
create or replace function sms.ingest(
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
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
	ok boolean;
	fresh int[];
	before bigint;
	n_stored int;
begin
	ok := set_config('synchronous_commit', 'on', true) is not null;
	ok := set_config('lock_timeout', greatest(patience, 1)::text, true) is not null;
	ok := pg_advisory_xact_lock(32489964762525547) is null;
	fresh := array_positions(http_status, null);
	if fresh <> '{}' then
		before := nextval('sms.event_id') - 1;
		ok := setval('sms.event_id', before + cardinality(fresh)) > 0;
	end if;
	insert into sms.event (id, received_at, occurred_at, source, kind, message_id,
		phone, device_id, device_name, channel, status, status_code, status_text,
		body, media_url, note, payload, raw, ingest_id)
	select before + k, received_at[i], occurred_at[i], source[i], kind[i], message_id[i],
		phone[i], device_id[i], device_name[i], channel[i], status[i], status_code[i],
		status_text[i], body[i], media_url[i], note[i], payload[i], raw[i],
		ingest.ingest_id[i]
	from unnest(fresh) with ordinality as f(i, k)
	where pg_notify('sms_event', (before + k)::text) is not null;
	get diagnostics n_stored = row_count;
	for i in 1 .. n_stored loop
		n := i;
		id := before + i;
		return next;
	end loop;
end
$$;
