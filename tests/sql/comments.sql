-- Every object of schema sms says what it is for.

begin;
select plan(11);

create temp view commented as
select c.relkind::text as kind, c.oid::regclass::text as name,
	obj_description(c.oid, 'pg_class') as comment
from pg_class c
where c.relnamespace = 'sms'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S', 'i', 'I')
	-- not the index of a constraint, nor the sequence of an identity column
	and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass
		and d.objid = c.oid and d.deptype = 'i')
union all
select 'column', format('%s.%s', c.oid::regclass, a.attname),
	col_description(c.oid, a.attnum)
from pg_class c join pg_attribute a on a.attrelid = c.oid
where c.relnamespace = 'sms'::regnamespace and c.relkind in ('r', 'p', 'f')
	and a.attnum > 0 and not a.attisdropped
union all
select 'function', p.oid::regprocedure::text, obj_description(p.oid, 'pg_proc')
from pg_proc p
where p.pronamespace = 'sms'::regnamespace
union all
select 'trigger', format('%s on %s', t.tgname, c.oid::regclass),
	obj_description(t.oid, 'pg_trigger')
from pg_trigger t join pg_class c on c.oid = t.tgrelid
where c.relnamespace = 'sms'::regnamespace and not t.tgisinternal
union all
select 'type', t.oid::regtype::text, obj_description(t.oid, 'pg_type')
from pg_type t
where t.typnamespace = 'sms'::regnamespace and t.typtype in ('d', 'e', 'r')
union all
select 'schema', n.nspname, obj_description(n.oid, 'pg_namespace')
from pg_namespace n
where n.nspname = 'sms';

select is_empty($$ select kind, name from commented where comment is null $$,
	'everything has a comment');
select is_empty($$ select kind, name, comment from commented
	where comment !~ '^[[:upper:][:lower:]].{5,}[.]$' $$,
	'which is a sentence');
select is((select array_agg(distinct kind order by kind) from commented),
	'{S,column,function,i,r,schema,v}', 'all kinds of objects were looked at');
select cmp_ok((select count(*)::int from commented), '>', 50, 'many of them');

-- Readers see it in psql.
select is((select count(*)::int from pg_description
		where objoid = 'sms.event'::regclass), 1 + 21,
	'sms.event and its columns: 22 comments');

-- \df+ sms.* is the manual of the functions: each says what it gives back, what its
-- arguments are called, and which ones are not for callers.
create temp view functions as
select p.oid::regprocedure::text as name, p.*, obj_description(p.oid, 'pg_proc') as comment,
	has_function_privilege('smshook_reader', p.oid, 'EXECUTE') as is_for_readers
from pg_proc p where p.pronamespace = 'sms'::regnamespace;
select is_empty($$ select name from functions where pronargs > 0
	and (proargnames is null or '' = any (proargnames[1:pronargs])) $$,
	'all arguments have names');
select is_empty($$ select name from functions where is_for_readers
	and (comment ~ '^Internal' or length(comment) < 40) $$,
	'what readers may call is explained to them');
select set_eq($$ select proname::text from functions where comment ~ '^Internal[.] [A-Z]' $$,
	'{refuse,check_call,check_consumer,check_age,lock_consumer,take_place,bury}'::text[],
	'what nobody is to call says so');
select is_empty($$ select name, 'sms.' || m[1] from functions,
		regexp_matches(comment, 'sms\.([a-z_]+)', 'g') m
	where to_regclass('sms.' || m[1]) is null
		and not exists (select from pg_proc p where p.pronamespace = 'sms'::regnamespace
		and p.proname = m[1]) $$, 'what a comment names is there');
select is_empty($$ select name, kind from commented, regexp_matches(comment, 'sms\.([a-z_]+)', 'g') m
	where kind <> 'function' and to_regclass('sms.' || m[1]) is null
		and not exists (select from pg_proc p where p.pronamespace = 'sms'::regnamespace
		and p.proname = m[1]) $$, 'in other comments too');
select matches(obj_description('sms'::regnamespace, 'pg_namespace'),
	' Schema version ' || max(version) || '\.$', 'the schema says its version')
from sms.schema_version;

select * from finish();
rollback;
