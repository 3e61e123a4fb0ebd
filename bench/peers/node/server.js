'use strict';
// A webhook with fastify and pg: a pool, a named statement, one insert an event.
const { timingSafeEqual } = require('node:crypto');

const { PEER_SOCKET, PEER_DSN, PEER_TOKEN, PEER_POOL } = process.env;
const text = 'insert into node (kind, message_id, phone, status, body, payload) ' +
	'values ($1, $2, $3, $4, $5, $6) returning id';
const statusOf = { 1: 'queued', 2: 'queued', 3: 'queued', 6: 'sent', 7: 'delivered' };

function values(e) {
	if (e.event !== undefined)
		return [e.event, e.message_id, e.phone, e.status, e.message];
	if (e.status_id !== undefined)
		return ['delivery_status', e.sms_id, e.sendto, statusOf[e.status_id] ?? 'failed', null];
	return ['incoming_sms', e.sms_id, e.address, null, e.body];
}

const { host, dbname, user } = Object.fromEntries(PEER_DSN.split(' ').map((s) => s.split('=')));
const { Pool } = require('pg');
const pool = new Pool({ host, user, database: dbname, max: Number(PEER_POOL) });
const app = require('fastify')({ bodyLimit: 65536, keepAliveTimeout: 60000 });
const right = Buffer.from(PEER_TOKEN);
const schema = { response: { 200: { type: 'object', properties: {
	result: { type: 'string' }, id: { type: 'string' } } } } };
app.post('/:token', { schema }, async (request, reply) => {
	const token = Buffer.from(request.params.token);
	if (token.length !== right.length || !timingSafeEqual(token, right))
		return reply.code(401).send();
	const e = request.body;
	const { rows } = await pool.query({ name: 'insert', text, values: [...values(e), e] });
	return { result: 'stored', id: rows[0].id };
});
app.listen({ path: PEER_SOCKET });
