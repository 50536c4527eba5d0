/** The web chat itself, as the release binary serves it: its first load, and how long a message takes to the screen. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { install } from './probe.js';
import { median, slowDown } from './visit.js';

const KEY = 'the-key-of-the-measurement';
const REPEATS = 9;
const ROWS = 500;

/** Starts the server in a folder of its own. @param {string} program */
export async function startServer(program) {
  const folder = await mkdtemp(join(tmpdir(), 'outspoke-frontends-'));
  const settings = ['log.format=json', 'rate.enabled=false'].map((setting) => `--set=${setting}`);
  const child = spawn(resolve(program), ['serve', '--no-config', '--addr=127.0.0.1:0', ...settings], {
    cwd: folder, env: { PATH: process.env.PATH, HOME: folder, OUTSPOKE_API__KEYS: KEY }, stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = once(child, 'exit');
  let said = '';
  const address = await new Promise((ready, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => {
        said += text;
        const found = /"message":"ready[^\n]*"address":"(?<address>[^"]+)"/u.exec(said);
        if (found) ready(found.groups.address);
      });
    }
    ended.then(() => reject(new Error(`the server ended:\n${said}`)));
  });
  return {
    url: `http://${address}/`,
    async publish(messages) {
      const answer = await fetch(`http://${address}/api/v1/publish/batch`, {
        method: 'POST', headers: { Authorization: `Bearer ${KEY}`, 'Content-Type': 'application/json' }, body: JSON.stringify({ messages }),
      });
      if (!answer.ok) throw new Error(await answer.text());
    },
    async stop() {
      child.kill();
      await ended;
      await rm(folder, { recursive: true, force: true });
    },
  };
}

const chat = (content) => ({ room: 'lobby', type: 'chat', content, user: { id: 'ben', name: 'Ben' } });

/** One visit with nothing in the cache. @param {import('playwright-core').Browser} browser */
export async function visitPage(browser, server) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 720 } });
  try {
    const page = await context.newPage();
    const loaded = { requests: 0, bytes: 0 };
    const devtools = await context.newCDPSession(page);
    await devtools.send('Network.enable');
    devtools.on('Network.loadingFinished', ({ encodedDataLength }) => {
      loaded.requests += 1;
      loaded.bytes += encodedDataLength;
    });
    await page.addInitScript(install, { people: -1 });
    await slowDown(context, page);
    await page.goto(server.url);
    // The shell is there before its scripts: usable is when a name can be given and something happens.
    const name = page.getByLabel('Your name');
    await name.waitFor();
    await page.waitForLoadState('networkidle');
    const first = { ...loaded };
    const times = await page.evaluate(() => ({
      fcp: performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null,
      usable: performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd,
      bodies: [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
        .reduce((sum, { encodedBodySize }) => sum + encodedBodySize, 0),
    }));
    await name.fill('Ana');
    await page.getByRole('button', { name: 'Join the chat' }).click();
    const log = page.getByRole('log');
    await log.waitFor();
    await page.waitForFunction(() => window.probe.arrived > 0);
    const single = [];
    await server.publish(Array.from({ length: ROWS }, (_, at) => chat(`Message ${at} of many`)));
    await log.getByText(`Message ${ROWS - 1} of many`).waitFor();
    for (let at = 0; at < REPEATS; at += 1) {
      const text = `Single ${at} ${single.length}`;
      await page.evaluate((wanted) => {
        window.probe.watch(() => document.querySelector('[role=log]').textContent.includes(wanted));
      }, text);
      await server.publish([chat(text)]);
      single.push(await page.evaluate(() => window.probe.done));
    }
    const violations = await page.evaluate(() => window.probe.violations);
    if (violations.length > 0) throw new Error(`the policy was violated: ${violations}`);
    return { ...first, ...times, single: median(single) };
  } finally {
    await context.close();
  }
}
