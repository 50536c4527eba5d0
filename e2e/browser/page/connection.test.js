import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startProxy } from '../lib/proxy.js';
import { startServer } from '../lib/server.js';
import { scene, world } from '../lib/world.js';

const here = world();

/** A scene with a breakable line between one person and the server. */
function brokenScene(play) {
  return async () => {
    const proxy = await startProxy(here.server.port);
    try {
      await scene(here, (stage) => play({ ...stage, proxy }))();
    } finally {
      await proxy.stop();
    }
  };
}

test('the offline banner stands within 100 ms of the browser\'s offline event, and the socket is kept', brokenScene(async ({ visit, proxy }) => {
  const ana = await visit({ name: 'Ana', url: proxy.url });
  const ben = await visit({ name: 'Ben' });
  const sockets = [];
  ana.page.on('websocket', (socket) => sockets.push(socket));
  await ana.page.evaluate(() => {
    window.offlineShownAfter = new Promise((done) => {
      addEventListener('offline', () => {
        const at = performance.now();
        const look = () => {
          const banner = document.querySelector('.banner');
          if (banner && !banner.hidden && banner.getBoundingClientRect().height > 0) done(performance.now() - at);
          else requestAnimationFrame(look);
        };
        look();
      }, { capture: true });
    });
  });
  await ana.page.context().setOffline(true);
  const after = await ana.page.evaluate(() => window.offlineShownAfter);
  assert.ok(after <= 100, `${after} ms`);
  await ana.banner.getByText('You are offline.').waitFor();
  await ana.page.locator('.chip.status', { hasText: 'Offline' }).waitFor();
  await ana.say('written offline');
  await ana.banner.getByText('1 message waits to be sent.').waitFor();
  await ana.page.locator('.unsent.queued', { hasText: 'Not sent yet' }).waitFor();
  await ana.page.context().setOffline(false);
  await ben.sees('written offline');
  await ana.banner.waitFor({ state: 'hidden' });
  assert.deepEqual(sockets, [], 'no new socket was needed');
  assert.deepEqual(await ana.texts(), ['written offline']);
}));

test('history that the server refuses for a while is asked for again, but not in a loop', scene(here, async ({ visit, room }) => {
  const ben = await visit({ name: 'Ben' });
  for (const text of ['one', 'two', 'three']) {
    await ben.say(text);
    await ben.sees(text);
  }
  const ana = await visit();
  let asked = 0;
  await ana.page.routeWebSocket(/\/ws/u, (socket) => {
    const server = socket.connectToServer();
    socket.onMessage((text) => {
      const { type, id } = typeof text === 'string' ? JSON.parse(text) : {};
      if (type !== 'history') return server.send(text);
      asked += 1;
      // All but the first answer, which holds too little to scroll.
      if (asked === 1) return server.send(JSON.stringify({ ...JSON.parse(text), limit: 1 }));
      return socket.send(JSON.stringify({ type: 'error', id, code: 162, error: 'rate_limited', message: 'too many reads', temporary: true, retryAfter: 1000 }));
    });
  });
  await ana.page.reload();
  await ana.join('Ana');
  await ana.sees('three');
  const again = ana.page.getByRole('button', { name: 'Older messages could not be loaded. Try again' });
  await again.waitFor();
  const before = asked;
  await ana.page.waitForTimeout(2_000);
  assert.ok(asked - before <= 2, `${asked - before} requests in 2 s, in ${room}`);
  await again.waitFor();
}));

test('a cut line: what was written and what was missed meanwhile arrives, all of it, once and in order', brokenScene(async ({ visit, proxy }) => {
  const ana = await visit({ name: 'Ana', url: proxy.url });
  const ben = await visit({ name: 'Ben' });
  await ana.say('before');
  await ben.sees('before');
  await ana.sees('before');
  proxy.cut();
  await ana.banner.waitFor();
  for (let n = 1; n <= 5; n += 1) await ana.say(`during ${n}`);
  await ben.say('Ana cannot see this yet');
  await ben.sees('Ana cannot see this yet');
  assert.deepEqual(await ana.unsent(), ['during 1', 'during 2', 'during 3', 'during 4', 'during 5']);
  proxy.mend();
  await ana.banner.getByRole('button', { name: 'Try now' }).click({ timeout: 1_000 }).catch(() => { /* it was quicker */ });
  await ben.sees('during 5');
  await ana.sees('during 5');
  const all = ['before', 'Ana cannot see this yet', ...[1, 2, 3, 4, 5].map((n) => `during ${n}`)];
  assert.deepEqual(await ben.texts(), all);
  assert.deepEqual(await ana.texts(), all);
  await ana.page.waitForFunction(() => document.querySelectorAll('.pending .unsent').length === 0);
  await ana.banner.waitFor({ state: 'hidden' });
}));

