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
const STATES = [ // of a reply: icon, class, words
	'waiting' => ['clock', 'soft', 'waiting'],
	'sending' => ['clock', 'soft', 'sending'],
	'refused' => ['cross', 'bad', 'not sent'],
	'unknown' => ['question', 'warn', 'may have been sent'],
	'sent' => ['check', 'soft', 'handed over'],
	// of one that was handed over, by its delivery status
	'sent queued' => ['clock', 'soft', 'queued'],
	'sent sent' => ['check', 'soft', 'sent'],
	'sent delivered' => ['checks', 'good', 'delivered'],
	'sent failed' => ['cross', 'bad', 'failed'],
	'sent unknown' => ['question', 'warn', 'status unknown'],
];

function e(?string $text): string
{
	return htmlspecialchars((string) $text, ENT_QUOTES | ENT_SUBSTITUTE | ENT_HTML5, 'UTF-8');
}

function icon(string $name): string
{
	return '<svg class="icon" viewBox="0 0 16 16" aria-hidden="true"><path d="' . ICONS[$name] . '"/></svg>';
}

// ------------------------------------------------------------------- times

function local(int $seconds): DateTimeImmutable
{
	return office_time()->setTimestamp($seconds);
}

function day_name(DateTimeImmutable $at, string $usual): string
{
	$today = office_time()->setTime(0, 0);
	$days = (int) $today->diff($at->setTime(0, 0))->format('%r%a');
	return match (true) {
		$days === 0 => 'Today',
		$days === -1 => 'Yesterday',
		$days > -7 && $days < 0 => $at->format('l'),
		default => $at->format($usual),
	};
}

function time_tag(int $seconds, string $text): string
{
	return '<time datetime="' . local($seconds)->format('c') . '">' . e($text) . '</time>';
}

function short_time(int $seconds): string
{
	$day = day_name(local($seconds), 'j M');
	return time_tag($seconds, $day === 'Today' ? local($seconds)->format('H:i') : $day);
}

// ------------------------------------------------- what changes on the page

/** What is fetched again when there is news. */
function state(?array $open, int $n_list, int $n_thread): array
{
	$list = conversations(min($n_list, 5000));
	$messages = $open ? messages($open, min($n_thread, 5000)) : [];
	$seen = array_column(array_filter($messages, fn ($m) => $m['direction'] === 'in'), 'id');
	return [
		'unread' => $list[0]['all_unread'] ?? 0,
		'seen' => $seen ? max($seen) : 0,
		'list' => list_items($list, $open, $n_list),
		'thread' => $open ? thread_items($messages, $n_thread) : '',
	];
}

function list_items(array $conversations, ?array $open, int $max): string
{
	$html = '';
	foreach ($conversations as $c) {
		$is_open = $c['id'] === ($open['id'] ?? null);
		$class = trim(($c['unread'] ? 'unread' : '') . ($is_open ? ' current' : ''));
		$badge = $c['unread'] ? "<span class=\"badge\">{$c['unread']}<span class=\"hidden\"> unread</span></span>" : '';
		$html .= "<li id=\"c{$c['id']}\" class=\"$class\" data-unread=\"{$c['unread']}\">"
			. "<a href=\"./?c={$c['id']}\"" . ($is_open ? ' aria-current="page"' : '') . '>'
			. face($c) . '<span class="name"><bdi>' . e($c['phone']) . '</bdi></span>'
			. short_time($c['at'])
			. '<span class="preview" dir="auto">' . ($c['is_ours'] ? '<bdi>You: </bdi>' : '')
			. e($c['preview'] ?: ($c['is_picture'] ? 'A picture' : '')) . "</span>$badge</a></li>";
	}
	if (count($conversations) >= $max) {
		$html .= '<li id="more" class="more"><a href="./?' . e(http_build_query(['list' => 2 * $max] + $_GET))
			. '">Older conversations</a></li>';
	}
	return $html ?: '<li id="none" class="none">' . icon('inbox') . 'Nobody has written yet.<br>'
		. 'An SMS appears here as soon as it comes.</li>';
}

function face(array $c): string
{
	$text = preg_match('/\d{2}$/D', $c['phone'], $m) ? $m[0] : preg_replace('/^(.).*$/su', '$1', $c['phone']);
	return '<span class="face hue' . $c['id'] % 6 . '" aria-hidden="true">' . e($text) . '</span>';
}

function thread_items(array $messages, int $max): string
{
	$html = $day = '';
	if (count($messages) >= $max) {
		$html .= '<li id="earlier" class="more"><a href="./?' . e(http_build_query(['thread' => 4 * $max] + $_GET))
			. '">Earlier messages</a></li>';
	}
	foreach ($messages as $m) {
		$at = local($m['seconds']);
		if ($day !== $at->format('Ymd')) {
			$day = $at->format('Ymd');
			$html .= "<li id=\"d$day\" class=\"day\"><span>" . e(day_name($at, 'l, j F Y')) . '</span></li>';
		}
		$html .= $m['direction'] === 'in' ? incoming_item($m) : reply_item($m);
	}
	return $html;
}

