<?php
// The page.  All that people wrote goes through e().
declare(strict_types=1);

const ICONS = [
	'clock' => 'M8 1.5a6.5 6.5 0 1 0 0 13a6.5 6.5 0 0 0 0-13M8 4.2V8l2.6 1.6',
	'check' => 'M2.8 8.6l3.3 3.3 7.1-7.6',
	'checks' => 'M1 8.8l3.1 3.1 6.6-7.4M7.4 11.3l.7.6 6.6-7.4',
	'cross' => 'M3.8 3.8l8.4 8.4M12.2 3.8l-8.4 8.4',
	'question' => 'M5.6 5.6a2.5 2.5 0 1 1 3.7 2.2c-.9.5-1.3 1-1.3 2M8 12.6v.1',
	'back' => 'M10 3L5 8l5 5',
	'send' => 'M2 8l12-5.6-3.6 11.2-3-4.4zM7.4 9.2L14 2.4',
	'inbox' => 'M2 9.5L4 3h8l2 6.5V13H2zM2 9.5h3.6l1 1.6h2.8l1-1.6H14',
];
const STATES = [ // of a reply: icon, class, words, and what the agent can do
	'waiting' => ['clock', 'soft', 'waiting', null],
	'sending' => ['clock', 'soft', 'sending', null],
	'refused' => ['cross', 'bad', 'not sent', 'Try again'],
	'unknown' => ['question', 'warn', 'may have been sent', 'Send again'],
	'sent' => ['check', 'soft', 'handed over', null],
	// of one that was handed over, by its delivery status
	'sent queued' => ['clock', 'soft', 'queued', null],
	'sent sent' => ['check', 'soft', 'sent', null],
	'sent delivered' => ['checks', 'good', 'delivered', null],
	'sent failed' => ['cross', 'bad', 'failed', null],
	'sent unknown' => ['question', 'warn', 'status unknown', null],
];

function e(string|int|null $text): string
{
	return htmlspecialchars((string) $text, ENT_QUOTES | ENT_SUBSTITUTE | ENT_HTML5, 'UTF-8');
}

function icon(string $name): string
{
	return '<svg class="icon" viewBox="0 0 16 16" aria-hidden="true"><path d="' . ICONS[$name]
		. '"/></svg>';
}

// ------------------------------------------------------------------- times

function local(string $at): DateTimeImmutable
{
	return (new DateTimeImmutable($at))->setTimezone(office_time()->getTimezone());
}

function day_name(DateTimeImmutable $at, string $usual): string
{
	$days = (int) office_time()->setTime(0, 0)->diff($at->setTime(0, 0))->format('%r%a');
	return match (true) {
		$days === 0 => 'Today',
		$days === -1 => 'Yesterday',
		$days > -7 && $days < 0 => $at->format('l'),
		default => $at->format($usual),
	};
}

function time_tag(string $at, ?string $text = null): string
{
	$at = local($at);
	return '<time datetime="' . $at->format('c') . '">' . e($text ?? $at->format('H:i')) . '</time>';
}

// ------------------------------------------------- what changes on the page

/** What is fetched again when there is news. */
function state(?array $open, int $n_list, int $n_thread): array
{
	$list = conversations(min($n_list, 5000));
	$messages = $open ? messages($open['id'], min($n_thread, 5000)) : [];
	$seen = array_column(array_filter($messages, fn ($m) => $m['direction'] === 'in'), 'id');
	return [
		'unread' => $list[0]['all_unread'] ?? 0,
		'seen' => $seen ? max($seen) : 0,
		'list' => html(fn () => show_list($list, $open, $n_list)),
		'thread' => $open ? html(fn () => show_thread($messages, $n_thread)) : '',
	];
}

function html(callable $show): string
{
	ob_start();
	$show();
	return ob_get_clean();
}

