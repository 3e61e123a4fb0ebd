-- pgbench: a commit of one row, and no more.
\set n random(1, 1000000000)
insert into bare (kind, message_id, phone, status, body, payload) values ('delivery_status', 'msg-' || :n,
	'+491511234567', 'sent', null, '{"event":"delivery_status","message_id":"msg-1234567890123456","phone":"+491511234567","status":"sent","timestamp":"2026-01-15T10:30:00Z","device_id":"device_xyz"}');
