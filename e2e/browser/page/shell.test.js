import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { startServer } from '../lib/server.js';
import { scene, world } from '../lib/world.js';

const KEY = 'the-key-of-the-shell-tests-0123456789';
const here = world({ env: { OUTSPOKE_API__KEYS: KEY } });
const UI = new URL('../../../crates/web/ui/', import.meta.url);

/** As an application's back end publishes. */
async function publish(body) {
  const answer = await fetch(new URL('api/v1/publish', here.server.url), {
    method: 'POST', headers: { Authorization: `Bearer ${KEY}`, 'Content-Type': 'application/json' }, body: JSON.stringify(body),
  });
  assert.equal(answer.status, 200, await answer.text());
}

test('without a network the page opens all the same, says so, keeps what is written, and sends it later', scene(here, async ({ visit }) => {
  const ana = await visit({ name: 'Ana' });
  const ben = await visit({ name: 'Ben' });
  await ana.page.evaluate(() => navigator.serviceWorker.ready.then(() => true));
  await ana.page.context().setOffline(true);
  await ana.banner.waitFor();
  await ana.say('written in the tunnel');
  await ana.composer.fill('and a half');
  await ana.page.reload();
  await ana.banner.getByText('You are offline.').waitFor();
  assert.equal(await ana.composer.inputValue(), 'and a half');
  assert.deepEqual(await ana.unsent(), ['written in the tunnel']);
  await ana.page.getByRole('button', { name: 'Settings and keys' }).click();
  await ana.page.getByRole('dialog', { name: 'Settings' }).waitFor();
  await ana.page.keyboard.press('Escape');
  await ana.mustBeAccessible('without a network');
  await ana.page.context().setOffline(false);
  await ben.sees('written in the tunnel');
  await ana.sees('written in the tunnel');
  assert.deepEqual(await ben.texts(), ['written in the tunnel']);
}));

test('the page can be installed: its manifest names what it needs, and the worker keeps every file of the page', async () => {
  const html = await (await fetch(here.server.url)).text();
  const address = /rel="manifest" href="([^"]+)"/u.exec(html)[1];
  const url = new URL(address, here.server.url);
  const manifest = await (await fetch(url)).json();
  assert.equal(new URL(manifest.start_url, url).href, here.server.url);
  assert.equal(new URL(manifest.scope, url).href, here.server.url);
  for (const { src } of manifest.icons) assert.equal((await fetch(new URL(src, url))).status, 200);
  const worker = await fetch(new URL('sw.js', url));
  assert.equal(new URL(worker.headers.get('service-worker-allowed'), worker.url).href, here.server.url);
  const text = readFileSync(new URL('sw.js', UI), 'utf8');
  const kept = [...html.matchAll(/assets\/[^/]+\/ui\/([^"]+)"/gu), ...text.matchAll(/'([\w./]+\.\w+)'/gu)].map(([, name]) => name);
  const files = readdirSync(UI).filter((name) => !/\.d\.ts$|^index\.html$|^sw\.js$/u.test(name));
  assert.deepEqual(files.filter((name) => !kept.includes(name)), []);
});

test('output of a process is a log with colours and an end, and what is no colour is dropped', scene(here, async ({ visit, room }) => {
  const ana = await visit({ name: 'Ana' });
  const line = (text, stream = 'stdout') => publish({ room, type: 'process_output', data: { processId: 'cargo build', stream, line: text } });
  await line('\u001b[1m\u001b[32m   Compiling\u001b[0m outspoke v0.1.0');
  await line('\u001b]0;title\u0007\u001b[2J<img src=x onerror=alert(1)>\u001b[31mred\u001b[39m plain', 'stderr');
  await publish({ room, type: 'process_status', data: { processId: 'cargo build', status: 'running', title: 'Nightly build' } });
  const card = ana.page.getByRole('region', { name: 'Process cargo build' });
  await card.getByText('Nightly build').waitFor();
  await card.getByText('Running').waitFor();
  await card.locator('.fg-2.bold', { hasText: 'Compiling' }).waitFor();
  await card.locator('.log-line.stderr').waitFor();
  assert.deepEqual(await card.locator('.log-line').evaluateAll((lines) => lines.map((e) => [...e.childNodes].filter((n) => !n.classList?.contains('sr-only')).map((n) => n.textContent).join(''))),
    ['   Compiling outspoke v0.1.0', '<img src=x onerror=alert(1)>red plain']);
  const log = card.getByRole('region', { name: 'Output of cargo build' });
  for (let n = 1; n <= 60; n += 1) await line(`line ${n}`);
  await publish({ room, type: 'process_output', data: { processId: 'cargo build', stream: 'stdout', line: 'a long ', partial: true } });
  await line('line');
  await log.getByText('a long line', { exact: true }).waitFor();
  const atEnd = () => log.evaluate((e) => e.scrollHeight - e.scrollTop - e.clientHeight < 2);
  assert.ok(await atEnd());
  const follow = card.getByRole('button', { name: 'Following' });
  await follow.click();
  await line('line 61');
  await line('line 62');
  await publish({ room, type: 'process_status', data: { processId: 'cargo build', status: 'exited', exitCode: 101, signal: null } });
  await card.getByText('Failed, exit code 101').waitFor();
  assert.equal(await log.getByText('line 62', { exact: true }).count(), 0, 'held still');
  await ana.mustBeAccessible('a log');
  await card.getByRole('button', { name: 'Follow' }).click();
  await log.getByText('line 62', { exact: true }).waitFor();
  assert.ok(await atEnd());
  await ana.page.reload();
  await card.getByText('Failed, exit code 101').waitFor();
  assert.equal(await ana.page.locator('.process-card').count(), 1);
}));

test('what programs publish is shown as they wrote it', scene(here, async ({ visit, room }) => {
  const ana = await visit({ name: 'Ana' });
  await publish({ room, data: { temperature: 21.5, note: '<b>warm</b>' } });
  await ana.page.locator('.data pre', { hasText: '"note": "<b>warm</b>"' }).waitFor();
  await publish({ room, type: 'sensor.reading', data: [1, 2] });
  await ana.page.locator('.data .tag', { hasText: 'sensor.reading' }).waitFor();
  await ana.mustBeAccessible('data');
}));

test('a room that the server chooses for everybody is the page\'s, too', async () => {
  const server = await startServer({ env: { OUTSPOKE_ROOMS__DEFAULT: 'foyer' } });
  try {
    await scene({ ...here, server }, async ({ visit }) => {
      const ana = await visit({ name: 'Ana', path: '' });
      await ana.page.getByRole('heading', { name: 'foyer', exact: true }).waitFor();
      await ana.say('hello');
      await ana.sees('hello');
      await ana.page.reload();
      await ana.sees('hello');
      await ana.page.getByRole('heading', { name: 'foyer', exact: true }).waitFor();
    })();
  } finally {
    await server.stop();
  }
});
