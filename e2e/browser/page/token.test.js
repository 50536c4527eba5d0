import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { after, before, test } from 'node:test';
import { startServer } from '../lib/server.js';
import { launch, scene } from '../lib/world.js';

const SECRET = 'a secret of the tests, with 32 bytes and more';
const here = { server: null, browser: null };

before(async () => {
  [here.browser, here.server] = await Promise.all([launch(), startServer({ env: { OUTSPOKE_AUTH__JWT__SECRET: SECRET } })]);
});
after(async () => {
  await here.browser?.close();
  await here.server?.stop();
});

/** @param {Record<string, unknown>} claims @param {string} [secret] */
function token(claims, secret = SECRET) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ exp: Math.floor(Date.now() / 1000) + 600, ...claims })}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

/** @param {import('../lib/world.js').Person} person @param {string} text */
async function show(person, text) {
  await person.page.getByLabel('Your access token').fill(text);
  await person.page.getByRole('button', { name: 'Join the chat' }).click();
}

test('where names are not believed the page asks for a token, and two people chat with theirs', scene(here, async ({ visit }) => {
  const [ana, ben] = [await visit(), await visit()];
  await show(ana, token({ sub: 'ana', name: 'Ana' }));
  await show(ben, token({ sub: 'ben', name: 'Ben' }));
  await Promise.all([ana.online(), ben.online()]);
  await ana.say('Good morning');
  await ben.sees('Good morning');
  assert.equal(await ben.page.locator('.message.head .name').first().textContent(), 'Ana');
  assert.equal(await ana.page.locator('.chip.open-mode').isVisible(), false);
}));

test('the token is in no address and in no lasting storage, and a reload goes on with it', scene(here, async ({ visit }) => {
  const secret = token({ sub: 'eve', name: 'Eve' });
  const eve = await visit({ path: `#token=${secret}` });
  await eve.online();
  assert.ok(!eve.page.url().includes('token'));
  assert.equal(await eve.page.evaluate((text) => JSON.stringify({ ...localStorage }).includes(text), secret), false);
  await eve.page.reload();
  await eve.online();
}));

test('a token that is not accepted is told in words next to its field, and another one can be shown', scene(here, async ({ visit }) => {
  const ida = await visit();
  await show(ida, token({ sub: 'ida' }, 'another secret that is as long as the right one is'));
  await ida.page.getByRole('alert').filter({ hasText: 'did not let this token in' }).waitFor();
  await ida.mustBeAccessible('asked for a token again');
  await show(ida, token({ sub: 'ida', name: 'Ida' }));
  await ida.online();
}));

test('a token that ends takes the page back to where one is asked for', scene(here, async ({ visit }) => {
  const max = await visit();
  await show(max, token({ sub: 'max', exp: Math.floor(Date.now() / 1000) + 3, iat: Math.floor(Date.now() / 1000) }));
  await max.online();
  await max.page.getByLabel('Your access token').waitFor({ timeout: 60_000 });
}));