function incoming_item(array $m): string
{
	$late = $m['occurred'] !== null && $m['seconds'] - $m['occurred'] > 600
		? ', written ' . local($m['occurred'])->format('j M H:i') : '';
	$is_link = preg_match('~^https?://~i', (string) $m['media_url']);
	return "<li id=\"in{$m['id']}\" class=\"in\">"
		. ($m['body'] !== null && $m['body'] !== '' ? '<p dir="auto">' . e($m['body']) . '</p>' : '')
		. ($is_link ? '<p><a href="' . e($m['media_url']) . '" target="_blank" rel="noopener noreferrer">'
			. 'Open the picture</a></p>' : '')
		. '<footer>' . time_tag($m['seconds'], local($m['seconds'])->format('H:i') . $late) . '</footer></li>';
}

function reply_item(array $m): string
{
	[$icon, $class, $words] = STATES[trim("{$m['state']} " . ($m['state'] === 'sent' ? $m['status'] : ''))];
	$again = match (true) {
		$m['state'] === 'refused' => 'Try again',
		$m['state'] === 'unknown' => 'Send again',
		default => null,
	};
	$why = $m['error'] ?? (in_array($m['status'], ['failed', 'unknown'], true)
		&& $m['status_text'] !== $m['status'] ? $m['status_text'] : null);
	return "<li id=\"out{$m['id']}\" class=\"out" . ($m['is_automatic'] ? ' automatic' : '') . '">'
		. '<p dir="auto">' . e($m['body']) . '</p><footer>'
		. '<span dir="auto">' . ($m['is_automatic'] ? 'Automatic answer' : e($m['author'])) . '</span> '
		. time_tag($m['seconds'], local($m['seconds'])->format('H:i'))
		. " <span class=\"state $class\">" . icon($icon) . "$words</span></footer>"
		. ($why === null ? '' : "<div class=\"why $class\" dir=\"auto\">" . e($why) . '</div>')
		. ($again === null ? '' : '<form method="post" action="again"><input type="hidden" name="id" value="'
			. "{$m['id']}\"><button>$again</button></form>") . '</li>';
}

// ---------------------------------------------------------------- the page

function page(array $state, ?array $open, string $agent): string
{
	$title = ($state['unread'] ? "({$state['unread']}) " : '') . 'Inbox';
	$middle = $open ? conversation_part($state, $open) : '<section class="thread empty"><p>' . icon('inbox')
		. 'Choose a conversation.</p></section>';
	return document($title, '<header class="bar"><a class="brand" href="./">' . icon('inbox') . '<h1>Inbox</h1></a>'
		. '<span id="count"' . ($state['unread'] ? '' : ' hidden') . "><b>{$state['unread']}</b> unread</span>"
		. '<span id="live" role="status">connecting</span>'
		. '<span class="agent"><bdi>' . e($agent) . '</bdi></span></header>'
		. '<p id="offline" role="alert" hidden>' . icon('question')
		. 'No connection: what you see may be old. Trying again.</p>'
		. '<main class="' . ($open ? 'one' : 'all') . '"><nav aria-label="Conversations"><ul id="list">'
		. "{$state['list']}</ul></nav>$middle</main><div id=\"toasts\" role=\"status\"></div>");
}

function conversation_part(array $state, array $open): string
{
	$id = $open['id'];
	$form = preg_match(NUMBER, $open['phone'])
		? '<form id="reply" method="post" action="reply"><input type="hidden" name="c" value="' . $id . '">'
		. '<input type="hidden" name="key" value="' . bin2hex(random_bytes(16)) . '">'
		. '<label class="hidden" for="body">Reply</label>'
		. '<textarea id="body" name="body" dir="auto" rows="2" maxlength="' . MAX_BODY . '" required '
		. 'placeholder="Write a reply" autocomplete="off"></textarea>'
		. '<span id="size" class="soft"></span><button>' . icon('send') . 'Send</button></form>'
		: '<p id="noreply" class="soft">This sender has a name instead of a number: it cannot be answered.</p>';
	return "<section class=\"thread\" data-id=\"$id\" aria-label=\"Conversation\">"
		. '<header><a class="back" href="./" aria-label="All conversations">' . icon('back') . '</a>' . face($open)
		. '<h2><bdi>' . e($open['phone']) . '</bdi></h2></header>'
		. "<ol id=\"thread\" role=\"log\" aria-label=\"Messages\" tabindex=\"0\">{$state['thread']}</ol>$form</section>";
}

function error_page(string $message, bool $again): string
{
	return document('Inbox', '<main class="error"><p>' . icon('question') . e($message) . '</p><p><a href="./">'
		. 'To the inbox</a></p></main>', $again ? '<meta http-equiv="refresh" content="3">' : '');
}

function document(string $title, string $body, string $head = ''): string
{
	return '<!doctype html><html lang="en"><head><meta charset="utf-8">'
		. '<meta name="viewport" content="width=device-width, initial-scale=1">'
		. "<meta name=\"color-scheme\" content=\"light dark\">$head<title>" . e($title) . '</title>'
		. '<link rel="icon" href="icon.svg"><link rel="stylesheet" href="app.css">'
		. "<script src=\"app.js\" defer></script></head><body>$body</body></html>\n";
}
