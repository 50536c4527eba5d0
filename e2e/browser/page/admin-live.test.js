/**
 * The operators' page, where it watches: what happens to a room, one connection, the log and who did what.
 *
 * The answers are made up here, so that there is something to see at once; the Rust tests hold the server to the same forms.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { scene, world } from '../lib/world.js';

const KEY = 'the-key-of-the-watching-tests-0123456789';
const here = world({ env: { OUTSPOKE_API__KEYS: KEY } });
const HOSTILE = '<img src=x onerror=alert(1)>';
const AT = '2026-01-05T10:30:00.120Z';
const CLIENT = '0192f0c1a2b34c5d8e9f001122334455';

/** @param {import('playwright-core').Page} page @param {Record<string, unknown>} answers by method and path below the API */
async function pretend(page, answers) {
  const asked = [];
  await page.route('**/api/v1/whoami', async (route) => {
    const answer = await route.fetch();
    if (!answer.ok()) return route.fulfill({ response: answer });
    const caller = await answer.json();
    return route.fulfill({ json: { ...caller, operations: [...new Set([...caller.operations, 'GET /log-level', 'PUT /log-level', 'GET /audit', 'GET /follow', 'GET /clients/{client}', 'POST /clients/{client}/disconnect', 'POST /clients/{client}/slow'])] } });
  });
  for (const [what, answer] of Object.entries(answers)) {
    const [method, path] = what.split(' ');
    await page.route((address) => address.pathname === `/api/v1/${path}`, (route) => {
      const request = route.request();
      if (request.method() !== method) return route.fallback();
      asked.push({ what, query: new URL(request.url()).search, body: request.postDataJSON(), key: request.headers()['authorization'] });
      return typeof answer === 'string' ? route.fulfill({ body: answer, contentType: 'text/event-stream' }) : route.fulfill({ json: answer });
    });
  }
  return asked;
}

/** @param {import('playwright-core').Page} page */
async function signIn(page) {
  await page.getByLabel('API key', { exact: true }).fill(KEY);
  await page.keyboard.press('Enter');
  await page.getByRole('navigation', { name: 'Views' }).waitFor();
}
const url = () => new URL('admin', here.server.url).href;
const fits = (page) => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);

