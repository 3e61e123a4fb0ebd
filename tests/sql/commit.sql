-- How sms.ingest commits: synchronously, and under a lock that ends with the
-- transaction.  What a rolled back part saw is carried out of it by \gset.

-- A setting of the role, which counts at login: before the plan, that a new
-- connection would forget.
create role commit_off login superuser;
alter role commit_off set synchronous_commit = off;
\c - commit_off
begin;
	select current_setting('synchronous_commit') as role_before \gset
	select t.ids('[{}]');
	select current_setting('synchronous_commit') as role_after \gset
commit;
\c - postgres

select plan(11);

create view held as
select count(*) as held from pg_locks
where locktype = 'advisory' and pid = pg_backend_pid()
	and mode = 'ExclusiveLock' and granted and objsubid = 1
	and (classid::bigint << 32) | objid::bigint = 32489964762525547;

set synchronous_commit = off;
begin;
	select held as before from held \gset
	select t.ids('[{"body": "committed"}]');
	select current_setting('synchronous_commit') as off, held from held \gset
	select t.ids('[{"body": "twice"}]');
	select current_setting('synchronous_commit') as twice \gset
commit;
select held as after from held \gset
select is(:'off'::text, 'on', 'synchronous_commit is on after the call, off before');
select is(:'twice'::text, 'on', 'after a second call too');
select is(current_setting('synchronous_commit'), 'off',
	'after the commit it is what the session said');
select is(:before, 0, 'no lock before the call');
select is(:held, 1, 'the lock is held after the call');
select is(:after, 0, 'and no longer after the commit');

set synchronous_commit = local;
begin;
	set local synchronous_commit = off;
	select t.ids('[]');
	select current_setting('synchronous_commit') as local \gset
	savepoint s;
	select t.ids('[{"body": "rolled back"}]');
	rollback to s;
	select held as undone from held \gset
rollback;
select is(:'local'::text, 'on', 'synchronous_commit is on after SET LOCAL ... off');
select is((select count(*)::int from sms.event where body = 'rolled back'), 0,
	'an event goes with its transaction');
select is((select held from held), 0::bigint, 'so does the lock');

begin;
	savepoint s;
	select t.ids('[{"body": "rolled back"}]');
	rollback to s;
	select held as undone from held \gset
commit;
select is(:undone, 0, 'the lock is not one of the session');

select is(:'role_before' || ' ' || :'role_after', 'off on',
	'a setting of the role does not count');

select * from finish();
