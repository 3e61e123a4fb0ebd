'use strict';
// Delivery indicator: a page of sent messages whose states change before the user's eyes.
// PostgreSQL notifies this server, which looks at sms.message and tells all open pages by
// server-sent events.  See README.md.

const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const { setTimeout: sleep } = require('node:timers/promises');
const { isDeepStrictEqual } = require('node:util');
const { Client } = require('pg');

const PORT = Number(process.env.PORT || 8191);
const GATHER = 50; // ms: many notifications become one look
const LOOK_AGAIN = 15_000; // ms: without any, too; so a dead connection is found
const LONGEST_WAIT = 5_000; // ms, between two attempts to connect
const BEAT = 15_000; // ms, between signs of life to the pages
const MOST_STREAMS = 500;
const MOST_UNSENT = 1 << 20; // bytes that a slow browser may leave waiting

const file = (name) => fs.readFileSync(path.join(__dirname, name));
const MESSAGES = file('messages.sql').toString();
const PAGES = {
	'/': ['text/html; charset=utf-8', file('page.html')],
	'/page.css': ['text/css; charset=utf-8', file('page.css')],
	'/page.js': ['text/javascript; charset=utf-8', file('page.js')],
	'/icon.svg': ['image/svg+xml', file('icon.svg')],
};
const HEADERS = {
	'Content-Security-Policy': "default-src 'none'; script-src 'self'; style-src 'self'; "
		+ "connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
		+ "frame-ancestors 'none'",
	'X-Content-Type-Options': 'nosniff',
	'Referrer-Policy': 'no-referrer',
	'Cross-Origin-Opener-Policy': 'same-origin',
	'Cross-Origin-Resource-Policy': 'same-origin',
	'Cache-Control': 'no-cache',
};

const log = (text) => console.error(`indicator: ${text}`);

// ------------------------------------------------------------------- the state

const streams = new Set(); // responses of the pages that are open
let messages = new Map(); // what the pages show, by key
let seen = null; // when that was so, by our clock
let reachable; // is the database?  undefined until the first attempt

function encode(event, data) {
	const json = JSON.stringify({ now: Date.now(), ...data });
	return Buffer.from(`event: ${event}\ndata: ${json}\n\n`);
}

const list = () => encode('list', { seen, messages: [...messages.values()] });
const away = () => encode('away', { seen });

function push(bytes) {
	for (const stream of streams) {
		if (stream.writableLength > MOST_UNSENT)
			stream.destroy(); // the page opens another, and gets the list
		else
			stream.write(bytes);
	}
}

// The page is of those who send; a part of the number is enough to know it by.
function masked(phone) {
	const digits = phone?.replace(/\D/g, '') ?? '';
	const isName = digits.length < 5 || /\p{L}/u.test(phone.replace(/^tel:/i, ''));
	return isName ? phone ?? '' : `\u2022\u2022\u2022 ${digits.slice(-4)}`;
}

// Takes what a look has found, and tells the pages what is new in it.
function show(rows) {
	const before = messages;
	messages = new Map(rows.map((row) => [row.key, { ...row, phone: masked(row.phone) }]));
	seen = Date.now();
	if (!reachable) {
		reachable = true;
		log('the database is reachable');
		push(list());
		return;
	}
	const changed = [...messages.values()]
		.filter((message) => !isDeepStrictEqual(message, before.get(message.key)));
	const gone = [...before.keys()].filter((key) => !messages.has(key));
	if (changed.length || gone.length)
		push(encode('change', { messages: changed, gone }));
}

// ---------------------------------------------------------------- the database

let db; // the connection of the moment

// Looks whenever there may be something new, until the connection is lost: then it throws.
async function follow() {
	let isNew, lost, wake = () => {};
	const notice = () => {
		isNew = true;
		wake();
	};
	db = new Client({
		application_name: 'indicator', keepAlive: true,
		connectionTimeoutMillis: 5_000, statement_timeout: 5_000, query_timeout: 7_000,
	});
	db.on('error', (e) => {
		lost ??= e;
		notice();
	});
	db.on('notification', ({ payload }) => {
		if (payload.includes('"delivery_status"'))
			notice();
	});
	try {
		await db.connect();
		await db.query('listen sms_event'); // first listen, then look
		for (;;) {
			isNew = false;
			show((await db.query(MESSAGES)).rows);
			if (!isNew) {
				let timer;
				await new Promise((resolve) => {
					wake = resolve;
					timer = setTimeout(resolve, LOOK_AGAIN);
				});
				clearTimeout(timer);
			}
			await sleep(GATHER);
			if (lost)
				throw lost;
		}
	} finally {
		db.end().catch(() => {}); // not awaited: of a broken connection it may never end
	}
}

// A connection that was lost and is there again at once is nothing to tell the pages.
async function followForever() {
	let failures = 0, lastSeen, lastReason;
	for (;;) {
		const reason = await follow().catch((e) => e.message || e.code);
		if (seen !== lastSeen) // it has worked
			failures = 0;
		lastSeen = seen;
		failures++;
		if (reachable !== false && failures > 1) {
			reachable = false;
			push(away());
		}
		if (failures === 1 || reason !== lastReason)
			log(`${reason}; trying again`);
		lastReason = reason;
		const wait = Math.min(100 * 2 ** failures, LONGEST_WAIT);
		await sleep(wait * (0.5 + Math.random() / 2)); // not all servers at the same time
	}
}

// --------------------------------------------------------------------- the web

function answer(response, status, text, headers) {
	response.writeHead(status, { ...HEADERS, 'Content-Type': 'text/plain', ...headers });
	response.end(text);
}

// A new page gets the whole list, then what changes: so it is right after a reload, a lost
// connection and a restart, and events need no ids.
function openStream(request, response) {
	if (request.headers['sec-fetch-site'] === 'cross-site')
		return answer(response, 403, 'Not from other sites\n');
	if (streams.size >= MOST_STREAMS)
		return answer(response, 503, 'Too many pages are open\n', { 'Retry-After': '10' });
	response.writeHead(200, {
		...HEADERS, 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store',
		'X-Accel-Buffering': 'no', // nginx is not to hold back what changes
	});
	if (request.method === 'HEAD')
		return response.end();
	streams.add(response);
	response.on('close', () => streams.delete(response));
	if (seen)
		response.write(list());
	if (reachable === false)
		response.write(away());
}

const server = http.createServer((request, response) => {
	response.on('error', () => {}); // 'close' follows
	const name = request.url.split('?', 1)[0];
	if (request.method !== 'GET' && request.method !== 'HEAD')
		return answer(response, 405, 'Only GET\n', { Allow: 'GET, HEAD' });
	if (name === '/events')
		return openStream(request, response);
	if (name === '/healthz')
		return answer(response, reachable ? 200 : 503, `database ${reachable ? 'up' : 'away'}\n`);
	if (!Object.hasOwn(PAGES, name))
		return answer(response, 404, 'Not found\n');
	const [type, content] = PAGES[name];
	answer(response, 200, content, { 'Content-Type': type });
});

server.on('error', (e) => {
	log(e.message);
	process.exit(1);
});
server.listen(PORT, '127.0.0.1', () => log(`http://127.0.0.1:${server.address().port}/`));

setInterval(() => push(encode('beat')), BEAT);
followForever();

async function stop() {
	server.close();
	for (const stream of streams)
		stream.end(); // the pages come back when there is a server again
	await Promise.race([db.end(), sleep(1_000)]).catch(() => {});
	process.exit(0);
}
process.once('SIGTERM', stop);
process.once('SIGINT', stop);