function show_more(string $id, string $parameter, int $n, string $text): void
{
	$query = http_build_query([$parameter => $n] + $_GET); ?>
<li id="<?= $id ?>" class="more"><a href="./?<?= e($query) ?>"><?= $text ?></a></li>
<?php
}

function show_list(array $conversations, ?array $open, int $max): void
{
	foreach ($conversations as $c) {
		show_conversation($c, $c['id'] === ($open['id'] ?? null));
	}
	if (count($conversations) >= $max) {
		show_more('older', 'list', 2 * $max, 'Older conversations');
	}
	if (!$conversations) { ?>
<li id="none" class="none"><?= icon('inbox') ?>Nobody has written yet.<br>An SMS appears here as
	soon as it comes.</li>
<?php
	}
}

function show_conversation(array $c, bool $is_open): void
{
	$time = day_name(local($c['at']), 'j M'); ?>
<li id="c<?= $c['id'] ?>" data-unread="<?= $c['unread'] ?>"
	class="<?= $c['unread'] ? 'unread' : 'read' ?><?= $is_open ? ' current' : '' ?>">
	<a href="./?c=<?= $c['id'] ?>"<?= $is_open ? ' aria-current="page"' : '' ?>>
		<?= face($c) ?>
		<span class="name"><bdi><?= e($c['phone']) ?></bdi></span>
		<?= time_tag($c['at'], $time === 'Today' ? null : $time) ?>
		<span class="preview" dir="auto"><?php if ($c['is_ours']): ?><bdi>You: </bdi><?php endif;
		if ($c['is_lost']): ?><bdi class="bad"><?= icon('cross') ?><span class="hidden">not
			delivered</span> </bdi><?php endif;
		echo e($c['preview'] ?: ($c['is_picture'] ? 'A picture' : '')) ?></span>
		<?php if ($c['unread']): ?>
		<span class="badge"><?= $c['unread'] ?><span class="hidden"> unread</span></span>
		<?php endif ?>
	</a>
</li>
<?php
}

function face(array $c): string
{
	preg_match(preg_match(NUMBER, $c['phone']) ? '/..$/D' : '/^./su', $c['phone'], $m);
	return '<span class="face hue' . $c['id'] % 6 . '" aria-hidden="true">' . e($m[0]) . '</span>';
}

function show_thread(array $messages, int $max): void
{
	if (count($messages) >= $max) {
		show_more('earlier', 'thread', 4 * $max, 'Earlier messages');
	}
	$day = '';
	foreach ($messages as $m) {
		$at = local($m['at']);
		if ($day !== $at->format('Ymd')) {
			$day = $at->format('Ymd');
			echo "<li id=\"d$day\" class=\"day\">", e(day_name($at, 'l, j F Y')), "</li>\n";
		}
		$m['direction'] === 'in' ? show_incoming($m) : show_reply($m);
	}
}

function show_incoming(array $m): void
{
	$is_late = $m['occurred_at'] && strtotime($m['at']) - strtotime($m['occurred_at']) > 600; ?>
<li id="in<?= $m['id'] ?>" class="in">
	<?php if ((string) $m['body'] !== ''): ?>
	<p dir="auto"><?= e($m['body']) ?></p>
	<?php endif; if (preg_match('~^https?://~i', (string) $m['media_url'])): ?>
	<p><a href="<?= e($m['media_url']) ?>" target="_blank" rel="noopener noreferrer">Open the
		picture</a></p>
	<?php endif ?>
	<footer><?= time_tag($m['at']) ?>
		<?= $is_late ? 'written ' . local($m['occurred_at'])->format('j M H:i') : '' ?></footer>
</li>
<?php
}

