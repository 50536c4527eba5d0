/**
 * The log: what was said, in groups, days and lines; below it what is not confirmed yet.
 *
 * Shows `chat.js`'s room. Invariants: the view follows the newest message only while it stands at the bottom, and stays where it is
 * when older ones come; one tab stop, arrows inside; only text nodes, links made from `http(s)` addresses alone.
 */
import { batch, computed, effect, signal, untracked } from '../shared/reactive.js';
import { byId, h, icon, list } from '../shared/dom.js';

/** @import { Chat } from './chat.js' */
/** @import { Room } from './model.js' */
/** @import { Item, MessageItem, PresenceEntry, ProcessEntry, Unsent } from './types.js' */

const NEAR_BOTTOM_PX = 48;
/** So far from the top the page before is asked for. */
const NEAR_TOP_PX = 600;
const NAMES_SHOWN = 4;
const HUES = 8;
export const QUICK_REACTIONS = ['👍', '❤️', '😂', '🎉', '👀', '🙏'];

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

/** Text with its web addresses as links and what speaks to us marked; punctuation that ends a sentence is no part of an address. @param {string} text @param {string} [me] */
export function linked(text, me) {
  /** @type {(string | Node)[]} */
  const parts = [];
  let from = 0;
  for (const match of text.matchAll(/\bhttps?:\/\/[^\s<>"'`]+/giu)) {
    const address = match[0].replace(/[.,:;!?)\]}]+$/u, '');
    if (!URL.canParse?.(address)) continue;
    parts.push(...called(text.slice(from, match.index), me), h('a', { href: address, target: '_blank', rel: 'noopener noreferrer nofollow' }, address));
    from = match.index + address.length;
  }
  parts.push(...called(text.slice(from), me));
  return parts;
}

/** @param {string} text @param {string} [me] @returns {(string | Node)[]} */
function called(text, me) {
  const at = me ? text.toLocaleLowerCase().indexOf(`@${me.toLocaleLowerCase()}`) : -1;
  if (!me || at < 0) return [text];
  const end = at + me.length + 1;
  return [text.slice(0, at), h('mark', { class: 'mention' }, text.slice(at, end)), ...called(text.slice(end), me)];
}

/** @param {{ userId: string, name: string, mine: boolean, at?: number }} who */
function author({ userId, name, mine, at }) {
  return [avatar(userId, name),
    h('div', { class: 'meta' }, h('bdi', { class: 'name' }, name), mine && h('span', { class: 'tag' }, 'you'), at !== undefined && time(at))];
}

/** @param {Chat} chat @param {MessageItem} item */
function messageRow(chat, item) {
  const { room } = chat;
  const action = item.type === 'action';
  return h('li', { class: `message ${item.head && !action ? 'head' : 'more'}${item.mine ? ' mine' : ''}${item.mentioned ? ' mentioned' : ''}${action ? ' action' : ''}`, tabIndex: -1, 'data-key': item.key },
    item.head && !action
      ? author(item)
      : [h('span', { class: 'sr-only' }, h('bdi', null, item.name), ':'), h('span', { class: 'gutter' }, time(item.at))],
    body(chat, item),
    item.edited > 0 && !item.deleted && h('span', { class: 'edited', title: full.format(item.edited) }, 'edited'),
    item.reactions.length > 0 && reactions(chat, item),
    item.mine && !item.deleted && item.offset > 0 && mark(room, item));
}

/** @param {Chat} chat @param {MessageItem} item */
function body(chat, item) {
  if (item.deleted) return h('p', { class: 'text gone' }, 'This message was deleted.');
  const text = item.text !== '' && h('p', { class: 'text', dir: 'auto' }, item.type === 'action' && [h('bdi', { class: 'name' }, item.name), ' '], linked(item.text, item.mine ? '' : chat.me.name));
  const data = item.data !== null && h('div', { class: 'data' },
    item.type !== 'message' && h('span', { class: 'tag' }, item.type), h('pre', { class: 'text', dir: 'auto', tabIndex: 0 }, item.data));
  return [text, data, item.files.length > 0 && attachments(chat, item)];
}

