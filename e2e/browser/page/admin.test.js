/** The operators' page: what a key may is offered, the rest is not; every view is for everybody. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asking, connected as present, signIn as signInWith } from '../lib/operator.js';
import { scene, world } from '../lib/world.js';

const KEY = 'the-key-of-the-admin-page-0123456789';
const LOOKS = 'a-key-that-only-looks-0123456789';
const READS = 'a-key-that-reads-a-room-0123456789';
const here = world({
  env: {
    OUTSPOKE_API__KEYS: KEY, OUTSPOKE_CLUSTER__NAME: 'hub-1',
    OUTSPOKE_API__SCOPED_KEYS: `[{name: watcher, key: ${LOOKS}, look: true}, {name: reader, key: ${READS}, join: "lobby", history: "lobby"}]`,
  },
});
const HOSTILE = '"><img src=x onerror=alert(1)>';

const api = asking(here, KEY);
/** @param {Parameters<typeof present>[0]} visit @param {string} user @param {string} room */
const connected = (visit, user, room) => present(visit, url(), user, room);
/** @param {import('playwright-core').Page} page */
const signIn = (page, key = KEY) => signInWith(page, key);

const url = () => new URL('admin', here.server.url).href;
const fits = (page) => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);

for (const colorScheme of ['light', 'dark']) {
  test(`who signs in sees the nodes with charts and their tables, at 320 px too, and axe finds nothing in the ${colorScheme} theme`, scene(here, async ({ visit }) => {
    const guest = await visit({ url: url(), path: '', colorScheme, viewport: { width: 320, height: 700 } });
    const { page } = guest;
    await guest.mustBeAccessible('sign in');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'key');
    await page.getByLabel('API key', { exact: true }).fill('no-key');
    await page.keyboard.press('Enter');
    await page.getByRole('alert').filter({ hasText: 'this is not a key of this server' }).waitFor();
    await guest.mustBeAccessible('refused');
    await signIn(page);
    await page.getByRole('rowheader', { name: 'hub-1 (this one)' }).waitFor();
    await page.getByText('● serving').waitFor();
    assert.match(page.url(), /\/admin#?[a-z]*$/u);
    assert.deepEqual(await page.evaluate(() => [localStorage.length, sessionStorage.length]), [0, 0]);
    await page.getByText('Messages as a table').click();
    await page.getByRole('table', { name: 'Messages, the newest first' }).getByRole('row').nth(1).waitFor();
    assert.equal(await fits(page), true);
    await guest.mustBeAccessible('overview');
  }));

  test(`rooms are searched, looked into, read, cleared by typing the name, and hostile names are text, in the ${colorScheme} theme`, scene(here, async ({ visit, room }) => {
    const said = await api('publish', { room, type: 'chat', content: HOSTILE, user: { id: HOSTILE, name: HOSTILE } });
    await api('publish', { room, data: { state: 'green' } });
    await api('publish', { room: HOSTILE, type: 'chat', content: 'x' });
    await connected(visit, 'ann', room);
    const guest = await visit({ url: url(), path: '#rooms', colorScheme, viewport: { width: 400, height: 800 } });
    const { page } = guest;
    await signIn(page);
    await page.getByRole('link', { name: HOSTILE }).waitFor();
    await guest.mustBeAccessible('rooms');
    await page.getByLabel('Rooms that begin with').fill(room);
    await page.keyboard.press('Enter');
    await page.getByRole('link', { name: HOSTILE }).waitFor({ state: 'detached' });
    const head = page.getByRole('columnheader', { name: /Members/u });
    await head.getByRole('button').click();
    assert.equal(await head.getAttribute('aria-sort'), 'descending');
    await head.getByRole('button').press('Enter');
    assert.equal(await head.getAttribute('aria-sort'), 'ascending');
    await page.getByRole('link', { name: room, exact: true }).click();
    await page.getByRole('heading', { level: 1, name: room }).waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.textContent), room);
    await page.getByRole('rowheader', { name: 'ann' }).waitFor();
    await page.getByRole('button', { name: 'Read the history' }).click();
    await page.getByRole('cell', { name: '{"state":"green"}' }).waitFor();
    assert.equal(await page.getByRole('cell', { name: HOSTILE }).count(), 2);
    await page.getByRole('button', { name: `Delete the message at offset ${said.offset}` }).click();
    await guest.mustBeAccessible('confirm');
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
    await page.getByRole('cell', { name: '(deleted)' }).waitFor();
    await guest.mustBeAccessible('room');
    await page.getByRole('button', { name: 'Clear the history' }).click();
    const dialog = page.getByRole('dialog');
    const verb = dialog.getByRole('button', { name: 'Clear the history' });
    assert.equal(await verb.isDisabled(), true);
    await dialog.getByLabel(`Type ${room} to confirm`).fill(room);
    await guest.mustBeAccessible('clear the history');
    await page.keyboard.press('Enter');
    await page.getByText('Nothing that is kept.').waitFor();
    assert.deepEqual((await api(`rooms/${room}/history`)).messages, []);
    assert.equal(await fits(page), true);
  }));
}

