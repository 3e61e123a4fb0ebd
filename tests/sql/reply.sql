-- sms.take_reply and sms.phone_number, in one session.  Two sessions that wait
-- for one reply are in sessions.sql.

begin;
select plan(86);

-- ------------------------------------------------------------- phone_number

-- The same rule and the same cases as the receiver's: punctuation goes, 00 is
-- written +, what has a letter is a name.
select is(sms.phone_number(x.given), x.want, replace(format('phone_number: %L is %L',
	x.given, x.want), E'\n', '\n'))
from (values
	('+491701234', '+491701234'), ('491701234', '491701234'),
	('+49 170 12-34', '+491701234'), ('+49 (170) 12.34', '+491701234'),
	('  +49  170  ', '+49170'), ('(0170) 1234', '01701234'),
	('00491701234', '+491701234'), ('0049 (170) 12-34', '+491701234'),
	('0 0-49 170', '+49170'), ('(00)49', '+49'), ('000', '+0'), ('001', '+1'),
	('00', '00'), ('0', '0'), ('+00491', '+00491'), ('0170', '0170'), ('10049', '10049'),
	('1002', '1002'), ('110', '110'), ('*100#', '*100#'), ('+49/170', '+49/170'),
	('Vodafone', 'Vodafone'), ('voda-fone (DE)', 'voda-fone (DE)'), ('00 Info', '00 Info'),
	('A', 'A'), ('z 1.2', 'z 1.2'),
	('١٢٣ 45', '١٢٣ 45'), ('Büro 1', 'Büro 1'), ('é 1', 'é 1'),
	(U&'\00A01 2', U&'\00A01 2'), ('📱-1', '📱-1'), (E'1\t2', E'1\t2'), (E'00\n1', E'+\n1'),
	('', null), (' ', null), ('-().', null), (null, null)
) x(given, want);
select is(sms.phone_number(sms.phone_number('0049 (170) 12-34')), '+491701234',
	'phone_number: twice changes nothing');

-- --------------------------------------------------------------- the question

create function pg_temp.reply(phone text, keyword text, since timestamptz default '2026-01-15 10:00Z',
	within interval default '10 minutes') returns text language sql as $$
	select coalesce(string_agg(body, '; '), 'none') from sms.take_reply(phone, keyword, since, within)
$$;
-- All can be taken again.
create function pg_temp.put_back() returns void language sql as 'delete from sms.reply_taken';

select is(pg_temp.reply('+491', 'VERIFY'), 'none', 'no row in an empty log');

select t.ids(jsonb_agg(jsonb_build_object('phone', coalesce(x.phone, '+491'), 'body', x.body,
	'kind', x.kind, 'digest', x.digest, 'received_at', x.at, 'message_id', 'm', 'status', 'sent')))
from (values
	('+491', 'VERIFY before', 'incoming_sms', null, '2026-01-15T09:59:59.999999Z'),
	('+492', 'VERIFY of another', 'incoming_sms', null, '2026-01-15T10:01:00Z'),
	('+491', 'VERIFY call', 'call', null, '2026-01-15T10:01:00Z'),
	('+491', 'VERIFY status', 'delivery_status', null, '2026-01-15T10:01:00Z'),
	('+491', 'hello', 'incoming_sms', null, '2026-01-15T10:01:00Z'),
	('+491', 'VERIFY first', 'incoming_sms', '\x01', '2026-01-15T10:02:00Z'),
	('+491', 'VERIFY first', 'incoming_sms', '\x01', '2026-01-15T10:02:01Z'),
	('+491', 'verify, second', 'incoming_sms', null, '2026-01-15T10:01:30Z'),
	('+491', 'VERIFYING', 'incoming_sms', null, '2026-01-15T10:03:00Z'),
	('+491', null, 'incoming_sms', null, '2026-01-15T10:03:00Z'),
	('+491', 'VERIFY after', 'incoming_sms', null, '2026-01-15T10:10:00Z')
) x(phone, body, kind, digest, at);

select results_eq($$ select * from sms.take_reply('+491', 'VERIFY', '2026-01-15 10:00Z',
		'10 minutes') $$,
	$$ select * from sms.event where body = 'VERIFY first' and duplicate_of is null $$,
	'the oldest by id that fits, a row of sms.event');
select is((select row(event_id, taken_at between now() and clock_timestamp())::text
		from sms.reply_taken),
	(select row(id, true)::text from sms.event where body = 'VERIFY first' and duplicate_of is null),
	'it is noted as taken');
select is(pg_temp.reply('+491', 'VERIFY'), 'verify, second',
	'the second call gets the next, not the duplicate');
select is(pg_temp.reply('+491', 'VERIFY'), 'none', 'the third call gets none');
select is(pg_temp.reply('+492', 'VERIFY'), 'VERIFY of another', 'another number has its own');
select is((select count(*)::int from sms.reply_taken), 3, 'three are taken');
select is(pg_temp.reply('+491', 'HELLO'), 'hello', 'another word');
select is(pg_temp.reply('+491', 'HELLO'), 'none', 'once too');
select is(pg_temp.reply('+49', 'VERIFY'), 'none', 'no part of a number');
select is(pg_temp.reply('+493', 'VERIFY'), 'none', 'no other number');
select is(pg_temp.reply('+491', 'VERIF'), 'none', 'no part of a word');

-- Any text.
select is(pg_temp.reply('+491', null), 'VERIFYING', 'keyword null: any that is left');
select is((select count(*)::int from sms.take_reply('+491', null, '2026-01-15 10:00Z',
		'10 minutes')), 1,
	'also one without a text');
