import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startProxy } from '../lib/proxy.js';
import { scene, world } from '../lib/world.js';

const here = world();

for (const colorScheme of ['light', 'dark']) {
  test(`axe finds nothing in any view of the ${colorScheme} theme`, scene(here, async ({ visit }) => {
    const proxy = await startProxy(here.server.port);
    try {
      const guest = await visit({ colorScheme });
      await guest.mustBeAccessible('join');
      await guest.page.getByLabel('Your name').press('Enter');
      await guest.mustBeAccessible('join, refused');
      const ben = await visit({ name: 'Ben', colorScheme });
      const storage = {
        local: { 'outspoke.user': `user-${colorScheme}`, 'outspoke.name': 'Ana' },
        session: { 'outspoke.device': 'device', 'outspoke.joined': '1' },
      };
      const ana = await visit({ url: proxy.url, storage, colorScheme, reducedMotion: 'reduce' });
      await ana.online();
      await ben.say('Hello https://example.org/');
      await ana.say('Hello Ben');
      await ana.sees('Hello Ben');
      await ana.mustBeAccessible('chat');
      await ana.composer.fill('x'.repeat(1001));
      await ana.composer.press('Enter');
      await ana.mustBeAccessible('chat, too long');
      await ana.composer.fill('');
      proxy.swallow();
      await ana.say('never arrives');
      proxy.cut();
      await ana.banner.waitFor();
      await ana.say('waits');
      await ana.mustBeAccessible('offline');
      proxy.mend();
      await ana.online();
      await visit({ storage, colorScheme });
      await ana.banner.getByText('opened somewhere else').waitFor();
      await ana.mustBeAccessible('replaced');
      await guest.page.setViewportSize({ width: 320, height: 640 });
      await guest.join('Guest');
      await guest.mustBeAccessible('narrow');
      await guest.page.getByRole('button', { name: 'Rooms and people' }).click();
      await guest.page.getByRole('dialog').waitFor();
      await guest.mustBeAccessible('narrow, side open');
      await ben.act('Hello Ben', 'React with 👍');
      await ben.page.locator('.reaction').waitFor();
      await ben.act('Hello https', 'Edit');
      await ben.mustBeAccessible('editing, a reaction, the toolbar of a message');
      await ben.composer.press('Escape');
      await ben.composer.fill('');
      await ben.composer.pressSequentially('/');
      await ben.page.getByRole('option').first().waitFor();
      await ben.mustBeAccessible('completion');
      await ben.composer.fill('');
      for (const [button, view] of [['Settings and keys', 'settings'], ['Who is where', 'who is where']]) {
        await ben.page.getByRole('button', { name: button }).click();
        await ben.page.getByRole('dialog').waitFor();
        await ben.mustBeAccessible(view);
        await ben.page.keyboard.press('Escape');
      }
      await ben.page.getByRole('button', { name: 'Search in this room' }).click();
      await ben.page.getByRole('searchbox').fill('hello');
      await ben.mustBeAccessible('search');
    } finally {
      await proxy.stop();
    }
  }));
}

