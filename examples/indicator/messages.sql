-- What the page lists: the newest 100 messages, by the receipt that told of each first.
-- The 500 newest receipts are found by index, however long the log is; their messages, one
-- by one by primary key.  Many receipts of one message leave room for fewer.  A message keeps its place while its state changes.
select
	m.source || ' ' || m.message_id as key,
	m.message_id as id,
	left(m.phone, 250) as phone,
	m.status,
	left(m.status_text, 2000) as reason,
	m.received_at as since,
	r.place
from (
	select source, message_id, min(id)::float8 as place
	from (
		select id, source, message_id from sms.delivery_status order by id desc limit 500
	) newest
	group by source, message_id
) r
cross join lateral (
	select * from sms.message m
	where m.message_id = r.message_id and m.source = r.source
	offset 0 -- not the whole table for a few
) m
order by r.place desc
limit 100
