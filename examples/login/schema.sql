-- The login's role and tables: as an administrator, after roles.sql, and again whenever you like.
do $$ begin
	if not exists (select from pg_roles where rolname = 'login') then
		create role login login in role smshook_reader;
	end if;
end $$;
alter role login set statement_timeout = '5s';
create schema if not exists login authorization login;

-- Somebody was asked to text VERIFY and a code.
create table if not exists login.attempt (
	phone     text not null,
	code      text not null,      -- says which attempt of this number an SMS is for
	secret    bytea unique,       -- SHA-256 of the browser's cookie; null: it has given up
	client    text not null,      -- the network that asked, to limit its attempts
	asked_at  timestamptz not null default now(),
	until     timestamptz not null, -- the SMS must have been received before
	closes_at timestamptz not null, -- it may come out of the spool, and the browser come back, before
	verified_at timestamptz,      -- its SMS came
	other_sms boolean not null default false, -- one came that has the code of no attempt
	reply_id  bigint unique,      -- the SMS that has the code: sms.event.id
	primary key (phone, code)
);
alter table login.attempt owner to login;

-- Browsers that are signed in.
create table if not exists login.session (
	secret bytea primary key,     -- SHA-256 of the browser's cookie
	phone  text not null,
	until  timestamptz not null
);
alter table login.session owner to login;

-- An SMS that begins with VERIFY wakes up those who listen to the channel login.
insert into sms.keyword (keyword, channel) values ('VERIFY', 'login') on conflict do nothing;
