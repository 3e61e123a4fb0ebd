<?php
// The router: what each address answers.
declare(strict_types=1);

require __DIR__ . '/../lib/base.php';
require __DIR__ . '/../lib/inbox.php';
require __DIR__ . '/../lib/hours.php';
require __DIR__ . '/../lib/page.php';

function number(mixed $value): int
{
	return filter_var($value, FILTER_VALIDATE_INT, ['options' => ['min_range' => 1]])
		?: throw new DomainException('This is not a number.', 400);
}

/** The data for app.js, else the page. */
function answer(array $data, callable $show): void
{
	echo WANTS_JSON ? json_encode($data, JSON_THROW_ON_ERROR) : html($show);
}

function show(): void
{
	$open = isset($_GET['c']) ? conversation(number($_GET['c'])) : null;
	$state = state($open, number($_GET['list'] ?? 100), number($_GET['thread'] ?? 200));
	answer($state, fn () => show_page($state, $open, AGENT));
}

/** Not a status of what others than the inbox have sent. */
function is_news(array $notification): bool
{
	$event = json_decode($notification['payload'] ?? '', true); // none: there is no such key
	return $notification['message'] === 'inbox' || ($event['kind'] ?? '') === 'incoming_sms'
		|| query('select 1 from inbox.reply where message_id = ? limit 1',
			(string) ($event['message_id'] ?? ''))->fetch();
}

/** Server-sent events: "there is news", and a sign of life each 2 s. */
function stream_events(): void
{
	db()->exec('listen sms_event; listen inbox');
	header('Content-Type: text/event-stream');
	header('X-Accel-Buffering: no');
	while (ob_get_level() && ob_end_flush());
	$line = "data: news\n\n"; // of the time before
	for ($end = time() + 55; time() < $end; ) { // then the browser comes back
		echo $line;
		flush(); // ends this when the browser has gone
		$told = db()->pgsqlGetNotify(PDO::FETCH_ASSOC, 2000);
		$line = $told && is_news($told) ? "data: news\n\n" : "event: alive\ndata:\n\n";
	}
}

/** A form of another site comes with that site's origin; browsers see to it. */
function is_own_form(): bool
{
	$site = $_SERVER['HTTP_SEC_FETCH_SITE'] ?? null;
	$origin = preg_replace('~^https?://~', '', $_SERVER['HTTP_ORIGIN'] ?? '');
	return $site !== null ? $site === 'same-origin' : $origin === ($_SERVER['HTTP_HOST'] ?? null);
}

function take_form(string $name, array $form): void
{
	is_own_form() ?: throw new DomainException('This form is not of a page of the inbox.', 403);
	$id = $name === 'again' ? send_again(number($form['id'] ?? '')) : number($form['c'] ?? '');
	if ($name === 'reply') {
		reply(conversation($id), $form['key'] ?? '', $form['body'] ?? '', AGENT);
	} elseif ($name === 'read') {
		mark_read($id, number($form['seen'] ?? ''));
	}
	header("Location: ./?c=$id", true, WANTS_JSON ? 204 : 303);
}

define('AGENT', setting('REMOTE_USER', 'support')); // whom the web server has let in
define('WANTS_JSON', str_contains($_SERVER['HTTP_ACCEPT'] ?? '', 'json')); // app.js
header('Content-Type: ' . (WANTS_JSON ? 'application/json' : 'text/html'));
header("Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; "
	. "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
	. "frame-ancestors 'none'");
header('X-Content-Type-Options: nosniff');
header('Cache-Control: no-store');
try {
	$path = (string) parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
	$route = substr($path, strrpos($path, '/') + 1);
	match ("{$_SERVER['REQUEST_METHOD']} $route") {
		'GET ' => show(),
		'GET events' => stream_events(),
		'POST reply', 'POST again', 'POST read'
			=> take_form($route, array_filter($_POST, 'is_string')),
		default => throw new DomainException('There is no such page.', 404),
	};
} catch (DomainException | PDOException $e) {
	[$status, $why] = $e instanceof DomainException ? [$e->getCode(), $e->getMessage()]
		: [503, 'The database cannot be reached now. This page tries again by itself.'];
	$status === 503 && report($e);
	if (!headers_sent()) { // else it was events: the browser comes back
		http_response_code($status);
		answer(['error' => $why], fn () => show_error($why, $status === 503));
	}
}
