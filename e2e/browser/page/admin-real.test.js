/**
 * The operators' page watching a real server with somebody real on it: nodes, a connection that falls behind, what happens, who
 * did what, and a node that is drained.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asking, connected, signIn } from '../lib/operator.js';
import { scene, world } from '../lib/world.js';

const KEY = 'the-key-of-the-real-tests-0123456789';
const LOOKS = 'a-key-that-looks-and-audits-0123456789';
const here = world({
  env: {
    OUTSPOKE_API__KEYS: KEY, OUTSPOKE_CLUSTER__NAME: 'hub-1', OUTSPOKE_INSPECT__SLOW: 'true',
    OUTSPOKE_API__SCOPED_KEYS: `[{name: desk, key: ${LOOKS}, look: true, audit: true}]`,
  },
});
const url = () => new URL('admin', here.server.url).href;
const api = asking(here, KEY);
const fact = (page, name) => page.locator('.facts > div', { has: page.locator('dt', { hasText: new RegExp(`^${name}$`, 'u') }) }).locator('dd');

test('a connection is found, made slow, seen to fall behind, and ended, and the audit says by whom', scene(here, async ({ visit, room }) => {
  const user = `ana-${room}`;
  const ana = await connected(visit, url(), user, room);
  const { page } = await visit({ url: url(), path: '#overview' });
  await signIn(page, KEY);
  const node = page.getByRole('row', { name: /hub-1 \(this one\)/u });
  await node.getByText('● serving').waitFor();
  assert.ok(Number(await node.getByRole('cell').nth(1).innerText()) >= 1, 'it counts the connection');
  await page.goto(`${url()}#users/${user}`);
  const row = page.getByRole('row', { name: new RegExp(user, 'u') }).first();
  await row.getByRole('link').first().click();
  await page.getByRole('heading', { level: 1, name: /^Connection /u }).waitFor();
  await page.getByRole('rowheader', { name: room }).waitFor();
  await fact(page, 'Behind').filter({ hasText: 'no' }).waitFor();
  await page.getByRole('button', { name: 'Make it slow …' }).click();
  await page.getByLabel('For how many seconds').fill('60');
  await page.getByRole('dialog').getByRole('button', { name: 'Make it slow' }).click();
  await page.getByRole('status').filter({ hasText: 'The connection is slow for a while.' }).waitFor();
  await api('publish', { room, type: 'chat', content: 'for who does not read' });
  await fact(page, 'Made slow').filter({ hasText: 'yes' }).waitFor();
  await fact(page, 'Behind').filter({ hasText: /ms|s$/u }).waitFor();
  await page.getByRole('row', { name: new RegExp(room, 'u') }).getByRole('cell').last().filter({ hasText: /^1$/u }).waitFor();
  await page.getByRole('button', { name: 'Disconnect', exact: true }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Disconnect' }).click();
  await page.getByRole('status').filter({ hasText: 'The connection was ended.' }).waitFor();
  assert.ok([4501, 1006].includes(await ana.closed()), 'it is gone, told or, since nothing is written to it, not');
  await page.getByRole('button', { name: 'Sign out' }).click();
  await signIn(page, LOOKS);
  await page.getByRole('link', { name: 'Log', exact: true }).click();
  const table = page.getByRole('table', { name: /^Requests that changed something/u });
  await table.getByRole('row', { name: /key:1 .*POST \/clients\/\{client\}\/slow.*seconds 60/u }).first().waitFor();
  await table.getByRole('row', { name: /key:1 .*POST \/clients\/\{client\}\/disconnect/u }).first().waitFor();
  await fact(page, 'Now').filter({ hasText: /info/u }).waitFor();
  assert.equal(await page.getByLabel('Directives').count(), 0, 'who looks changes no level');
}));

test('what happens in a room is followed as it happens, and the nodes that tell are named', scene(here, async ({ visit, room }) => {
  const guest = await visit({ url: url(), path: `#rooms/${room}` });
  const { page } = guest;
  await api('publish', { room, type: 'chat', content: 'before' });
  await signIn(page, KEY);
  await page.getByLabel('with what is said').check();
  await page.getByRole('button', { name: `Follow ${room}` }).click();
  await page.getByText('Following on hub-1.').waitFor();
  const table = page.getByRole('table', { name: /^What happens/u });
  await connected(visit, url(), 'ben', room);
  await table.getByRole('row', { name: /joined.*ben/u }).waitFor();
  await api('publish', { room, type: 'chat', content: '<b>while it is followed</b>' });
  await table.getByRole('row', { name: /hub-1.*published.*<b>while it is followed<\/b>/u }).waitFor();
  assert.equal(await table.getByText('"content":"before"').count(), 0);
  await guest.mustBeAccessible('followed');
  await page.getByRole('button', { name: 'Stop following' }).click();
  await page.getByRole('button', { name: `Follow ${room}` }).waitFor();
}));

test('a node is drained at a pace, what does not fit is said where it is written, and it takes clients again', scene(here, async ({ visit, room }) => {
  const ana = await connected(visit, url(), 'ana', room);
  const guest = await visit({ url: url(), path: '#overview', viewport: { width: 400, height: 800 } });
  const { page } = guest;
  await signIn(page, KEY);
  await page.getByRole('button', { name: 'Drain hub-1 …' }).click();
  const dialog = page.getByRole('dialog');
  await guest.mustBeAccessible('drain');
  const verb = dialog.getByRole('button', { name: 'Drain', exact: true });
  await dialog.getByLabel('Clients at once').fill('0');
  await verb.click();
  assert.equal(await dialog.getByLabel('Clients at once').evaluate((input) => input.validity.rangeUnderflow), true);
  await dialog.getByLabel('Clients at once').fill('5');
  await dialog.getByLabel('Milliseconds between two batches').fill('10');
  await dialog.getByLabel('Send them to').fill('nowhere');
  await verb.click();
  await dialog.getByRole('alert').filter({ hasText: 'no node of this name or id is heard of' }).waitFor();
  await guest.mustBeAccessible('refused');
  assert.equal((await api('nodes')).nodes[0].draining, false);
  await dialog.getByLabel('Send them to').fill('');
  await verb.click();
  await page.getByRole('status').filter({ hasText: 'hub-1 drains.' }).waitFor();
  assert.equal(await dialog.count(), 0);
  assert.equal(await ana.closed(), 1001);
  await page.getByText('◐ draining').waitFor();
  await page.getByRole('button', { name: 'Resume hub-1' }).click();
  await page.getByText('● serving').waitFor();
  const [drained] = (await api('audit?limit=10')).entries.filter(({ action }) => action === 'POST /nodes/{node}/drain');
  assert.equal(drained.result, 'done');
}));
