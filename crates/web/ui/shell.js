/**
 * What stands around the log: rooms and people at the side, the room's head, the connection's banner.
 *
 * Shows `chat.js` and its connection; decides nothing. The side is a column where there is room and a modal dialog where there is
 * none: the same element moves between the two.
 */
import { computed, effect, signal } from '../shared/reactive.js';
import { byId, h, icon, list } from '../shared/dom.js';
import { isListed } from './chat.js';
import { avatar, time } from './timeline.js';

/** @import { Chat } from './chat.js' */
/** @import { Room } from './model.js' */
/** @import { ConnectionState, Person } from './types.js' */

const WIDE = '(min-width: 52rem)';
const PEOPLE_SHOWN = 200;
/** A wait that short is not worth a countdown: it would only flicker. */
const SOON_MS = 1_000;

/** @param {ConnectionState} state @returns {{ tone: string, word: string }} */
export function statusOf(state) {
  switch (state.status) {
    case 'online': return { tone: 'good', word: 'Connected' };
    case 'offline': return { tone: 'bad', word: 'Offline' };
    case 'closed': return { tone: 'bad', word: 'Disconnected' };
    default: return { tone: 'wait', word: 'Connecting' };
  }
}

/** What the banner says; '' for none. @param {ConnectionState} state */
export function bannerText(state) {
  if (state.status === 'connecting') return state.attempt > 0 ? 'Reconnecting …' : '';
  if (state.status === 'closed') return closedText(state.code, state.reason);
  if (state.status !== 'offline') return '';
  switch (state.cause) {
    case 'network': return 'You are offline.';
    case 'silence': return 'The server does not answer.';
    case 'server': return 'The connection was closed.';
    case 'unreachable': return 'The server cannot be reached.';
  }
}

/** @param {number} code @param {string} reason */
function closedText(code, reason) {
  if (code === 4500) return 'This chat was opened somewhere else, so this page was disconnected.';
  if (code === 4501) return 'The server ended this connection.';
  return `The server ended this connection: ${reason || `code ${code}`}.`;
}

/** @param {ConnectionState} state @param {number} now */
export function countdownText(state, now) {
  if (state.status !== 'offline' || state.retryAt === null) return '';
  const left = state.retryAt - now;
  return left <= SOON_MS ? 'Reconnecting …' : `Next try in ${Math.ceil(left / 1000)} s.`;
}

/** @param {number} count */
function waitingText(count) {
  if (count === 0) return '';
  return count === 1 ? '1 message waits to be sent.' : `${count} messages wait to be sent.`;
}

/** @param {Chat} chat */
export function banner(chat) {
  const { link } = chat;
  const text = computed(() => bannerText(link.state.value));
  const waiting = computed(() => chat.unsent.value.filter((entry) => entry.state === 'queued').length);
  const countdown = signal('');
  /** @type {ReturnType<typeof setInterval> | undefined} */
  let timer;
  effect(() => {
    const state = link.state.value;
    const tick = () => { countdown.value = countdownText(state, chat.world.clock.now()); };
    tick();
    clearInterval(timer);
    if (state.status === 'offline' && state.retryAt !== null) timer = setInterval(tick, 250);
  });
  const closed = () => link.state.value.status === 'closed';
  return h('div', { class: () => `banner ${closed() ? 'closed' : ''}`, hidden: () => text.value === '' },
    icon('unplugged'),
    h('div', { class: 'words' },
      () => text.value, ' ', () => (closed() ? '' : waitingText(waiting.value)), ' ',
      h('span', { class: 'countdown', 'aria-hidden': 'true' }, () => countdown.value)),
    h('button', {
      type: 'button', class: 'button small', onclick: () => link.connect(),
      hidden: () => link.state.value.status === 'connecting',
    }, () => (closed() ? 'Reconnect here' : 'Try now')));
}

