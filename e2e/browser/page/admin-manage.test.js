/** The operators' page, where it changes the server: tenants, the configuration, figures, explanations. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { scene, world } from '../lib/world.js';

const KEY = 'the-key-of-the-managing-tests-0123456789';
const folder = mkdtempSync(join(tmpdir(), 'outspoke-admin-'));
const file = join(folder, 'config.yaml');
const write = (text) => writeFileSync(file, `api: { keys: [${KEY}] }\ntenants: { enabled: true }\n${text}`);
write('limits: { rooms_max: 5000 }\n');
after(() => rmSync(folder, { recursive: true }));
const here = world({ env: { OUTSPOKE_CONFIG: file, OUTSPOKE_CLUSTER__NAME: 'hub-1' } });

/** @param {string} path @param {object} [body] */
async function api(path, body) {
  const answer = await fetch(new URL(`api/v1/${path}`, here.server.url), {
    method: body ? 'POST' : 'GET', headers: { Authorization: `Bearer ${KEY}`, ...(body ? { 'Content-Type': 'application/json' } : {}) }, body: body && JSON.stringify(body),
  });
  assert.ok(answer.ok, `${path}: ${answer.status} ${await answer.clone().text()}`);
  return answer.json();
}

/** @param {(options: object) => Promise<any>} visit @param {string} view @param {object} [options] */
async function open(visit, view, options = {}) {
  const guest = await visit({ url: new URL('admin', here.server.url).href, path: `#${view}`, viewport: { width: 320, height: 700 }, ...options });
  await guest.page.getByLabel('API key', { exact: true }).fill(KEY);
  await guest.page.keyboard.press('Enter');
  await guest.page.getByRole('navigation', { name: 'Views' }).waitFor();
  return guest;
}
const fits = (page) => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);

