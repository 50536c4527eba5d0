import assert from 'node:assert/strict';
import { test } from 'node:test';
import { scene, world } from '../lib/world.js';

const here = world();

test('two tabs chat', scene(here, async ({ visit }) => {
  const ana = await visit({ name: 'Ana' });
  const ben = await visit({ name: 'Ben' });
  await ana.say('Good morning');
  await ben.sees('Good morning');
  await ben.say('Hello Ana');
  await ana.sees('Hello Ana');
  await ana.sees('Good morning');
  assert.deepEqual(await ana.texts(), ['Good morning', 'Hello Ana']);
  assert.deepEqual(await ben.texts(), ['Good morning', 'Hello Ana']);
  assert.deepEqual(await ana.unsent(), []);
  const head = ben.page.locator('.message.head', { hasText: 'Good morning' });
  assert.equal(await head.locator('.name').textContent(), 'Ana');
  assert.match(await head.locator('time').getAttribute('datetime'), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/u);
}));

test('who comes and who goes is seen, with the number connected', scene(here, async ({ visit, people }) => {
  const ana = await visit({ name: 'Ana' });
  const ben = await visit({ name: 'Ben' });
  await ana.seesLine('Ben joined');
  await ana.page.getByText('2 people').waitFor();
  await ana.page.locator('.people li.here', { hasText: 'Ben' }).waitFor();
  people.pop();
  await ben.mustBeSound();
  await ben.page.context().close();
  await ana.seesLine('Ben left');
  await ana.page.getByText('Only you are here').waitFor();
  await ana.page.locator('.people li.away', { hasText: 'Ben' }).waitFor();
}));

test('the page says that the server is in open mode', scene(here, async ({ visit }) => {
  const ana = await visit({ name: 'Ana' });
  await ana.page.locator('.chip.open-mode', { hasText: 'Open mode' }).waitFor();
}));

test('a name is required, bounded, and refused in words next to the field', scene(here, async ({ visit }) => {
  const guest = await visit();
  const field = guest.page.getByLabel('Your name');
  await field.press('Enter');
  await guest.page.getByRole('alert').filter({ hasText: 'Please enter a name.' }).waitFor();
  await field.fill('n'.repeat(51));
  await field.press('Enter');
  await guest.page.getByRole('alert').filter({ hasText: 'at most 50 characters' }).waitFor();
  assert.equal(await field.getAttribute('aria-invalid'), 'true');
  await guest.join('n'.repeat(50));
}));

test('a reload comes back without asking, a new tab asks with the name filled in', scene(here, async ({ visit }) => {
  const ana = await visit({ name: 'Ana', path: '' });
  await ana.page.reload();
  await ana.online();
  const tab = await ana.page.context().newPage();
  await tab.goto(here.server.url);
  assert.equal(await tab.getByLabel('Your name').inputValue(), 'Ana');
  await tab.getByRole('button', { name: 'Join the chat' }).click();
  await tab.locator('.chip.status.good').waitFor();
  await ana.say('both tabs stay');
  await tab.locator('.message .text', { hasText: 'both tabs stay' }).waitFor();
  await ana.online();
}));

test('a duplicated tab, which copies the storage, does not throw the first one out', scene(here, async ({ visit }) => {
  const ana = await visit({ name: 'Ana' });
  const copied = await ana.page.evaluate(() => ({ ...sessionStorage }));
  const ben = await visit({ name: 'Ben' });
  const twin = await ana.page.context().newPage();
  await twin.addInitScript((stored) => { for (const [key, value] of Object.entries(stored)) sessionStorage.setItem(key, value); }, copied);
  await twin.goto(here.server.url);
  await twin.locator('.chip.status.good').waitFor();
  await ben.say('still there?');
  await ana.sees('still there?');
  await ana.online();
}));

