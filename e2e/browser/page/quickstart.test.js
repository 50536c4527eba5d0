/** The quick starts for browsers as their reader runs them: pages of another address, in two windows, over a restart of the server. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { freePort, startServer } from '../lib/server.js';
import { world } from '../lib/world.js';

const PAGES = new URL('../../../examples/quickstart/', import.meta.url);
const here = world({ server: false });

/** Serves a page of the quick starts, which asks for a server that is not at the usual place. */
async function serve(name, port) {
  const html = (await readFile(new URL(`${name}/index.html`, PAGES), 'utf8')).replaceAll('localhost:8080', `127.0.0.1:${port}`);
  const site = createServer((_, answer) => answer.setHeader('Content-Type', 'text/html').end(html)).listen(0, '127.0.0.1');
  await once(site, 'listening');
  return { origin: `http://127.0.0.1:${site.address().port}`, close: () => site.close() };
}

test('page of ten lines shows what it says itself', async () => {
  const port = await freePort();
  const site = await serve('ten-lines', port);
  const server = await startServer({ port, env: { OUTSPOKE_ORIGINS__ALLOWED: site.origin } });
  const context = await here.browser.newContext();
  try {
    const page = await context.newPage();
    await page.goto(site.origin);
    await page.getByText('Ann: Hello from a page of my own').waitFor();
  } finally {
    await context.close();
    await server.stop();
    site.close();
  }
});

test('page of the quick start shows in each window what is said in the other, also over a restart', async () => {
  const port = await freePort();
  const site = await serve('browser', port);
  const { origin } = site;
  const env = { OUTSPOKE_ORIGINS__ALLOWED: origin };
  let server = await startServer({ port, env });
  const context = await here.browser.newContext();
  try {
    const windows = [await context.newPage(), await context.newPage()];
    const errors = [];
    for (const window of windows) {
      window.on('pageerror', (error) => errors.push(error.stack));
      await window.goto(origin);
      await window.getByText(/^guest-.*: online$/u).waitFor();
    }
    for (const [at, window] of windows.entries()) {
      await say(window, `Hello from window ${at}`);
      for (const each of windows) await each.getByText(`Hello from window ${at}`).waitFor();
    }
    await server.stop();
    for (const window of windows) await window.getByText(/^guest-.*: (?:offline|connecting)$/u).waitFor();
    await say(windows[0], 'Is anybody there?');
    server = await startServer({ port, env });
    for (const window of windows) {
      await window.getByText('Is anybody there?').waitFor();
      assert.equal(await window.getByText('Is anybody there?').count(), 1);
    }
    assert.deepEqual(errors, []);
  } finally {
    await context.close();
    await server.stop();
    site.close();
  }
});

async function say(window, text) {
  await window.getByLabel('Message').fill(text);
  await window.getByRole('button', { name: 'Send' }).click();
}
