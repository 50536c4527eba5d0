/**
 * The page: who one is, where one is, and the parts put together.
 *
 * Reads the address, the storage and the browser's events; everything else gets them from here.
 */
import { effect } from './reactive.js';
import { append, byId, h } from './dom.js';
import { HubLink } from './link.js';
import { Chat, nameProblem } from './chat.js';
import { timeline } from './timeline.js';
import { composer } from './composer.js';
import { banner, bannerText, head, side } from './shell.js';

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

/** @param {string} theme */
function setTheme(theme) {
  browser('theme', theme === 'system' ? null : theme);
  if (theme === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
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
  show(chat);
  link.connect();
  document.documentElement.dataset['view'] = 'chat';
  byId('message').focus();
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

/** @param {Chat} chat */
function show(chat) {
  const notices = notifications(chat);
  const openSettings = () => void import('./dialogs.js').then(({ settings }) => settings({ get: setting, set: setSetting, notifications: notices }));
  const aside = side(chat, {
    settings: openSettings,
    goTo: (room) => { location.hash = room === chat.home.peek() ? '' : encodeURIComponent(room); },
    signOut: () => {
      for (const key of ['joined', 'token', 'unsent']) tab(key, null);
      chat.link.close();
      location.reload();
    },
  });
  const writing = composer(chat);
  const stage = h('div', { class: 'stage' }, banner(chat), timeline(chat));
  dropping(chat, stage, writing.attach);
  const openSearch = () => void import('./search.js').then(({ search }) => search(chat, stage));
  append(byId('chat'), [aside.slot, aside.sheet,
    h('main', { class: 'main' },
      head(chat, { openSide: aside.open, search: openSearch, where: () => void import('./where.js').then(({ where }) => where(chat)) }),
      stage, writing.view)]);
  void announce(chat, notices.notify);
  keys(chat, { side: aside.open, settings: openSettings, search: openSearch });
  effect(() => {
    const { unread } = chat.totals.value;
    document.title = `${unread > 0 ? `(${unread}) ` : ''}${chat.room.title} · Outspoke`;
  });
  // The address follows the room: one that was left or refused has none any more, and a conversation gets its name late.
  effect(() => {
    const room = chat.current.value;
    const wanted = room === chat.home.value ? '' : room;
    if (roomInAddress() !== wanted) history.replaceState(null, '', `${location.pathname}${location.search}${wanted && `#${encodeURIComponent(wanted)}`}`);
  });
}

/** Files can be dropped anywhere on the page, once the server has said that it takes any. @param {Chat} chat @param {HTMLElement} stage @param {(files: Iterable<File>) => Promise<void>} attach */
function dropping(chat, stage, attach) {
  const target = h('div', { class: 'drop', hidden: true }, () => `Drop files to send them to ${chat.room.title}`);
  stage.append(target);
  const carries = (/** @type {DragEvent} */ event) => chat.takesFiles.peek() && event.dataTransfer?.types.includes('Files') === true;
  let gone = 0;
  addEventListener('dragover', (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    target.hidden = false;
    clearTimeout(gone);
    // What is dragged out of the window says so unreliably; it keeps quiet reliably.
    gone = setTimeout(() => { target.hidden = true; }, 300);
  });
  addEventListener('drop', (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    target.hidden = true;
    void attach(event.dataTransfer?.files ?? []);
  });
  let asked = false;
  effect(() => {
    if (asked || chat.link.state.value.status !== 'online') return;
    asked = true;
    fetch('files', { method: 'OPTIONS', credentials: 'omit' }).then((answer) => { chat.takesFiles.value = answer.ok && answer.headers.has('Tus-Version'); }, () => { asked = false; });
  });
}

/** What the person chose. @param {string} key */
const setting = (key) => browser(key) ?? { theme: 'system', spoken: 'all' }[key] ?? '';

/** @param {string} key @param {string} value */
function setSetting(key, value) {
  if (key === 'theme') setTheme(value);
  else browser(key, value);
}

/** Notifications of the browser, for who wants them: of what is meant for us, while the page is not looked at. @param {Chat} chat */
function notifications(chat) {
  const possible = 'Notification' in window && isSecureContext;
  const notices = {
    possible,
    get on() { return possible && Notification.permission === 'granted' && browser('notify') === '1'; },
    /** @param {boolean} on */
    async set(on) {
      browser('notify', on ? '1' : null);
      if (!on) return 'Notifications are off.';
      if (await Notification.requestPermission() === 'granted') return 'Notifications are on.';
      browser('notify', null);
      return 'The browser does not let this page notify you. You can change that in the browser\u2019s settings for this page.';
    },
    /** @param {{ room: string, name: string, text: string, mentioned: boolean, direct: boolean }} what */
    notify({ room, name, text, mentioned, direct }) {
      if (!notices.on || !(mentioned || direct) || (!document.hidden && document.hasFocus())) return;
      try {
        const notification = new Notification(direct ? name : `${name} in #${room}`, { body: text.slice(0, 200), tag: room });
        notification.onclick = () => {
          window.focus();
          chat.open(room);
          notification.close();
        };
      } catch { /* some browsers allow it to service workers only */ }
    },
  };
  return notices;
}

/** @param {Chat} chat @param {(what: { room: string, name: string, text: string, mentioned: boolean, direct: boolean }) => void} notify */
async function announce(chat, notify) {
  // Each trouble is spoken once: the tries between it and its end are for the eyes only.
  const status = byId('status');
  let missed = 0;
  effect(() => {
    const state = chat.link.state.value;
    if (state.status === 'online') status.textContent &&= 'Back online.';
    else if (state.status !== 'connecting' && status.textContent !== bannerText(state)) status.textContent = bannerText(state);
    if (state.status !== 'online') missed = 0;
  });
  chat.onCaughtUp = (room, count) => {
    if (room !== chat.current.peek() || !status.textContent) return;
    missed += count;
    status.textContent = `Back online, ${missed} missed ${missed === 1 ? 'message' : 'messages'} loaded.`;
  };
  chat.onHeard = (what) => notify(what);
  const { Announcer } = await import('./announcer.js');
  const region = byId('announcer');
  const announcer = new Announcer((text) => {
    region.append(h('p', null, text));
    while (region.childElementCount > 3) region.firstElementChild?.remove();
  }, clock);
  chat.onHeard = (what) => {
    notify(what);
    const spoken = setting('spoken');
    const meant = what.mentioned || what.direct;
    if (spoken === 'none' || (spoken === 'mentions' && !meant)) return;
    if (!what.room || what.room === chat.current.peek()) announcer.message(what);
    else if (meant) announcer.message({ ...what, name: what.direct ? `${what.name}, in private` : `${what.name}, in ${what.room}` });
  };
}

/** @param {Chat} chat @param {{ side: () => void, settings: () => void, search: () => void }} open */
function keys(chat, open) {
  addEventListener('keydown', (event) => {
    const command = event.ctrlKey || event.metaKey;
    // Behind a dialog nothing is to be reached.
    const modal = document.querySelector('dialog[open]') !== null;
    if (event.key === 'F6' && !modal) nextPart(event.shiftKey ? -1 : 1);
    else if (event.key === '/' && command && !modal) open.settings();
    else if (event.key.toLowerCase() === 'f' && command && event.shiftKey && !modal) open.search();
    else if (event.key === 'k' && command) {
      open.side();
      byId('room-name').focus();
    } else if (event.altKey && !modal && (event.key === 'ArrowUp' || event.key === 'ArrowDown')) {
      const name = chat.neighbour(event.key === 'ArrowUp' ? -1 : 1);
      location.hash = name === chat.home.peek() ? '' : encodeURIComponent(name);
    } else return;
    event.preventDefault();
  });
}

/** F6 goes round the page's parts. @param {number} step */
function nextPart(step) {
  const parts = /** @type {HTMLElement[]} */ ([
    document.querySelector('.slot .rooms a'), document.querySelector('.slot .people button, .slot .part.grow'),
    document.querySelector('.room-head button:last-child'), byId('log'), byId('message'),
  ].filter(Boolean));
  const here = parts.findIndex((part) => (part.closest('section, nav, header, form') ?? part).contains(document.activeElement));
  parts[(Math.max(here, 0) + step + parts.length) % parts.length]?.focus();
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
