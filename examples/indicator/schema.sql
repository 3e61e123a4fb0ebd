-- The role of the delivery indicator.  It reads, and has no tables of its own.
-- Run by an administrator of the database, after sql/roles.sql, as often as you like:
--	psql -v ON_ERROR_STOP=1 -1 -f schema.sql

do $$
begin
	if not exists (select from pg_roles where rolname = 'indicator') then
		create role indicator login;
	end if;
end
$$;
grant smshook_reader to indicator;
