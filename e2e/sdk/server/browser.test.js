/** The client in Chromium, on a page of another site: imported from the hub, and over one socket for all tabs. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import { startServer } from '../../browser/lib/server.js';

const BROWSERS = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const here = { hub: null, site: null, browser: null, url: '' };

const page = (hub, env) => `<!doctype html><title>another site</title><script type="module">
  import { createHub } from '${hub}client/outspoke.js';
  import { sharedSocket } from '${hub}client/worker.js';
  const hub = createHub('${hub}ws?userId=ann&username=Ann&device=all-tabs', { env: ${env} });
  const room = hub.room('lobby');
  const heard = [];
  room.on('chat', ({ data }) => heard.push(data.content));
  await room.ready();
  Object.assign(window, { hub, room, heard });
</script>`;

before(async () => {
  here.site = createServer(({ url }, response) => {
    const [type, body] = url === '/worker.js'
      ? ['text/javascript', `import { serveTabs } from '${here.hub.url}client/worker.js'; serveTabs();`]
      : ['text/html', page(here.hub.url, url === '/shared' ? '{ WebSocket: sharedSocket(new SharedWorker("/worker.js", { type: "module" })) }' : '{}')];
    response.writeHead(200, { 'Content-Type': type }).end(body);
  }).listen(0, '127.0.0.1');
  await once(here.site, 'listening');
  here.url = `http://127.0.0.1:${here.site.address().port}`;
  here.hub = await startServer({ env: { OUTSPOKE_ORIGINS__ALLOWED: here.url } });
  const executablePath = BROWSERS.find((path) => path && existsSync(path));
  const options = { executablePath, args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-dev-shm-usage'] };
  // Loaded machines lose a browser at the start now and then: one more try.
  here.browser = await chromium.launch(options).catch(() => chromium.launch(options));
});
after(async () => {
  await here.browser?.close();
  await here.hub?.stop();
  here.site?.closeAllConnections();
  here.site?.close();
});

async function tabs(path, count) {
  const context = await here.browser.newContext();
  const all = [];
  const errors = [];
  for (let at = 0; at < count; at += 1) {
    const tab = await context.newPage();
    tab.on('pageerror', (error) => errors.push(error.message));
    await tab.goto(here.url + path);
    await tab.waitForFunction(() => 'room' in window, null, { polling: 50 });
    all.push(tab);
  }
  return { all, errors, context };
}

const say = (tab, content) => tab.evaluate((text) => window.room.publish('chat', { content: text }).then(({ offset }) => offset), content);
const hears = (tab, content) => tab.waitForFunction((text) => window.heard.includes(text), content, { polling: 50 });
const clients = async () => (await (await fetch(new URL('health', here.hub.url))).json()).clients;

test('a_page_of_another_site_imports_the_client_from_the_hub', async () => {
  const { all: [tab], errors, context } = await tabs('/', 1);
  await say(tab, 'from afar');
  await hears(tab, 'from afar');
  assert.equal(await tab.evaluate(async () => (await window.room.history({ limit: 1 })).messages[0].data.content), 'from afar');
  assert.deepEqual(errors, []);
  await context.close();
});

test('the_browsers_own_offline_is_said_at_once_and_the_same_socket_goes_on', async () => {
  const { all: [tab], context } = await tabs('/', 1);
  const session = await tab.evaluate(() => window.hub.state.get().session);
  // A listener behind the hub's own: when it runs, the state is said already.
  await tab.evaluate(() => window.addEventListener('offline', () => { window.seen = window.hub.state.get().status; }));
  await context.setOffline(true);
  await tab.waitForFunction(() => 'seen' in window, null, { polling: 50 });
  assert.equal(await tab.evaluate(() => window.seen), 'offline');
  await context.setOffline(false);
  await tab.waitForFunction(() => window.hub.state.get().status === 'online', null, { polling: 50 });
  assert.equal(await tab.evaluate(() => window.hub.state.get().session), session);
  await context.close();
});

test('tabs_share_one_socket_through_a_shared_worker', async () => {
  while (await clients()) await new Promise((done) => { setTimeout(done, 50); });
  const { all: [one, two], errors, context } = await tabs('/shared', 2);
  assert.equal(await clients(), 1);
  await say(one, 'one');
  await say(two, 'two');
  for (const tab of [one, two]) for (const text of ['one', 'two']) await hears(tab, text);
  await one.close();
  await say(two, 'three');
  await hears(two, 'three');
  assert.equal(await clients(), 1);
  await two.close();
  while (await clients()) await new Promise((done) => { setTimeout(done, 50); });
  assert.deepEqual(errors, []);
  await context.close();
});