/** @param {Chat} chat @param {{ openSide: () => void, search: () => void, where: () => void }} actions */
export function head(chat, { openSide, search, where }) {
  const status = computed(() => statusOf(chat.link.state.value));
  const sub = () => {
    const { room } = chat;
    if (room.isPrivate) return room.people.value.get(room.peer.value)?.here ? 'Private conversation, here now' : 'Private conversation';
    return [peopleText(room.members.value), room.topic.value].filter(Boolean).join(' · ') || '\u00a0';
  };
  return h('header', { class: 'room-head' },
    h('button', { type: 'button', class: 'icon-button menu', 'aria-label': () => (chat.totals.value.unread > 0 ? `Rooms and people, ${chat.totals.value.unread} unread` : 'Rooms and people'), onclick: openSide },
      icon('menu'), h('span', { class: 'spot', hidden: () => chat.totals.value.unread === 0 })),
    h('div', { class: 'title' },
      h('h1', null, h('span', { class: 'hash', 'aria-hidden': 'true', hidden: () => chat.room.isPrivate }, '#'), h('bdi', null, () => chat.room.title)),
      h('p', { class: 'sub ellipsis', title: () => chat.room.topic.value }, sub)),
    h('span', { class: 'chip open-mode', hidden: () => !chat.openMode.value, title: 'This server takes names on trust: anyone may call themselves anything.' }, 'Open mode'),
    h('span', { class: () => `chip status ${status.value.tone}` }, h('span', { class: 'dot', 'aria-hidden': 'true' }), h('span', { class: 'word' }, () => status.value.word)),
    h('button', { type: 'button', class: 'icon-button', 'aria-label': 'Who is where', title: 'Who is where', onclick: where }, icon('nodes')),
    h('button', { type: 'button', class: 'icon-button', 'aria-label': 'Search in this room', title: 'Search (Ctrl + Shift + F)', onclick: search }, icon('search')));
}

/** @param {number | null} count */
function peopleText(count) {
  if (count === null) return '';
  return count === 1 ? 'Only you are here' : `${count} people`;
}

