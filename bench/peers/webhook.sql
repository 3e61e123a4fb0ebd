-- adnanh's webhook runs psql with this, and the body in its environment.
\getenv payload PAYLOAD
insert into webhook (kind, message_id, phone, status, body, payload)
select coalesce(e->>'event', case when e ? 'status_id' then 'delivery_status' else 'incoming_sms' end),
	coalesce(e->>'message_id', e->>'sms_id'), coalesce(e->>'phone', e->>'sendto', e->>'address'),
	coalesce(e->>'status', case (e->>'status_id')::int when 6 then 'sent' when 7 then 'delivered' end),
	coalesce(e->>'message', e->>'body'), e
from (values (:'payload'::jsonb)) as v(e)
returning id;
