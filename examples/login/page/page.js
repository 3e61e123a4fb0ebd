'use strict';
// The server decides what is shown.  This notices when it is time to ask it again.

// A page from the browser's cache may be of before the sign-out.
addEventListener('pageshow', (event) => {
	if (event.persisted)
		location.reload();
});

// Each stream ends with one message, when this page no longer shows what holds.  Where it
// breaks, or is silent, the next one says what was missed.
function listen(banner) {
	const stream = new EventSource(`/wait?${document.body.dataset.state}`);
	let wasOpen = false, watch;
	const beat = () => { // is due every 5 s; a phone may have slept meanwhile
		clearTimeout(watch);
		watch = setTimeout(() => stream.onerror(), 20_000);
	};
	beat();
	stream.addEventListener('beat', beat);
	stream.onopen = () => {
		wasOpen = true;
		banner.hidden = true;
	};
	stream.onmessage = () => {
		stream.close();
		location.reload();
	};
	stream.onerror = () => {
		clearTimeout(watch);
		stream.close();
		banner.hidden = wasOpen; // once is no news
		setTimeout(listen, 2000, banner);
	};
}

// When it is at zero the server still looks for an SMS that was sent in time.
function countDown(clock, status) {
	const end = Date.now() + 1000 * clock.dataset.seconds;
	const timer = setInterval(() => {
		const left = Math.max(0, Math.ceil((end - Date.now()) / 1000));
		clock.textContent = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, '0')}`;
		if (left === 0) {
			clearInterval(timer);
			status.textContent = 'Time is over. Looking for an SMS still on its way';
		}
	}, 250);
}

const clock = document.querySelector('#clock');
if (clock) {
	listen(document.querySelector('.banner'));
	countDown(clock, document.querySelector('#status'));
}
