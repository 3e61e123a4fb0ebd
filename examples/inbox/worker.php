<?php
// The worker: answers automatically out of hours, and sends all replies.  Start as
// many as you like; each may be killed at any time.  No reply is sent twice by itself.
declare(strict_types=1);

require __DIR__ . '/lib/base.php';
require __DIR__ . '/lib/gateway.php';
require __DIR__ . '/lib/hours.php';

const TRIES = 5; // while the gateway cannot be reached; after 2, 4, 8, 16 s

/** One a customer and day, and none while an agent talks with the customer. */
function answer_automatically(string $phone): void
{
	query("with c as (insert into inbox.conversation as c (phone) values (?)
			on conflict (phone) do update set phone = c.phone returning id)
		insert into inbox.reply (conversation_id, body, author, automatic_day)
		select c.id, ?, 'inbox', ? from c
		where not exists (select from inbox.reply r where r.conversation_id = c.id
			and r.automatic_day is null and r.created_at > now() - interval '1 hour')
		on conflict (conversation_id, automatic_day) do nothing", $phone, setting('AUTO_ANSWER',
		'Thank you. We are out of the office now, and answer when we are back.'),
		office_time()->format('Y-m-d'));
}

/** Not answered: names, short codes, ourselves, and what waited for an hour: an outage must not
 * become a flood in the middle of the night.
 *
 * The answer and the end of the claim are one commit: none is lost, none is made twice.  After an
 * error the lease ends, and it is claimed again; in the end it is a dead letter. */
function answer_next(string $hours): bool
{
	$event = query("select id, left(phone, 250) as phone, phone ~ '^[+]?[0-9]{7,15}$'
			and phone is distinct from sms.phone_number(?)
			and not exists (select from sms.keyword k where k.keyword = claim.keyword)
			and received_at > now() - interval '1 hour' as is_answerable
		from sms.claim('inbox-answers', 1, '1 minute', '{incoming_sms}')",
		setting('SMS_NUMBER', ''))->fetch();
	if ($event) {
		db()->beginTransaction();
		if ($event['is_answerable'] && !is_open($hours, office_time())) {
			answer_automatically($event['phone']);
		}
		$done = query("select sms.done('inbox-answers', array[?::bigint])", $event['id']);
		// 0: the lease had ended, and another worker has done it
		$done->fetchColumn() === 1 ? db()->commit() : db()->rollBack();
	}
	return (bool) $event;
}

/** Takes the next reply, oldest first, one at a time of a conversation.  From its commit on
 * it may have been sent: only an agent sends it again. */
function take(): array|false
{
	return query("update inbox.reply r set state = 'sending', due_at = now(), attempts = attempts + 1
		from inbox.conversation p
		where p.id = r.conversation_id and r.state = 'waiting' and r.id = (
			select w.id from inbox.reply w join inbox.conversation c on c.id = w.conversation_id
			where w.state = 'waiting' and w.due_at <= now() and not exists (
				select from inbox.reply o where o.conversation_id = w.conversation_id
				and (o.state = 'waiting' and o.id < w.id or inbox.state_now(o) = 'sending'))
			order by w.id limit 1 for update of c skip locked)
		returning r.id, r.attempts, r.body, p.phone")->fetch();
}

/** Of this attempt alone: an agent may have begun another meanwhile. */
function note(array $reply, string $state, ?string $message_id, ?string $error): void
{
	$n = $reply['attempts'] % TRIES;
	$state = $state === 'waiting' && $n === 0 ? 'refused' : $state;
	query("update inbox.reply set state = ?, message_id = ?, error = ?,
			due_at = now() + ?::int * interval '1 second'
		where id = ? and attempts = ? and state = 'sending'",
		$state, $message_id, $error, 2 ** $n, $reply['id'], $reply['attempts']);
	error_log("inbox: reply {$reply['id']}: $state");
}

function send_next(): bool
{
	static $result = null; // kept until the database has it, however long that is away
	if (!$result && $reply = take()) {
		$result = [$reply, ...send_sms($reply['phone'], $reply['body'])];
	}
	$is_busy = (bool) $result;
	$is_busy && note(...$result);
	$result = null;
	return $is_busy;
}

function work(string $hours): void
{
	db(true)->exec('listen sms_event; listen inbox'); // first listen, then look
	error_log('inbox: the worker is ready');
	while (true) {
		$sync = query('select inbox.sync()')->fetchColumn();
		$is_busy = array_filter([$sync, send_next(), answer_next($hours)]);
		pcntl_signal_dispatch(); // SIGTERM ends it here, where nothing is under way
		$is_busy || db()->pgsqlGetNotify(PDO::FETCH_ASSOC, 5000);
	}
}

try {
	$hours = setting('OFFICE_HOURS', 'Mon-Fri 09:00-17:00');
	is_open($hours, office_time());
	array_map(setting(...), ['SMS_GATEWAY_TOKEN', 'SMS_DEVICE_ID']);
} catch (Exception $e) { // a setting is missing or wrong
	report($e);
	exit(78);
}
pcntl_signal(SIGTERM, fn () => exit(0));
for (; ; pcntl_signal_dispatch()) {
	try {
		work($hours);
	} catch (PDOException $e) {
		report($e);
		sleep(2);
	}
}
