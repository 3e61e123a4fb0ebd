-- Who may do what: smshook_writer can EXECUTE sms.ingest and nothing else,
-- smshook_reader can read and execute what consumers call, PUBLIC can do nothing.

create role t_writer login in role smshook_writer;
create role t_reader login in role smshook_reader;
create role t_nobody login;
\i :src/sql/roles.sql
select current_setting('server_version_num')::int >= 150000 as is_15 \gset

begin;
select plan(31);

-- ------------------------------------------------------- by the catalog

-- Grants of PostgreSQL 15 and later.
create function pg_temp.settings() returns setof jsonb language plpgsql as $$
begin
	if current_setting('server_version_num')::int >= 150000 then
		return query execute 'select to_jsonb(a) || jsonb_build_object(''name'', p.parname)
			from pg_parameter_acl p, aclexplode(p.paracl) a';
	end if;
end
$$;
-- All that a role may do in this database and with what all databases share, and
-- who owns that.  Large objects, settings and what will be made have no function
-- that tells it: their lists of grants are asked.
create function pg_temp.may(role text) returns table (what text, owner oid)
language sql as $$
	with grantees as (
		select oid from pg_roles where pg_has_role(role, oid, 'MEMBER') union select 0
	)
	select p || ' ' || c.oid::regclass, c.relowner
	from pg_class c, unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,
		TRIGGER}'::text[] || case when current_setting('server_version_num')::int
		>= 170000 then '{MAINTAIN}' else '{}' end::text[]) p
	where c.relkind in ('r', 'p', 'v', 'm', 'f') and has_table_privilege(role, c.oid, p)
	union all -- system columns too
	select format('%s %s.%s', p, c.oid::regclass, a.attname), c.relowner
	from pg_class c join pg_attribute a on a.attrelid = c.oid,
		unnest('{SELECT,INSERT,UPDATE,REFERENCES}'::text[]) p
	where c.relkind in ('r', 'p', 'v', 'm', 'f')
		and not a.attisdropped and not has_table_privilege(role, c.oid, p)
		and has_column_privilege(role, c.oid, a.attnum, p)
	union all
	select p || ' ' || c.oid::regclass, c.relowner
	from pg_class c, unnest('{USAGE,SELECT,UPDATE}'::text[]) p
	-- asked for a table, has_sequence_privilege is an error
	where case when c.relkind = 'S' then has_sequence_privilege(role, c.oid, p) end
	union all
	select 'EXECUTE ' || oid::regproc, proowner
	from pg_proc where has_function_privilege(role, oid, 'EXECUTE')
	union all -- a row's type and an array's come with the table and the type
	select 'USAGE type ' || oid::regtype, typowner
	from pg_type where typrelid = 0 and typelem = 0 and has_type_privilege(role, oid, 'USAGE')
	union all
	select 'USAGE language ' || lanname, lanowner
	from pg_language where has_language_privilege(role, oid, 'USAGE')
	union all
	select p || ' schema ' || nspname, nspowner
	from pg_namespace, unnest('{USAGE,CREATE}'::text[]) p
	where has_schema_privilege(role, oid, p)
	union all
	select 'USAGE data wrapper ' || fdwname, fdwowner
	from pg_foreign_data_wrapper where has_foreign_data_wrapper_privilege(role, oid, 'USAGE')
	union all
	select 'USAGE server ' || srvname, srvowner
	from pg_foreign_server where has_server_privilege(role, oid, 'USAGE')
	union all
	select p || ' database ' || datname, datdba
	from pg_database, unnest('{CONNECT,CREATE,TEMP}'::text[]) p
	where has_database_privilege(role, oid, p)
	union all
	select 'CREATE tablespace ' || spcname, spcowner
	from pg_tablespace where has_tablespace_privilege(role, oid, 'CREATE')
	union all
	select a.privilege_type || ' large object', l.lomowner
	from pg_largeobject_metadata l, aclexplode(l.lomacl) a
	where a.grantee in (table grantees)
	union all
	select a.privilege_type || ' what will be made', d.defaclrole
	from pg_default_acl d, aclexplode(d.defaclacl) a
	where a.grantee in (table grantees)
	union all
	select a->>'privilege_type' || ' setting ' || (a->>'name'), 10
	from pg_temp.settings() a where (a->>'grantee')::oid in (table grantees)
	union all
	select 'MEMBER ' || rolname, 10
	from pg_roles where rolname <> role and pg_has_role(role, oid, 'MEMBER')
	union all
	select format('OWNER %s %s', s.classid::regclass, s.objid), s.refobjid
	from pg_shdepend s where s.deptype = 'o' and s.refobjid in (table grantees)
		and s.dbid in (0, (select oid from pg_database where datname = current_database()))
