<?php
// A webhook with PDO: one insert an event.  PEER_TABLE and the rest are set by
// the web server; PEER_PERSISTENT where the process stays.
function refuse(int $status): never
{
	http_response_code($status);
	exit;
}

if (!hash_equals($_SERVER['PEER_TOKEN'], basename($_SERVER['REQUEST_URI'])))
	refuse(401);
$text = file_get_contents('php://input');
$e = json_decode($text, true);
if (!is_array($e))
	refuse(400);
$status_of = [1 => 'queued', 2 => 'queued', 3 => 'queued', 6 => 'sent', 7 => 'delivered'];
if (isset($e['event']))
	$values = [$e['event'], $e['message_id'] ?? null, $e['phone'] ?? null, $e['status'] ?? null,
		$e['message'] ?? null];
elseif (isset($e['status_id']))
	$values = ['delivery_status', $e['sms_id'], $e['sendto'], $status_of[$e['status_id']] ?? 'failed',
		null];
else
	$values = ['incoming_sms', $e['sms_id'], $e['address'], null, $e['body']];
$values[] = $text;

// Parameters apart from the statement, in one message: a statement that PDO
// prepares lives no longer than the request, and costs two more.
$db = new PDO($_SERVER['PEER_DSN'], null, null, [
	PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
	PDO::ATTR_PERSISTENT => isset($_SERVER['PEER_PERSISTENT']),
	PDO::PGSQL_ATTR_DISABLE_PREPARES => true]);
$insert = $db->prepare("insert into {$_SERVER['PEER_TABLE']}
	(kind, message_id, phone, status, body, payload) values (?, ?, ?, ?, ?, ?) returning id");
$insert->execute($values);
header('Content-Type: application/json');
echo json_encode(['result' => 'stored', 'id' => $insert->fetchColumn()]);
