<?php
// One call of the gateway's addsms, and what is known after it.
declare(strict_types=1);

/** @return array{string, ?string, ?string} state, message id, error
 *
 * sent, refused: the gateway has said so.  waiting: no connection, so nothing was
 * sent.  unknown: it was handed over, and there was no answer that one can read. */
function send_sms(string $phone, string $body): array
{
	$is_connected = false;
	$context = stream_context_create(['http' => [
		'method' => 'POST',
		'header' => 'Content-Type: application/x-www-form-urlencoded',
		'content' => http_build_query([
			'token' => setting('SMS_GATEWAY_TOKEN'), 'sendto' => $phone, 'body' => $body,
			'device_id' => setting('SMS_DEVICE_ID'), 'sim' => setting('SMS_SIM', '0'),
		]),
		'timeout' => (float) setting('SMS_GATEWAY_TIMEOUT', '10'),
		'follow_location' => 0,
		'ignore_errors' => true, // the body says why
	]], ['notification' => function (int $code) use (&$is_connected): void {
		$is_connected = $is_connected || $code === STREAM_NOTIFY_CONNECT;
	}]);
	$url = setting('SMS_GATEWAY_URL', 'https://smsgateway24.com/getdata/addsms');
	$stream = @fopen($url, 'rb', false, $context);
	if (!$stream) {
		return $is_connected ? ['unknown', null, 'The gateway did not answer.']
			: ['waiting', null, 'The gateway cannot be reached.'];
	}
	$status = explode(' ', stream_get_meta_data($stream)['wrapper_data'][0] ?? '')[1] ?? 0;
	return read_answer((int) $status, (string) @stream_get_contents($stream, 65536));
}

function read_answer(int $status, string $text): array
{
	$answer = json_decode(str_replace('\u0000', '', $text), true); // PostgreSQL has no such texts
	if (in_array($answer['error'] ?? null, [0, '0', false], true)) {
		$id = $answer['sms_id'] ?? null;
		return ['sent', is_int($id) || is_string($id) ? (string) $id : null, null];
	} elseif (isset($answer['error'])) {
		$why = is_string($answer['message'] ?? null) ? $answer['message'] : '';
		$why = preg_replace('/^.{200}\K.*/su', '', $why);
		return ['refused', null, $why ?: 'The gateway gave no reason.'];
	}
	return $status >= 300 && $status < 500
		? ['refused', null, "The gateway answered HTTP $status."]
		: ['unknown', null, "The gateway answered HTTP $status, and not what became of the SMS."];
}
