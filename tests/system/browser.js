// Chromium for tests: each line of the standard input is [method, page, ...arguments] as JSON,
// each line of the output {value} or {error}.
'use strict';
const { chromium } = require('playwright-core');
const readline = require('node:readline');

const [program, patience] = [process.argv[2], Number(process.argv[3])];
const pages = [];

async function add(context) {
	const page = await context.newPage();
	page.setDefaultTimeout(patience);
	page.seen = { errors: [], requests: [] };
	page.on('console', (m) => m.type() === 'error' && page.seen.errors.push(m.text()));
	page.on('pageerror', (e) => page.seen.errors.push(String(e)));
	page.on('dialog', (d) => { page.seen.errors.push(`dialog: ${d.message()}`); d.dismiss(); });
	page.on('request', (r) => page.seen.requests.push(`${r.method()} ${r.url()}`));
	page.on('requestfailed', (r) => page.seen.errors.push(`${r.url()}: ${r.failure().errorText}`));
	return pages.push(page) - 1;
}

const methods = {
	async open(browser, _, options) {
		return add(await browser.newContext(options));
	},
	tab: (_, page) => add(page.context()),
	goto: async (_, page, url) => (await page.goto(url))?.status(),
	reload: async (_, page) => (await page.reload())?.status(),
	back: async (_, page) => (await page.goBack())?.status(),
	url: (_, page) => page.url(),
	title: (_, page) => page.title(),
	// "attached": a <title>, or what is not visible yet
	async wait(_, page, selector, text, state) {
		const found = page.locator(selector);
		const wanted = text === null ? found : found.filter({ hasText: text });
		await wanted.first().waitFor({ state });
	},
	text: (_, page, selector) => page.locator(selector).first().innerText(),
	texts: (_, page, selector) => page.locator(selector).allInnerTexts(),
	count: (_, page, selector) => page.locator(selector).count(),
	attribute: (_, page, selector, name) => page.locator(selector).first().getAttribute(name),
	click: (_, page, selector) => page.locator(selector).first().click(),
	fill: (_, page, selector, text) => page.locator(selector).first().fill(text),
	press: (_, page, selector, key) => page.locator(selector).first().press(key),
	evaluate: (_, page, script) => page.evaluate(script),
	offline: (_, page, is) => page.context().setOffline(is),
	async screenshot(_, page, options) {
		return (await page.screenshot({ animations: 'disabled', ...options })).toString('base64');
	},
	seen: (_, page) => page.seen,
	close: (_, page) => page.context().close(),
};

async function main() {
	const browser = await chromium.launch({ executablePath: program,
		args: ['--disable-dev-shm-usage', '--no-proxy-server'] });
	for await (const line of readline.createInterface({ input: process.stdin })) {
		const [method, page, ...rest] = JSON.parse(line);
		let answer;
		try {
			answer = { value: await methods[method](browser, pages[page], ...rest) ?? null };
		} catch (e) {
			answer = { error: e.message };
		}
		process.stdout.write(`${JSON.stringify(answer)}\n`);
	}
	await browser.close();
}

main();
