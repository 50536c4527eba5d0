/** The documentation inside the binary, and the page that the tutorial has its readers make. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { freePort, startServer } from '../lib/server.js';
import { scene, world } from '../lib/world.js';

const here = world();
const at = (path) => new URL(`docs/${path}`, here.server.url).href;

for (const colorScheme of ['light', 'dark']) {
  test(`axe finds nothing in three pages of the documentation in the ${colorScheme} theme`, scene(here, async ({ visit }) => {
    for (const [path, width] of [['', 1100], ['understanding/guarantees.html', 1100], ['tutorial/2-board.html', 360]]) {
      const reader = await visit({ url: at(path), path: '', colorScheme, viewport: { width, height: 800 } });
      await reader.page.getByRole('searchbox', { name: 'Search' }).waitFor();
      await reader.mustBeAccessible(`${path} at ${width}`);
    }
  }));
}

test('documentation is read from page to page, and searched', scene(here, async ({ visit }) => {
  const { page } = await visit({ url: new URL('docs', here.server.url).href, path: '' });
  assert.equal(new URL(page.url()).pathname, '/docs/');
  await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: 'Delivery guarantees' }).click();
  await page.getByRole('heading', { level: 1, name: 'Delivery guarantees' }).waitFor();
  await page.getByRole('navigation', { name: 'Neighbours' }).getByRole('link', { name: /^Next/u }).waitFor();
  await page.getByRole('searchbox', { name: 'Search' }).fill('idempotency key');
  await page.getByText(/^\d+ sections$/u).waitFor();
  await page.locator('#found a').first().click();
  await page.waitForURL(/\/docs\/.*\.html/u);
}));

test('board of the tutorial shows an order and its change, with what was ordered before', async () => {
  const chapter = await readFile(new URL('../../../docs/tutorial/2-board.md', import.meta.url), 'utf8');
  const html = chapter.split('```html\n')[1].split('```')[0];
  const port = await freePort();
  const site = createServer((_, answer) => answer.setHeader('Content-Type', 'text/html').end(html.replaceAll('localhost:8080', `127.0.0.1:${port}`)));
  await once(site.listen(0, '127.0.0.1'), 'listening');
  const origin = `http://127.0.0.1:${site.address().port}`;
  const key = 'the-key-of-the-tutorials-kitchen-0123456789';
  const server = await startServer({ port, env: { OUTSPOKE_ORIGINS__ALLOWED: origin, OUTSPOKE_API__KEYS: key } });
  const context = await here.browser.newContext();
  const order = async (data) => {
    const headers = { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' };
    const answer = await fetch(new URL('api/v1/publish', server.url), { method: 'POST', headers, body: JSON.stringify({ room: 'orders', type: 'order', data }) });
    assert.equal(answer.status, 200);
  };
  try {
    await order({ table: 7, dish: 'soup', state: 'new' });
    const page = await context.newPage();
    await page.goto(origin);
    await page.getByText('Table 7: soup, new').waitFor();
    await order({ table: 7, dish: 'soup', state: 'ready' });
    await page.getByText('Table 7: soup, ready').waitFor();
    assert.equal(await page.locator('#board li').count(), 1);
  } finally {
    await context.close();
    await server.stop();
    site.close();
  }
});