$$;
-- What a role may do that not everybody may.  What everybody may is asked below,
-- for all that is not PostgreSQL's own.
create function pg_temp.special(role text) returns setof text language sql as $$
	select what from pg_temp.may(role) except all select what from pg_temp.may('t_nobody')
$$;
select bag_eq($$ select pg_temp.special('t_writer') $$,
	array['MEMBER smshook_writer', 'USAGE schema sms', 'EXECUTE sms.ingest'],
	'a writer can use the schema and execute sms.ingest, nothing else');
select bag_eq($$ select pg_temp.special('t_reader') $$,
	array['MEMBER smshook_reader', 'USAGE schema sms', 'SELECT sms.event', 'SELECT sms.message',
	'SELECT sms.rejected', 'SELECT sms.keyword', 'SELECT sms.schema_version',
	'SELECT sms.delivery_status', 'SELECT sms.incoming_sms',
	'SELECT sms.conversation', 'SELECT sms.consumer', 'SELECT sms.consumer_lag',
	'SELECT sms.lease', 'SELECT sms.dead_letter', 'SELECT sms.reply_taken',
	'EXECUTE sms.poll', 'EXECUTE sms.ack', 'EXECUTE sms.seek',
	'EXECUTE sms.drop_consumer', 'EXECUTE sms.unseen', 'EXECUTE sms.claim',
	'EXECUTE sms.done', 'EXECUTE sms.fail', 'EXECUTE sms.retry',
	'EXECUTE sms.take_reply', 'EXECUTE sms.phone_number', 'EXECUTE sms.first_word',
	'EXECUTE sms.is_unseen', 'EXECUTE sms.newest_id'],
	'a reader can select and execute what consumers call, nothing else');
-- By owner: whatever was made by our migrations, in whatever schema.
select is_empty($$ select what from pg_temp.may('t_nobody')
	where owner = 'smshook_owner'::regrole $$, 'others can do nothing');
select set_eq($$ select what from unnest('{t_writer,t_reader,t_nobody}'::text[]) role,
	pg_temp.may(role) where what ~ '^(CREATE|TEMP)' and what !~ 'schema pg_temp' $$,
	$$ select 'TEMP database ' || datname from pg_database
		where has_database_privilege('public', oid, 'TEMP')
	union all select 'CREATE schema public'
		where current_setting('server_version_num')::int < 150000 $$,
	'nor make anything, but for what PostgreSQL lets everybody make');
select cmp_ok((select count(*)::int from pg_temp.special('smshook_owner')), '>', 50,
	'(the owner can do much: the list is a real one)');

