<?php
// The conversations: what the pages show, and what agents do with them.
declare(strict_types=1);

const MAX_BODY = 1600;
const NUMBER = '/^\+?\d{3,15}$/D'; // a name, such as Vodafone, cannot be answered

/** Unread first, then the latest. */
function conversations(int $max): array
{
	query('select inbox.sync()');
	return query("select c.id, c.phone, c.unread, extract(epoch from c.at)::bigint as at,
			left(case when x.is_ours then r.body else e.body end, 200) as preview, x.is_ours,
			e.media_url is not null as is_picture,
			(select count(*) from inbox.conversation where unread > 0) as all_unread,
			x.is_ours and (r.state in ('refused', 'unknown') or r.status = 'failed') as is_lost
		from inbox.conversation c
		left join sms.event e on e.id = c.last_event_id
		left join lateral (select a.* from inbox.answer a
			where a.conversation_id = c.id and not a.is_automatic
			order by a.id desc limit 1) r on true
		cross join lateral (select r.id is not null
			and (e.id is null or r.created_at > e.received_at)) x(is_ours)
		order by (c.unread > 0) desc, c.at desc, c.id limit ?", $max)->fetchAll();
}

function conversation(int $id): array
{
	return query('select id, phone from inbox.conversation where id = ?', $id)->fetch()
		?: throw new DomainException('There is no such conversation.', 404);
}

/** Both directions, oldest first, and what became of each reply. */
function messages(array $conversation, int $max): array
{
	return array_reverse(query("select 'in' as direction, s.id, s.received_at as at,
			extract(epoch from s.received_at)::bigint as seconds,
			extract(epoch from s.occurred_at)::bigint as occurred, s.body, s.media_url,
			null as author, null as is_automatic, null as state, null as error,
			null as status, null as status_text
		from sms.incoming_sms s where s.phone = ?
		union all
		select 'out', a.id, a.created_at, extract(epoch from a.created_at)::bigint, null, a.body,
			null, a.author, a.is_automatic, a.state, a.error, a.status, a.status_text
		from inbox.answer a where a.conversation_id = ?
		order by at desc, direction desc, id desc limit ?",
		$conversation['phone'], $conversation['id'], $max)->fetchAll());
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
	if (!preg_match('/^[^\0]{1,' . MAX_BODY . '}$/Du', $body)) {
		throw new DomainException('A reply has 1 to ' . MAX_BODY . ' characters.', 422);
	} elseif (!preg_match(NUMBER, $conversation['phone']) || !preg_match('/^[0-9a-f]{32}$/D', $key)) {
		throw new DomainException('This sender has a name instead of a number, or the form no key.', 422);
	}
	query('insert into inbox.reply (conversation_id, key, body, author) values (?, ?, ?, ?)
		on conflict (key) do nothing', $conversation['id'], $key, $body, $author);
	if (!query('select 1 from inbox.reply where key = ? and conversation_id = ? and body = ?',
		$key, $conversation['id'], $body)->fetch()) {
		throw new DomainException('Another reply was sent from this form; load the page again.', 409);
	}
}

/** The agent's own decision, for what was refused or may have been sent. */
function send_again(int $reply_id): int
{
	return query("update inbox.reply r set state = 'waiting', due_at = now(), error = null
		where id = ? and inbox.state_now(r) in ('refused', 'unknown')
		returning conversation_id", $reply_id)->fetchColumn()
		?: throw new DomainException('This reply is not one that can be sent again.', 409);
}
