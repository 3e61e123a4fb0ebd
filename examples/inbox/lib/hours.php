<?php
// Office hours, such as "Mon-Fri 09:00-17:00, Sat 10:00-13:00"; "never" and "always".
declare(strict_types=1);

/** Now, by the office's clock. */
function office_time(): DateTimeImmutable
{
	return new DateTimeImmutable('now', new DateTimeZone(setting('OFFICE_TIMEZONE', 'UTC')));
}

function is_open(string $hours, DateTimeInterface $at): bool
{
	if ($hours === 'never' || $hours === 'always') {
		return $hours === 'always';
	}
	$days = 'Mon|Tue|Wed|Thu|Fri|Sat|Sun';
	$time = '(?:[01]\d|2[0-3]):[0-5]\d|24:00';
	$range = "/^($days)(?:-($days))?\s+($time)-($time)$/D";
	$is_open = false;
	foreach (explode(',', $hours) as $part) { // all of them, for a mistake is to be told
		if (!preg_match($range, trim($part), $m) || $m[3] >= $m[4]) {
			throw new InvalidArgumentException(
				"OFFICE_HOURS: '$part' is not like 'Mon-Fri 09:00-17:00', 'never' or 'always'");
		}
		$after = fn (string $day) => (strpos($days, $day) - strpos($days, $m[1]) + 28) % 28;
		$is_day = $after($at->format('D')) <= $after($m[2] ?: $m[1]);
		$is_open = $is_open || $is_day && $m[3] <= $at->format('H:i') && $at->format('H:i') < $m[4];
	}
	return $is_open;
}
