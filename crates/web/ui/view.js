/**
 * The chat as it is seen: its parts put together, what is dropped on it, said of it, and done with keys.
 *
 * Loaded by `main.js` beside the parts; knows the page's storage and address only by what it is given.
 */
import { effect } from '../shared/reactive.js';
import { append, byId, h } from '../shared/dom.js';
import { timeline } from './timeline.js';
import { composer } from './composer.js';
import { banner, bannerText, head, side } from './shell.js';

/** @import { Chat } from './chat.js' */
/** @typedef {(key: string, value?: string | null) => string | null} Memory */
/**
 * What the page knows of the world.
 * @typedef {{ browser: Memory, tab: Memory, clock: import('./types.js').Clock, roomInAddress: () => string }} Page
 */

/** @param {Chat} chat @param {Page} page */
export function show(chat, page) {
  const { browser, tab, clock, roomInAddress } = page;
  const { setting, setSetting } = settingsOf(browser);
  /** @type {import('./notices.js').Notices['notify']} */
  let notify = () => {};
  const noticed = () => import('./notices.js').then(({ notifications }) => {
    const notices = notifications(chat, browser);
    notify = notices.notify;
    return notices;
  });
  if (browser('notify')) void noticed();
  const openSettings = () => void Promise.all([import('./dialogs.js'), noticed()])
    .then(([{ settings }, notices]) => settings({ get: setting, set: setSetting, notifications: notices }));
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
  void announce(chat, (what) => notify(what), clock, setting);
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

/** @param {Page['browser']} browser @param {string} theme */
function setTheme(browser, theme) {
  browser('theme', theme === 'system' ? null : theme);
  if (theme === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

/** What the person chose, and how to choose. @param {Page['browser']} browser */
const settingsOf = (browser) => ({
  setting: (/** @type {string} */ key) => browser(key) ?? { theme: 'system', spoken: 'all' }[key] ?? '',
  setSetting(/** @type {string} */ key, /** @type {string} */ value) {
    if (key === 'theme') setTheme(browser, value);
    else browser(key, value);
  },
});

/** @param {Chat} chat @param {(what: { room: string, name: string, text: string, mentioned: boolean, direct: boolean }) => void} notify @param {Page['clock']} clock @param {(key: string) => string} setting */
async function announce(chat, notify, clock, setting) {
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
  chat.onHeard = notify;
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
