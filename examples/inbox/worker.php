<?php
// The worker: answers automatically out of hours, and sends all replies.  Start as
// many as you like; each may be killed at any time.  No reply is sent twice by itself.
declare(strict_types=1);

require __DIR__ . '/lib/base.php';
require __DIR__ . '/lib/inbox.php';
require __DIR__ . '/lib/gateway.php';
require __DIR__ . '/lib/hours.php';

const CONSUMER = 'inbox-answers';
const TRIES = 5; // while the gateway cannot be reached; after 2, 4, 8, 16 s

/** SIGTERM ends the worker here, where nothing is under way. */
function rest(callable $wait): void
{
	pcntl_sigprocmask(SIG_UNBLOCK, [SIGTERM, SIGINT]);
	$wait();
	pcntl_sigprocmask(SIG_BLOCK, [SIGTERM, SIGINT]);
}

/** One a customer and day, and none while an agent talks with the customer. */
function answer_automatically(string $phone, DateTimeInterface $now): void
{
	query("with c as (insert into inbox.conversation as c (phone) values (?)
			on conflict (phone) do update set phone = c.phone returning id)
		insert into inbox.reply (conversation_id, body, author, automatic_day)
		select c.id, ?, 'inbox', ? from c
		where not exists (select from inbox.reply r where r.conversation_id = c.id
			and r.automatic_day is null and r.created_at > now() - interval '1 hour')
		on conflict (conversation_id, automatic_day) do nothing", $phone,
		setting('AUTO_ANSWER', 'Thank you. We are out of the office now, and answer when we are back.'),
		$now->format('Y-m-d'));
}

/** The answer and the end of the claim are one commit: none is lost, none is made twice. */
function handle(array $event): void
{
	$now = office_time();
	db()->beginTransaction();
	if ($event['is_answerable'] && !is_open(setting('OFFICE_HOURS', 'Mon-Fri 09:00-17:00'), $now)) {
		answer_automatically($event['phone'], $now);
	}
	if (query('select sms.done(?, ?)', CONSUMER, "{{$event['id']}}")->fetchColumn() === 1) {
		db()->commit();
	} else {
		db()->rollBack(); // the lease had ended, and another worker has done it
	}
}

/** Not answered: names, short codes, ourselves, and what waited for an hour: an outage must not
 * become a flood in the middle of the night. */
function handle_new(): bool
{
	$events = query("select id, left(phone, 250) as phone, attempt,
			received_at > now() - interval '1 hour' and phone ~ '^[+]?[0-9]{7,15}$'
			and phone is distinct from sms.phone_number(?) as is_answerable
		from sms.claim(?, 50, '1 minute', '{incoming_sms}')",
		setting('SMS_NUMBER'), CONSUMER)->fetchAll();
	foreach ($events as $event) {
		try {
			handle($event);
		} catch (PDOException $e) {
			report($e);
			db()->rollBack(); // throws, too, when the connection is broken: the lease ends
			query("select sms.fail(?, ?, ?, '10 seconds', ?)", CONSUMER, $event['id'],
				'SQLSTATE ' . ($e->errorInfo[0] ?? ''), $event['attempt']);
		}
	}
	return (bool) $events;
}

/** Takes the next reply, oldest first, one at a time of a conversation.  From its commit on
 * it may have been sent: only an agent sends it again. */
function take(): array|false
{
	return query("update inbox.reply r
		set state = 'sending', due_at = now(), attempts = r.attempts + 1
		where r.state = 'waiting' and r.id = (select w.id from inbox.reply w
			join inbox.conversation c on c.id = w.conversation_id
			where w.state = 'waiting' and w.due_at <= now() and not exists (
				select from inbox.reply o where o.conversation_id = w.conversation_id
				and (o.state = 'waiting' and o.id < w.id or inbox.state_now(o) = 'sending'))
			order by w.id limit 1 for update of c skip locked)
		returning r.id, r.attempts, r.body,
			(select c.phone from inbox.conversation c where c.id = r.conversation_id)")->fetch();
}

/** Of this attempt alone: an agent may have begun another meanwhile. */
function note(array $reply, string $state, ?string $message_id, ?string $error): void
{
	$n = $reply['attempts'] % TRIES;
	if ($state === 'unreached') { // nothing was sent, so it can be tried again
		$state = $n === 0 ? 'refused' : 'waiting';
	}
	query("update inbox.reply set state = ?, message_id = ?, error = ?,
			due_at = now() + ?::int * interval '1 second'
		where id = ? and attempts = ? and state = 'sending'",
		$state, $message_id, $error, 2 ** $n, $reply['id'], $reply['attempts']);
	error_log("inbox: reply {$reply['id']}: $state");
}

/** What the gateway said is kept until the database has it, however long that is away. */
function send_next(): bool
{
	$reply = take();
	$result = $reply ? send_sms($reply['phone'], $reply['body']) : null;
	for ($failure = null; $result; rest(fn () => sleep(1))) {
		try {
			$failure && db(true);
			note($reply, ...$result);
			$result = null;
		} catch (PDOException $e) {
			report($failure = $e);
		}
	}
	if ($failure) {
		throw $failure; // the new connection does not LISTEN
	}
	return (bool) $reply;
}

function work(): void
{
	$db = db(true);
	$db->exec('listen sms_event; listen inbox'); // first listen, then look
	error_log('inbox: the worker is ready');
	while (true) {
		$is_busy = query('select inbox.sync()')->fetchColumn();
		$is_busy = handle_new() || $is_busy;
		$is_busy = send_next() || $is_busy;
		rest(fn () => $is_busy || $db->pgsqlGetNotify(PDO::FETCH_ASSOC, 5000));
	}
}

pcntl_sigprocmask(SIG_BLOCK, [SIGTERM, SIGINT]);
try {
	is_open(setting('OFFICE_HOURS', 'Mon-Fri 09:00-17:00'), office_time());
	if (setting('SMS_GATEWAY_TOKEN') === '' || setting('SMS_DEVICE_ID') === '') {
		throw new InvalidArgumentException('SMS_GATEWAY_TOKEN and SMS_DEVICE_ID have to be set');
	}
} catch (Exception $e) {
	report($e);
	exit(78);
}
for ($wait = 1; true; rest(fn () => sleep($wait))) {
	$begin = time();
	try {
		work();
	} catch (PDOException $e) {
		report($e);
		$wait = time() - $begin > 60 ? 1 : min(2 * $wait, 30);
	}
}
