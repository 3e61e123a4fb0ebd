-- The inbox's role and tables.  Run as the database's owner, after smshook's
-- migrations and roles.sql; running it again changes nothing.

do $$
begin
	if not exists (select from pg_roles where rolname = 'inbox') then
		create role inbox login in role smshook_reader;
	end if;
end
$$;
alter role inbox set statement_timeout = '10s';
alter role inbox set idle_in_transaction_session_timeout = '1min';

create schema if not exists inbox authorization inbox;
set role inbox;

create table if not exists inbox.conversation (
	id            bigint generated always as identity primary key,
	phone         text not null unique,
	unread        int not null default 0,
	last_event_id bigint,
	at            timestamptz not null default now()
);
create index if not exists conversation_order on inbox.conversation ((unread > 0), at);
comment on table inbox.conversation is
	'One row a phone number. Texts of incoming SMS stay in sms.event. To forget a '
	'customer: sms.forget, and delete the row here; the replies go with it.';
comment on column inbox.conversation.unread is 'Incoming SMS that no agent has seen.';
comment on column inbox.conversation.last_event_id is 'The newest incoming SMS.';
comment on column inbox.conversation.at is 'When the newest message came or was written.';

create table if not exists inbox.reply (
	id              bigint generated always as identity primary key,
	conversation_id bigint not null references inbox.conversation on delete cascade,
	key             uuid not null unique default gen_random_uuid(),
	body            text not null check (char_length(body) between 1 and 1600),
	author          text not null,
	automatic_day   date,
	created_at      timestamptz not null default now(),
	state           text not null default 'waiting'
		check (state in ('waiting', 'sending', 'sent', 'refused', 'unknown')),
	attempts        int not null default 0,
	due_at          timestamptz not null default now(),
	message_id      text,
	error           text,
	unique (conversation_id, automatic_day)
);
create index if not exists reply_message_id on inbox.reply (message_id);
create index if not exists reply_under_way on inbox.reply (conversation_id, id)
	where state in ('waiting', 'sending');
create index if not exists reply_conversation on inbox.reply (conversation_id, id);
comment on table inbox.reply is
	'What was answered, and what became of it. The worker sends what waits: it notes '
	'that it is sending, commits, and only then calls the gateway.';
comment on column inbox.reply.key is 'Made by the form: a second submit is known by it.';
comment on column inbox.reply.author is 'The agent; inbox for an automatic answer.';
comment on column inbox.reply.automatic_day is
	'The office''s day of an automatic answer, of which there is one a day; else null.';
comment on column inbox.reply.state is
	'waiting: not handed over yet. sending: it may be on its way. sent: the gateway has '
	'it. refused: not sent. unknown: there was no answer, so it may have been sent.';
comment on column inbox.reply.attempts is 'Calls of the gateway that were begun.';
comment on column inbox.reply.due_at is 'waiting: not before. sending: since.';
comment on column inbox.reply.message_id is 'The gateway''s id, as in sms.message.';
comment on column inbox.reply.error is 'Why it was not sent, for the agent.';

-- Whoever was sending for more than a minute is dead, or has heard nothing.
create or replace function inbox.state_now(reply inbox.reply) returns text
language sql stable as $$
	select case when reply.state = 'sending' and reply.due_at < now() - interval '1 minute'
		then 'unknown' else reply.state end
$$;
comment on function inbox.state_now(inbox.reply) is
	'The state, unknown for what was sending for more than a minute.';

create or replace view inbox.answer as
	select r.id, r.conversation_id, r.created_at, r.body, r.author,
		r.automatic_day is not null as is_automatic, inbox.state_now(r) as state, r.error,
		m.status, m.status_text
	from inbox.reply r
	left join lateral (
		select x.status, x.status_text from sms.message x
		where x.message_id = r.message_id
		order by x.phone = (select c.phone from inbox.conversation c
				where c.id = r.conversation_id) desc nulls last,
			x.received_at desc
		limit 1 -- another gateway may have the same id
	) m on true;
comment on view inbox.answer is 'The replies, with their delivery status.';

create or replace view inbox.overview as
	select c.id, c.phone, c.unread, c.at, x.is_ours,
		left(case when x.is_ours then r.body else e.body end, 200) as preview,
		e.media_url is not null as is_picture,
		x.is_ours and (r.state in ('refused', 'unknown') or r.status = 'failed') as is_lost
	from inbox.conversation c
	left join sms.event e on e.id = c.last_event_id
	left join lateral (select a.* from inbox.answer a
		where a.conversation_id = c.id and not a.is_automatic order by a.id desc limit 1) r on true
	cross join lateral (select r.id is not null
		and (e.id is null or r.created_at > e.received_at)) x(is_ours);
comment on view inbox.overview is 'The conversations, each with its newest message.';

create or replace view inbox.message as
	select c.id as conversation_id, 'in' as direction, s.id, s.received_at as at,
		s.occurred_at, s.body, s.media_url, null as author, null::boolean as is_automatic,
		null as state, null as error, null as status, null as status_text
	from inbox.conversation c join sms.incoming_sms s on s.phone = c.phone
	union all
	select a.conversation_id, 'out', a.id, a.created_at, null, a.body, null, a.author,
		a.is_automatic, a.state, a.error, a.status, a.status_text
	from inbox.answer a;
comment on view inbox.message is 'Both directions of a conversation.';

-- inbox.sync: counts new SMS into the conversations, each exactly once.  Who comes
-- second waits, so that the list that is read next has them.
create or replace function inbox.sync() returns boolean
language plpgsql as $$
declare
	newest bigint;
begin
	perform pg_advisory_xact_lock(hashtextextended('inbox.sync', 0));
	with new as materialized (
		select id, left(phone, 250) as phone, received_at
		from sms.poll('inbox', 1000, '{incoming_sms}')
	), counted as (
		insert into inbox.conversation as c (phone, unread, last_event_id, at)
		select phone, count(*), max(id), max(received_at) from new group by phone
		on conflict (phone) do update set unread = c.unread + excluded.unread,
			last_event_id = excluded.last_event_id, at = greatest(c.at, excluded.at)
	)
	select max(id) into newest from new;
	if newest is not null then
		perform sms.ack('inbox', newest);
	end if;
	return newest is not null;
end
$$;
comment on function inbox.sync() is 'Counts new SMS; false: there are no more.';

-- inbox.tell: pages and workers LISTEN to "inbox".
create or replace function inbox.tell() returns trigger
language plpgsql as $$
begin
	if tg_op = 'INSERT' then
		update inbox.conversation set at = new.created_at where id = new.conversation_id;
	end if;
	perform pg_notify('inbox', '');
	return null;
end
$$;
comment on function inbox.tell() is 'Trigger: something about a reply has changed.';
drop trigger if exists tell on inbox.reply;
create trigger tell after insert or update on inbox.reply
	for each row execute function inbox.tell();

-- Automatic answers begin with what comes from now on.
do $$
begin
	if not exists (select from sms.consumer where name = 'inbox-answers') then
		perform sms.seek('inbox-answers', null);
	end if;
end
$$;

reset role;
