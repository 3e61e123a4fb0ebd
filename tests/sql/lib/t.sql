-- What the tests of tests/sql/ share: extensions, and schema t.

create extension pgtap;
select count(*) > 0 as has_dblink from pg_available_extensions
	where name = 'dblink' \gset
\if :has_dblink
create extension dblink;
\endif

create schema t;

-- That of a body and its source, such as the receiver makes.
create function t.digest(body bytea, source text default 'test') returns uuid
language sql as $$ select md5(source || ' ' || body)::uuid $$;

-- sms.ingest with a JSON object an event and what is left out filled in.
create function t.ingest(events jsonb, notify boolean default false)
returns table (n bigint, id bigint, duplicate_of bigint) language sql as $$
	select r.n, r.id, r.duplicate_of
	from (
		select array_agg(coalesce(e.ingest_id, gen_random_uuid())) as ingest_id,
			array_agg(coalesce(e.received_at, now())) as received_at,
			array_agg(coalesce(e.source, 'test')) as source,
			array_agg(case when e.http_status is null
				then coalesce(e.kind, 'incoming_sms') end) as kind,
			array_agg(e.message_id) as message_id,
			array_agg(e.phone) as phone,
			array_agg(e.device_id) as device_id,
			array_agg(e.device_name) as device_name,
			array_agg(e.channel) as channel,
			array_agg(e.status) as status,
			array_agg(e.status_code) as status_code,
			array_agg(e.status_text) as status_text,
			array_agg(e.body) as body,
			array_agg(e.media_url) as media_url,
			array_agg(e.occurred_at at time zone 'UTC') as occurred_at,
			array_agg(e.zone) as zone,
			array_agg(e.note) as note,
			array_agg(e.payload) as payload,
			array_agg(e.raw) as raw,
			array_agg(t.digest(e.digest, coalesce(e.source, 'test'))) as digest,
			array_agg(e.http_status) as http_status,
			array_agg(e.reason) as reason,
			array_agg(e.content_type) as content_type,
			array_agg(e.remote_addr) as remote_addr
		from jsonb_to_recordset(events) as e(ingest_id uuid,
			received_at timestamptz, source text, kind text, message_id text,
			phone text, device_id text, device_name text, channel text,
			status text, status_code int, status_text text, body text,
			media_url text, occurred_at timestamp, zone text, note text,
			payload jsonb, raw bytea, digest bytea, http_status int,
			reason text, content_type text, remote_addr text)
	) a, sms.ingest(a.ingest_id, a.received_at, a.source, a.kind, a.message_id,
		a.phone, a.device_id, a.device_name, a.channel, a.status,
		a.status_code, a.status_text, a.body, a.media_url, a.occurred_at,
		a.zone, a.note, a.payload, a.raw, a.digest, a.http_status, a.reason,
		a.content_type, a.remote_addr, notify,
		60000) r -- a slow machine is no failure
	order by r.n
$$;

-- The same for tests that need the events' ids alone.
create function t.ids(events jsonb, notify boolean default false) returns bigint[]
language sql as $$
	select array_agg(i.id order by i.n) from t.ingest(events, notify) i
$$;

-- For dblink: this server and database, as another session.
create function t.conninfo(role text default 'postgres') returns text
language sql as $$
	select format('host=%s port=%s dbname=%s user=%s',
		current_setting('unix_socket_directories'), current_setting('port'),
		current_database(), role)
$$;

-- What the error of a statement says: 'SQLSTATE message | hint'; or 'none'.
create function t.error(statement text) returns text language plpgsql as $$
declare
	hint text;
begin
	execute statement;
	return 'none';
exception when others then
	get stacked diagnostics hint = pg_exception_hint;
	return concat_ws(' | ', sqlstate || ' ' || sqlerrm, nullif(hint, ''));
end
$$;

-- Waits until the query that was sent to a dblink connection waits for a lock;
-- false if it never does.
create function t.waits(connection text, pid int) returns boolean
language plpgsql as $$
begin
	for i in 1 .. 3000 loop
		if exists (select from pg_locks l where l.pid = waits.pid
			and not l.granted) then
			return true;
		end if;
		exit when dblink_is_busy(connection) = 0;
		perform pg_sleep(0.01);
	end loop;
	return false;
end
$$;