for (const colorScheme of ['light', 'dark']) {
  test(`a tenant is made, changed, looked at, and removed by typing its name, in the ${colorScheme} theme`, scene(here, async ({ visit }) => {
    const guest = await open(visit, 'tenants', { colorScheme });
    const { page } = guest;
    const name = `acme-${colorScheme}`;
    await page.getByRole('button', { name: 'New tenant …' }).click();
    await guest.mustBeAccessible('new tenant');
    await page.getByLabel('Name', { exact: true }).fill(name);
    await page.getByLabel('Connections', { exact: true }).fill('5000');
    await page.keyboard.press('Enter');
    const row = page.getByRole('row', { name: new RegExp(`^${name}`, 'u') });
    await row.getByText('0 of 5,000').waitFor();
    await page.getByRole('button', { name: `Change ${name} …` }).click();
    await page.getByLabel('Connections', { exact: true }).fill('7');
    await page.getByRole('dialog').getByRole('button', { name: 'Change' }).click();
    await row.getByText('0 of 7').waitFor();
    assert.equal((await api(`tenants/${name}`)).quotas.connectionsMax, 7);
    await guest.mustBeAccessible('tenants');
    assert.equal(await fits(page), true);
    await page.getByRole('button', { name: `Remove ${name} …` }).click();
    await page.getByLabel(`Type ${name} to confirm`).fill(name);
    await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
    await row.waitFor({ state: 'detached' });
  }));

  test(`settings are told with their places, and what a reload would change is seen before it does, in the ${colorScheme} theme`, scene(here, async ({ visit }) => {
    write('limits: { rooms_max: 5000 }\n');
    await fetch(new URL('api/v1/reload', here.server.url), { method: 'POST', headers: { Authorization: `Bearer ${KEY}` } });
    const guest = await open(visit, 'config', { colorScheme });
    const { page } = guest;
    const setting = page.getByRole('row', { name: /^limits\.rooms_max/u });
    await setting.getByText('config.yaml:3:').waitFor();
    await page.getByLabel('Settings that contain').fill('api.keys');
    assert.match(await page.getByRole('row', { name: /^api\.keys/u }).innerText(), /\["\*\*\*"\]/u);
    assert.equal((await page.content()).includes(KEY), false);
    await page.getByLabel('Settings that contain').fill('');
    await page.getByLabel('Without defaults').check();
    await page.getByRole('row', { name: /^server\.read_timeout/u }).waitFor({ state: 'detached' });
    write('limits: { rooms_max: 6000 }\nserver: { shards: 3 }\n');
    await page.getByRole('button', { name: 'Show what would change' }).click();
    await page.getByRole('table', { name: 'What would change' }).getByText('6_000').or(page.getByRole('table', { name: 'What would change' }).getByText('6000')).waitFor();
    await page.getByRole('table', { name: 'What would wait for a restart' }).getByText('server.shards').waitFor();
    assert.equal((await api('config')).settings.find(({ key }) => key === 'limits.rooms_max').value, 5000);
    await guest.mustBeAccessible('configuration');
    assert.equal(await fits(page), true);
    await page.getByRole('button', { name: 'Put it in force' }).click();
    await page.getByRole('status').filter({ hasText: 'The configuration was read again: 1 settings changed.' }).waitFor();
    await setting.getByText('6,000').waitFor();
    write('limits: { rooms_max: none }\n');
    await page.getByRole('button', { name: 'Show what would change' }).click();
    await page.getByRole('alert').filter({ hasText: 'config.yaml:3:' }).waitFor();
  }));

  test(`figures are drawn and told, and axe finds nothing in the ${colorScheme} theme`, scene(here, async ({ visit, room }) => {
    for (const content of ['one', 'two']) await api('publish', { room, type: 'chat', content, user: { id: content } });
    const guest = await open(visit, 'analytics', { colorScheme });
    const { page } = guest;
    await page.getByLabel('Room', { exact: true }).fill(room);
    await page.getByLabel('By', { exact: true }).selectOption('day');
    await page.getByRole('button', { name: 'Show', exact: true }).click();
    await page.getByText(`Messages in ${room}`).waitFor();
    await page.getByText('Messages as a table').click();
    const table = page.getByRole('table', { name: 'Messages, the newest first' });
    assert.match(await table.getByRole('row').nth(1).innerText(), /^\d{4}-\d\d-\d\d\s+2$/u);
    await page.getByRole('table', { name: /^Rooms by messages on/u }).getByRole('link', { name: room }).waitFor();
    await guest.mustBeAccessible('analytics');
    assert.equal(await fits(page), true);
  }));

  test(`what became of a message is told as steps, and axe finds nothing in the ${colorScheme} theme`, scene(here, async ({ visit, room }) => {
    const { offset } = await api('publish', { room, type: 'chat', content: 'x' });
    const guest = await open(visit, 'explain', { colorScheme });
    const { page } = guest;
    await page.getByLabel('Message', { exact: true }).fill('nothing');
    await page.keyboard.press('Enter');
    await page.getByRole('alert').filter({ hasText: 'Say which message' }).waitFor();
    await page.getByLabel('Message', { exact: true }).fill(`${room}@${offset}`);
    await page.getByLabel('User', { exact: true }).fill('nobody');
    await page.keyboard.press('Enter');
    await page.getByRole('listitem').filter({ hasText: 'Published on hub-1' }).waitFor();
    await guest.mustBeAccessible('explain');
    assert.equal(await fits(page), true);
  }));
}

test('tenants are kept apart: what is shown is of the one that is chosen', scene(here, async ({ visit }) => {
  await fetch(new URL('api/v1/tenants/apart', here.server.url), { method: 'PUT', headers: { Authorization: `Bearer ${KEY}`, 'Content-Type': 'application/json' }, body: '{}' });
  await fetch(new URL('api/v1/publish', here.server.url), {
    method: 'POST', headers: { Authorization: `Bearer ${KEY}`, 'Content-Type': 'application/json', 'X-Tenant': 'apart' }, body: JSON.stringify({ room: 'of-apart', type: 'chat', content: 'x' }),
  });
  const { page } = await open(visit, 'rooms', { viewport: { width: 1100, height: 700 } });
  await page.getByLabel('Tenant', { exact: true }).selectOption('apart');
  await page.getByRole('link', { name: 'of-apart' }).waitFor();
  await page.getByLabel('Tenant', { exact: true }).selectOption('');
  await page.getByRole('link', { name: 'of-apart' }).waitFor({ state: 'detached' });
}));
