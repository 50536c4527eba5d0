/**
 * The page: who one is, where one is, and a connection.
 *
 * Reads the address, the storage and the browser's events; everything else gets them from here. What the chat looks like
 * (`view.js`) is not waited for: it comes while somebody types a name, or while the connection is made.
 */
import { effect } from '../shared/reactive.js';
import { byId } from '../shared/dom.js';
import { HubLink } from './link.js';
import { Chat, nameProblem } from './chat.js';

/** All at once: the first names the others. */
const view = Promise.all([import('./view.js'), import('./timeline.js'), import('./composer.js'), import('./shell.js')]);
// Whoever needs it says what is wrong.
view.catch(() => {});

/** Storage that may be forbidden: then things are remembered until the page closes. @param {() => Storage} open */
function memory(open) {
  /** @type {Map<string, string>} */
  const fallback = new Map();
  /** @param {string} key @param {string | null} [value] @returns {string | null} */
  return (key, value) => {
    const name = `outspoke.${key}`;
    try {
      if (value === undefined) return open().getItem(name);
      if (value === null) open().removeItem(name);
      else open().setItem(name, value);
    } catch {
      if (value === undefined) return fallback.get(name) ?? null;
      if (value === null) fallback.delete(name);
      else fallback.set(name, value);
    }
    return value;
  };
}
const browser = memory(() => localStorage);
const tab = memory(() => sessionStorage);

/** `crypto.randomUUID` needs HTTPS; this does not. @param {number} length */
function randomId(length) {
  const bytes = crypto.getRandomValues(new Uint8Array(length));
  return Array.from(bytes, (byte) => (byte % 36).toString(36)).join('');
}

function userId() {
  return browser('user') ?? browser('user', randomId(16)) ?? '';
}

/**
 * This tab's own name. A duplicated tab copies the storage, and two tabs with one name would throw each
 * other out: so it is taken out of the storage while the page lives and put back when it goes.
 */
function deviceId() {
  const device = tab('device') ?? randomId(12);
  tab('device', null);
  addEventListener('pagehide', () => tab('device', device));
  addEventListener('pageshow', (event) => { if (event.persisted) tab('device', null); });
  return device;
}

/** Close codes that say that the credential is not accepted any more. */
const REVOKED = Object.freeze([4503, 4504]);

/** @type {import('./types.js').Clock} */
const clock = {
  now: () => Date.now(),
  setTimeout: (run, ms) => setTimeout(run, ms),
  clearTimeout: (timer) => clearTimeout(/** @type {number} */ (timer)),
};

/** Where to connect. A token says who one is; without one the address does. @param {string | null} name */
function address(name) {
  const url = new URL('ws', document.baseURI);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  url.hash = '';
  url.search = name === null ? '' : new URLSearchParams({ userId: userId(), username: name }).toString();
  return url;
}

/** Who comes for the first time learns from the server which room is everybody's; later it is one of our own. */
class HomingWebSocket extends WebSocket {
  /** @param {string} address @param {string[]} protocols */
  constructor(address, protocols) {
    const url = new URL(address);
    if (browser('home') === null) url.searchParams.delete('join');
    super(url, protocols);
  }
}

/** Whether the server believes names; `null`: it cannot be asked. */
async function isOpen() {
  try {
    const answer = await fetch('health', { cache: 'no-store', credentials: 'omit' });
    return (await answer.json()).open !== false;
  } catch {
    return null;
  }
}

/** A link may bring a token (`#token=...`): it is taken out of the address at once, so that it is in no history. */
function tokenInAddress() {
  const token = /^#token=(.+)$/u.exec(location.hash)?.[1];
  if (!token) return;
  tab('token', decodeURIComponent(token));
  tab('joined', '1');
  history.replaceState(null, '', location.pathname + location.search);
}

function roomInAddress() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return '';
  }
}