/** Files are shown by a module of their own: most rooms have none. @param {Chat} chat @param {MessageItem} item */
function attachments(chat, item) {
  const place = h('div', { class: 'files' }, item.files.map(({ name }) => h('p', { class: 'file' }, name)));
  import('./files.js').then(({ attachment }) => place.replaceChildren(...item.files.map((file) => attachment(chat, item, file))), () => { /* the names are there */ });
  return place;
}

/** @param {readonly string[]} names */
function namesText(names) {
  const shown = names.slice(0, NAMES_SHOWN);
  const more = names.length - shown.length;
  if (more > 0) return `${shown.join(', ')} and ${more} more`;
  return shown.length < 2 ? shown.join('') : `${shown.slice(0, -1).join(', ')} and ${shown.at(-1)}`;
}

/** @param {Chat} chat @param {MessageItem} item */
function reactions(chat, item) {
  const people = chat.room.people.peek();
  return h('div', { class: 'reactions' }, item.reactions.map(({ reaction, users }) => {
    const mine = users.includes(chat.me.userId);
    const names = namesText(users.map((user) => (user === chat.me.userId ? 'you' : people.get(user)?.name ?? user)));
    return h('button', {
      type: 'button', class: 'reaction', 'aria-pressed': String(mine), title: names, 'aria-label': `${reaction} ${users.length}, from ${names}`, 'data-act': `react ${reaction}`,
      onclick: () => chat.react(item, reaction),
    }, h('bdi', null, reaction), h('span', { class: 'count' }, users.length));
  }));
}

/** @param {Room} room @param {MessageItem} item */
function mark(room, item) {
  const state = computed(() => {
    const { state: name, count } = room.mark(item.offset);
    return room.durability === 'none' ? 'sent' : name === 'seen' ? `seen ${count}` : name;
  });
  const seen = () => state.value.startsWith('seen');
  const text = () => (seen() ? `Seen by ${state.value.slice(5)}` : state.value === 'delivered' ? 'Delivered' : 'Sent');
  return h('span', {
    class: () => `mark ${state.value.split(' ')[0]}`,
    title: () => (seen() ? `Seen by ${namesText(room.seenBy(item.offset)) || state.value.slice(5)}` : text()),
  }, () => icon(state.value === 'sent' ? 'sent' : 'delivered'), h('span', { class: 'word' }, text));
}

/** "Ana and Ben joined", in the order they did. @param {Pick<PresenceEntry, 'events'>} item */
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

/** @param {ProcessEntry} item */
function processRow(item) {
  const card = h('div', { class: 'process' }, h('p', { class: 'fine' }, `Output of ${item.id}`));
  import('./log.js').then(({ processCard }) => card.replaceChildren(processCard(item)), () => { card.append(' cannot be shown: the page is not complete.'); });
  return h('li', { class: 'line process-line', tabIndex: -1, 'data-key': item.key }, card);
}

/** @param {Chat} chat @param {Item} item */
function row(chat, item) {
  switch (item.kind) {
    case 'message': return messageRow(chat, item);
    case 'day': return h('li', { class: 'day', tabIndex: -1 }, h('span', null, time(item.at, day)));
    case 'unread': return h('li', { class: 'unread-line', tabIndex: -1 }, h('span', null, 'New messages'));
    case 'presence': return h('li', { class: 'line', tabIndex: -1 }, h('span', { dir: 'auto' }, presenceText(item)), ' ', time(item.at));
    case 'note': return h('li', { class: `line note ${item.tone}`, tabIndex: -1 }, icon(item.tone === 'gap' ? 'gap' : 'server'), h('span', { dir: 'auto', class: 'words' }, item.text), ' ', time(item.at));
    case 'process': return processRow(item);
  }
}

const UNSENT = { queued: 'Not sent yet', sending: 'Sending …', sent: 'Sent', refused: 'Not sent.', unconfirmed: 'Not confirmed.' };

/** The row, and the button with it, is gone after this: the focus goes where one writes. @param {() => void} act */
function andBack(act) {
  act();
  byId('message').focus();
}

