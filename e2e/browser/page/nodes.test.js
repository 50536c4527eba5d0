import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startServer } from '../lib/server.js';
import { scene, world } from '../lib/world.js';

const KEY = 'the-key-of-the-nodes-page-0123456789';
const here = world({ server: false });

const node = (name, more = {}) => ({
  id: `id-${name}`, name, version: '0.1.0', url: `wss://${name}.example.com/ws`, here: false, draining: false, connections: 1200, rooms: 30,
  uptimeSeconds: 93_784, silentSeconds: 1.2, silent: false, lagMs: 1, hearsUs: true, ...more,
});
const bus = { kind: 'redis', connected: true, queuedBytes: 0, sent: 10, heard: 12, unsent: 0, missed: 1, repeated: 0, garbage: 0, foreign: 0, forged: 0, stale: 0 };
const label = ({ id, name }) => ({ id, name });

async function keyed(play) {
  const server = await startServer({ env: { OUTSPOKE_API__KEYS: KEY, OUTSPOKE_CLUSTER__NAME: 'hub-1' } });
  try {
    await play(new URL('nodes', server.url).href);
  } finally {
    await server.stop();
  }
}

/** Lets the page see a cluster that changes. @param {import('playwright-core').Page} page @param {{ nodes: object[], bus: object }} cluster */
async function pretend(page, cluster) {
  const asked = { count: 0 };
  await page.route('**/api/v1/nodes', (route) => {
    asked.count += 1;
    return route.fulfill({ json: cluster });
  });
  await page.route('**/api/v1/cluster/check', (route) => route.fulfill({
    json: {
      ok: false,
      checks: cluster.nodes.map((from, index) => ({
        from: label(from), answered: index !== 2,
        routes: cluster.nodes.filter((to) => to !== from).map((to) => (to.silent ? { to: label(to) } : { to: label(to), roundTripMs: 0.84, clockAheadMs: -3 })),
      })),
    },
  }));
  return asked;
}

async function show(page) {
  await page.getByLabel('API key', { exact: true }).fill(KEY);
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.getByRole('table', { name: /^Nodes/u }).waitFor();
}

for (const colorScheme of ['light', 'dark']) {
  test(`a server on its own is shown with a key, refused without, and axe finds nothing in the ${colorScheme} theme`, scene(here, ({ visit }) => keyed(async (url) => {
    const guest = await visit({ url, colorScheme, viewport: { width: 360, height: 800 } });
    const { page } = guest;
    await guest.mustBeAccessible('asked for the key');
    await page.getByRole('button', { name: 'Show' }).click();
    await page.getByRole('alert').filter({ hasText: 'needs a key' }).waitFor();
    await guest.mustBeAccessible('refused');
    await show(page);
    assert.match(await page.locator('#nodes tbody').innerText(), /^hub-1 \(this one\)\s+● serving\s+0\s/u);
    assert.equal(await page.locator('#bus-section').isVisible(), false);
    assert.equal(await page.getByRole('status').innerText(), 'One node.');
    await page.getByRole('button', { name: 'Check now' }).click();
    await page.getByRole('status').filter({ hasText: 'Every node reaches every other.' }).waitFor();
    await guest.mustBeAccessible('one node');
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth), false);
    assert.deepEqual(await page.evaluate(() => [localStorage.length, sessionStorage.length]), [0, 0]);
    await page.getByRole('link', { name: 'Figures' }).click();
    await page.getByRole('heading', { level: 1, name: 'Figures' }).waitFor();
  })));

  test(`nodes that drain, are silent or do not hear are told apart by words, and axe finds nothing in the ${colorScheme} theme`, scene(here, ({ visit }) => keyed(async (url) => {
    const guest = await visit({ url, colorScheme });
    const { page } = guest;
    const cluster = { nodes: [node('hub-1', { here: true }), node('hub-2', { draining: true, connections: 7 }), node('hub-3', { silent: true, silentSeconds: 8, hearsUs: false })], bus };
    await pretend(page, cluster);
    await show(page);
    const rows = await page.locator('#nodes tbody tr').allInnerTexts();
    assert.match(rows[0], /hub-1 \(this one\)\s+● serving\s+1,200\s+30\s+1 d 2 h/u);
    assert.match(rows[1], /hub-2\s+◐ draining\s+7\s/u);
    assert.match(rows[2], /hub-3\s+○ silent, does not hear this one\s.*8 s ago/u);
    assert.equal(await page.locator('#bus-state').innerText(), 'The bus (redis) is connected.');
    await page.getByRole('button', { name: 'Check now' }).click();
    const routes = page.getByRole('table', { name: /^From each node/u });
    await routes.waitFor();
    assert.match(await routes.innerText(), /hub-1\s+–\s+0\.8 ms, clock -3 ms ahead\s+no answer/u);
    assert.match(await routes.innerText(), /hub-3\s+not known: no answer/u);
    await page.getByRole('status').filter({ hasText: 'Some nodes do not reach each other' }).waitFor();
    await guest.mustBeAccessible('three nodes');
  })));
}

test('what changes is told once in words, figures change silently, and neither takes the focus', scene(here, ({ visit }) => keyed(async (url) => {
  const guest = await visit({ url });
  const { page } = guest;
  await page.clock.install();
  const cluster = { nodes: [node('hub-1', { here: true }), node('hub-2')], bus };
  const asked = await pretend(page, cluster);
  await show(page);
  const status = page.getByRole('status');
  assert.equal(await status.innerText(), '2 nodes.');
  await page.evaluate(() => {
    window.told = [];
    new MutationObserver(() => window.told.push(document.getElementById('status').textContent)).observe(document.getElementById('status'), { childList: true, characterData: true, subtree: true });
    window.cell = document.querySelector('#nodes tbody tr th');
  });
  await page.getByRole('region', { name: 'Nodes' }).focus();
  /** Until the page has shown what is there now. */
  const turn = async () => {
    const before = asked.count;
    await page.clock.runFor(3100);
    while (asked.count === before) await page.clock.runFor(100);
  };
  cluster.nodes[1].connections = 1300;
  await turn();
  await page.locator('#nodes').getByText('1,300').waitFor();
  cluster.nodes[1].draining = true;
  await turn();
  await status.filter({ hasText: 'hub-2 is draining.' }).waitFor();
  cluster.nodes.push(node('hub-3'));
  await turn();
  await status.filter({ hasText: 'hub-3 has come.' }).waitFor();
  cluster.nodes.splice(1, 1);
  await turn();
  await status.filter({ hasText: 'hub-2 has gone.' }).waitFor();
  assert.deepEqual(await page.evaluate(() => window.told), ['hub-2 is draining.', 'hub-3 has come.', 'hub-2 has gone.']);
  assert.equal(await page.evaluate(() => window.cell.isConnected && document.activeElement.getAttribute('aria-labelledby')), 'nodes-title');
})));

test('the page can be held still, and goes on when it is let go', scene(here, ({ visit }) => keyed(async (url) => {
  const guest = await visit({ url });
  const { page } = guest;
  await page.clock.install();
  const asked = await pretend(page, { nodes: [node('hub-1', { here: true })], bus });
  await show(page);
  const pause = page.getByRole('button', { name: 'Pause' });
  await pause.click();
  assert.equal(await pause.getAttribute('aria-pressed'), 'true');
  const before = asked.count;
  await page.clock.runFor(30_000);
  assert.equal(asked.count, before);
  await guest.mustBeAccessible('paused');
  await pause.click();
  await page.waitForFunction(() => document.getElementById('pause').getAttribute('aria-pressed') === 'false');
  while (asked.count === before) await page.clock.runFor(100);
})));
