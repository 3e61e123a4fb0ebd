<?php
// The conversations: what the pages show, and what agents do with them.
declare(strict_types=1);

const MAX_BODY = 1600;
const NUMBER = '/^\+?\d{3,15}$/D'; // a name, such as Vodafone, cannot be answered

/** Unread first, then the latest. */
function conversations(int $max): array
{
	query('select inbox.sync()');
	return query('select *, (select count(*) from inbox.conversation where unread > 0) as all_unread
		from inbox.overview order by (unread > 0) desc, at desc, id limit ?', $max)->fetchAll();
}

function conversation(int $id): array
{
	return query('select id, phone from inbox.conversation where id = ?', $id)->fetch()
		?: throw new DomainException('There is no such conversation.', 404);
}

/** Both directions, oldest first, and what became of each reply. */
function messages(int $conversation_id, int $max): array
{
	return array_reverse(query('select * from inbox.message where conversation_id = ?
		order by at desc, direction desc, id desc limit ?', $conversation_id, $max)->fetchAll());
}

/** What came after what the agent has seen stays unread. */
function mark_read(int $id, int $seen): void
{
	query("with done as (update inbox.conversation set unread = 0
			where id = ? and unread > 0 and last_event_id <= ? returning id)
		select pg_notify('inbox', '') from done", $id, $seen);
}

/** Once a key, however often the form is sent. */
function reply(array $conversation, string $key, string $body, string $author): void
{
	$body = trim(str_replace(["\r\n", "\r"], "\n", $body));
	if (!preg_match('/^[^\0]{1,' . MAX_BODY . '}$/Du', $body)
		|| !preg_match(NUMBER, $conversation['phone']) || !preg_match('/^[0-9a-f]{32}$/D', $key)) {
		throw new DomainException('A reply has 1 to ' . MAX_BODY . ' letters, to a number.', 422);
	}
	query('insert into inbox.reply as r (conversation_id, key, body, author) values (?, ?, ?, ?)
		on conflict (key) do update set key = r.key
			where r.conversation_id = excluded.conversation_id and r.body = excluded.body
		returning id', $conversation['id'], $key, $body, $author)->fetch()
		?: throw new DomainException('This form has sent another reply: load it again.', 409);
}

/** The agent's own decision, for what was refused or may have been sent. */
function send_again(int $reply_id): int
{
	return query("update inbox.reply r set state = 'waiting', due_at = now(), error = null
		where id = ? and inbox.state_now(r) in ('refused', 'unknown')
		returning conversation_id", $reply_id)->fetchColumn()
		?: throw new DomainException('This reply is not one that can be sent again.', 409);
}
