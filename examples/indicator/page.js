'use strict';
// Shows what the server tells: the whole list on each connection, then what changes.

const WORDS = {
	waiting: 'Waiting', queued: 'Queued', sent: 'Sent', delivered: 'Delivered',
	failed: 'Failed', unknown: 'Unknown',
};
const RARE = ['waiting', 'unknown']; // not counted on the page while there are none
const SILENCE = 45_000; // ms without a sign of life: the connection is dead
const LONGEST_WAIT = 8_000; // ms, between two attempts to connect
const PATIENCE = 2_500; // ms, before a lost connection is worth a banner

const get = (id) => document.getElementById(id);
const copy = (id) => get(id).content.firstElementChild.cloneNode(true);
const clock = (time) => new Date(time).toLocaleTimeString();

const rows = new Map(); // by key: {message, element}
let ahead = 0; // ms that the server's clock is ahead of ours

// ------------------------------------------------------------------- messages

function fill(element, message) {
	const word = WORDS[message.status] ? message.status : 'unknown';
	const reason = message.reason ?? '';
	element.dataset.status = word;
	element.querySelector('use').setAttribute('href', `#icon-${word}`);
	element.querySelector('.id').textContent = message.id;
	element.querySelector('.phone').textContent = message.phone;
	element.querySelector('.state').textContent = WORDS[word];
	const why = element.querySelector('.reason');
	const isTold = ['failed', 'unknown'].includes(word) && reason.toLowerCase() !== word;
	why.textContent = isTold ? reason : '';
	const time = element.querySelector('time');
	time.dateTime = message.since;
	time.title = new Date(message.since).toLocaleString();
	time.textContent = ago(message.since);
}

function ago(since) {
	const seconds = Math.max(0, (Date.now() + ahead - new Date(since)) / 1000);
	if (seconds < 3)
		return 'just now';
	if (seconds < 60)
		return `${Math.floor(seconds)} s ago`;
	if (seconds < 3600)
		return `${Math.floor(seconds / 60)} min ago`;
	if (seconds < 86400)
		return `${Math.floor(seconds / 3600)} h ago`;
	return new Date(since).toLocaleDateString();
}

function play(element, animation) {
	element.classList.remove('is-new', 'is-changed');
	void element.offsetWidth; // so that it begins anew
	element.classList.add(animation);
}

function put(message, isQuiet) {
	const row = rows.get(message.key);
	const element = row?.element ?? copy('message');
	fill(element, message);
	rows.set(message.key, { message, element });
	if (row?.message.status === message.status || isQuiet)
		return;
	play(element, row ? 'is-changed' : 'is-new');
	say(message.status);
}

function remove(key) {
	rows.get(key)?.element.remove();
	rows.delete(key);
}

// Newest first; only what is not in its place is moved, so that nothing flickers.
function arrange() {
	const inOrder = [...rows.values()].sort((a, b) => b.message.place - a.message.place);
	let next = get('list').firstElementChild;
	for (const { element } of inOrder) {
		if (element === next)
			next = next.nextElementSibling;
		else
			get('list').insertBefore(element, next);
	}
	get('empty').hidden = rows.size > 0;
	count();
}

function count() {
	const states = [...rows.values()].map(({ element }) => element.dataset.status);
	for (const [word, { tile, part }] of Object.entries(counters)) {
		const n = states.filter((state) => state === word).length;
		tile.querySelector('b').textContent = n;
		tile.hidden = n === 0 && RARE.includes(word);
		part.hidden = n === 0;
		part.style.flexGrow = n;
	}
}

const counters = Object.fromEntries(Object.entries(WORDS).map(([word, text]) => {
	const tile = copy('count'), part = document.createElement('i');
	tile.dataset.status = part.dataset.status = word;
	tile.querySelector('use').setAttribute('href', `#icon-${word}`);
	tile.querySelector('span').textContent = text;
	return [word, { tile, part }];
}));
get('counts').append(...Object.values(counters).map(({ tile }) => tile));
get('bar').append(...Object.values(counters).map(({ part }) => part));
count();

setInterval(() => {
	for (const { message, element } of rows.values()) {
		const time = element.querySelector('time'), text = ago(message.since);
		if (time.textContent !== text)
			time.textContent = text;
	}
}, 1000);

// For those who listen: what a second has brought, in one sentence.
let news = {};
function say(status) {
	if (!Object.keys(news).length) {
		setTimeout(() => {
			get('said').textContent = Object.entries(news)
				.map(([word, n]) => `${n} ${word}`).join(', ');
			news = {};
		}, 1000);
	}
	news[status] = (news[status] ?? 0) + 1;
}

// ----------------------------------------------------------------- connection

let source, watchdog, retrying, warning, failures = 0, rightAt = null;

function tell(state, text, banner) {
	document.body.dataset.live = state;
	get('live-text').textContent = text;
	clearTimeout(warning);
	if (get('banner').textContent !== banner)
		get('banner').textContent = banner;
	get('banner').hidden = !banner;
}

const asOf = (time) => time
	? `What you see is as of ${clock(time)}.` : 'There is nothing to show yet.';

function connect() {
	clearTimeout(retrying);
	retrying = null;
	source = new EventSource('events');
	source.onerror = reconnect;
	on('list', ({ messages, seen }) => {
		rightAt = seen - ahead;
		const isFirst = get('list').childElementCount === 0;
		const keys = new Set(messages.map((message) => message.key));
		[...rows.keys()].filter((key) => !keys.has(key)).forEach(remove);
		messages.forEach((message) => put(message, isFirst));
		arrange();
		tell('live', 'Live', '');
	});
	on('change', ({ messages, gone }) => {
		gone.forEach(remove);
		messages.forEach((message) => put(message, false));
		arrange();
		rightAt = Date.now();
	});
	on('away', ({ seen }) => {
		rightAt = seen ? seen - ahead : rightAt; // null: a server that was started meanwhile
		tell('away', 'No database',
			`The database cannot be reached. ${asOf(rightAt)} This page will catch up by itself.`);
	});
	on('beat', () => {
		if (document.body.dataset.live === 'live')
			rightAt = Date.now();
	});
	watch();
}

function on(event, act) {
	source.addEventListener(event, ({ data }) => {
		const told = JSON.parse(data);
		ahead = told.now - Date.now();
		failures = 0;
		watch();
		act(told);
	});
}

function watch() {
	clearTimeout(watchdog);
	watchdog = setTimeout(reconnect, SILENCE);
}

// By ourselves: a browser gives up for ever after an error page, such as a proxy's when the
// server is being restarted.
function reconnect() {
	source.close();
	clearTimeout(watchdog);
	if (document.body.dataset.live !== 'lost') {
		const banner = get('banner').textContent;
		tell('lost', 'Reconnecting…', banner);
		warning = setTimeout(() => tell('lost', 'Reconnecting…',
			`The connection is lost. ${asOf(rightAt)} This page will catch up by itself.`), PATIENCE);
	}
	const wait = Math.min(500 * 2 ** failures++, LONGEST_WAIT);
	clearTimeout(retrying);
	retrying = setTimeout(connect, wait * (0.5 + Math.random() / 2));
}

const hurry = () => retrying && !document.hidden && connect();
addEventListener('online', hurry);
document.addEventListener('visibilitychange', hurry);
connect();
