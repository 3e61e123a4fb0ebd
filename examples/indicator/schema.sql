-- The role of the delivery indicator.  It reads what messages.sql needs, and has no tables
-- of its own.
-- Run by the owner of the schema sms, or a superuser, as often as you like:
--	psql -v ON_ERROR_STOP=1 -1 -f schema.sql

do $$
begin
	if not exists (select from pg_roles where rolname = 'indicator') then
		create role indicator login;
	elsif exists (select from pg_auth_members where member = to_regrole('indicator')
			and roleid = to_regrole('smshook_reader')) then -- it was, before
		revoke smshook_reader from indicator;
	end if;
end
$$;
grant usage on schema sms to indicator;
grant select on sms.delivery_status, sms.message to indicator;