-- A grant of each kind shows in that list.
savepoint clean;
create domain public.made as int;
revoke usage on type public.made from public;
create foreign data wrapper made;
create server made foreign data wrapper made;
select lo_create(4711) as lo \gset
create function sms.made() returns int language sql as 'select 1'; -- to PUBLIC
alter function sms.made() owner to smshook_owner;
grant select on sms.event to t_writer;
grant update (phone), select (ctid) on sms.message to t_writer;
grant usage on sequence sms.event_id to t_writer;
grant execute on function sms.purge(interval), pg_catalog.pg_ls_dir(text) to t_writer;
grant select on pg_catalog.pg_authid to smshook_writer;
grant usage on type public.made to t_writer;
grant create on schema public to t_writer;
grant usage on foreign data wrapper made to t_writer;
grant usage on foreign server made to t_writer;
grant create on tablespace pg_default to t_writer;
grant select on large object 4711 to t_writer;
alter default privileges in schema sms grant select on tables to t_writer;
grant pg_read_all_settings to t_writer;
select format('grant create on database %I to t_writer', current_database()) \gexec
\if :is_15
grant set on parameter log_statement to t_writer;
\endif
select array_agg(what order by what collate "C") as granted
from pg_temp.special('t_writer') what \gset
select count(*) as opened from pg_temp.may('t_nobody') where owner = 'smshook_owner'::regrole \gset
rollback to clean;
select set_eq($$ select regexp_replace(unnest($$ || quote_literal(:'granted') || $$::text[]),
	' database .*', ' database') $$, (array['CREATE database',
	'CREATE tablespace pg_default', 'EXECUTE pg_catalog.pg_ls_dir', 'EXECUTE sms.ingest',
	'EXECUTE sms.purge', 'MEMBER pg_read_all_settings', 'MEMBER smshook_writer',
	'SELECT large object', 'SELECT pg_authid', 'SELECT sms.event', 'SELECT sms.message.ctid',
	'SELECT what will be made', 'UPDATE sms.message.phone', 'USAGE data wrapper made',
	'USAGE schema sms', 'USAGE server made', 'USAGE sms.event_id', 'USAGE type made']
	|| case when :'is_15' then '{CREATE schema public,SET setting log_statement}'
		else '{}' end::text[]), -- before 15 everybody had the first
	'(whatever is granted besides is seen)');
select is(:opened, 1, '(and a function from which PUBLIC was not taken away)');

-- What is granted to PUBLIC, or may be granted on.
create temp view grants as
select c.oid::regclass::text as name, a.* from pg_class c, aclexplode(c.relacl) a
where c.relnamespace = 'sms'::regnamespace
union all
select t.attrelid::regclass || '.' || t.attname, a.*
from pg_class c join pg_attribute t on t.attrelid = c.oid, aclexplode(t.attacl) a
where c.relnamespace = 'sms'::regnamespace
union all
select p.oid::regproc::text, a.*
from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
where p.pronamespace = 'sms'::regnamespace
union all
select 'schema sms', a.* from pg_namespace n, aclexplode(n.nspacl) a
where n.nspname = 'sms';
select is_empty('select name, privilege_type from grants where grantee = 0',
	'PUBLIC has nothing');
select is_empty($$ select name, privilege_type from grants
	where is_grantable and grantee <> 'smshook_owner'::regrole $$,
	'nobody can grant on');
select set_eq('select distinct grantee::regrole::text from grants',
	'{smshook_owner,smshook_writer,smshook_reader}'::text[],
	'grants are to the two roles and the owner');

select is((select array_agg(rolname::text order by rolname) from pg_roles
		where rolname in ('smshook_writer', 'smshook_reader') and not (rolcanlogin
		or rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls)),
	'{smshook_reader,smshook_writer}', 'the roles are plain groups');
select set_eq($$ select proname::text from pg_proc
	where pronamespace = 'sms'::regnamespace and prosecdef $$,
	'{ingest,poll,ack,seek,drop_consumer,claim,done,fail,retry,take_reply}'::text[],
	'these functions run as their owner, those of the owner do not');
select is_empty($$ select oid::regproc from pg_proc
	where pronamespace = 'sms'::regnamespace and prosecdef
	and not coalesce('search_path=pg_catalog, pg_temp' = any (proconfig), false) $$,
	'with a search_path of their own');
select is_empty($$ select p.oid::regproc from pg_proc p join pg_language l on l.oid = p.prolang
	where p.pronamespace = 'sms'::regnamespace and l.lanname = 'plpgsql' and p.proname <> 'at_zone'
	and obj_description(p.oid, 'pg_proc') !~ '^Internal'
	and not coalesce('search_path=pg_catalog, pg_temp' = any (p.proconfig), false) $$,
	'and so have all others that people call');
