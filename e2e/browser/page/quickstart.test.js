/** The quick start for browsers as its reader runs it: a page of another address, opened in two windows. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { startServer } from '../lib/server.js';
import { world } from '../lib/world.js';

const PAGE = new URL('../../../examples/quickstart/browser/index.html', import.meta.url);
const here = world({ server: false });

test('page of the quick start shows in each window what is said in the other', async () => {
  const html = await readFile(PAGE);
  const site = createServer((_, answer) => answer.setHeader('Content-Type', 'text/html').end(html)).listen(0, '127.0.0.1');
  await once(site, 'listening');
  const origin = `http://127.0.0.1:${site.address().port}`;
  const server = await startServer({ env: { OUTSPOKE_ORIGINS__ALLOWED: origin } });
  const context = await here.browser.newContext();
  try {
    const windows = [await context.newPage(), await context.newPage()];
    const errors = [];
    for (const window of windows) {
      window.on('pageerror', (error) => errors.push(error.stack));
      await window.goto(`${origin}/?hub=ws://127.0.0.1:${server.port}`);
      await window.getByText('You are in the room lobby').waitFor();
    }
    for (const [at, window] of windows.entries()) {
      const text = `Hello from window ${at}`;
      await window.getByLabel('Message').fill(text);
      await window.getByRole('button', { name: 'Send' }).click();
      for (const each of windows) await each.getByText(text).waitFor();
    }
    assert.deepEqual(errors, []);
  } finally {
    await context.close();
    await server.stop();
    site.close();
  }
});