test('a message that was on its way when the line broke is said once, whether it had arrived or not', brokenScene(async ({ visit, proxy }) => {
  const ana = await visit({ name: 'Ana', url: proxy.url });
  const ben = await visit({ name: 'Ben' });
  proxy.swallow();
  await ana.say('into the void');
  await ana.page.locator('.unsent.sending').waitFor();
  proxy.cut();
  proxy.mend();
  await ben.sees('into the void');
  await ana.sees('into the void');
  await ana.online();
  await ben.say('line is back');
  await ana.sees('line is back');
  await ben.sees('line is back');
  assert.deepEqual(await ben.texts(), ['into the void', 'line is back']);
  assert.deepEqual(await ana.texts(), ['into the void', 'line is back']);
  assert.deepEqual(await ana.unsent(), []);
}));

test('what is not sent yet, and what is only half written, survives a reload', brokenScene(async ({ visit, proxy }) => {
  const ana = await visit({ name: 'Ana', url: proxy.url });
  const ben = await visit({ name: 'Ben' });
  proxy.swallow();
  await ana.say('in a tunnel');
  await ana.page.locator('.unsent').waitFor();
  await ana.composer.fill('half a thought');
  proxy.cut();
  proxy.mend();
  await ana.page.reload();
  await ana.sees('in a tunnel');
  await ben.sees('in a tunnel');
  assert.equal(await ana.composer.inputValue(), 'half a thought');
  assert.deepEqual(await ben.texts(), ['in a tunnel']);
}));

test('fifty cuts of the line while both write: nothing is lost, nothing is doubled, the order is the same for both', { timeout: 120_000 }, brokenScene(async ({ visit, proxy }) => {
  const ana = await visit({ name: 'Ana', url: proxy.url });
  const ben = await visit({ name: 'Ben' });
  // The waits between tries are random; here they are short, so that fifty fit into a test.
  await ana.page.evaluate(() => { Math.random = () => 0.01; });
  const said = [];
  for (let cut = 1; cut <= 50; cut += 1) {
    await ana.say(`from the train ${cut}`);
    proxy.cut();
    proxy.mend();
    await ben.say(`from home ${cut}`);
    said.push(`from the train ${cut}`, `from home ${cut}`);
    // Not before the line is back: a cut is one of a living connection.
    await ana.page.waitForFunction(() => document.querySelector('.chip.status.good') || (document.querySelector('.banner button')?.click(), false), undefined, { polling: 50 });
  }
  const everything = (person) => person.page.waitForFunction(
    (count) => document.querySelectorAll('.items:not(.pending) .message .text').length >= count, said.length);
  await Promise.all([everything(ana), everything(ben)]);
  const [anas, bens] = [await ana.texts(), await ben.texts()];
  assert.deepEqual([...bens].sort(), [...said].sort());
  assert.deepEqual(anas, bens);
  assert.deepEqual(await ana.unsent(), []);
}));

test('a socket that is silently dead is found when the network comes back, and replaced', brokenScene(async ({ visit, proxy }) => {
  const ana = await visit({ name: 'Ana', url: proxy.url });
  const ben = await visit({ name: 'Ben' });
  await ana.page.context().setOffline(true);
  await ana.banner.waitFor();
  proxy.swallow();
  await ana.page.context().setOffline(false);
  await ana.online();
  await ana.say('found');
  await ben.sees('found');
}));

test('the same identity in a second place: the first says so, and does not fight', scene(here, async ({ visit }) => {
  const storage = {
    local: { 'outspoke.user': 'same-user', 'outspoke.name': 'Ana' },
    session: { 'outspoke.device': 'same-device', 'outspoke.joined': '1' },
  };
  const first = await visit({ storage });
  await first.online();
  const second = await visit({ storage });
  await second.online();
  await first.banner.getByText('opened somewhere else').waitFor();
  await first.page.locator('.chip.status', { hasText: 'Disconnected' }).waitFor();
  const opened = [];
  first.page.on('websocket', (socket) => opened.push(socket.url()));
  await first.page.evaluate(() => { for (const name of ['offline', 'online', 'pageshow']) dispatchEvent(new Event(name)); });
  await first.page.evaluate(() => document.dispatchEvent(new Event('visibilitychange')));
  await second.say('still the one');
  await second.sees('still the one');
  assert.deepEqual(opened, []);
  await first.banner.getByRole('button', { name: 'Reconnect here' }).click();
  await first.online();
  await second.banner.getByText('opened somewhere else').waitFor();
}));

test('a server that stops and starts again is waited for, with a countdown', async () => {
  const first = await startServer();
  let second;
  try {
    await scene({ ...here, server: first }, async ({ visit }) => {
      const ana = await visit({ name: 'Ana' });
      await first.stop();
      await ana.banner.waitFor();
      await ana.say('kept for you');
      await ana.page.locator('.countdown', { hasText: /Next try in \d+ s\.|Reconnecting …/u }).waitFor();
      second = await startServer({ port: first.port });
      await ana.online();
      await ana.sees('kept for you');
      await ana.seesLine('The server started afresh.');
    })();
  } finally {
    await first.stop();
    await second?.stop();
  }
});