select is((select bool_or(rolsuper) from pg_proc p join pg_roles r on r.oid = p.proowner
		where p.pronamespace = 'sms'::regnamespace), false,
	'their owner needs to be no superuser');

-- ------------------------------------------------------------ by trying

grant usage on schema t to public;
select t.ids('[{"body": "a"}, {"kind": "delivery_status", "message_id": "m",
	"status": "sent"}, {"http_status": 422, "reason": "x"}]');
insert into sms.keyword values ('STOP', 'stop');

-- SQLSTATE of a statement for a role; 00000: it went well.
create function pg_temp.try(role text, statement text) returns text
language plpgsql as $$
begin
	perform set_config('role', role, true);
	execute statement;
	perform set_config('role', 'none', true);
	return '00000';
exception when others then
	return sqlstate;
end
$$;
create temp table relations on commit drop as
select c.oid::regclass as name, a.attname as last,
	c.oid in ('sms.event'::regclass, 'sms.message'::regclass,
	'sms.rejected'::regclass, 'sms.keyword'::regclass,
	'sms.schema_version'::regclass, 'sms.consumer'::regclass,
	'sms.lease'::regclass, 'sms.dead_letter'::regclass,
	'sms.reply_taken'::regclass) or c.relkind = 'v' as readable
from pg_class c join pg_attribute a on a.attrelid = c.oid
	and a.attnum = (select max(attnum) from pg_attribute where attrelid = c.oid)
where c.relnamespace = 'sms'::regnamespace and c.relkind in ('r', 'p', 'v', 'm');

-- What has UNION cannot be written, whoever asks: 55000, or 0A000 before 15.
create temp table writes on commit drop as
select format(s, name, last) as statement
from relations, unnest(array['insert into %s default values',
	'update %s set %I = null', 'delete from %s', 'update %s set %I = %2$I',
	'select * from %s for update']) s
union all
select format(s, name) from relations, unnest(array['truncate %s',
	'lock table %s in exclusive mode', 'create trigger x before insert on %s '
	'for each row execute function suppress_redundant_updates_trigger()']) s
where name not in ('sms.delivery_status'::regclass, 'sms.incoming_sms'::regclass,
	'sms.conversation'::regclass, 'sms.consumer_lag'::regclass)
union all
select unnest(array['select nextval(''sms.event_id'')',
	'select setval(''sms.event_id'', 1)', 'select last_value from sms.event_id',
	'select nextval(''sms.rejected_id_seq'')', 'create table sms.x()',
	'drop table sms.event', 'alter table sms.event add x int',
	'comment on table sms.event is null', 'drop schema sms cascade',
	'create rule x as on insert to sms.event do instead nothing',
	'drop function sms.at_zone(timestamp, text)',
	'alter function sms.at_zone(timestamp, text) security definer',
	'alter function sms.poll(text, int, text[]) reset search_path',
	'insert into sms.consumer (name) values (''x'')',
	'update sms.consumer set last_id = 0', 'delete from sms.lease',
	'delete from sms.reply_taken']);
create temp table reads on commit drop as
select format('select %s from %s', s, name) as statement, readable
from relations, unnest(array['*', 'count(*)', '1', quote_ident(last)]) s;

select cmp_ok((select count(*)::int from writes), '>', 60, 'many ways of writing');
select is_empty($$ select * from (select pg_temp.try('t_writer', statement) as state,
	statement from writes) x where state not in ('42501', '55000', '0A000') $$,
	'a writer cannot write otherwise');
select is_empty($$ select * from (select pg_temp.try('t_writer', statement) as state,
	statement from reads) x where state <> '42501' $$, 'a writer cannot read one row');
select is_empty($$ select * from (select pg_temp.try('t_reader', statement) as state,
	statement from writes) x where state not in ('42501', '55000', '0A000') $$,
	'a reader cannot write');
