/** What the browser does for the page: notifications, files dropped on it, an application of its own; and receipts of many. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { chromium } from 'playwright-core';
import { program, scene, world } from '../lib/world.js';

const here = world();

/** Has a page write down what the browser is asked to show, instead of showing it. @param {import('playwright-core').Page} page */
const overhear = (page) => page.evaluate(() => {
  window.notices = [];
  window.Notification = class {
    static permission = 'default';

    static requestPermission() {
      this.permission = window.answer;
      return Promise.resolve(window.answer);
    }

    constructor(title, { body }) { window.notices.push(`${title}: ${body}`); }

    close() {}
  };
  document.hasFocus = () => false;
});

async function choose(person) {
  await person.page.getByRole('button', { name: 'Settings and keys' }).click();
  const box = person.page.getByLabel('Notify me of mentions');
  await box.click();
  const said = await person.page.getByRole('dialog', { name: 'Settings' }).getByText(/^(?:Notifications are|The browser does not)/u).textContent();
  const on = await box.isChecked();
  await person.page.keyboard.press('Escape');
  return { on, said };
}

test('notifications are for who asked for them, for what is meant for them, and end when they are switched off', scene(here, async ({ visit, room }) => {
  const ana = await visit({ name: 'Ana' });
  const ben = await visit({ name: 'Ben' });
  await overhear(ana.page);
  const notices = () => ana.page.evaluate(() => window.notices);
  await ben.say('@Ana before you asked');
  await ana.sees('@Ana before you asked');
  assert.deepEqual(await notices(), [], 'nobody is notified who did not ask for it');
  await ana.page.evaluate(() => { window.answer = 'denied'; });
  const refused = await choose(ana);
  assert.deepEqual([refused.on, refused.said.startsWith('The browser does not let this page')], [false, true]);
  await ana.page.evaluate(() => { window.answer = 'granted'; });
  assert.deepEqual(await choose(ana), { on: true, said: 'Notifications are on.' });
  await ben.say('to nobody in particular');
  await ben.say('hello @Ana');
  await ana.sees('hello @Ana');
  assert.deepEqual(await notices(), [`Ben in #${room}: hello @Ana`]);
  await ana.page.evaluate(() => { document.hasFocus = () => true; });
  await ben.say('you look at this, @Ana');
  await ana.sees('you look at this, @Ana');
  assert.equal((await notices()).length, 1, 'what is looked at is not notified of');
  await ana.page.evaluate(() => { document.hasFocus = () => false; });
  assert.equal((await choose(ana)).on, false);
  await ben.say('and now not, @Ana');
  await ana.sees('and now not, @Ana');
  assert.equal((await notices()).length, 1);
}));

test('files dropped anywhere on the page are sent; what is no file is left alone', scene(here, async ({ visit }) => {
  const ana = await visit({ name: 'Ana' });
  const ben = await visit({ name: 'Ben' });
  await ana.page.getByRole('button', { name: 'Attach files' }).waitFor();
  /** Drags something over the log, and lets go. Returns whether the page took it. */
  const drag = (type, what) => ana.page.evaluate(([kind, text]) => {
    const dataTransfer = new DataTransfer();
    if (kind === 'files') for (const name of ['one.txt', 'two.txt']) dataTransfer.items.add(new File([text], name, { type: 'text/plain' }));
    else dataTransfer.setData(kind, text);
    const send = (event) => !document.getElementById('log').dispatchEvent(new DragEvent(event, { dataTransfer, bubbles: true, cancelable: true }));
    const over = send('dragover');
    const shown = !document.querySelector('.drop').hidden;
    return { over, shown, dropped: send('drop') };
  }, [type, what]);
  assert.deepEqual(await drag('text/plain', 'words'), { over: false, shown: false, dropped: false });
  assert.deepEqual(await drag('files', 'dropped here'), { over: true, shown: true, dropped: true });
  await ana.page.locator('.upload.done').nth(1).waitFor();
  assert.equal(await ana.page.locator('.drop').isHidden(), true);
  await ana.say('both of them');
  const download = ben.page.waitForEvent('download');
  await ben.row('both of them').getByRole('button', { name: 'Download two.txt' }).click();
  const got = [];
  for await (const chunk of await (await download).createReadStream()) got.push(chunk);
  assert.equal(Buffer.concat(got).toString(), 'dropped here');
}));

test('receipts are counted beyond the first hundred readers', scene(here, async ({ visit, room }) => {
  const ana = await visit({ name: 'Ana' });
  await ana.say('read by many');
  await ana.sees('read by many');
  const crowd = await visit({ name: 'Crowd' });
  await crowd.sees('read by many');
  // A few at a time, each gone before the next: what they have read stays.
  const readers = 130;
  await crowd.page.evaluate(async ([name, many]) => {
    const read = (user) => new Promise((done, failed) => {
      const socket = new WebSocket(new URL(`ws?userId=${user}&username=${user}&join=none`, document.baseURI.replace('http', 'ws')));
      socket.onerror = failed;
      socket.onmessage = ({ data }) => {
        const { type, head } = JSON.parse(data);
        if (type === 'welcome') socket.send(JSON.stringify({ type: 'subscribe', room: name }));
        if (type !== 'subscribed') return;
        socket.send(JSON.stringify({ type: 'seen', room: name, offset: head }));
        // An answer to what comes after it: the server has read it.
        socket.send(JSON.stringify({ type: 'receipts', id: 'r', room: name, limit: 0 }));
        socket.onmessage = (answer) => { if (JSON.parse(answer.data).id === 'r') socket.close(1000); };
        socket.onclose = done;
      };
    });
    for (let first = 0; first < many; first += 10) {
      await Promise.all(Array.from({ length: 10 }, (_, at) => read(`reader-${String(first + at).padStart(3, '0')}`)));
    }
  }, [room, readers]);
  await ana.page.reload();
  await ana.online();
  await ana.row('read by many').getByText(new RegExp(`Seen by ${readers + 1}`, 'u')).waitFor({ state: 'attached' });
}));

test('Chromium finds nothing that keeps the page from being installed', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'outspoke-profile-'));
  // A profile of its own: in a private window nothing can be installed.
  const context = await chromium.launchPersistentContext(folder, program());
  try {
    const [page] = context.pages();
    await page.goto(here.server.url);
    await page.evaluate(() => navigator.serviceWorker.ready.then(() => true));
    const devtools = await context.newCDPSession(page);
    assert.deepEqual(await devtools.send('Page.getInstallabilityErrors'), { installabilityErrors: [] });
    const { errors, data } = await devtools.send('Page.getAppManifest');
    assert.deepEqual(errors, []);
    assert.equal(JSON.parse(data).display, 'standalone');
  } finally {
    await context.close();
    await rm(folder, { recursive: true, force: true });
  }
});