test('a member is removed from a room, seen as kept out, and let in again', scene(here, async ({ visit, room }) => {
  await connected(visit, 'ben', room);
  const { page } = await visit({ url: url(), path: `#rooms/${room}` });
  await signIn(page);
  await page.getByRole('button', { name: 'Remove ben from the room' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
  await page.getByRole('status').filter({ hasText: 'ben was removed.' }).waitFor();
  const kept = async () => (await api('rulings')).rulings.filter((ruling) => ruling.room === room).length;
  assert.equal(await kept(), 1);
  await page.getByRole('button', { name: 'Let ben in again' }).click();
  await page.getByRole('status').filter({ hasText: 'ben may come in again.' }).waitFor();
  assert.equal(await kept(), 0);
}));

test('a connection is ended, credentials are revoked, and a ruling is lifted', scene(here, async ({ visit, room }) => {
  const user = `carla ${room}`;
  const carla = await connected(visit, user, room);
  const guest = await visit({ url: url(), path: '#users', colorScheme: 'dark' });
  const { page } = guest;
  await signIn(page);
  await page.getByRole('table', { name: /^Users connected to all nodes/u }).getByRole('row', { name: `${user} 1 hub-1` }).waitFor();
  await guest.mustBeAccessible('users');
  await page.getByRole('rowheader', { name: user }).getByRole('link').click();
  await page.getByRole('heading', { level: 1, name: user }).waitFor();
  await page.getByRole('button', { name: new RegExp(`^Disconnect ${user} \\(`, 'u') }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Disconnect' }).click();
  assert.equal(await carla.closed(), 4501);
  await page.getByText('None to any node.').waitFor();
  await page.getByRole('button', { name: 'Revoke credentials …' }).click();
  await guest.mustBeAccessible('revoke');
  await page.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click();
  await page.getByRole('button', { name: `Lift the ruling about ${user}: revoked` }).click();
  await page.getByText('Nothing is decided.').waitFor();
  await guest.mustBeAccessible('user');
}));

test('what a key may not do is not offered, and it says what it may', scene(here, async ({ visit }) => {
  const guest = await visit({ url: url(), path: '' });
  const { page } = guest;
  await signIn(page, LOOKS);
  await page.getByRole('rowheader', { name: 'hub-1 (this one)' }).waitFor();
  await page.getByText('key:watcher', { exact: true }).click();
  await page.getByText('May look at what operators look at.').waitFor();
  await guest.mustBeAccessible('a key that looks');
  assert.equal(await page.getByRole('button', { name: /Drain/u }).count(), 0);
  await page.getByRole('link', { name: 'Users', exact: true }).click();
  await page.getByRole('heading', { level: 1, name: 'Users' }).waitFor();
  assert.equal(await page.getByRole('button', { name: /Disconnect|Revoke|Lift/u }).count(), 0);
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByLabel('API key', { exact: true }).waitFor();
  await signIn(page, READS);
  await page.getByText('key:reader', { exact: true }).click();
  await page.getByText('May join: lobby; history: lobby.').waitFor();
  assert.deepEqual(await page.getByRole('navigation', { name: 'Views' }).getByRole('link').allInnerTexts(), ['Rooms']);
  assert.equal(await page.getByLabel('Rooms that begin with').count(), 0);
  await page.getByLabel('Open by name').fill('builds');
  await page.keyboard.press('Enter');
  await page.getByRole('alert').filter({ hasText: 'builds' }).first().waitFor();
}));

test('a tab that was told to stays signed in when it is loaded again, and forgets the key at sign-out', scene(here, async ({ visit }) => {
  const { page } = await visit({ url: url(), path: '#rooms' });
  await page.getByLabel('Stay signed in while this tab is open').check();
  await signIn(page);
  await page.reload();
  await page.getByRole('heading', { level: 1, name: 'Rooms' }).waitFor();
  await page.getByRole('button', { name: 'Sign out' }).click();
  assert.deepEqual(await page.evaluate(() => [localStorage.length, sessionStorage.length]), [0, 0]);
  assert.equal(await page.evaluate(() => document.activeElement.id), 'key');
}));

test('everything is reached by the keyboard alone, and held still when that is wanted', scene(here, async ({ visit }) => {
  const { page } = await visit({ url: url(), path: '' });
  let asked = 0;
  page.on('request', (request) => { if (request.url().endsWith('/api/v1/nodes')) asked += 1; });
  await signIn(page);
  await page.getByRole('rowheader', { name: 'hub-1 (this one)' }).waitFor();
  const skip = page.getByRole('link', { name: 'Skip to the view' });
  await skip.focus();
  const reached = [];
  for (let step = 0; step < 8; step += 1) {
    await page.keyboard.press('Tab');
    reached.push(await page.evaluate(() => document.activeElement.textContent));
  }
  assert.deepEqual(reached.slice(0, 6), ['Hold still', 'key:1', 'Sign out', 'Overview', 'Rooms', 'Users']);
  await skip.press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'view');
  const still = page.getByRole('button', { name: 'Hold still' });
  await still.press('Enter');
  assert.equal(await still.getAttribute('aria-pressed'), 'true');
  await page.waitForLoadState('networkidle');
  const before = asked;
  await still.press('Enter');
  while (asked === before) await page.waitForRequest(/\/nodes$/u).catch(() => null);
}));

test('in forced colours lines and states are still told apart, and nothing moves', scene(here, async ({ visit }) => {
  const guest = await visit({ url: url(), path: '', forcedColors: 'active', reducedMotion: 'no-preference' });
  const { page } = guest;
  await signIn(page);
  await page.getByText('● serving').waitFor();
  await page.locator('.chart .line').first().waitFor({ state: 'attached' });
  const [line, ground, here_] = await page.evaluate(() => [
    getComputedStyle(document.querySelector('.chart .line')).stroke, getComputedStyle(document.querySelector('.plot')).backgroundColor,
    getComputedStyle(document.querySelector('.views a[aria-current]')).outlineStyle,
  ]);
  assert.notEqual(line, ground);
  assert.equal(here_, 'solid');
  assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
  await guest.mustBeAccessible('forced colours');
}));
