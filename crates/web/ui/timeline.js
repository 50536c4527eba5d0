/**
 * The log: what was said, in groups, days and lines; below it what is not confirmed yet.
 *
 * Shows `chat.js`'s room. Invariants: the view follows the newest message only while it stands at the
 * bottom; one tab stop, arrows inside; only text nodes, links made from `http(s)` addresses alone.
 */
import { batch, computed, effect, signal } from './reactive.js';
import { byId, h, icon, list } from './dom.js';

/** @import { Chat } from './chat.js' */
/** @import { Item, MessageItem, PresenceItem, Unsent } from './types.js' */

const NEAR_BOTTOM_PX = 48;
const NAMES_SHOWN = 4;
const HUES = 8;

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });
const day = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const { locale } = clock.resolvedOptions();

/** @param {number} at @param {Intl.DateTimeFormat} [format] */
export function time(at, format = clock) {
  return h('time', { datetime: new Date(at).toISOString(), title: full.format(at), lang: locale }, format.format(at));
}

/** @param {string} userId @param {string} name */
export function avatar(userId, name) {
  let hash = 0;
  for (let i = 0; i < userId.length; i += 1) hash = (hash * 31 + userId.charCodeAt(i)) >>> 0;
  const initial = [...name.trim()][0] ?? '?';
  return h('span', { class: `avatar hue-${hash % HUES}`, 'aria-hidden': 'true' }, initial.toUpperCase());
}

/** Text with its web addresses as links; punctuation that ends a sentence is no part of one. @param {string} text */
export function linked(text) {
  /** @type {(string | Node)[]} */
  const parts = [];
  let from = 0;
  for (const match of text.matchAll(/\bhttps?:\/\/[^\s<>"'`]+/giu)) {
    const address = match[0].replace(/[.,:;!?)\]}]+$/u, '');
    if (!URL.canParse?.(address)) continue;
    parts.push(text.slice(from, match.index), h('a', { href: address, target: '_blank', rel: 'noopener noreferrer nofollow' }, address));
    from = match.index + address.length;
  }
  parts.push(text.slice(from));
  return parts;
}

/** @param {{ userId: string, name: string, mine: boolean, at?: number }} who */
function author({ userId, name, mine, at }) {
  return [avatar(userId, name),
    h('div', { class: 'meta' }, h('bdi', { class: 'name' }, name), mine && h('span', { class: 'tag' }, 'you'), at !== undefined && time(at))];
}

/** @param {MessageItem} item */
function messageRow(item) {
  return h('li', { class: `message ${item.head ? 'head' : 'more'}${item.mine ? ' mine' : ''}`, tabIndex: -1 },
    item.head
      ? author(item)
      : [h('span', { class: 'sr-only' }, h('bdi', null, item.name), ':'), h('span', { class: 'gutter' }, time(item.at))],
    h('p', { class: 'text', dir: 'auto' }, linked(item.text)));
}

/** "Ana and Ben joined", in the order they did. @param {PresenceItem} item */
export function presenceText(item) {
  /** @type {{ joined: boolean, names: string[] }[]} */
  const runs = [];
  for (const { name, joined } of item.events) {
    const last = runs.at(-1);
    if (last && last.joined === joined) last.names.push(name);
    else runs.push({ joined, names: [name] });
  }
  return runs.map(({ joined, names }) => `${namesText(names)} ${joined ? 'joined' : 'left'}`).join(' · ');
}

/** @param {string[]} names */
function namesText(names) {
  const shown = names.slice(0, NAMES_SHOWN);
  const more = names.length - shown.length;
  if (more > 0) return `${shown.join(', ')} and ${more} more`;
  return shown.length < 2 ? shown.join('') : `${shown.slice(0, -1).join(', ')} and ${shown.at(-1)}`;
}

/** @param {Item} item */
function row(item) {
  switch (item.kind) {
    case 'message': return messageRow(item);
    case 'day': return h('li', { class: 'day', tabIndex: -1 }, h('span', null, time(item.at, day)));
    case 'unread': return h('li', { class: 'unread-line', tabIndex: -1 }, h('span', null, 'New messages'));
    case 'presence': return h('li', { class: 'line', tabIndex: -1 }, h('span', { dir: 'auto' }, presenceText(item)), ' ', time(item.at));
    case 'note': return h('li', { class: `line note ${item.tone}`, tabIndex: -1 }, icon(item.tone === 'gap' ? 'gap' : 'server'), h('span', { dir: 'auto' }, item.text), ' ', time(item.at));
  }
}

const UNSENT = {
  queued: 'Not sent yet', sending: 'Sending …', sent: 'Sent',
  unsure: 'The connection broke: this may not have been sent.', refused: 'Not sent.',
};

/** The row, and the button with it, is gone after this: the focus goes where one writes. @param {() => void} act */
function andBack(act) {
  act();
  byId('message').focus();
}