test('the keyboard is enough: join, write, read, change rooms, leave', scene(here, async ({ visit, room }) => {
  const ana = await visit();
  const { keyboard } = ana.page;
  const focus = () => ana.page.evaluate(() => document.activeElement.getAttribute('aria-label') ?? document.activeElement.id ?? '');
  await keyboard.type('Ana');
  await keyboard.press('Enter');
  await ana.online();
  assert.equal(await focus(), `Message to ${room}`);
  await keyboard.type('first');
  await keyboard.press('Enter');
  await ana.sees('first');
  await keyboard.type('second');
  await keyboard.press('Enter');
  await ana.sees('second');
  assert.equal(await focus(), `Message to ${room}`, 'the focus stays where one writes');

  await keyboard.press('Shift+F6');
  assert.equal(await focus(), `Messages in ${room}`);
  const row = () => ana.page.evaluate(() => document.activeElement.querySelector('.text')?.textContent ?? document.activeElement.className);
  await keyboard.press('ArrowUp');
  assert.equal(await row(), 'second');
  await keyboard.press('ArrowUp');
  assert.equal(await row(), 'first');
  await keyboard.press('Enter');
  assert.equal(await focus(), 'React with 👍');
  await keyboard.press('Enter');
  await ana.page.getByRole('button', { name: '👍 1, from you' }).waitFor();
  assert.equal(await row(), 'first', 'the focus is back on the message');
  await keyboard.press('End');
  assert.equal(await row(), 'second');
  await keyboard.press('Home');
  assert.equal(await row(), 'day');
  await keyboard.press('F6');
  await keyboard.press('ArrowUp');
  assert.equal(await ana.composer.inputValue(), 'second', 'the newest of ours, to be edited');
  await keyboard.type(' thought');
  await keyboard.press('Enter');
  await ana.sees('second thought');
  assert.equal(await focus(), `Message to ${room}`);

  await keyboard.press('Control+k');
  assert.equal(await focus(), 'Name of a room to join');
  await keyboard.type('quiet');
  await keyboard.press('Enter');
  await ana.page.getByRole('heading', { name: 'quiet', exact: true }).waitFor();
  await keyboard.press('Alt+ArrowUp');
  await ana.page.getByRole('heading', { name: room, exact: true }).waitFor();
  await keyboard.press('Control+/');
  await ana.page.getByRole('dialog', { name: 'Settings' }).waitFor();
  await keyboard.press('Escape');
  await ana.page.getByRole('dialog', { name: 'Settings' }).waitFor({ state: 'hidden' });
  for (let n = 0; n < 20 && (await focus()) !== 'Leave the chat'; n += 1) await keyboard.press('Tab');
  await keyboard.press('Enter');
  await ana.page.getByLabel('Your name').waitFor();
}));

test('every stop of the tab key shows where it is', scene(here, async ({ visit }) => {
  const ana = await visit({ name: 'Ana' });
  for (let n = 0; n < 10; n += 1) {
    await ana.page.keyboard.press('Tab');
    const shown = await ana.page.evaluate(() => {
      const element = document.activeElement;
      if (element === document.body) return true;
      const ring = (target) => { const style = getComputedStyle(target); return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0; };
      return ring(element) || ring(element.closest('.field') ?? element);
    });
    assert.ok(shown, await ana.page.evaluate(() => document.activeElement.outerHTML.slice(0, 200)));
  }
}));

for (const width of [320, 375, 768, 1280, 1920]) {
  test(`nothing needs sideways scrolling at ${width} px`, scene(here, async ({ visit }) => {
    const ana = await visit({ viewport: { width, height: 640 } });
    const tooWide = () => ana.page.evaluate(() => {
      const wide = [...document.querySelectorAll('body *')].filter((e) => {
        const box = e.getBoundingClientRect();
        return box.width > 0 && box.right > innerWidth + 1 && !e.closest('.sr-only, .sprite, dialog:not([open])');
      });
      return [document.documentElement.scrollWidth > innerWidth, ...wide.map((e) => e.outerHTML.slice(0, 120))];
    });
    assert.deepEqual(await tooWide(), [false], 'join');
    await ana.join('A name that is as long as fifty characters will be');
    await ana.say(`long ${'W'.repeat(300)} https://example.org/${'path/'.repeat(40)}`);
    await ana.say('a table\n| a | b |\n'.repeat(3));
    await ana.page.locator('.items:not(.pending) .message').nth(1).waitFor();
    assert.deepEqual(await tooWide(), [false], 'chat');
    await ana.page.context().setOffline(true);
    await ana.banner.waitFor();
    assert.deepEqual(await tooWide(), [false], 'offline');
    await ana.page.context().setOffline(false);
    await ana.online();
  }));
}

test('text spacing as WCAG 1.4.12 has it cuts nothing off', scene(here, async ({ visit }) => {
  const ana = await visit({ name: 'Ana', viewport: { width: 320, height: 640 } });
  await ana.say('Some words in a message');
  await ana.sees('Some words in a message');
  await ana.page.evaluate(() => {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync('* { line-height: 1.5 !important; letter-spacing: 0.12em !important; word-spacing: 0.16em !important; } p { margin-bottom: 2em !important; }');
    document.adoptedStyleSheets = [sheet];
  });
  const cut = await ana.page.evaluate(() => [...document.querySelectorAll('.main :is(h1, p, button, .chip)')]
    .filter((e) => !e.closest('[hidden], .sr-only, .ellipsis') && e.scrollHeight > e.clientHeight + 2 && getComputedStyle(e).overflow === 'hidden')
    .map((e) => e.outerHTML.slice(0, 100)));
  assert.deepEqual(cut, []);
  assert.equal(await ana.page.evaluate(() => document.documentElement.scrollWidth > innerWidth), false);
}));

