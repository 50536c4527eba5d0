import assert from 'node:assert/strict';
import { test } from 'node:test';
import { scene, world } from '../lib/world.js';

const here = world();

test('edit, delete and react: both see it, with what was done, and only the author may change it', scene(here, async ({ visit }) => {
  const ana = await visit({ name: 'Ana' });
  const ben = await visit({ name: 'Ben' });
  await ana.say('Helo');
  await ben.sees('Helo');
  await ana.act('Helo', 'Edit');
  assert.equal(await ana.composer.inputValue(), 'Helo');
  await ana.say('Hello');
  await ben.sees('Hello');
  await ben.row('Hello').getByText('edited').waitFor();
  await ben.act('Hello', 'React with 🎉');
  const reaction = ana.row('Hello').getByRole('button', { name: '🎉 1, from Ben' });
  await reaction.click();
  await ben.row('Hello').getByRole('button', { name: /^🎉 2/u }).waitFor();
  assert.equal(await ana.row('Hello').locator('.reaction').getAttribute('aria-pressed'), 'true');
  await ana.row('Hello').locator('.reaction').click();
  await ben.row('Hello').getByRole('button', { name: '🎉 1, from you' }).waitFor();
  await ben.row('Hello').hover();
  assert.equal(await ben.row('Hello').getByRole('button', { name: 'Edit' }).count(), 0);
  await ana.act('Hello', 'Delete');
  await ana.page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await ben.sees('This message was deleted.');
  await ana.sees('This message was deleted.');
  assert.equal(await ben.page.locator('.reaction').count(), 0);
}));

test('receipts: sent, delivered to who looks elsewhere, seen by who looks, in words', scene(here, async ({ visit, room }) => {
  const ana = await visit({ name: 'Ana' });
  await ana.say('anybody?');
  await ana.sees('anybody?');
  const mark = (text) => ana.row(text).locator('.mark').textContent();
  assert.equal(await mark('anybody?'), 'Sent');
  const ben = await visit({ name: 'Ben' });
  await ben.page.getByRole('link', { name: 'lobby' }).click();
  await ana.say('and now?');
  await ana.row('and now?').locator('.mark', { hasText: 'Delivered' }).waitFor();
  const chi = await visit({ name: 'Chi' });
  await chi.sees('and now?');
  await ana.row('and now?').locator('.mark', { hasText: 'Seen by 1' }).waitFor();
  await ben.page.bringToFront();
  await ben.page.getByRole('link', { name: room }).click();
  await ana.row('and now?').locator('.mark', { hasText: 'Seen by 2' }).waitFor();
  assert.equal(await ana.row('and now?').locator('.mark').getAttribute('title'), 'Seen by Ben and Chi');
}));

test('private messages: from the list of people, to nobody else, unread where they are not looked at', scene(here, async ({ visit }) => {
  const ana = await visit({ name: 'Ana' });
  const ben = await visit({ name: 'Ben' });
  const chi = await visit({ name: 'Chi' });
  await ana.page.getByRole('button', { name: /^Ben/u }).click();
  await ana.page.getByRole('heading', { name: 'Ben', exact: true }).waitFor();
  await ana.say('between us');
  await ana.sees('between us');
  await ben.page.getByRole('link', { name: 'Ana 1 unread' }).click();
  await ben.sees('between us');
  await ben.say('agreed');
  await ana.sees('agreed');
  await ana.row('between us').locator('.mark', { hasText: 'Seen by 1' }).waitFor({ state: 'attached' });
  await chi.say('I see nothing');
  assert.deepEqual(await chi.texts(), ['I see nothing']);
  assert.equal(await chi.page.getByRole('navigation', { name: 'Private' }).isVisible(), false);
  await ana.page.reload();
  await ana.page.getByRole('link', { name: 'Ben' }).click();
  await ana.sees('agreed');
  assert.deepEqual(await ana.texts(), ['between us', 'agreed']);
}));

test('commands are completed from the server\'s list, obeyed, and given back where there is no such one', scene(here, async ({ visit, room }) => {
  const ana = await visit({ name: 'Ana' });
  const ben = await visit({ name: 'Ben' });
  await ana.composer.pressSequentially('/sh');
  const option = ana.page.getByRole('option', { name: /\/shrug/u });
  await option.waitFor();
  assert.equal(await ana.composer.getAttribute('aria-activedescendant'), await option.getAttribute('id'));
  await ana.composer.press('Tab');
  assert.equal(await ana.composer.inputValue(), '/shrug ');
  await ana.composer.pressSequentially('oh well');
  await ana.composer.press('Enter');
  await ben.sees('oh well ¯\\_(ツ)_/¯');
  await ana.say('/me waves');
  await ben.page.locator('.message.action', { hasText: 'Ana waves' }).waitFor();
  await ana.say('/topic Tea at four');
  await ben.page.locator('.room-head .sub', { hasText: 'Tea at four' }).waitFor();
  await ana.say('/who');
  await ana.page.locator('.line.own', { hasText: 'Ben' }).waitFor();
  assert.equal(await ben.page.locator('.line.own').count(), 0);
  await ana.say('/dance');
  await ana.page.getByRole('alert').filter({ hasText: 'There is no command /dance' }).waitFor();
  assert.equal(await ana.composer.inputValue(), '/dance');
  await ana.composer.fill('');
  await ana.composer.pressSequentially('hello @be');
  await ana.page.getByRole('option', { name: /Ben/u }).waitFor();
  await ana.composer.press('Enter');
  assert.equal(await ana.composer.inputValue(), 'hello @Ben ');
  await ana.composer.press('Enter');
  await ben.page.locator('.message.mentioned .mention', { hasText: '@Ben' }).waitFor();
  await ana.say('/join elsewhere');
  await ana.page.getByRole('heading', { name: 'elsewhere', exact: true }).waitFor();
  await ana.page.getByRole('link', { name: room }).waitFor();
}));

