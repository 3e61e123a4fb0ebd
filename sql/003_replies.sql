-- smshook 003: the reply that somebody waits for, such as VERIFY at a login.

insert into sms.schema_version (version) values (3);
comment on schema sms is
	'smshook: webhooks of an SMS gateway, as rows. Start with sms.event; \df+ sms.* '
	'is the manual of the functions. Schema version 3.';

create table sms.reply_taken (
	event_id bigint primary key,
	taken_at timestamptz not null
);
comment on table sms.reply_taken is 'Incoming SMS that sms.take_reply has returned.';
comment on column sms.reply_taken.event_id is 'The event.';
comment on column sms.reply_taken.taken_at is 'When it was returned.';

-- sms.phone_number: as decode.c does it before a number is stored.
create function sms.phone_number(phone text) returns text
language sql immutable parallel safe as $$
	select case when phone ~ '[A-Za-z]|[^\x01-\x7f]' then phone
		else nullif(regexp_replace(translate(phone, ' .-()', ''), '^00(?=.)', '+'), '')
		end
$$;
comment on function sms.phone_number(text) is
	'A phone number as sms.event has it: without spaces, dots, dashes and '
	'parentheses, a leading 00 written +. Names stay as they are.';

create function sms.take_reply(
	phone   text,
	keyword text,
	since   timestamptz,
	within  interval
) returns setof sms.event
language plpgsql volatile security definer rows 1
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
	number text := sms.phone_number(phone);
	word text := sms.first_word(keyword);
	candidate bigint;
begin
	if number is null or since is null or within is null or within <= '0' then
		perform sms.refuse(format('sms.take_reply: phone is %s, since %s, within %s',
			case when number is null then 'missing' else 'there' end,
			coalesce(since::text, 'null'), coalesce(within::text, 'null')),
			'Give the number that is to reply, the time of your question, and how '
			'long it may take, such as ''10 minutes''.');
	elsif keyword is not null and (word is null or btrim(keyword) ~ '\s') then
		perform sms.refuse('sms.take_reply: the keyword is not one word',
			'Give the first word of the reply, such as ''VERIFY'', or null for any text.');
	end if;
	for candidate in
		-- by the number alone, whatever the planner thinks of the rest
		with his as materialized (
			select e.id, e.received_at, e.keyword, e.duplicate_of from sms.event e
			where left(e.phone, 250) = left(number, 250) and e.phone = number
				and e.kind = 'incoming_sms'
		)
		select h.id from his h
		where h.duplicate_of is null
			and h.received_at >= since and h.received_at < since + within
			and (word is null or h.keyword = word)
			and not exists (select from sms.reply_taken t where t.event_id = h.id)
		order by h.id
	loop
		-- waits for another call that has it and may still roll back
		insert into sms.reply_taken (event_id, taken_at)
			values (candidate, clock_timestamp()) on conflict do nothing;
		if found then
			return query select e.* from sms.event e where e.id = candidate;
			return;
		end if;
	end loop;
end
$$;
comment on function sms.take_reply(text, text, timestamptz, interval) is
	'The reply that you wait for: the oldest incoming SMS from this number whose first '
	'word is keyword (null: any), received from since on and before since + within. '
	'No row while there is none. Each SMS is returned once ever, to one caller: when '
	'your transaction commits, it is taken. A repeat of the same bytes is never '
	'returned: nobody logs in by a webhook that came twice.';

revoke all on all functions in schema sms from public;
