-- What each peer writes into: a table of its own, no index but the key's.
create role peer login;
create table php_fpm (
	id          bigint generated always as identity primary key,
	received_at timestamptz not null default now(),
	kind        text not null,
	message_id  text,
	phone       text,
	status      text,
	body        text,
	payload     jsonb not null
);
create table php_cgi (like php_fpm including all);
create table node (like php_fpm including all);
create table webhook (like php_fpm including all);
create table bare (like php_fpm including all);
grant select, insert on php_fpm, php_cgi, node, webhook, bare to peer;
