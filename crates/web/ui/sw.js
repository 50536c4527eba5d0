/**
 * The page without a network: this build's files are kept, so that an installed or a reloaded chat opens at once and says that it
 * is offline, with what was written and not sent.
 *
 * A worker belongs to one build, as its address does. Asked for the page it asks the server first, so that a new build is seen as
 * soon as there is a network; this build's own files it gives from its cache, since they never change. Everything else it leaves alone.
 */

/** What the page loads when it is wanted; what it loads at once is read from the page itself. */
const LATER = [
  'announcer.js', 'composer.js', 'dialogs.js', 'files.js', 'log.js', 'notices.js', 'search.js', 'shell.js', 'timeline.js', 'uploads.js', 'view.js', 'where.js',
  'manifest.webmanifest', '../sdk/direct.js', '../sdk/events.js', '../sdk/files.js', '../sdk/history.js', '../sdk/outbox.js', '../sdk/presence.js',
  '../sdk/receipts.js', '../sdk/refresh.js', '../sdk/session.js', '../shared/dialog.js',
];

const worker = /** @type {any} */ (globalThis);
const here = new URL('.', worker.location.href);
/** The page: three folders up, `assets/<build>/ui/`. */
const page = new URL('../../../', here).href;
const CACHE = `outspoke ${here.pathname}`;

async function keep() {
  const answer = await fetch(page, { cache: 'no-cache' });
  const text = await answer.clone().text();
  const named = [...text.matchAll(/(?:href|src)="(assets\/[^"]+)"/gu)].map((match) => new URL(/** @type {string} */ (match[1]), page).href);
  // The server has a newer build already: its page will bring its own worker.
  if (!answer.ok || !named.some((address) => address.startsWith(here.href))) throw new Error('another build');
  const cache = await caches.open(CACHE);
  await cache.addAll([...new Set([...named, ...LATER.map((name) => new URL(name, here).href)])]);
  await cache.put(page, answer);
  await worker.skipWaiting();
}

async function takeOver() {
  for (const name of await caches.keys()) if (name.startsWith('outspoke ') && name !== CACHE) await caches.delete(name);
  await worker.clients.claim();
}

/** @param {Request} request */
async function pageFor(request) {
  try {
    return await fetch(request);
  } catch (error) {
    const kept = await (await caches.open(CACHE)).match(page);
    if (kept) return kept;
    throw error;
  }
}

/** @param {Request} request */
async function fileFor(request) {
  return await (await caches.open(CACHE)).match(request) ?? fetch(request);
}

worker.addEventListener('install', (/** @type {any} */ event) => event.waitUntil(keep()));
worker.addEventListener('activate', (/** @type {any} */ event) => event.waitUntil(takeOver()));
worker.addEventListener('fetch', (/** @type {any} */ event) => {
  const { request } = event;
  const address = request.url.split(/[?#]/u)[0];
  if (request.method !== 'GET') return;
  if (request.mode === 'navigate' && address === page) event.respondWith(pageFor(request));
  else if (address.startsWith(new URL('../', here).href)) event.respondWith(fileFor(request));
});
