// Keeps the page true: server-sent events say that there is news, then its two changing
// parts are fetched, as HTML in which the server has escaped what people wrote.
'use strict';

const $ = (selector) => document.querySelector(selector);
const [list, thread, section] = [$('#list'), $('#thread'), $('section[data-id]')];
let isRunning = false, isAskedAgain = false; // a fetch of the state
let seen = 0, told = 0; // the newest SMS on the page, and the one that was told to be read

// ------------------------------------------------------------ what is shown

// Elements that stay the same stay in place; returns those that changed or came.
function patch(box, html) {
	const template = document.createElement('template');
	template.innerHTML = html;
	const before = new Map([...box.children].map((row) => [row.id, row]));
	const changed = [];
	[...template.content.children].forEach((fresh, i) => {
		const old = before.get(fresh.id);
		const is_same = old && (old.source ?? old.outerHTML) === fresh.outerHTML;
		const row = is_same ? old : fresh;
		before.delete(fresh.id);
		if (!is_same) {
			changed.push({ row, old });
			row.source = row.outerHTML;
			row.classList.toggle('new', !old);
			old?.remove();
		}
		if (box.children[i] !== row)
			box.insertBefore(row, box.children[i] ?? null);
	});
	before.forEach((row) => row.remove());
	return changed;
}

function isAtEnd() {
	return thread.scrollHeight - thread.scrollTop - thread.clientHeight < 80;
}

function show(state) {
	const changed = patch(list, state.list);
	if (changed.length) // it has moved: what is open stays in sight
		list.querySelector('.current')?.scrollIntoView({ block: 'nearest' });
	const came = changed.filter(({ row, old }) =>
		Number(row.dataset.unread) > Number(old?.dataset.unread ?? 0));
	for (const { row } of came.slice(0, 3)) {
		if (row.id !== `c${section?.dataset.id}` || document.hidden)
			toast(`\u2068${row.querySelector('.name').textContent}\u2069: ` // a number stays as it is
				+ row.querySelector('.preview').textContent, row.querySelector('a').href);
	}
	if (thread) {
		const wasAtEnd = isAtEnd();
		patch(thread, state.thread);
		if (wasAtEnd)
			thread.scrollTop = thread.scrollHeight;
		seen = state.seen;
	}
	document.title = (state.unread ? `(${state.unread}) ` : '') + 'Inbox';
	$('#count').hidden = !state.unread;
	$('#count b').textContent = state.unread;
	markRead();
}

function toast(text, href, isBad) {
	const box = document.createElement(href ? 'a' : 'p');
	if (href)
		box.href = href;
	box.className = isBad ? 'toast bad' : 'toast';
	box.dir = 'auto';
	box.textContent = text;
	$('#toasts').append(box);
	setTimeout(() => box.remove(), 9000);
}

function showConnection(isThere) {
	$('#offline').hidden = isThere;
	$('#live').textContent = isThere ? 'live' : 'offline';
	$('#live').className = isThere ? 'live' : 'offline';
}

// --------------------------------------------------------------- the server

async function refresh() {
	if (isRunning) {
		isAskedAgain = true;
		return;
	}
	isRunning = true;
	try {
		do {
			isAskedAgain = false;
			const answer = await fetch(`./${location.search}`,
				{ headers: { Accept: 'application/json' }, signal: AbortSignal.timeout(5000) });
			if (!answer.ok)
				throw new Error(answer.status);
			show(await answer.json());
		} while (isAskedAgain);
	} catch {
		setTimeout(refresh, 2000);
	}
	isRunning = false;
}

// Resolves to null, or to what is to be said to the agent.
async function send(action, fields) {
	try {
		const answer = await fetch(action, { method: 'POST', body: new URLSearchParams(fields),
			headers: { Accept: 'application/json' }, signal: AbortSignal.timeout(15000) });
		return answer.ok ? null : (await answer.json()).error;
	} catch {
		return 'No connection: try again. It is sent once, however often you try.';
	}
}

function markRead() {
	const row = $(`#c${section?.dataset.id}`);
	if (section && !document.hidden && Number(row?.dataset.unread) && told !== seen) {
		told = seen;
		send('read', { c: section.dataset.id, seen }).then((error) => {
			if (error)
				told = 0;
		});
	}
}

let wait = 500, source;
function listen() {
	source = new EventSource('events');
	let isOpen = false, silence;
	const again = () => {
		clearTimeout(silence);
		source.close();
		if (!isOpen) { // or it had its time, or broke just now
			showConnection(false);
			wait = Math.min(2 * wait, 8000);
		}
		setTimeout(listen, wait * (0.5 + Math.random()));
	};
	const alive = () => {
		clearTimeout(silence);
		silence = setTimeout(() => { isOpen = false; again(); }, 15000);
	};
	source.onopen = () => {
		isOpen = true;
		wait = 500;
		showConnection(true);
		alive();
	};
	source.onmessage = () => { alive(); refresh(); };
	source.addEventListener('alive', alive);
	source.onerror = again;
}

// -------------------------------------------------------------- the agent

const GSM = /^[\n -_a-~¡£¤¥§¿ÄÅÆÇÉÑÖØÜßàäåæèéìñòöøùüΔΦΓΛΩΠΨΣΘΞ€]*$/;

// How many SMS are paid for.
function countSms(text) {
	const isGsm = GSM.test(text);
	const n = text.length + (isGsm ? text.replace(/[^^{}\\[~\]|€]/g, '').length : 0);
	const [one, many] = isGsm ? [160, 153] : [70, 67];
	return n <= one ? 1 : Math.ceil(n / many);
}

function setUpReply(form) {
	const { body, key } = form.elements;
	const draft = `draft-${section.dataset.id}`;
	const newKey = () => {
		key.value = [...crypto.getRandomValues(new Uint8Array(16))]
			.map((n) => n.toString(16).padStart(2, '0')).join('');
	};
	const typed = () => {
		const n = body.value ? countSms(body.value) : 0;
		$('#size').textContent = n ? `${body.value.length} / ${body.maxLength} · ${n} SMS` : '';
		sessionStorage.setItem(draft, JSON.stringify([body.value, key.value]));
	};
	if (sessionStorage.getItem(draft))
		[body.value, key.value] = JSON.parse(sessionStorage.getItem(draft));
	typed();
	body.addEventListener('input', () => { newKey(); typed(); });
	body.addEventListener('keydown', (event) => {
		if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
			event.preventDefault();
			form.requestSubmit();
		}
	});
	let isSending = false;
	form.addEventListener('submit', async (event) => {
		event.preventDefault();
		if (isSending)
			return;
		isSending = true;
		const text = body.value;
		const error = await send('reply', new FormData(form));
		isSending = false;
		if (error) {
			toast(error, null, true); // the text stays, and so does its key
		} else if (body.value === text) {
			body.value = '';
			newKey();
			typed();
		}
	});
}

document.addEventListener('submit', async (event) => {
	if (event.target.getAttribute('action') !== 'again')
		return;
	event.preventDefault();
	const error = await send('again', new FormData(event.target));
	if (error)
		toast(error, null, true);
});
document.addEventListener('visibilitychange', markRead);
if (thread) {
	thread.scrollTop = thread.scrollHeight;
	if ($('#reply'))
		setUpReply($('#reply'));
}
if (list) {
	addEventListener('load', listen);
	addEventListener('pagehide', () => source.close());
	addEventListener('pageshow', (event) => event.persisted && location.reload());
	setInterval(refresh, 30000); // an event is a hint; the rows are the truth
}
