/** What tests of the operators' page need: the API, somebody who is connected, and signing in. */
import assert from 'node:assert/strict';

/** Asks a server's API. @param {{ server: { url: string } }} here @param {string} key */
export const asking = (here, key) => async (/** @type {string} */ path, /** @type {object | undefined} */ body, method = body ? 'POST' : 'GET') => {
  const answer = await fetch(new URL(`api/v1/${path}`, here.server.url), {
    method, headers: { Authorization: `Bearer ${key}`, ...(body ? { 'Content-Type': 'application/json' } : {}) }, body: body && JSON.stringify(body),
  });
  assert.ok(answer.ok, `${path}: ${answer.status} ${await answer.clone().text()}`);
  return answer.json();
};

/**
 * Somebody who is connected to a room, from a page that does nothing else.
 * @param {(options: object) => Promise<{ page: import('playwright-core').Page }>} visit @param {string} url @param {string} user @param {string} room
 */
export async function connected(visit, url, user, room) {
  const { page } = await visit({ url, path: '' });
  await page.evaluate(([id, name]) => new Promise((done, failed) => {
    const address = new URL(`ws?userId=${encodeURIComponent(id)}&username=${encodeURIComponent(id)}&join=none`, location.href);
    address.protocol = 'ws:';
    const socket = new WebSocket(address);
    socket.onopen = () => socket.send(JSON.stringify({ type: 'subscribe', room: name }));
    socket.onerror = () => failed(new Error('not connected'));
    socket.onmessage = ({ data }) => { if (data.split('\n').some((line) => JSON.parse(line).type === 'subscribed')) done(); };
    window.closedWith = new Promise((ended) => { socket.onclose = ({ code }) => ended(code); });
  }), [user, room]);
  return { closed: () => page.evaluate(() => window.closedWith) };
}

/** @param {import('playwright-core').Page} page @param {string} key */
export async function signIn(page, key) {
  await page.getByLabel('API key', { exact: true }).fill(key);
  await page.keyboard.press('Enter');
  await page.getByRole('navigation', { name: 'Views' }).waitFor();
}
