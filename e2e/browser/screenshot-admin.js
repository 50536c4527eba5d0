/**
 * Makes the pictures of the operators' page in `docs/images/` from the real page on a real server: `node screenshot-admin.js`.
 *
 * Some people talk while the overview is watched, so that its charts have something to show.
 */
import { fileURLToPath } from 'node:url';
import { startServer } from './lib/server.js';
import { Person, launch } from './lib/world.js';

const FOLDER = fileURLToPath(new URL('../../docs/images/', import.meta.url));
const SIZE = { viewport: { width: 1180, height: 760 }, deviceScaleFactor: 2, locale: 'en-GB', reducedMotion: 'reduce' };
const KEY = 'the-key-of-the-pictures-0123456789';
/** Points in each chart before the picture is taken. */
const POINTS = 8;

const server = await startServer({ env: { OUTSPOKE_API__KEYS: KEY, OUTSPOKE_CLUSTER__NAME: 'hub-1' } });
const publish = async (content) => (await fetch(new URL('api/v1/publish', server.url), {
  method: 'POST', headers: { Authorization: `Bearer ${KEY}`, 'Content-Type': 'application/json' }, body: JSON.stringify({ room: 'lobby', type: 'chat', content, user: { id: 'ana', name: 'Ana' } }),
})).json();
const browser = await launch();
try {
  const people = [];
  for (const name of ['Ana', 'Ben', 'Chiara', 'Dmitri']) {
    people.push(await Person.arrive(browser, server.url, { name, path: '#lobby', ...SIZE, storage: { local: { 'outspoke.user': name.toLowerCase() } } }));
  }
  const { page } = await Person.arrive(browser, new URL('admin', server.url).href, { ...SIZE });
  const both = async (name) => {
    for (const theme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme: theme, reducedMotion: 'reduce' });
      await page.screenshot({ path: `${FOLDER}${name}${theme === 'dark' ? '-dark' : ''}.png`, caret: 'hide' });
    }
  };
  await page.getByLabel('API key', { exact: true }).fill(KEY);
  await page.keyboard.press('Enter');
  await page.getByRole('rowheader', { name: 'hub-1 (this one)' }).waitFor();
  for (let point = 0; point < POINTS; point += 1) {
    const measured = page.waitForResponse(/\/api\/v1\/metrics$/u);
    for (let said = 0; said <= (point * 3) % 7; said += 1) await publish(`Message ${said}`);
    await measured;
  }
  await page.getByRole('button', { name: 'Hold still' }).click();
  await page.mouse.move(5, 5);
  await both('admin');
  const { offset } = await publish('Then let us ship it.');
  await people[1].sees('Then let us ship it.');
  await page.evaluate((at) => { location.hash = `explain/${encodeURIComponent(`lobby@${at}`)}`; }, offset);
  await page.getByLabel('User', { exact: true }).fill('ben');
  await page.keyboard.press('Enter');
  await page.getByRole('listitem').filter({ hasText: 'Connection' }).first().waitFor();
  await both('admin-explain');
} finally {
  await browser.close();
  await server.stop();
}
console.log(`wrote admin and admin-explain, light and dark, to ${FOLDER}`);