/** Asks who one is: for a name, or for a token once the server says that it believes no names. @param {string} problem */
function join(problem) {
  let asked = 'name';
  const input = () => /** @type {HTMLInputElement} */ (byId(asked));
  const complain = (/** @type {string} */ text) => {
    byId(`${asked}-problem`).textContent = text;
    input().setAttribute('aria-invalid', text ? 'true' : 'false');
  };
  const ask = (/** @type {string} */ what) => {
    asked = what;
    for (const other of ['name', 'token']) {
      for (const part of ['part', 'hint']) byId(`${other}-${part}`).hidden = other !== what;
    }
    input().addEventListener('input', () => complain(''));
    input().focus();
    input().select();
  };
  /** @type {HTMLInputElement} */ (byId('name')).value ||= browser('name') ?? '';
  document.documentElement.dataset.view = 'join';
  ask(problem ? 'token' : 'name');
  complain(problem);
  if (!problem) void isOpen().then((open) => { if (open === false) ask('token'); });
  byId('join').addEventListener('submit', (event) => {
    event.preventDefault();
    const said = input().value.trim().replace(/\s+/gu, ' ');
    const wrong = asked === 'name' ? nameProblem(said) : said ? '' : 'Please enter a token.';
    complain(wrong);
    if (wrong) return input().focus();
    tab('joined', '1');
    if (asked === 'name') {
      browser('name', said);
      return enter(said);
    }
    tab('token', said);
    input().value = '';
    enter(null);
  });
}

/** @param {string | null} name without one the tab has a token */
function enter(name) {
  const device = deviceId();
  const token = tab('token');
  const credential = name === null && token !== null ? { token } : {};
  const link = new HubLink(address(name), { device, ...credential, env: { WebSocket: HomingWebSocket } });
  if (name === null) askAgainWhenRefused(link);
  const chat = new Chat(link, { userId: name === null ? '' : userId(), name: name ?? '' }, { clock, memory: browser, tab, randomId, files: { hub: address(name), options: credential } });
  const goTo = () => chat.open(roomInAddress() || chat.home.peek());
  addEventListener('hashchange', goTo);
  goTo();
  link.connect();
  view.then(([{ show }]) => {
    show(chat, { browser, tab, clock, roomInAddress });
    document.documentElement.dataset['view'] = 'chat';
    byId('message').focus();
  }).catch((error) => {
    link.close();
    document.documentElement.dataset['view'] = 'join';
    byId('name-problem').textContent = 'The chat could not be loaded. Reload the page to try again.';
    throw error;
  });
}

/**
 * A token that is not accepted, or not any more, is forgotten, and the page begins anew. Browsers do not say why a socket did
 * not open: a server that answers questions, and will not have us twice, refuses the token.
 * @param {HubLink} link
 */
function askAgainWhenRefused(link) {
  let refusals = 0;
  const again = (/** @type {string} */ why) => {
    link.close();
    tab('token', null);
    tab('joined', null);
    tab('problem', why);
    location.reload();
  };
  effect(() => {
    const state = link.state.value;
    if (state.status === 'online') refusals = 0;
    if (state.status === 'closed' && REVOKED.includes(state.code)) again(`This token is not accepted any more: ${state.reason}.`);
    if (state.status !== 'offline' || state.cause !== 'unreachable') return;
    void isOpen().then((open) => {
      if (open === false) refusals += 1;
      if (refusals === 2) again('The server did not let this token in. Ask for another one.');
    });
  });
}

/** Keeps the page for when there is no network. The one address that Trusted Types are asked for is the worker's. */
function keepPage() {
  if (!isSecureContext || !('serviceWorker' in navigator)) return;
  const address = new URL('sw.js', import.meta.url).href;
  /** @type {{ createPolicy?(name: string, rules: { createScriptURL(text: string): string }): { createScriptURL(text: string): any } } | undefined} */
  const types = /** @type {any} */ (window).trustedTypes;
  const policy = types?.createPolicy?.('outspoke', {
    createScriptURL: (text) => {
      if (text !== address) throw new TypeError(`${text} is no script of this page`);
      return text;
    },
  });
  navigator.serviceWorker.register(policy?.createScriptURL(address) ?? address, { scope: new URL('.', document.baseURI).pathname })
    .catch(() => { /* a private window, or another build: the page works as well without */ });
}

function begin() {
  addEventListener('load', () => setTimeout(keepPage, 1_000));
  const remembered = browser('name');
  tokenInAddress();
  if (tab('joined') && tab('token')) return enter(null);
  if (tab('joined') && remembered && !nameProblem(remembered)) return enter(remembered);
  const problem = tab('problem') ?? '';
  tab('problem', null);
  join(problem);
}
begin();