/** @param {Chat} chat @param {Unsent} entry */
function unsentRow(chat, entry) {
  const refused = entry.state === 'refused' || entry.state === 'unconfirmed';
  return h('li', { class: `message more mine unsent ${entry.state}`, tabIndex: -1 },
    h('span', { class: 'gutter', 'aria-hidden': 'true' }, icon(refused ? 'alert' : 'clock')),
    h('p', { class: 'text', dir: 'auto' }, linked(entry.text)),
    entry.files.map(({ name }) => h('p', { class: 'file' }, name)),
    h('p', { class: 'state' }, refused ? `${UNSENT[entry.state]} ${entry.why}` : UNSENT[entry.state],
      refused && h('button', { type: 'button', class: 'link', onclick: () => andBack(() => chat.retry(entry.id)) }, 'Try again'),
      (refused || entry.state === 'queued') && h('button', { type: 'button', class: 'link', onclick: () => andBack(() => chat.discard(entry.id)) }, 'Delete')));
}

/** What stands above the first message there is. @param {Chat} chat */
function beginning(chat) {
  const kept = () => (chat.room.durability === 'none' ? 'You see what is said from now on: this room keeps no history.'
    : chat.room.isPrivate ? 'Only the two of you can read what is said here.' : 'This is the beginning of what is kept here.');
  return h('div', { class: 'welcome', hidden: () => chat.room.older.value !== 'none' },
    h('h2', null, () => (chat.room.isPrivate ? `You and ${chat.room.title}` : `Welcome to #${chat.room.name}`)),
    h('p', null, () => (chat.room.joined.value, kept())),
    h('p', { hidden: () => !chat.openMode.value }, 'This server is in open mode: it takes names on trust, so anyone may call themselves anything.'));
}

/** @type {Record<string, string>} */
const OLDER = { loading: 'Loading …', failed: 'Older messages could not be loaded. Try again' };

/** @param {Chat} chat @param {() => void} load */
function olderPart(chat, load) {
  const state = computed(() => chat.room.older.value);
  return h('div', { class: 'older', hidden: () => state.value === 'none' || state.value === 'unknown' },
    h('button', { type: 'button', class: 'button small', 'aria-disabled': () => String(state.value === 'loading'), onclick: load },
      () => OLDER[state.value] ?? 'Load older'));
}

/** What can be done with a message, beside the one that is pointed at or has the focus. @param {Chat} chat @param {HTMLElement} log */
function actions(chat, log) {
  const target = signal(/** @type {{ item: MessageItem, row: HTMLElement } | null} */ (null));
  const current = () => /** @type {MessageItem} */ (target.peek()?.item);
  const back = () => /** @type {HTMLElement | null} */ (target.peek()?.row)?.focus();
  /** @param {string} name @param {string} label @param {() => void} run @param {() => boolean} [shown] */
  const button = (name, label, run, shown) => h('button', {
    type: 'button', class: 'icon-button', 'aria-label': label, title: label, tabIndex: -1, onclick: run, hidden: () => !(shown?.() ?? true),
  }, name.length > 2 ? icon(name) : h('span', { 'aria-hidden': 'true' }, name));
  const editable = () => target.value !== null && chat.canEdit(target.value.item);
  const bar = h('div', {
    class: 'actions', role: 'toolbar', 'aria-label': 'What to do with this message', hidden: () => target.value === null,
    onkeydown: (event) => {
      const buttons = [...bar.querySelectorAll('button')].filter((b) => !b.hidden);
      const at = buttons.indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step !== undefined) buttons[(at + step + buttons.length) % buttons.length]?.focus();
      else if (event.key === 'Escape') back();
      else if (!['ArrowUp', 'ArrowDown', 'Home', 'End'].includes(event.key)) return;
      event.preventDefault();
      event.stopPropagation();
    },
  },
  QUICK_REACTIONS.slice(0, 4).map((emoji) => button(emoji, `React with ${emoji}`, () => { chat.react(current(), emoji); back(); }, () => target.value !== null && !target.value.item.deleted)),
  button('smile', 'Another reaction', () => void import('./dialogs.js').then(({ pickReaction }) => pickReaction((emoji) => chat.react(current(), emoji))), () => target.value !== null && !target.value.item.deleted),
  button('copy', 'Copy text', () => { navigator.clipboard?.writeText(current().text || current().data || '').catch(() => {}); back(); }, () => target.value !== null && !target.value.item.deleted),
  button('edit', 'Edit', () => { chat.editing.value = current(); }, editable),
  button('trash', 'Delete', () => {
    const item = current();
    void import('./dialogs.js').then(({ confirm }) => confirm('Delete this message?', 'It disappears for everybody in the room.', 'Delete', () => chat.remove(item)));
  }, () => target.value !== null && target.value.item.mine && !target.value.item.deleted));
  /** @param {EventTarget | null} element */
  const look = (element) => {
    const row = element instanceof Element && !bar.contains(element) ? /** @type {HTMLElement | null} */ (element.closest('li.message[data-key]')) : undefined;
    if (row === undefined) return;
    const key = row?.dataset['key'];
    const item = key === undefined ? undefined : chat.room.items.peek().find((candidate) => candidate.key === key);
    if (!row || item?.kind !== 'message' || !chat.room.isCurrent(item)) {
      if (!bar.contains(document.activeElement)) target.value = null;
      return;
    }
    if (target.peek()?.row === row) return;
    target.value = { item, row };
    row.append(bar);
  };
  log.addEventListener('pointerover', (event) => look(event.target));
  log.addEventListener('pointerleave', () => { if (!log.contains(document.activeElement)) target.value = null; });
  log.addEventListener('focusin', (event) => look(event.target));
  log.addEventListener('focusout', (event) => { if (!log.contains(/** @type {Node | null} */ (event.relatedTarget)) && !log.matches(':hover')) target.value = null; });
  // A row that changed is another element: the bar goes over to it, or away.
  effect(() => {
    chat.room.items.value;
    untracked(() => queueMicrotask(() => {
      const was = target.peek();
      if (was && !was.row.isConnected) {
        target.value = null;
        const next = log.querySelector(`li.message[data-key="${CSS.escape(was.item.key)}"]`);
        if (next && (next.matches(':hover') || next.contains(document.activeElement))) look(next);
      }
    }));
  });
  return { focus: () => /** @type {HTMLElement | null} */ (bar.querySelector('button:not([hidden])'))?.focus() };
}

