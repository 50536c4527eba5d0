import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startServer } from '../lib/server.js';
import { scene, world } from '../lib/world.js';

const KEY = 'the-key-of-the-figures-page-0123456789';
const here = world();

for (const colorScheme of ['light', 'dark']) {
  test(`figures are shown with a key, refused without, and axe finds nothing in the ${colorScheme} theme`, scene(here, async ({ visit }) => {
    const server = await startServer({ env: { OUTSPOKE_API__KEYS: KEY } });
    try {
      const publish = (content) => fetch(new URL('api/v1/publish', server.url), {
        method: 'POST', headers: { Authorization: `Bearer ${KEY}`, 'Content-Type': 'application/json' },
        body: JSON.stringify({ room: 'lobby', type: 'chat', content, user: { id: content } }),
      });
      for (const content of ['one', 'two', 'three']) assert.equal((await publish(content)).status, 200);
      const guest = await visit({ url: new URL('analytics', server.url).href, colorScheme, viewport: { width: 360, height: 800 } });
      const { page } = guest;
      await guest.mustBeAccessible('asked for the key');
      await page.getByRole('button', { name: 'Show' }).click();
      await page.getByRole('alert').filter({ hasText: 'needs a key' }).waitFor();
      await guest.mustBeAccessible('refused');
      await page.getByLabel('API key', { exact: true }).fill(KEY);
      await page.getByLabel('By', { exact: true }).selectOption('day');
      await page.keyboard.press('Tab');
      await page.keyboard.press('Enter');
      await page.getByRole('heading', { name: 'Messages by day' }).waitFor();
      const first = await page.locator('#series tbody tr').first().innerText();
      assert.match(first, /^\d{4}-\d\d-\d\d\s+3\s+3\s+1\s/u);
      assert.match(await page.locator('#top tbody').innerText(), /lobby\s+3/u);
      assert.equal(await page.locator('#chart rect').count(), 30);
      await guest.mustBeAccessible('figures');
      await page.getByLabel('Room', { exact: true }).fill('lobby');
      await page.getByRole('button', { name: 'Show' }).click();
      await page.getByRole('heading', { name: 'Messages in lobby by day' }).waitFor();
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth), false);
      assert.deepEqual(await page.evaluate(() => [localStorage.length, sessionStorage.length]), [0, 0]);
    } finally {
      await server.stop();
    }
  }));
}