for (const colorScheme of ['light', 'dark']) {
  test(`the log's level is changed for a while, and who did what is told, in the ${colorScheme} theme`, scene(here, async ({ visit }) => {
    const guest = await visit({ url: url(), path: '#log', colorScheme, viewport: { width: 320, height: 700 } });
    const { page } = guest;
    const asked = await pretend(page, {
      'GET log-level': { directives: 'info,outspoke_hub=debug', configured: 'info', secondsLeft: 540 },
      'PUT log-level': { directives: 'debug', configured: 'info', secondsLeft: 300 },
      'GET audit': { silent: [{ node: HOSTILE, why: 'it did not answer within two seconds' }], entries: [{ number: 7, node: 'b', at: AT, who: `user:${HOSTILE}`, from: '127.0.0.1', action: 'POST /disconnect', target: '/disconnect', details: { user: 'ana' }, status: 200, result: 'done', tookMs: 0.8 }] },
    });
    await signIn(page);
    await page.getByText('9 min', { exact: true }).waitFor();
    await page.getByRole('cell', { name: `user:${HOSTILE}` }).waitFor();
    await page.getByRole('cell', { name: 'user ana' }).waitFor();
    await page.getByRole('cell', { name: 'b', exact: true }).waitFor();
    await page.getByRole('alert').filter({ hasText: `Without ${HOSTILE}: it did not answer within two seconds.` }).waitFor();
    await guest.mustBeAccessible('log');
    assert.equal(await fits(page), true);
    await page.getByLabel('Directives').fill('debug');
    await page.getByLabel('For how many minutes').fill('5');
    await page.keyboard.press('Enter');
    await page.getByRole('status').filter({ hasText: 'The log follows debug.' }).waitFor();
    assert.deepEqual(asked.find(({ what }) => what === 'PUT log-level').body, { directives: 'debug', seconds: 300 });
  }));

  test(`what happens to a room is followed with the key in a header, as text, in the ${colorScheme} theme`, scene(here, async ({ visit }) => {
    const guest = await visit({ url: url(), path: `#rooms/${encodeURIComponent(HOSTILE)}`, colorScheme });
    const { page } = guest;
    const events = [
      ['following', { room: HOSTILE, nodes: ['a'], silent: [{ node: HOSTILE, why: 'it did not answer within two seconds' }] }], ['joined', { room: HOSTILE, userId: HOSTILE, clientId: CLIENT, offset: 41 }],
      ['published', { room: HOSTILE, offset: 42, type: 'chat', bytes: 12, message: { content: HOSTILE } }], ['lost', { count: 3 }],
    ];
    const asked = await pretend(page, { 'GET follow': events.map(([event, data]) => `event: ${event}\ndata: ${JSON.stringify({ at: AT, node: 'a', ...data })}\n\n`).join('') });
    await signIn(page);
    await page.getByLabel('with what is said').check();
    await page.getByRole('button', { name: `Follow ${HOSTILE}` }).click();
    const table = page.getByRole('table', { name: /^What happens/u });
    await table.getByRole('row').nth(4).waitFor();
    assert.deepEqual(await table.locator('tbody tr').evaluateAll((rows) => rows.map((row) => row.cells[2].textContent)), ['lost', 'published', 'joined', 'following']);
    assert.match(await table.innerText(), /"content":"<img src=x onerror=alert\(1\)>"/u);
    const { key, query } = asked[0];
    assert.deepEqual([key, new URLSearchParams(query).get('room'), new URLSearchParams(query).get('payload'), query.includes(KEY)], [`Bearer ${KEY}`, HOSTILE, 'true', false]);
    await page.getByRole('alert').filter({ hasText: 'The server has ended this' }).waitFor();
    await guest.mustBeAccessible('followed');
  }));

  test(`one connection is looked at, made slow, and ended, in the ${colorScheme} theme`, scene(here, async ({ visit }) => {
    const guest = await visit({ url: url(), path: `#connection/${CLIENT}`, colorScheme, viewport: { width: 320, height: 700 } });
    const { page } = guest;
    const asked = await pretend(page, {
      [`GET clients/${CLIENT}`]: {
        clientId: CLIENT, node: HOSTILE, moreRooms: 1200, userId: HOSTILE, device: 'phone', anonymous: false, dialect: 'native', connectedSeconds: 812, queuedBytes: 5120, oldestQueuedMs: 2300, roundTripMs: 14.2,
        address: '203.0.113.7', slowed: false, rooms: [{ room: HOSTILE, joined: 17, offset: 40, head: 42, behind: 2 }],
      },
      [`POST clients/${CLIENT}/slow`]: { clientId: CLIENT, seconds: 10 },
      [`POST clients/${CLIENT}/disconnect`]: { disconnected: 1 },
    });
    await signIn(page);
    await page.getByText('5.1 KB').waitFor();
    await page.getByText('2,300 ms').waitFor();
    await page.getByText('1,200 more are not shown').waitFor();
    assert.equal(await page.locator('dt:has-text("Node") + dd').innerText(), HOSTILE);
    await page.getByRole('link', { name: HOSTILE }).first().waitFor();
    await guest.mustBeAccessible('connection');
    assert.equal(await fits(page), true);
    await page.getByRole('button', { name: 'Make it slow …' }).click();
    await guest.mustBeAccessible('make it slow');
    await page.getByRole('dialog').getByRole('button', { name: 'Make it slow' }).click();
    await page.getByRole('status').filter({ hasText: 'The connection is slow for a while.' }).waitFor();
    await page.getByRole('button', { name: 'Disconnect', exact: true }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Disconnect' }).click();
    await page.getByRole('status').filter({ hasText: 'The connection was ended.' }).waitFor();
    assert.deepEqual(asked.filter(({ what }) => what.startsWith('POST')).map(({ body }) => body), [{ seconds: 10 }, {}]);
  }));
}