/** @param {Chat} chat */
export function timeline(chat) {
  const atBottom = signal(true);
  let shownTop = 0;
  const items = h('ol', { class: 'items' });
  const unsent = h('ol', { class: 'items pending', 'aria-label': 'Messages not confirmed yet' });
  const mine = computed(() => chat.unsent.value.filter((entry) => entry.room === chat.room.name && !entry.copy));
  const alone = computed(() => {
    const last = chat.room.items.value.at(-1);
    return mine.value.length > 0 && !(last?.kind === 'message' && last.mine);
  });
  const writer = h('div', { class: 'message head mine', hidden: () => !alone.value }, author({ ...chat.me, mine: true }));
  const loadOlder = () => void chat.loadOlder(chat.room);
  const inner = h('div', { class: 'inner' }, olderPart(chat, loadOlder), beginning(chat), items, writer, unsent);
  const log = h('div', {
    class: 'log', id: 'log', role: 'log', 'aria-live': 'off', tabIndex: 0,
    'aria-label': () => `Messages in ${chat.room.title}`,
    onscroll: () => {
      const near = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_BOTTOM_PX;
      // Only who moves up leaves the bottom: the event of our own jump comes a frame later, when rows may have followed it.
      if (near || log.scrollTop < shownTop) atBottom.value = near && !chat.room.detached.peek();
      if (log.scrollTop < shownTop && log.scrollTop < NEAR_TOP_PX && chat.room.older.peek() === 'more') loadOlder();
      shownTop = log.scrollTop;
    },
    onkeydown: (event) => {
      if (event.key === 'Enter' && event.target instanceof HTMLElement && event.target.matches('li.message')) {
        event.preventDefault();
        toolbar.focus();
      } else moveFocus(event, log);
    },
  }, inner);
  const toolbar = actions(chat, log);
  // Once per frame: measuring after each of many messages would lay the page out as often.
  let frame = 0;
  const toBottom = () => {
    atBottom.value = true;
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      if (atBottom.peek()) log.scrollTop = log.scrollHeight;
    });
  };

  list(items, () => chat.room.items.value, (item) => item.key, (item) => row(chat, item), () => keepPlace(log, items, atBottom.peek()));
  list(unsent, () => mine.value, (entry) => entry.id, (entry) => unsentRow(chat, entry));
  effect(() => { unsent.hidden = mine.value.length === 0; });

  let shownRoom = chat.room;
  let ownCount = 0;
  effect(() => {
    const { room } = chat;
    const sent = mine.value.length;
    room.items.value;
    const jump = room !== shownRoom || sent > ownCount;
    shownRoom = room;
    ownCount = sent;
    if (jump || atBottom.peek()) untracked(toBottom);
  });
  new ResizeObserver(() => { if (atBottom.peek()) toBottom(); }).observe(log);
  // What is short enough to be seen whole has no scrolling that could ask for more.
  effect(() => {
    if (chat.room.older.value === 'more') requestAnimationFrame(() => { if (log.scrollHeight <= log.clientHeight) loadOlder(); });
  });

  const looking = signal(!document.hidden && document.hasFocus());
  const look = () => { looking.value = !document.hidden && document.hasFocus(); };
  for (const name of ['focus', 'blur']) window.addEventListener(name, look);
  document.addEventListener('visibilitychange', look);
  effect(() => { chat.attending.value = looking.value && atBottom.value && !chat.room.detached.value; });

  const pill = h('button', {
    type: 'button', class: 'pill', hidden: () => atBottom.value && !chat.room.detached.value,
    onclick: () => batch(() => {
      if (chat.room.detached.peek()) void chat.latest(chat.room);
      toBottom();
      log.focus({ preventScroll: true });
    }),
  }, icon('down'), () => (chat.room.unread.value > 0 ? `${chat.room.unread.value} new` : 'Jump to latest'));
  return h('div', { class: 'timeline' }, log, pill);
}

