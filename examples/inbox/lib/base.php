<?php
// What the pages and the worker share: settings, the database, the log.
declare(strict_types=1);

ini_set('display_errors', '0');
ini_set('log_errors', '1');
ini_set('zend.exception_ignore_args', '1'); // no text and no number in a log

function setting(string $name, ?string $otherwise = null): string
{
	return getenv($name) ?: $otherwise ?? throw new InvalidArgumentException("$name is not set");
}

/** The connection, by libpq's own environment. */
function db(bool $fresh = false): PDO
{
	static $db = null;
	$db = $fresh ? null : $db; // the old one ends first
	return $db ??= new PDO('pgsql:application_name=inbox tcp_user_timeout=15000', null, null, [
		PDO::ATTR_TIMEOUT => 5,
		PDO::ATTR_DEFAULT_FETCH_MODE => PDO::FETCH_ASSOC,
		PDO::PGSQL_ATTR_DISABLE_PREPARES => true, // a pooler may stand in between
	]);
}

function query(string $sql, string|int|null ...$values): PDOStatement
{
	$statement = db()->prepare($sql);
	$statement->execute($values);
	return $statement;
}

/** Of most errors of the database only the code: the rest may quote what people wrote. */
function report(Throwable $e): void
{
	$state = $e->errorInfo[0] ?? '';
	$is_harmless = preg_match('/^($|HY|08|28|3D|53|57)/', $state);
	$what = $is_harmless ? strtok($e->getMessage(), "\n") : "SQLSTATE $state";
	error_log('inbox: ' . $e::class . ": $what, " . basename($e->getFile()) . ':' . $e->getLine());
}