test('hostile names and texts are text and nothing else', scene(here, async ({ visit }) => {
  const name = '<img src=x onerror=alert(1)>';
  const mallory = await visit({ name });
  const ana = await visit({ name: 'Ana' });
  let dialogs = 0;
  for (const person of [mallory, ana]) person.page.on('dialog', (dialog) => { dialogs += 1; dialog.dismiss(); });
  const texts = [
    '<script>alert(1)</script>', '"><svg onload=alert(1)>', '{{constructor.constructor("alert(1)")()}}',
    'javascript:alert(1)', '<a href="javascript:alert(1)">click</a>', '&lt;b&gt; &amp; \\u003cb\\u003e', '${alert(1)}',
    'https://example.org/<script>alert(1)</script>', '\u202Egnp.exe', 'a\u0300'.repeat(100),
  ];
  for (const text of texts) {
    await mallory.say(text);
    await ana.sees(text);
  }
  assert.deepEqual(await ana.texts(), texts);
  assert.equal(await ana.page.locator('.message .name').first().textContent(), name);
  assert.equal(dialogs, 0);
  const strangers = await ana.page.evaluate(() => [
    document.querySelectorAll('.chat-view :is(img, script, iframe, object, embed, style)').length,
    [...document.querySelectorAll('.chat-view a[href]')].filter((a) => !/^https?:$/u.test(a.protocol)).length,
    [...document.querySelectorAll('.chat-view *')].flatMap((e) => [...e.attributes]).filter((a) => a.name.startsWith('on')).length,
  ]);
  assert.deepEqual(strangers, [0, 0, 0]);
}));

test('web addresses become links that give nothing away', scene(here, async ({ visit }) => {
  const ana = await visit({ name: 'Ana' });
  await ana.say('See https://example.org/a?b=c#d, or not.');
  const link = ana.page.locator('.items:not(.pending) .message a');
  await link.waitFor();
  assert.equal(await link.getAttribute('href'), 'https://example.org/a?b=c#d');
  assert.match(await link.getAttribute('rel'), /noopener.*noreferrer/u);
}));

test('Shift+Enter starts a line, Enter sends, line breaks arrive', scene(here, async ({ visit }) => {
  const ana = await visit({ name: 'Ana' });
  await ana.composer.pressSequentially('one');
  await ana.composer.press('Shift+Enter');
  await ana.composer.pressSequentially('two');
  await ana.composer.press('Enter');
  await ana.sees('one\ntwo');
  assert.equal(await ana.composer.inputValue(), '');
}));