select is(pg_temp.reply('+491', null), 'none', 'then none');
select pg_temp.put_back();
select is(pg_temp.reply('+491', null), 'hello', 'the oldest first');

-- Its transaction is undone: it is not taken.
savepoint s;
select is(pg_temp.reply('+491', 'VERIFY'), 'VERIFY first', 'taken');
rollback to s;
select is(pg_temp.reply('+491', 'VERIFY'), 'VERIFY first', 'and again, after a rollback');

-- A reply that is not waited for anymore: from another question.
select pg_temp.put_back();
select is(pg_temp.reply('+491', 'VERIFY', x.since::timestamptz, x.within::interval), x.want,
	format('received from %s, within %s: %s', x.since, x.within, x.want))
from (values
	('2026-01-15 10:10Z', '10 minutes', 'VERIFY after'), -- from since on
	('2026-01-15 10:10:00.000001Z', '10 minutes', 'none'),
	('2026-01-15 09:00Z', '59:59.999999', 'none'), -- before since + within
	('2026-01-15 09:00Z', '1 hour', 'VERIFY before'),
	('2026-01-15 10:01:30Z', '1 microsecond', 'verify, second'),
	('2026-01-15 12:02+02', '1 s', 'VERIFY first'),
	('infinity', '1 hour', 'none')
) x(since, within, want);
select pg_temp.put_back();
select is(pg_temp.reply('+491', 'VERIFY', '-infinity'), 'none', 'since ever, within 10 minutes');
select is(pg_temp.reply('+491', 'VERIFY', '2026-01-01', '100 years'), 'VERIFY before',
	'within years');

-- How the number and the word are written.
select pg_temp.put_back();
select is(pg_temp.reply(x.phone, x.keyword), x.want,
	format('phone %L, keyword %L: %s', x.phone, x.keyword, x.want))
from (values
	('00491', 'VERIFY', 'VERIFY first'), ('+4 (9)-1.', 'verify', 'verify, second'),
	('+492', '  "Verify": ', 'VERIFY of another'), ('491', 'VERIFY', 'none'), ('0491', 'VERIFY', 'none')
) x(phone, keyword, want);
select t.ids(jsonb_build_array(
	jsonb_build_object('phone', 'Büro-1', 'body', '«код» ЁЛКА',
		'received_at', '2026-01-15T10:00:00Z'),
	jsonb_build_object('phone', 'Büro-1', 'body', 'ёлка!',
		'received_at', '2026-01-15T10:00:00Z'),
	jsonb_build_object('phone', repeat('9', 250) || '1', 'body', 'OK 1',
		'received_at', '2026-01-15T10:00:00Z'),
	jsonb_build_object('phone', repeat('9', 250) || '2', 'body', 'OK 2',
		'received_at', '2026-01-15T10:00:00Z')));
select is(pg_temp.reply('Büro-1', 'Ёлка'), 'ёлка!', 'a name, and a word of other letters');
select is(pg_temp.reply('büro-1', null), 'none', 'a name is taken by its letters');
select is(pg_temp.reply(repeat('9', 250) || '2', 'ok'), 'OK 2',
	'numbers are told apart behind 250 characters');

-- ---------------------------------------------------------- wrong arguments

select matches(t.error(x.call), x.want, 'refused: ' || x.call)
from (values
	($$ select sms.take_reply(null, 'V', now(), '1 h') $$,
		'^22023 sms\.take_reply: phone is missing, .* \| Give the number'),
	($$ select sms.take_reply('', 'V', now(), '1 h') $$,
		'^22023 sms\.take_reply: phone is missing, .* \| Give the number'),
	($$ select sms.take_reply(' - ', 'V', now(), '1 h') $$,
		'^22023 sms\.take_reply: phone is missing, .* \| Give the number'),
	($$ select sms.take_reply('+491', 'V', null, '1 h') $$,
		'^22023 sms\.take_reply: phone is there, since null, .* \| .*time of your question'),
	($$ select sms.take_reply('+491', 'V', '2026-01-15', null) $$,
		'^22023 sms\.take_reply: .*within null \| .*''10 minutes'''),
	($$ select sms.take_reply('+491', 'V', '2026-01-15', '0') $$,
		'^22023 sms\.take_reply: .*within 00:00:00 \| .*''10 minutes'''),
	($$ select sms.take_reply('+491', 'V', '2026-01-15', '-1 s') $$,
		'^22023 sms\.take_reply: .*within -00:00:01 \| .*''10 minutes'''),
	($$ select sms.take_reply('+491', '', now(), '1 h') $$,
		'^22023 sms\.take_reply: the keyword is not one word \| .*''VERIFY'', or null'),
	($$ select sms.take_reply('+491', ' ', now(), '1 h') $$,
		'^22023 sms\.take_reply: the keyword is not one word \| '),
	($$ select sms.take_reply('+491', '!?', now(), '1 h') $$,
		'^22023 sms\.take_reply: the keyword is not one word \| '),
	($$ select sms.take_reply('+491', 'TWO WORDS', now(), '1 h') $$,
		'^22023 sms\.take_reply: the keyword is not one word \| '),
	($$ select sms.take_reply('+491', repeat('x', 65), now(), '1 h') $$,
		'^22023 sms\.take_reply: the keyword is not one word \| ')
) x(call, want);
select is((select count(*)::int from unnest(array[
		t.error($$ select sms.take_reply('+491701234', 'V', null, '1 h') $$),
		t.error($$ select sms.take_reply('+491701234', 'SECRET CODE', now(), '1 h') $$)]) e
		where e ~ '1701234|SECRET'), 0, 'no number and no text is in an error');

select * from finish();
rollback;