test('new messages are spoken politely by the announcer, ours are not, and the log is silent', scene(here, async ({ visit }) => {
  const ana = await visit({ name: 'Ana' });
  const ben = await visit({ name: 'Ben' });
  assert.equal(await ana.page.locator('[role=log]').getAttribute('aria-live'), 'off');
  await ana.say('my own');
  await ana.sees('my own');
  await ben.say('hello');
  await ana.page.locator('#announcer', { hasText: 'Ben: hello' }).waitFor({ state: 'attached' });
  assert.doesNotMatch(await ana.page.locator('#announcer').textContent(), /my own/u);
  await ana.page.context().setOffline(true);
  await ana.page.getByRole('status').filter({ hasText: 'You are offline.' }).waitFor();
  await ana.page.context().setOffline(false);
  await ana.page.locator('#status', { hasText: 'Back online.' }).waitFor({ state: 'attached' });
}));

test('the parts have names and roles that say what they are', scene(here, async ({ visit }) => {
  const ana = await visit({ name: 'Ana', path: '' });
  await ana.say('Hello');
  await ana.sees('Hello');
  const tree = await ana.page.locator('body').ariaSnapshot();
  for (const part of ['complementary "Rooms and people"', 'navigation "Rooms"', 'heading "lobby"', 'log "Messages in lobby"', 'textbox "Message to lobby"', 'button "Send message"', 'main']) {
    assert.ok(tree.includes(part), `${part} is not in\n${tree}`);
  }
}));

test('forced colours and reduced motion are obeyed', scene(here, async ({ visit }) => {
  const ana = await visit({ name: 'Ana', forcedColors: 'active', reducedMotion: 'reduce' });
  await ana.say('Hello');
  await ana.sees('Hello');
  const border = await ana.page.locator('.message .avatar').first().evaluate((element) => getComputedStyle(element).borderTopWidth);
  assert.equal(border, '1px');
  const moving = await ana.page.evaluate(() => [...document.querySelectorAll('*')].filter((e) => {
    const { animationName, transitionDuration } = getComputedStyle(e);
    return (animationName !== 'none' && animationName !== 'show') || parseFloat(transitionDuration) > 0;
  }).length);
  assert.equal(moving, 0);
}));

test('on a touch screen what is tapped is at least 44 px', scene(here, async ({ visit }) => {
  const ana = await visit({ name: 'Ana', viewport: { width: 390, height: 800 }, hasTouch: true, isMobile: true });
  const small = await ana.page.evaluate(() => [...document.querySelectorAll('.main :is(button, input, select)')]
    .map((e) => [e.getBoundingClientRect(), e]).filter(([box]) => box.width > 0 && (box.height < 44 || box.width < 44))
    .map(([box, e]) => `${e.className || e.id}: ${box.width} x ${box.height}`));
  assert.deepEqual(small, []);
}));

test('the focus stays where it is while others speak, and goes to the room when one is left', scene(here, async ({ visit, room }) => {
  const ana = await visit({ name: 'Ana' });
  const ben = await visit({ name: 'Ben' });
  const write = ana.page.locator('.people button.person', { hasText: 'Ben' });
  await write.focus();
  await ben.say('hello');
  await ana.sees('hello');
  assert.ok(await write.evaluate((button) => button === document.activeElement), 'the button in the list of people');

  await ana.page.getByRole('button', { name: 'Who is where' }).click();
  const table = ana.page.getByRole('region', { name: 'Who is where, as a table' });
  await table.focus();
  await ben.say('hello again');
  await ana.sees('hello again');
  assert.ok(await table.evaluate((region) => region === document.activeElement), 'the table of who is where');
  await ana.page.keyboard.press('Escape');

  await ana.page.getByRole('button', { name: `Leave ${room}` }).focus();
  await ana.page.keyboard.press('Enter');
  await ana.page.getByRole('button', { name: `Leave ${room}` }).waitFor({ state: 'detached' });
  assert.equal(await ana.page.evaluate(() => document.activeElement?.getAttribute('aria-current')), 'page', 'the link of the room that is shown');
}));