/**
 * Before rows change: what is looked at stays where it is, and what has the focus keeps it.
 * @param {HTMLElement} log @param {HTMLElement} items @param {boolean} atBottom
 */
function keepPlace(log, items, atBottom) {
  const { activeElement } = document;
  const row = items.contains(activeElement) ? /** @type {HTMLElement | null} */ (/** @type {Element} */ (activeElement).closest('li')) : null;
  const key = row?.dataset['key'];
  const act = /** @type {HTMLElement} */ (activeElement)?.dataset?.['act'];
  const top = log.getBoundingClientRect().top;
  /** @type {{ element: Element, at: number, key: string | undefined } | null} */
  let anchor = null;
  if (!atBottom) {
    for (const element of items.children) {
      const box = element.getBoundingClientRect();
      if (box.bottom <= top) continue;
      anchor = { element, at: box.top, key: /** @type {HTMLElement} */ (element).dataset['key'] };
      // Days and lines may move within the list; messages do not.
      if (anchor.key !== undefined) break;
    }
  }
  /** @param {string | undefined} name */
  const rowOf = (name) => (name === undefined ? null : items.querySelector(`:scope > li[data-key="${CSS.escape(name)}"]`));
  return () => {
    if (row && !row.isConnected) {
      const next = rowOf(key);
      const button = act && next ? next.querySelector(`[data-act="${CSS.escape(act)}"]`) : null;
      /** @type {HTMLElement} */ (button ?? next ?? log).focus({ preventScroll: true });
    }
    // What else changes with the rows, such as the button above them, has changed by then.
    if (anchor) queueMicrotask(() => {
      const element = anchor.element.isConnected ? anchor.element : rowOf(anchor.key);
      if (element) log.scrollTop += element.getBoundingClientRect().top - anchor.at;
    });
  };
}

/** Arrows, Home and End walk the rows. @param {KeyboardEvent} event @param {HTMLElement} log */
function moveFocus(event, log) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const rows = /** @type {HTMLElement[]} */ ([...log.querySelectorAll('.items > li[tabindex]')]);
  const here = rows.findIndex((element) => element.contains(document.activeElement));
  const last = rows.length - 1;
  const there = { ArrowUp: here < 0 ? last : here - 1, ArrowDown: here < 0 ? last : here + 1, Home: 0, End: last }[event.key];
  if (there === undefined) return;
  event.preventDefault();
  rows[Math.min(Math.max(there, 0), last)]?.focus();
}