test('Enter that ends a composition does not send', scene(here, async ({ visit }) => {
  const ana = await visit({ name: 'Ana' });
  await ana.composer.fill('日本');
  await ana.composer.evaluate((input) => input.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', isComposing: true, bubbles: true, cancelable: true })));
  assert.equal(await ana.composer.inputValue(), '日本');
  assert.deepEqual(await ana.texts(), []);
}));

test('more than 1000 characters are counted, refused in words, and kept', scene(here, async ({ visit }) => {
  const ana = await visit({ name: 'Ana' });
  await ana.composer.fill('🦜'.repeat(1000));
  await ana.page.getByText('0 characters left').waitFor();
  await ana.composer.fill('x'.repeat(1001));
  await ana.page.getByText('1 character too many').waitFor();
  await ana.composer.press('Enter');
  await ana.page.getByRole('alert').filter({ hasText: 'at most 1000 characters; this one has 1001' }).waitFor();
  assert.equal((await ana.composer.inputValue()).length, 1001);
  await ana.composer.fill('🦜'.repeat(1000));
  await ana.composer.press('Enter');
  await ana.sees('🦜'.repeat(1000));
}));

test('rooms: one by the address, one by the form; messages stay in theirs, unread ones are counted, a reload keeps them', scene(here, async ({ visit }) => {
  const ana = await visit({ name: 'Ana', path: '' });
  const ben = await visit({ name: 'Ben', path: '#builds' });
  await ben.page.getByRole('heading', { name: 'builds', exact: true }).waitFor();
  await ben.page.getByText('Only you are here').waitFor();
  await ana.page.getByLabel('Name of a room to join').fill('#builds');
  await ana.page.getByRole('button', { name: 'Join room' }).click();
  await ana.page.getByText('2 people').waitFor();
  await ana.say('only here');
  await ben.sees('only here');
  await ana.page.getByRole('link', { name: 'lobby' }).click();
  await ana.say('only in the lobby');
  await ana.sees('only in the lobby');
  await ben.say('while you look elsewhere');
  await ana.page.getByRole('link', { name: 'builds 1 unread' }).waitFor();
  assert.deepEqual(await ben.texts(), ['only here', 'while you look elsewhere']);
  await ana.page.reload();
  await ana.page.getByRole('link', { name: 'builds 1 unread' }).click();
  await ana.sees('while you look elsewhere');
  await ana.page.getByText('New messages').waitFor();
  assert.deepEqual(await ana.texts(), ['only here', 'while you look elsewhere']);
  await ana.page.getByRole('button', { name: 'Leave builds' }).click();
  await ana.page.getByRole('heading', { name: 'lobby', exact: true }).waitFor();
  assert.equal(new URL(ana.page.url()).hash, '');
}));

test('the log follows at the bottom, stays where one reads, and counts what is new below', scene(here, async ({ visit }) => {
  const ana = await visit({ name: 'Ana' });
  const ben = await visit({ name: 'Ben' });
  for (let n = 1; n <= 40; n += 1) await ben.say(`line ${n}`);
  await ana.sees('line 40');
  const log = ana.page.locator('#log');
  const atBottom = () => ana.page.waitForFunction(() => {
    const element = document.getElementById('log');
    return element.scrollHeight - element.scrollTop - element.clientHeight < 2;
  });
  await atBottom();
  await log.evaluate((element) => { element.scrollTop = 100; });
  const pill = ana.page.locator('.pill');
  await pill.waitFor();
  const before = await log.evaluate((element) => element.scrollTop);
  await ben.say('news');
  await ana.sees('news');
  await pill.filter({ hasText: '1 new' }).waitFor();
  assert.equal(await log.evaluate((element) => element.scrollTop), before);
  await pill.click();
  await pill.waitFor({ state: 'hidden' });
  await atBottom();
}));

test('the theme is the system\'s until one is chosen, and the choice is remembered', scene(here, async ({ visit }) => {
  const ana = await visit({ name: 'Ana', colorScheme: 'dark' });
  const shade = () => ana.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await shade();
  const settings = ana.page.getByRole('button', { name: 'Settings and keys' });
  await settings.click();
  await ana.page.getByLabel('Theme').selectOption('light');
  const light = await shade();
  assert.notEqual(light, dark);
  await ana.page.reload();
  await ana.online();
  assert.equal(await shade(), light);
  await settings.click();
  await ana.page.getByLabel('Theme').selectOption('system');
  assert.equal(await shade(), dark);
}));

test('leaving the chat ends the connection and asks for a name again', scene(here, async ({ visit }) => {
  const ana = await visit({ name: 'Ana' });
  const ben = await visit({ name: 'Ben' });
  await ben.page.getByRole('button', { name: 'Leave the chat' }).click();
  await ben.page.getByLabel('Your name').waitFor();
  await ana.seesLine('Ben left');
}));

test('the page is served with its policy, and its assets for ever', scene(here, async () => {
  const page = await fetch(here.server.url);
  const policy = page.headers.get('content-security-policy');
  for (const part of ["default-src 'none'", "script-src 'self'", "require-trusted-types-for 'script'", "frame-ancestors 'none'"]) assert.ok(policy.includes(part), part);
  assert.equal(page.headers.get('x-content-type-options'), 'nosniff');
  assert.equal(page.headers.get('cache-control'), 'no-cache');
  const html = await page.text();
  for (const [, address] of html.matchAll(/(?:href|src)="(assets\/[^"]+)"/gu)) {
    const asset = await fetch(new URL(address, here.server.url));
    assert.equal(asset.status, 200, address);
    assert.match(asset.headers.get('cache-control'), /immutable/u, address);
    assert.ok(asset.headers.get('etag'), address);
  }
}));
