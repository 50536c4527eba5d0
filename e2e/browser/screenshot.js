/**
 * Makes the pictures in `docs/images/` from the real page on the real server: `node screenshot.js`.
 *
 * One conversation, photographed in both themes. Times in the pictures are those of the day they were made.
 */
import { mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { startServer } from './lib/server.js';
import { Person, launch } from './lib/world.js';

const FOLDER = fileURLToPath(new URL('../../docs/images/', import.meta.url));
const SIZE = { viewport: { width: 1180, height: 760 }, deviceScaleFactor: 2, locale: 'en-GB', reducedMotion: 'reduce' };

const LINES = [
  ['Ana', 'Morning! The new build is on staging: https://staging.example.org'],
  ['Ana', 'Could someone try it on a slow network?'],
  ['Ben', 'On it @Ana. I am on a train, it does not get slower than this 🚆'],
  ['Ben', 'Went through a tunnel mid-sentence. It said “offline” at once, kept what I wrote, and sent it on the other side.'],
  ['Chiara', 'And my screen reader tells me “3 new messages, the last from Ben” instead of reading them all at once.'],
  ['Ana', 'Then let us ship it.\nThank you both!'],
];
const KEY = 'the-key-of-the-pictures-0123456789';
const BUILD = [
  '\u001b[1m\u001b[32m   Compiling\u001b[0m outspoke-protocol v0.1.0', '\u001b[1m\u001b[32m   Compiling\u001b[0m outspoke-hub v0.1.0',
  '\u001b[1m\u001b[33mwarning\u001b[0m\u001b[1m: unused variable: `member`\u001b[0m', '   \u001b[1m\u001b[34m-->\u001b[0m crates/hub/src/fanout.rs:41:9',
  '\u001b[1m\u001b[32m   Compiling\u001b[0m outspoke v0.1.0', '\u001b[1m\u001b[32m    Finished\u001b[0m `release` profile in 2m 14s',
];

const server = await startServer({ env: { OUTSPOKE_API__KEYS: KEY } });
const publish = (body) => fetch(new URL('api/v1/publish', server.url), { method: 'POST', headers: { Authorization: `Bearer ${KEY}`, 'Content-Type': 'application/json' }, body: JSON.stringify(body) });
const browser = await launch();
try {
  await mkdir(FOLDER, { recursive: true });
  const people = new Map();
  for (const name of ['Ana', 'Ben', 'Chiara', 'Dmitri']) {
    people.set(name, await Person.arrive(browser, server.url, { name, path: '', ...SIZE, storage: { local: { 'outspoke.user': `user-${name}` } } }));
  }
  const viewer = people.get('Ana');
  const goTo = async (name) => {
    await viewer.page.evaluate((hash) => { location.hash = hash; }, name);
    await viewer.page.getByRole('heading', { name: name || 'lobby', exact: true }).waitFor();
  };
  const both = async (name) => {
    for (const theme of ['light', 'dark']) {
      await viewer.page.emulateMedia({ colorScheme: theme, reducedMotion: 'reduce' });
      await viewer.page.screenshot({ path: `${FOLDER}${name}${theme === 'dark' ? '-dark' : ''}.png`, caret: 'hide' });
    }
  };
  for (const [name, text] of LINES) {
    await people.get(name).say(text);
    await viewer.sees(text);
  }
  for (const room of ['releases', 'on-call']) {
    await goTo(room);
    await people.get('Dmitri').page.evaluate((hash) => { location.hash = hash; }, room);
  }
  await goTo('');
  await people.get('Dmitri').page.getByRole('heading', { name: 'on-call', exact: true }).waitFor();
  await people.get('Dmitri').say('All quiet. Handing over to the next shift.');
  await people.get('Chiara').page.getByRole('button', { name: /^Ana/u }).click();
  await people.get('Chiara').say('Lunch at one?');
  await viewer.page.getByRole('link', { name: /^Chiara 1 unread/u }).waitFor();
  await people.get('Ben').act('Then let us ship it.', 'React with 🎉');
  await people.get('Ben').act('And my screen reader', 'React with ❤️');
  await viewer.act('And my screen reader', 'React with ❤️');
  await viewer.page.getByRole('button', { name: /^❤️ 2/u }).waitFor();
  await viewer.page.locator('.mark.seen').last().waitFor();
  await people.get('Ben').composer.pressSequentially('Release notes are');
  await viewer.page.locator('.typing', { hasText: 'Ben is typing' }).waitFor();
  await viewer.page.mouse.move(5, 5);
  await viewer.composer.focus();
  await both('chat');
  await viewer.page.getByRole('button', { name: 'Who is where' }).click();
  await viewer.page.getByRole('dialog').waitFor();
  await both('who-is-where');
  await viewer.page.keyboard.press('Escape');
  await goTo('builds');
  for (const line of BUILD) await publish({ room: 'builds', type: 'process_output', data: { processId: 'cargo build --release', stream: 'stderr', line } });
  await publish({ room: 'builds', type: 'process_status', data: { processId: 'cargo build --release', status: 'exited', exitCode: 0, signal: null } });
  await viewer.page.getByText('Done, exit code 0').waitFor();
  await viewer.composer.focus();
  await both('log');
  await viewer.page.setViewportSize({ width: 375, height: 720 });
  await goTo('');
  await viewer.composer.focus();
  await both('phone');
} finally {
  await browser.close();
  await server.stop();
}
console.log(`wrote chat, who-is-where, log and phone, light and dark, to ${FOLDER}`);