test('who is typing is shown, and no longer when the message has come', scene(here, async ({ visit }) => {
  const ana = await visit({ name: 'Ana' });
  const ben = await visit({ name: 'Ben' });
  await ana.composer.pressSequentially('hel');
  await ben.page.locator('.typing', { hasText: 'Ana is typing' }).waitFor();
  await ana.say('hello');
  await ben.sees('hello');
  await ben.page.waitForFunction(() => document.querySelector('.typing').textContent === '');
}));

test('history: a newcomer scrolls back to the first message, and what was looked at stays in its place', scene(here, async ({ visit }) => {
  const ana = await visit({ name: 'Ana' });
  await ana.page.evaluate(() => { for (let n = 1; n <= 90; n += 1) { const input = document.getElementById('message'); input.value = `line ${n}`; input.form.requestSubmit(); } });
  await ana.sees('line 90');
  const ben = await visit({ name: 'Ben' });
  await ben.sees('line 90');
  assert.equal((await ben.texts()).length, 50);
  const log = ben.page.locator('#log');
  const moved = await log.evaluate((element) => new Promise((done) => {
    element.scrollTop = 500;
    requestAnimationFrame(() => {
      const row = [...element.querySelectorAll('.message')].find((e) => e.getBoundingClientRect().top > 200);
      const before = row.getBoundingClientRect().top;
      new MutationObserver((_, observer) => {
        observer.disconnect();
        requestAnimationFrame(() => {
          const now = [...element.querySelectorAll('.message')].find((e) => e.dataset.key === row.dataset.key);
          done(now.getBoundingClientRect().top - before);
        });
      }).observe(element.querySelector('.items'), { childList: true });
    });
  }));
  assert.ok(Math.abs(moved) <= 1, `moved by ${moved} px`);
  await ben.sees('line 1');
  assert.deepEqual(await ben.texts(), Array.from({ length: 90 }, (_, n) => `line ${n + 1}`));
  await ben.page.locator('.pill', { hasText: 'Jump to latest' }).click();
  await ben.page.waitForFunction(() => { const e = document.getElementById('log'); return e.scrollHeight - e.scrollTop - e.clientHeight < 2; });
  await ben.page.keyboard.press('Control+Shift+F');
  const search = ben.page.getByRole('searchbox');
  await search.fill('line 7');
  await ben.page.getByText('1 of 11', { exact: true }).waitFor();
  await search.press('Enter');
  await ben.page.getByText('2 of 11', { exact: true }).waitFor();
  await search.press('Escape');
  await search.waitFor({ state: 'hidden' });
}));

test('the unread line stands where reading ended, and stays while one reads on', scene(here, async ({ visit, people, room }) => {
  const ana = await visit({ name: 'Ana' });
  const ben = await visit({ name: 'Ben' });
  await ana.say('seen');
  await ben.sees('seen');
  await ana.row('seen').locator('.mark', { hasText: 'Seen by 1' }).waitFor();
  await ben.page.getByRole('link', { name: 'lobby' }).click();
  await ana.say('missed');
  await ben.page.getByRole('link', { name: `${room} 1 unread` }).click();
  await ben.sees('missed');
  const rows = () => ben.page.locator('.items > li').evaluateAll((all) => all.map((e) => e.querySelector('.text, .unread-line span')?.textContent ?? e.textContent).filter((text) => ['seen', 'missed', 'later', 'New messages'].includes(text)));
  assert.deepEqual(await rows(), ['seen', 'New messages', 'missed']);
  await ana.say('later');
  await ben.sees('later');
  assert.deepEqual(await rows(), ['seen', 'New messages', 'missed', 'later']);
  assert.equal(people.length, 2);
}));

test('who is where: the graph says nothing that the table does not say', scene(here, async ({ visit }) => {
  const ana = await visit({ name: 'Ana' });
  await visit({ name: 'Ben' });
  await ana.page.getByText('2 people').waitFor();
  await ana.page.getByRole('button', { name: 'Who is where' }).click();
  const dialog = ana.page.getByRole('dialog', { name: /Who is where/u });
  await dialog.getByText('2 people on 1 server').waitFor();
  assert.deepEqual(await dialog.locator('tbody th bdi').allTextContents(), ['Ana', 'Ben']);
  assert.deepEqual(await dialog.locator('svg text').allTextContents(), ['Ana (you)', 'Ben', 'this server']);
  assert.equal(await dialog.locator('svg').getAttribute('aria-hidden'), 'true');
}));
