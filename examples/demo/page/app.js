// The phones: what comes by server-sent events is shown as text, always.
'use strict';

const $ = (id) => document.getElementById(id);
const phones = new Map(); // number -> {name, phone, on, sms: Map(id -> sms), row}
const seen = new Set(); // ids of SMS that were shown
let chosen = null;

function element(tag, className, text) {
	const e = document.createElement(tag);
	e.className = className;
	e.textContent = text ?? '';
	return e;
}

const clock = (at) => new Date(at).toLocaleTimeString('en-GB',
	{ hour: '2-digit', minute: '2-digit' });

const hashPhone = () => location.hash.match(/^#(\+?\d{3,15})$/)?.[1];

function paintAvatar(e, p) {
	e.textContent = p.name ? [...p.name][0] : '#';
	e.dataset.hue = [...p.phone].reduce((n, c) => n + c.charCodeAt(0), 0) % 6;
}

// ------------------------------------------------------------ customers

function phoneOf(number, name) {
	let p = phones.get(number);
	if (!p) {
		const row = $('phone-row').content.firstElementChild.cloneNode(true);
		p = { phone: number, name: name ?? '', on: true, sms: new Map(), row };
		phones.set(number, p);
		row.dataset.phone = number;
		row.firstElementChild.addEventListener('click', () => choose(number));
		$('phones').append(row);
		if (!name)
			raise(p);
		paintRow(p);
	}
	return p;
}

// Below "Your phone", which stays where it is: the first.
function raise({ row }) {
	const first = $('phones').firstElementChild;
	if (row !== first && row !== first.nextElementSibling && !row.contains(document.activeElement))
		first.after(row);
}

function paintRow(p) {
	const last = [...p.sms.values()].at(-1);
	paintAvatar(p.row.querySelector('.avatar'), p);
	p.row.querySelector('.row-name').textContent = p.name || p.phone;
	p.row.querySelector('.row-text').textContent = last?.text ?? 'No messages yet';
	const unread = [...p.sms.values()].filter((s) => s.way === 'to' && !seen.has(s.id)).length;
	const badge = p.row.querySelector('.unread');
	badge.hidden = unread === 0;
	badge.textContent = unread;
	p.row.firstElementChild.setAttribute('aria-current', String(p === chosen));
	p.row.classList.toggle('off', !p.on);
}

function choose(number) {
	const before = chosen;
	chosen = phoneOf(number);
	history.replaceState(null, '', `#${number}`);
	if (before)
		paintRow(before);
	paintAvatar($('avatar'), chosen);
	$('name').textContent = chosen.name || number;
	$('phone').textContent = number;
	$('phone').hidden = !chosen.name;
	paintSwitch();
	fail('error', '');
	$('messages').replaceChildren();
	for (const sms of chosen.sms.values())
		showSms(sms);
	if (!chosen.sms.size)
		$('messages').append(element('li', 'empty', 'No messages yet. Write one to the shop.'));
	$('messages').scrollTop = $('messages').scrollHeight;
	paintRow(chosen);
}

function paintSwitch() {
	$('on').checked = chosen.on;
	$('on-text').textContent = chosen.on ? 'On' : 'Off';
	$('send').disabled = $('text').disabled = !chosen.on;
	$('text').placeholder = chosen.on ? 'Text message' : 'This phone is off';
}

// ------------------------------------------------------------- messages

const STATES = { sending: 'Sending …', taken: '✓ Sent', lost: '✗ Lost: the webhook was not taken' };

// Where a text has several lines the browser would leave the bubble wider than the longest.
function fit(bubble) {
	const range = document.createRange();
	range.selectNodeContents(bubble);
	bubble.style.width = '';
	const { paddingLeft } = getComputedStyle(bubble);
	const width = range.getBoundingClientRect().width + 2 * parseFloat(paddingLeft);
	bubble.style.width = `${Math.ceil(width)}px`;
}

function showSms(sms) {
	const list = $('messages');
	seen.add(sms.id);
	let item = list.querySelector(`[data-id="${sms.id}"]`);
	const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
	if (!item) {
		list.querySelector('.empty')?.remove();
		item = element('li', `sms ${sms.way}`);
		item.dataset.id = sms.id;
		const text = element('p', '', sms.text);
		text.dir = 'auto';
		item.append(text, element('small', ''));
		list.append(item);
		fit(text);
	}
	item.dataset.state = sms.state;
	item.lastElementChild.textContent =
		[clock(sms.at), STATES[sms.state]].filter(Boolean).join(' · ');
	if (atEnd)
		list.scrollTop = list.scrollHeight;
}

function takeSms(sms) {
	const p = phoneOf(sms.phone);
	p.sms.set(sms.id, sms);
	if (sms.way === 'from')
		raise(p);
	if (p === chosen)
		showSms(sms);
	paintRow(p);
}

function takePhone({ phone, on }) {
	const p = phoneOf(phone);
	p.on = on;
	paintRow(p);
	if (p === chosen)
		paintSwitch();
}

// ------------------------------------------------------------- webhooks

const waiting = []; // while one is open, so that it does not run away
const isOpen = () => $('webhooks').querySelector('[open]');

function stateOf({ event, address, status, status_message: text = '' }) {
	if (event === 'incoming_sms' || address)
		return ['incoming', 'SMS'];
	const word = status ?? { New: 'queued', Sent: 'sent', Delivered: 'delivered' }[text];
	if (word)
		return [word, word[0].toUpperCase() + word.slice(1)];
	return ['failed', `Failed: ${text[0]?.toLowerCase() ?? ''}${text.slice(1)}`];
}

function showWebhook({ body, status, answer, at }) {
	const item = element('li', status === 200 ? 'taken' : 'lost');
	const more = document.createElement('details');
	const head = document.createElement('summary');
	const [state, text] = stateOf(body);
	head.append(element('b', `state ${state}`, text),
		element('small', 'status', status ? `smshook: ${status}` : 'no answer'),
		element('small', 'whose', (state === 'incoming' ? 'from ' : 'to ')
			+ (body.phone ?? body.sendto ?? body.address)),
		element('time', '', clock(at)));
	more.append(head, element('pre', '', JSON.stringify(body, null, 1)),
		element('pre', 'answer', answer));
	more.addEventListener('toggle', showWaiting);
	item.append(more);
	$('webhooks').prepend(item);
	while ($('webhooks').childElementCount > 40)
		$('webhooks').lastElementChild.remove();
}

function showWaiting() {
	if (!isOpen())
		waiting.splice(0).forEach(showWebhook);
	$('more').hidden = !waiting.length;
	$('more').textContent = `${waiting.length === 40 ? '40 or more' : waiting.length} new: show`;
}

function takeWebhook(webhook) {
	waiting.push(webhook);
	if (waiting.length > 40)
		waiting.shift();
	showWaiting();
}

// ---------------------------------------------------------- the gateway

function setUp({ number, pages, phones: known }) {
	const shown = chosen?.phone ?? hashPhone();
	chosen = null;
	phones.clear();
	$('phones').replaceChildren();
	$('webhooks').replaceChildren();
	waiting.length = 0;
	for (const { phone, name } of known)
		phoneOf(phone, name);
	$('number').textContent = number.replaceAll(' ', '');
	$('yours').textContent = known[0].phone;
	$('pages').replaceChildren(...Object.entries(pages).map(([name, address]) => {
		const link = element('a', '', name.replaceAll('_', ' '));
		link.href = address;
		link.target = name;
		return link;
	}));
	choose(shown ?? known[0].phone);
}

const takers = { setup: setUp, sms: takeSms, phone: takePhone, webhook: takeWebhook };
const events = new EventSource('events'); // connects again by itself
events.onopen = () => { $('lost').hidden = true; };
events.onerror = () => { $('lost').hidden = false; };
events.onmessage = ({ data }) => {
	const entry = JSON.parse(data);
	takers[entry.type]?.(entry);
};

function fail(id, text) {
	$(id).textContent = text;
	$(id).hidden = !text;
}

// True when the gateway has taken it; else what is wrong is shown.
async function post(path, fields) {
	try {
		const answer = await fetch(path, { method: 'POST', body: new URLSearchParams(fields) });
		const { error, message } = await answer.json();
		fail('error', error ? message : '');
		return !error;
	} catch {
		fail('error', 'The gateway does not answer. Try again in a moment.');
		return false;
	}
}

$('write').addEventListener('submit', async (event) => {
	event.preventDefault();
	const text = $('text').value;
	$('text').value = '';
	if (!text.trim())
		return;
	if (!await post('send', { phone: chosen.phone, body: text.trimEnd() }) && !$('text').value)
		$('text').value = text; // to try again
});
$('text').addEventListener('keydown', (event) => {
	if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
		event.preventDefault();
		$('write').requestSubmit();
	}
});
document.querySelector('.quick').addEventListener('click', ({ target }) => {
	if (!target.matches('button') || !chosen.on)
		return;
	$('text').value = target.dataset.text ?? `${target.textContent} `;
	$('text').focus();
});
$('more').addEventListener('click', () => {
	for (const open of $('webhooks').querySelectorAll('[open]'))
		open.open = false; // and its event shows them
});
$('on').addEventListener('change', () =>
	post('switch', { phone: chosen.phone, on: $('on').checked ? '1' : '0' }));
$('other').addEventListener('submit', (event) => {
	event.preventDefault();
	const number = $('other-phone').value.replace(/[\s().-]/g, '').replace(/^00/, '+');
	const isPhone = /^\+?\d{3,15}$/.test(number);
	fail('other-error', isPhone ? '' : 'A number has 3 to 15 digits, such as +12025550147');
	if (isPhone) {
		$('other-phone').value = '';
		choose(number);
	}
});
addEventListener('resize', () => $('messages').querySelectorAll('p').forEach(fit));
addEventListener('hashchange', () => {
	if (hashPhone())
		choose(hashPhone());
});
