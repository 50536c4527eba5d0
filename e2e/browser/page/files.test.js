import assert from 'node:assert/strict';
import { test } from 'node:test';
import { scene, world } from '../lib/world.js';

const here = world();

/** A picture with a colour for each pixel, made by the browser as somebody's camera would. @param {import('../lib/world.js').Person} person */
const photo = async (person, width = 640, height = 400) => Buffer.from(await person.page.evaluate(async ([w, h]) => {
  const canvas = new OffscreenCanvas(w, h);
  const pen = canvas.getContext('2d');
  const sky = pen.createLinearGradient(0, 0, w, h);
  for (const [at, colour] of [[0, '#1d4ed8'], [0.5, '#f59e0b'], [1, '#15803d']]) sky.addColorStop(at, colour);
  pen.fillStyle = sky;
  pen.fillRect(0, 0, w, h);
  return [...new Uint8Array(await (await canvas.convertToBlob({ type: 'image/png' })).arrayBuffer())];
}, [width, height]));

/** Chooses files as a person does, with the button. */
async function attach(person, files) {
  const chooser = person.page.waitForEvent('filechooser');
  await person.page.getByRole('button', { name: 'Attach files' }).click();
  await (await chooser).setFiles(files);
}

test('a picture is sent with its description, seen as a preview, and looked at in the lightbox', scene(here, async ({ visit }) => {
  const ana = await visit({ name: 'Ana' });
  const ben = await visit({ name: 'Ben' });
  await attach(ana, [{ name: 'sunset.png', mimeType: 'image/png', buffer: await photo(ana) }]);
  const entry = ana.page.locator('.upload.done');
  await entry.waitFor();
  await ana.mustBeAccessible('files to send');
  await ana.page.getByLabel('Description of sunset.png').fill('A sunset over hills');
  await ana.say('Look at this');
  for (const person of [ana, ben]) {
    const picture = person.row('Look at this').getByRole('button', { name: 'Show A sunset over hills' });
    await picture.waitFor();
    await person.page.waitForFunction(() => [...document.querySelectorAll('img.preview')].some((image) => image.complete && image.naturalWidth > 0));
    assert.equal(await picture.locator('img').getAttribute('alt'), 'A sunset over hills');
  }
  assert.equal(await ana.page.locator('.upload').count(), 0, 'the tray is empty again');
  await ben.row('Look at this').getByRole('button', { name: 'Show A sunset over hills' }).click();
  const lightbox = ben.page.getByRole('dialog', { name: 'Pictures of this message' });
  await lightbox.locator('img').evaluate((image) => image.decode());
  assert.ok(await lightbox.locator('img').evaluate((image) => image.naturalWidth) >= 600, 'large enough to look at');
  await ben.mustBeAccessible('lightbox');
  await ben.page.keyboard.press('Escape');
  await lightbox.waitFor({ state: 'detached' });
}));

test('any file goes along, by paste too, and is downloaded as it was', scene(here, async ({ visit }) => {
  const ana = await visit({ name: 'Ana' });
  const ben = await visit({ name: 'Ben' });
  const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, at) => (at * 31) & 0xff));
  await attach(ana, [{ name: 'données.bin', mimeType: 'application/octet-stream', buffer: bytes }]);
  await ana.page.locator('.upload.done').waitFor();
  await ana.say('The log');
  const download = ben.page.waitForEvent('download');
  await ben.row('The log').getByRole('button', { name: 'Download données.bin' }).click();
  const stream = await (await download).createReadStream();
  const got = [];
  for await (const chunk of stream) got.push(chunk);
  assert.ok(Buffer.concat(got).equals(bytes));
  assert.equal((await download).suggestedFilename(), 'données.bin');

  await ana.composer.focus();
  await ana.page.evaluate(() => {
    const data = new DataTransfer();
    data.items.add(new File(['pasted'], 'note.txt', { type: 'text/plain' }));
    document.getElementById('message').dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true }));
  });
  await ana.page.locator('.upload.done').waitFor();
  await ana.page.getByRole('button', { name: 'Take note.txt away' }).click();
  assert.equal(await ana.page.locator('.upload').count(), 0);
}));

/** Files that want to be more than files. Each runs a script that shows itself, if anybody lets it. */
const SCRIPT = '<script>top.document.title = "taken over"; fetch("/taken-over")</script>';
const HOSTILE = [
  ['page.html', 'text/html', `<!doctype html><title>x</title>${SCRIPT}`],
  ['picture.svg', 'image/svg+xml', `<svg xmlns="http://www.w3.org/2000/svg" onload="top.document.title='taken over'"><foreignObject>${SCRIPT}</foreignObject></svg>`],
  ['photo.png', 'image/png', `<!doctype html>${SCRIPT}`],
  ['photo.gif', 'image/gif', `GIF89a/*<svg/onload=alert(1)>*/=1;top.document.title="taken over"//${SCRIPT}`],
  ['..%2f..%2fetc%2fpasswd', 'text/plain', 'root'],
  ['<img src=x onerror=alert(1)>.txt', 'text/plain', 'a name that is markup'],
  ['report.pdf', 'application/pdf', '%PDF-1.7\n1 0 obj <</OpenAction <</S /JavaScript /JS (app.alert(1))>>>>'],
  ['feed.xml', 'text/xml', `<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml">${SCRIPT}</html>`],
];

test('hostile files are shown by their names, never run, and come as downloads', scene(here, async ({ visit }) => {
  const ana = await visit({ name: 'Ana' });
  const ben = await visit({ name: 'Ben' });
  let taken = 0;
  const asked = [];
  for (const person of [ana, ben]) {
    person.page.on('dialog', (dialog) => { taken += 1; void dialog.dismiss(); });
    person.page.on('request', (request) => asked.push(request.url()));
  }
  await attach(ana, HOSTILE.map(([name, mimeType, text]) => ({ name, mimeType, buffer: Buffer.from(text) })));
  // Those that are not what they say may be refused; nothing else is asked of them.
  await ana.page.waitForFunction((count) => document.querySelectorAll('.upload.done, .upload.refused').length === count, HOSTILE.length);
  const sent = await ana.page.locator('.upload.done').count();
  assert.ok(sent >= 4, `${sent} are kept`);
  await ana.say('Have a look');
  await ben.sees('Have a look');
  const cards = ben.row('Have a look').locator('.file');
  await cards.first().waitFor();
  assert.equal(await cards.count() + await ben.row('Have a look').locator('.picture').count(), sent);
  for (let at = 0; at < await cards.count(); at += 1) {
    const arrives = ben.page.waitForEvent('download');
    await cards.nth(at).getByRole('button').click();
    const name = (await arrives).suggestedFilename();
    assert.ok(!/[/\\]/u.test(name) && !name.startsWith('.'), name);
    // The same address, opened as a page of its own: a browser shows nothing of it.
    const answer = await ben.page.request.get((await arrives).url());
    const { 'content-type': type, 'content-disposition': disposition, 'content-security-policy': policy, 'x-content-type-options': sniff } = answer.headers();
    assert.match(disposition, /^attachment/u);
    assert.equal(sniff, 'nosniff');
    assert.match(policy, /sandbox/u);
    assert.ok(!/html|svg|xml|javascript|pdf/u.test(type), type);
  }
  assert.deepEqual([taken, asked.filter((url) => url.includes('taken-over'))], [0, []]);
  for (const person of [ana, ben]) assert.notEqual(await person.page.title(), 'taken over');
}));
