-- smshook: two group roles, for those who want them.  Optional; apply after
-- `smshook migrate` as a role that may create roles:
--	psql -v ON_ERROR_STOP=1 -1 -f roles.sql
-- then give them to logins:
--	create role smshook login password '...' in role smshook_writer;
--	create role helpdesk login password '...' in role smshook_reader;

do $$
begin
	if not exists (select from pg_roles where rolname = 'smshook_writer') then
		create role smshook_writer nologin;
	end if;
	if not exists (select from pg_roles where rolname = 'smshook_reader') then
		create role smshook_reader nologin;
	end if;
end
$$;

-- The receiver: it can hand in webhooks and cannot read one row.
grant usage on schema sms to smshook_writer;
grant execute on function sms.ingest(uuid[], timestamptz[], text[], text[], text[],
	text[], text[], text[], text[], text[], int[], text[], text[], text[],
	timestamptz[], text[], text[], jsonb[], bytea[], uuid[], int[], text[], text[],
	text[], boolean, int) to smshook_writer;

-- Applications that read: they move their own places, and change no event.
grant usage on schema sms to smshook_reader;
grant select on sms.event, sms.message, sms.rejected, sms.keyword,
	sms.schema_version, sms.delivery_status, sms.incoming_sms, sms.conversation,
	sms.consumer, sms.consumer_lag, sms.lease, sms.dead_letter, sms.reply_taken
	to smshook_reader;
grant execute on function
	sms.poll(text, int, text[]), sms.ack(text, bigint), sms.seek(text, bigint),
	sms.drop_consumer(text), sms.unseen(bigint, text[], int), sms.newest_id(),
	sms.claim(text, int, interval, text[], int), sms.done(text, bigint[]),
	sms.fail(text, bigint, text, interval, int), sms.retry(text, bigint[]),
	sms.take_reply(text, text, timestamptz, interval), sms.phone_number(text),
	sms.first_word(text), sms.is_unseen(bigint, text, bigint)
	to smshook_reader;
