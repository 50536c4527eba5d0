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
const SIZE = { viewport: { width: 1120, height: 700 }, deviceScaleFactor: 2, locale: 'en-GB', reducedMotion: 'reduce' };

const LINES = [
  ['Ana', 'Morning! The new build is on staging: https://staging.example.org'],
  ['Ana', 'Could someone try it on a slow network?'],
  ['Ben', 'On it. I am on a train, it does not get slower than this 🚆'],
  ['Ben', 'Went through a tunnel mid-sentence. It said “offline” at once, kept what I wrote, and sent it on the other side.'],
  ['Chiara', 'And my screen reader tells me “3 new messages, the last from Ben” instead of reading them all at once.'],
  ['Ana', 'Then let us ship it.\nThank you both!'],
  ['Dmitri', '👍 Release notes are up in #releases'],
];

const server = await startServer();
const browser = await launch();
try {
  await mkdir(FOLDER, { recursive: true });
  const people = new Map();
  for (const name of ['Ana', 'Ben', 'Chiara', 'Dmitri']) {
    people.set(name, await Person.arrive(browser, server.url, { name, ...SIZE, storage: { local: { 'outspoke.user': `user-${name}` } } }));
  }
  const viewer = people.get('Ana');
  for (const [name, text] of LINES) {
    await people.get(name).say(text);
    await viewer.sees(text);
  }
  for (const room of ['releases', 'on-call']) {
    await viewer.page.evaluate((hash) => { location.hash = hash; }, room);
    await viewer.page.getByRole('heading', { name: room, exact: true }).waitFor();
  }
  await viewer.page.getByRole('link', { name: 'lobby' }).click();
  await viewer.sees(LINES.at(-1)[1]);
  await viewer.composer.focus();
  for (const theme of ['light', 'dark']) {
    await viewer.page.emulateMedia({ colorScheme: theme, reducedMotion: 'reduce' });
    await viewer.page.screenshot({ path: `${FOLDER}chat${theme === 'dark' ? '-dark' : ''}.png`, caret: 'hide' });
  }
} finally {
  await browser.close();
  await server.stop();
}
console.log(`wrote ${FOLDER}chat.png and chat-dark.png`);