select is_empty($$ select * from (select pg_temp.try('t_reader', statement) as state,
	statement, readable from reads) x
	where state <> case when readable then '00000' else '42501' end $$,
	'a reader can read');
select is_empty($$ select * from (select pg_temp.try('t_nobody', statement) as state,
	statement from reads union all select pg_temp.try('t_nobody', statement),
	statement from writes) x where state not in ('42501', '55000') $$,
	'others can do neither');

-- Every function, once: may a reader call it?
create temp table calls(statement text, is_for_readers boolean) on commit drop;
insert into calls values
	('sms.poll(''c'')', true), ('sms.ack(''c'', 0)', true), ('sms.seek(''c'', 0)', true),
	('sms.claim(''c'')', true), ('sms.fail(''c'', 1, ''x'')', true),
	('sms.retry(''c'')', true), ('sms.done(''c'', ''{1}'')', true),
	('sms.drop_consumer(''c'')', true), ('sms.unseen(0, ''{incoming_sms}'', 1)', true),
	('sms.is_unseen(1, ''incoming_sms'', null)', true), ('sms.newest_id()', true),
	('sms.take_reply(''+491'', null, ''2026-01-15'', ''100 years'')', true),
	('sms.phone_number(''1'')', true), ('sms.first_word(''x'')', true),
	('sms.purge(''1 day'')', false), ('sms.purge_step(now(), null, 1)', false),
	('sms.redact(''1 day'')', false), ('sms.forget(''+491'')', false),
	('sms.status_rank(''sent'', 1)', false),
	('sms.at_zone(now()::timestamp, ''UTC'')', false),
	('sms.refuse(''a'', ''b'')', false), ('sms.check_call(''a'', ''b'', 1, null)', false),
	('sms.check_consumer(''a'', ''b'')', false), ('sms.check_age(''a'', ''1 day'')', false),
	('sms.lock_consumer(''c'', true)', false), ('sms.take_place(''c'', null)', false),
	('sms.bury(''c'', ''{1}'')', false),
	('sms.ingest(null, null, null, null, null, null, null, null, null, null, null, '
		'null, null, null, null, null, null, null, null, null, null, null, null, '
		'null, false)', false);
update calls set statement = 'select * from ' || statement;
select bag_eq($$ select distinct substring(statement from 'sms\.[a-z_]+') from calls $$,
	$$ select distinct 'sms.' || proname from pg_proc where pronamespace = 'sms'::regnamespace $$,
	'(every function is tried)');
select is_empty($$ select * from (select pg_temp.try('t_writer', statement) as state,
	statement from calls) x where state <> '42501' and statement !~ 'ingest' $$,
	'a writer can execute none but sms.ingest');
select is_empty($$ select * from (select pg_temp.try('t_nobody', statement) as state,
	statement from calls) x where state <> '42501' $$, 'others can execute none');
select is_empty($$ select * from (select pg_temp.try('t_reader', statement) as state,
	statement, is_for_readers from calls) x
	where state <> case when is_for_readers then '00000' else '42501' end $$,
	'a reader can execute what consumers call');
select is((select array_agg(distinct pg_temp.try(role, 'do $x$ begin create function '
		'sms.x() returns int language sql as ''select 1''; end $x$')) from
		unnest('{t_writer,t_reader,t_nobody}'::text[]) role), '{42501}',
	'nobody can make one');

select is(pg_temp.try('t_writer', $$ select t.ids('[{"body": "stop"}]', true) $$), '00000',
	'a writer can hand in an event');
select is(pg_temp.try('t_reader', $$ select t.ids('[{"body": "stop"}]') $$), '42501',
	'a reader cannot');
select is(pg_temp.try('t_reader', $$ select t.ids('[]') $$), '42501',
	'not even none');
select is(pg_temp.try('t_nobody', $$ select t.ids('[{"body": "stop"}]') $$), '42501',
	'nor can others');
select is((select count(*)::int from sms.event where body = 'stop'), 1,
	'and one event is there');

select * from finish();
rollback;