/** @param {Chat} chat @param {(name: string) => void} goTo */
function roomList(chat, goTo) {
  const rooms = h('ul', { class: 'rooms' });
  list(rooms, () => [...chat.rooms.value.values()].filter((room) => isListed(room) && !room.isPrivate), (room) => room.name, (room) => roomRow(chat, room));
  const input = h('input', { id: 'room-name', class: 'input', placeholder: 'Join a room', autocomplete: 'off', maxLength: 100, 'aria-label': 'Name of a room to join', spellcheck: false });
  const join = (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const name = input.value.trim().replace(/^#/u, '');
    if (!name) return input.focus();
    input.value = '';
    goTo(name);
  };
  return h('nav', { class: 'part', 'aria-labelledby': 'rooms-title' },
    h('h2', { id: 'rooms-title' }, 'Rooms'), rooms,
    h('form', { class: 'room-form', onsubmit: join }, input,
      h('button', { type: 'submit', class: 'icon-button', 'aria-label': 'Join room' }, icon('plus'))));
}

/** @param {Chat} chat */
function conversations(chat) {
  const rows = h('ul', { class: 'rooms' });
  const shown = computed(() => [...chat.rooms.value.values()].filter((room) => room.isPrivate));
  list(rows, () => shown.value, (room) => room.name, (room) => roomRow(chat, room));
  return h('nav', { class: 'part', 'aria-labelledby': 'private-title', hidden: () => shown.value.length === 0 }, h('h2', { id: 'private-title' }, 'Private'), rows);
}

/** Its row, and the button with it, is gone after this: the focus goes to the room that is looked at. @param {Chat} chat @param {string} name */
function leave(chat, name) {
  chat.leave(name);
  const link = /** @type {HTMLElement | null} */ (document.querySelector('.rooms [aria-current="page"]'));
  link?.focus();
  if (document.activeElement !== link) byId('message').focus();
}

/** @param {Chat} chat @param {Room} room */
function roomRow(chat, room) {
  const here = computed(() => chat.current.value === room.name);
  const urgent = () => room.isPrivate || room.mentions.value > 0;
  return h('li', { class: () => `${here.value ? 'here' : ''} ${room.unread.value > 0 ? 'news' : ''}` },
    h('a', { href: room.name === chat.home.peek() ? '#' : `#${encodeURIComponent(room.name)}`, 'aria-current': () => (here.value ? 'page' : null) },
      () => (room.isPrivate ? avatar(room.peer.value, room.title) : h('span', { class: 'hash', 'aria-hidden': 'true' }, '#')), h('bdi', { class: 'ellipsis' }, () => room.title),
      h('span', { class: () => `badge ${urgent() ? 'urgent' : ''}`, hidden: () => room.unread.value === 0 },
        () => (room.unread.value > 99 ? '99+' : room.unread.value), h('span', { class: 'sr-only' }, () => (room.mentions.value > 0 ? ' unread, you are mentioned' : ' unread')))),
    room.name !== chat.home.peek()
      && h('button', { type: 'button', class: 'icon-button quiet', 'aria-label': () => `Leave ${room.title}`, title: 'Leave', onclick: () => leave(chat, room.name) }, icon('close')));
}

/** @param {Person} person */
function presenceOf(person) {
  const devices = person.clients.size;
  if (!person.here) return h('span', { class: 'state' }, 'seen ', time(person.seenAt));
  const here = devices > 1 ? `here, on ${devices} devices` : 'here';
  return h('span', { class: 'state here', title: here }, h('span', { class: 'sr-only' }, here));
}

/** Stays the same element while the person changes, so that it keeps the focus. @param {Chat} chat @param {string} userId @param {(person: Person) => void} write */
function personRow(chat, userId, write) {
  const me = userId === chat.me.userId;
  let last = /** @type {Person} */ (chat.room.people.peek().get(userId));
  const now = computed(() => {
    last = chat.room.people.value.get(userId) ?? last;
    return last;
  });
  const name = computed(() => now.value.name);
  const inside = [() => avatar(userId, name.value), h('bdi', { class: 'ellipsis' }, () => name.value), me && h('span', { class: 'tag' }, 'you'), () => presenceOf(now.value)];
  return h('li', { class: () => (now.value.here ? 'here' : 'away') },
    me ? h('div', { class: 'person' }, inside)
      : h('button', { type: 'button', class: 'person', title: () => `Write to ${name.value} in private`, onclick: () => write(last) }, inside));
}

/** Before rows move: what has the focus keeps it. @param {HTMLElement} rows */
function keepFocus(rows) {
  const focused = /** @type {HTMLElement | null} */ (document.activeElement);
  return () => { if (focused !== document.activeElement && rows.contains(focused)) focused?.focus({ preventScroll: true }); };
}

/** @param {Chat} chat @param {(person: Person) => void} write */
function people(chat, write) {
  const everyone = computed(() => [...chat.room.people.value.values()].sort((a, b) =>
    Number(b.userId === chat.me.userId) - Number(a.userId === chat.me.userId) || Number(b.here) - Number(a.here) || a.name.localeCompare(b.name)));
  const rows = h('ul', { class: 'people' });
  list(rows, () => everyone.value.slice(0, PEOPLE_SHOWN).map((person) => person.userId), (userId) => userId, (userId) => personRow(chat, userId, write), () => keepFocus(rows));
  const unknown = computed(() => {
    const here = everyone.value.filter((person) => person.here).length;
    const others = (chat.room.members.value ?? 0) - here;
    return others > 0 ? `and ${others} more` : '';
  });
  return h('section', { class: 'part grow', 'aria-labelledby': 'people-title' },
    h('h2', { id: 'people-title' }, 'People'), rows,
    h('p', { class: 'fine' }, () => unknown.value));
}

/**
 * @param {Chat} chat
 * @param {{ goTo: (name: string) => void, settings: () => void, signOut: () => void }} actions
 */
export function side(chat, actions) {
  const write = (/** @type {Person} */ { userId, name }) => {
    actions.goTo(chat.openDirect(userId, name));
    document.getElementById('message')?.focus();
  };
  const column = h('aside', { class: 'side', 'aria-label': 'Rooms and people' },
    h('div', { class: 'brand' }, icon('logo'), h('span', null, 'Outspoke')),
    roomList(chat, actions.goTo), conversations(chat), people(chat, write),
    h('div', { class: 'me' },
      avatar(chat.me.userId, chat.me.name), h('bdi', { class: 'ellipsis name' }, chat.me.name),
      h('button', { type: 'button', class: 'icon-button', 'aria-label': 'Settings and keys', title: 'Settings and keys (Ctrl + /)', onclick: actions.settings }, icon('settings')),
      h('button', { type: 'button', class: 'icon-button', 'aria-label': 'Leave the chat', title: 'Leave the chat', onclick: actions.signOut }, icon('leave'))));
  const sheet = h('dialog', { class: 'sheet', 'aria-label': 'Rooms and people', onclick: (event) => { if (event.target === sheet) sheet.close(); } },
    h('button', { type: 'button', class: 'icon-button shut', 'aria-label': 'Close', onclick: () => sheet.close() }, icon('close')));
  const slot = h('div', { class: 'slot' });
  const media = matchMedia(WIDE);
  const place = () => {
    sheet.close();
    (media.matches ? slot : sheet).append(column);
  };
  media.addEventListener('change', place);
  place();
  effect(() => {
    chat.current.value;
    sheet.close();
  });
  return { slot, sheet, open: () => { if (!media.matches) sheet.showModal(); } };
}