/** @param {Chat} chat @param {Unsent} entry */
function unsentRow(chat, entry) {
  const stuck = entry.state === 'unsure' || entry.state === 'refused';
  return h('li', { class: `message more mine unsent ${entry.state}`, tabIndex: -1 },
    h('span', { class: 'gutter', 'aria-hidden': 'true' }, icon(stuck ? 'alert' : 'clock')),
    h('p', { class: 'text', dir: 'auto' }, linked(entry.text)),
    h('p', { class: 'state' }, entry.state === 'refused' ? `${UNSENT.refused} ${entry.why}` : entry.why || UNSENT[entry.state],
      stuck && h('button', { type: 'button', class: 'link', onclick: () => andBack(() => chat.retry(entry.id)) }, entry.state === 'unsure' ? 'Send again' : 'Try again'),
      (stuck || entry.state === 'queued') && h('button', { type: 'button', class: 'link', onclick: () => andBack(() => chat.outbox.remove(entry.id)) }, 'Delete')));
}

/** @param {Chat} chat */
function welcomeCard(chat) {
  return h('div', { class: 'welcome' },
    h('h2', null, () => `Welcome to #${chat.room.name}`),
    h('p', null, 'You see what is said from now on: this room keeps no history.'),
    h('p', { hidden: () => !chat.openMode.value }, 'This server is in open mode: it takes names on trust, so anyone may call themselves anything.'));
}

/** @param {Chat} chat */
export function timeline(chat) {
  const atBottom = signal(true);
  let shownTop = 0;
  const items = h('ol', { class: 'items' });
  const unsent = h('ol', { class: 'items pending', 'aria-label': 'Messages not confirmed yet' });
  const mine = computed(() => chat.outbox.entries.value
    .filter((entry) => entry.room === chat.room.name && !(entry.state === 'sending' && entry.messageId)));
  const alone = computed(() => {
    const last = chat.room.items.value.at(-1);
    return mine.value.length > 0 && !(last?.kind === 'message' && last.mine);
  });
  const writer = h('div', { class: 'message head mine', hidden: () => !alone.value }, author({ ...chat.me, mine: true }));
  const inner = h('div', { class: 'inner' }, welcomeCard(chat), items, writer, unsent);
  const log = h('div', {
    class: 'log', id: 'log', role: 'log', 'aria-live': 'off', tabIndex: 0,
    'aria-label': () => `Messages in ${chat.room.name}`,
    onscroll: () => {
      const near = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_BOTTOM_PX;
      // Only who moves up leaves the bottom: the event of our own jump comes a frame later, when rows may have followed it.
      if (near || log.scrollTop < shownTop) atBottom.value = near;
      shownTop = log.scrollTop;
    },
    onkeydown: (event) => moveFocus(event, log),
  }, inner);
  // Once per frame: measuring after each of many messages would lay the page out as often.
  let frame = 0;
  const toBottom = () => {
    atBottom.value = true;
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      if (atBottom.peek()) log.scrollTop = log.scrollHeight;
    });
  };

  list(items, () => chat.room.items.value, (item) => item.key, row);
  list(unsent, () => mine.value, (entry) => entry.id, (entry) => unsentRow(chat, entry));
  effect(() => { unsent.hidden = mine.value.length === 0; });

  let shownRoom = chat.room;
  let ownCount = 0;
  effect(() => {
    const room = chat.room;
    const sent = mine.value.length;
    room.items.value;
    const jump = room !== shownRoom || sent > ownCount;
    shownRoom = room;
    ownCount = sent;
    if (jump || atBottom.peek()) toBottom();
  });
  new ResizeObserver(() => { if (atBottom.peek()) toBottom(); }).observe(log);

  const looking = signal(!document.hidden && document.hasFocus());
  const look = () => { looking.value = !document.hidden && document.hasFocus(); };
  for (const name of ['focus', 'blur']) window.addEventListener(name, look);
  document.addEventListener('visibilitychange', look);
  effect(() => { chat.attending.value = looking.value && atBottom.value; });

  const pill = h('button', {
    type: 'button', class: 'pill', hidden: () => atBottom.value,
    onclick: () => batch(() => {
      toBottom();
      log.focus({ preventScroll: true });
    }),
  }, icon('down'), () => (chat.room.unread.value > 0 ? `${chat.room.unread.value} new` : 'Jump to latest'));
  return h('div', { class: 'timeline' }, log, pill);
}

/** Arrows, Home and End walk the rows. @param {KeyboardEvent} event @param {HTMLElement} log */
function moveFocus(event, log) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const rows = /** @type {HTMLElement[]} */ ([...log.querySelectorAll('li[tabindex]')]);
  const here = rows.findIndex((element) => element.contains(document.activeElement));
  const last = rows.length - 1;
  const there = { ArrowUp: here < 0 ? last : here - 1, ArrowDown: here < 0 ? last : here + 1, Home: 0, End: last }[event.key];
  if (there === undefined) return;
  event.preventDefault();
  rows[Math.min(Math.max(there, 0), last)]?.focus();
}