function show_reply(array $m): void
{
	$state = $m['state'] === 'sent' && $m['status'] ? "sent {$m['status']}" : $m['state'];
	[$icon, $class, $words, $again] = STATES[$state];
	$why = $m['error'] ?? match (true) {
		$state === 'waiting' && time() - strtotime($m['at']) > 60
			=> 'Nobody sends it: does the worker run?',
		$m['status_text'] === $m['status'] => null,
		in_array($m['status'], ['failed', 'unknown'], true) => $m['status_text'],
		default => null,
	}; ?>
<li id="out<?= $m['id'] ?>" class="out<?= $m['is_automatic'] ? ' automatic' : '' ?>">
	<p dir="auto"><?= e($m['body']) ?></p>
	<footer>
		<bdi><?= $m['is_automatic'] ? 'Automatic answer' : e($m['author']) ?></bdi>
		<?= time_tag($m['at']) ?>
		<span class="state <?= $class ?>"><?= icon($icon), $words ?></span>
	</footer>
	<?php if ($why !== null): ?>
	<div class="why <?= $class ?>" dir="auto"><?= e($why) ?></div>
	<?php endif; if ($again): ?>
	<form method="post" action="again">
		<input type="hidden" name="id" value="<?= $m['id'] ?>"><button><?= $again ?></button>
	</form>
	<?php endif ?>
</li>
<?php
}

// ---------------------------------------------------------------- the page

function show_page(array $state, ?array $open, string $agent): void
{
	$n = $state['unread'];
	show_head(($n ? "($n) " : '') . 'Inbox'); ?>
<header class="bar">
	<a class="brand" href="./"><?= icon('inbox') ?><h1>Inbox</h1></a>
	<span id="count"<?= $n ? '' : ' hidden' ?>><b><?= $n ?></b> unread</span>
	<span id="live" role="status">connecting</span>
	<bdi class="agent"><?= e($agent) ?></bdi>
</header>
<p id="offline" role="alert" hidden><?= icon('question') ?>No connection: what you see may be old.
	Trying again.</p>
<main class="<?= $open ? 'one' : 'all' ?>">
	<nav aria-label="Conversations"><ul id="list"><?= $state['list'] ?></ul></nav>
	<?php if ($open): ?>
	<section class="thread" data-id="<?= $open['id'] ?>" aria-label="Conversation">
		<header>
			<a class="back" href="./" aria-label="All conversations"><?= icon('back') ?></a>
			<?= face($open) ?><h2><bdi><?= e($open['phone']) ?></bdi></h2>
		</header>
		<ol id="thread" role="log" aria-label="Messages" tabindex="0"><?= $state['thread'] ?></ol>
		<?php show_form($open) ?>
	</section>
	<?php else: ?>
	<section class="thread empty"><p><?= icon('inbox') ?>Choose a conversation.</p></section>
	<?php endif ?>
</main>
<div id="toasts" role="status"></div>
<?php
}

function show_form(array $open): void
{
	if (!preg_match(NUMBER, $open['phone'])) { ?>
<p id="noreply" class="soft">This sender has a name instead of a number: it cannot be answered.</p>
<?php
		return;
	} ?>
<form id="reply" method="post" action="reply">
	<input type="hidden" name="c" value="<?= $open['id'] ?>">
	<input type="hidden" name="key" value="<?= bin2hex(random_bytes(16)) ?>">
	<label class="hidden" for="body">Reply</label>
	<textarea id="body" name="body" dir="auto" rows="2" maxlength="<?= MAX_BODY ?>" required
		placeholder="Write a reply" autocomplete="off"></textarea>
	<span id="size" class="soft"></span>
	<button><?= icon('send') ?>Send</button>
</form>
<?php
}

function show_error(string $message, bool $comes_again): void
{
	show_head('Inbox', $comes_again ? '<meta http-equiv="refresh" content="3">' : ''); ?>
<main class="error">
	<p><?= icon('question'), e($message) ?></p>
	<p><a href="./">To the inbox</a></p>
</main>
<?php
}

function show_head(string $title, string $more = ''): void
{ ?>
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<?= $more ?>
<title><?= e($title) ?></title>
<link rel="icon" href="icon.svg">
<link rel="stylesheet" href="app.css">
<script src="app.js" defer></script>
<?php
}
