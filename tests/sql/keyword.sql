-- keyword: the first word of an incoming SMS; and sms.keyword, its channels.

-- Settings of a session, a role or a database must not change it.  Before the
-- plan: a connection that has called sms.ingest keeps what it parsed.
set standard_conforming_strings = off;
set escape_string_warning = off;
select (t.ids('[{"body": "verify old"}]'))[1] as old_strings \gset
\c -

begin;
select plan(48);

select is((select keyword from sms.event where id = :old_strings), 'VERIFY',
	'standard_conforming_strings = off changes nothing');

create temp table word(body text, want text) on commit drop;
insert into word values
	('VERIFY', 'VERIFY'),
	('verify 123456', 'VERIFY'),
	('Verify: 123456', 'VERIFY'),
	(E' \t\r\n stop\nnow', 'STOP'),
	('stop.', 'STOP'),
	('"stop!?"', 'STOP'),
	('(stop)', 'STOP'),
	('[<''stop'':;,>]', 'STOP'),
	('don''t do', 'DON''T'),
	('a.b,c d', 'A.B,C'),
	('grün Tee', upper('grün')),
	('привет мир', upper('привет')),
	('日本 語', '日本'),
	('😀 smile', '😀'),
	('123456', '123456'),
	('', null),
	(null, null),
	(E' \n\t ', null),
	('... stop', null),
	(repeat('ü', 64), upper(repeat('ü', 64))),
	(repeat('ü', 65), null),
	('!' || repeat('x', 64) || '!', repeat('X', 64)),
	(repeat('x', 70000), null),
	(repeat(' ', 70000) || 'x', 'X'),
	(repeat('.', 70000), null);

select t.ids((select jsonb_agg(jsonb_build_object('body', body)) from word));
select is(e.keyword, w.want, 'first word of ' || coalesce(quote_literal(
		left(replace(replace(w.body, E'\n', '\n'), E'\r', '\r'), 30)), 'null'))
from word w join sms.event e on e.body is not distinct from w.body;

select t.ids('[{"kind": "delivery_status", "status": "sent", "message_id": "1",
	"body": "stop it"}, {"kind": "new_event", "body": "stop it"}]');
select is((select count(*)::int from sms.event where body = 'stop it'
		and keyword is null), 2, 'no keyword but of an incoming SMS');

-- ---------------------------------------------------------- sms.keyword

select lives_ok($$ insert into sms.keyword values ('STOP', repeat('ü', 31) || 'x') $$,
	'a channel may have 63 bytes');
select throws_ok($$ insert into sms.keyword values ('STOP', repeat('ü', 32)) $$,
	'23514', null, 'and not 64');
select throws_ok($$ insert into sms.keyword values ('STOP', '') $$,
	'23514', null, 'a channel has a name');

-- What can be the first word of a text, and nothing that would never match.
select is(left(t.error(format('insert into sms.keyword values (%L, ''x'')', keyword)), 5),
	x.want, format('keyword %s: %s', coalesce(quote_literal(left(keyword, 20)), 'null'), x.want))
from (values
	('VERIFY', 'none'), ('123456', 'none'), ('DON''T', 'none'), ('日本', 'none'), ('😀', 'none'),
	(repeat('X', 64), 'none'), (repeat('X', 65), '23514'), ('verify', '23514'), ('Verify', '23514'),
	('VERIFY!', '23514'), ('"VERIFY"', '23514'), ('TWO WORDS', '23514'), (' VERIFY', '23514'),
	(E'VERIFY\t', '23514'), ('!', '23514'), ('', '23514'), (null, '23502')
) x(keyword, want);
select is_empty('select keyword from sms.keyword except select sms.first_word(keyword || '' now'')
	from sms.keyword', 'which the receiver makes of a text that begins with it');

select * from finish();
rollback;
