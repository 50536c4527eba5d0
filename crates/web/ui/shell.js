/**
 * What stands around the log: rooms and people at the side, the room's head, the connection's banner.
 *
 * Shows `chat.js` and `connection.js`; decides nothing. The side is a column where there is room and a
 * modal dialog where there is none: the same element moves between the two.
 */
import { computed, effect, signal } from './reactive.js';
import { h, icon, list } from './dom.js';
import { avatar, time } from './timeline.js';

/** @import { Chat, Room } from './chat.js' */
/** @import { ConnectionState, Person } from './types.js' */

const WIDE = '(min-width: 52rem)';
const PEOPLE_SHOWN = 100;

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
  const seconds = Math.ceil((state.retryAt - now) / 1000);
  return seconds <= 1 ? 'Reconnecting …' : `Next try in ${seconds} s.`;
}

/** @param {number} count */
function waitingText(count) {
  if (count === 0) return '';
  return count === 1 ? '1 message waits to be sent.' : `${count} messages wait to be sent.`;
}

/** @param {Chat} chat */
export function banner(chat) {
  const { connection } = chat;
  const text = computed(() => bannerText(connection.state.value));
  const waiting = computed(() => chat.outbox.entries.value.filter((entry) => entry.state === 'queued').length);
  const countdown = signal('');
  /** @type {ReturnType<typeof setInterval> | undefined} */
  let timer;
  effect(() => {
    const state = connection.state.value;
    const tick = () => { countdown.value = countdownText(state, connection.env.now()); };
    tick();
    clearInterval(timer);
    if (state.status === 'offline' && state.retryAt !== null) timer = setInterval(tick, 250);
  });
  const closed = () => connection.state.value.status === 'closed';
  return h('div', { class: () => `banner ${closed() ? 'closed' : ''}`, hidden: () => text.value === '' },
    icon('unplugged'),
    h('div', { class: 'words' },
      () => text.value, ' ', () => (closed() ? '' : waitingText(waiting.value)), ' ',
      h('span', { class: 'countdown', 'aria-hidden': 'true' }, () => countdown.value)),
    h('button', {
      type: 'button', class: 'button small', onclick: () => connection.connect(),
      hidden: () => connection.state.value.status === 'connecting',
    }, () => (closed() ? 'Reconnect here' : 'Try now')));
}
/** @param {Chat} chat @param {() => void} openSide */
export function head(chat, openSide) {
  const status = computed(() => statusOf(chat.connection.state.value));
  const members = computed(() => chat.room.members.value);
  return h('header', { class: 'room-head' },
    h('button', { type: 'button', class: 'icon-button menu', 'aria-label': 'Rooms and people', onclick: openSide }, icon('menu')),
    h('div', { class: 'title' },
      h('h1', null, h('span', { class: 'hash', 'aria-hidden': 'true' }, '#'), h('bdi', null, () => chat.room.name)),
      h('p', { class: 'sub' }, () => connectedText(members.value))),
    h('span', { class: 'chip open-mode', hidden: () => !chat.openMode.value, title: 'This server takes names on trust: anyone may call themselves anything.' }, 'Open mode'),
    h('span', { class: () => `chip status ${status.value.tone}` }, h('span', { class: 'dot', 'aria-hidden': 'true' }), h('span', { class: 'word' }, () => status.value.word)));
}

/** @param {number | null} members */
function connectedText(members) {
  if (members === null) return ' ';
  return members === 1 ? 'Only you are connected' : `${members} connected`;
}

/** @param {Chat} chat @param {(name: string) => void} goTo */
function roomList(chat, goTo) {
  const rooms = h('ul', { class: 'rooms' });
  list(rooms, () => [...chat.rooms.value.values()], (room) => room.name, (room) => roomRow(chat, room));
  const input = h('input', { id: 'room-name', class: 'input', placeholder: 'Another room', autocomplete: 'off', maxLength: 100, 'aria-label': 'Name of a room to join', spellcheck: false });
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

/** @param {Chat} chat @param {Room} room */
function roomRow(chat, room) {
  const here = computed(() => chat.current.value === room.name);
  return h('li', { class: () => (here.value ? 'here' : '') },
    h('a', { href: room.name === chat.home.peek() ? '#' : `#${encodeURIComponent(room.name)}`, 'aria-current': () => (here.value ? 'page' : null) },
      h('span', { class: 'hash', 'aria-hidden': 'true' }, '#'), h('bdi', { class: 'ellipsis' }, room.name),
      h('span', { class: 'badge', hidden: () => room.unread.value === 0 }, () => room.unread.value, h('span', { class: 'sr-only' }, ' unread'))),
    room.name !== chat.home.peek()
      && h('button', { type: 'button', class: 'icon-button quiet', 'aria-label': `Leave ${room.name}`, title: 'Leave', onclick: () => chat.leave(room.name) }, icon('close')));
}

/** @param {Person} person @param {boolean} me */
function personRow(person, me) {
  return h('li', { class: person.here ? 'here' : 'away' },
    avatar(person.userId, person.name),
    h('bdi', { class: 'ellipsis' }, person.name), me && h('span', { class: 'tag' }, 'you'),
    person.here ? h('span', { class: 'state here' }, h('span', { class: 'sr-only' }, 'here')) : h('span', { class: 'state' }, 'seen ', time(person.seenAt)));
}

/** @param {Chat} chat */
function people(chat) {
  const everyone = computed(() => [...chat.room.people.value.values()].sort((a, b) =>
    Number(b.userId === chat.me.userId) - Number(a.userId === chat.me.userId) || Number(b.here) - Number(a.here) || a.name.localeCompare(b.name)));
  const rows = h('ul', { class: 'people' });
  list(rows, () => everyone.value.slice(0, PEOPLE_SHOWN), (person) => person.userId, (person) => personRow(person, person.userId === chat.me.userId));
  const unknown = computed(() => {
    const here = everyone.value.filter((person) => person.here).length;
    const others = (chat.room.members.value ?? 0) - here;
    return others > 0 ? `and ${others} more, not heard from yet` : '';
  });
  return h('section', { class: 'part grow', 'aria-labelledby': 'people-title' },
    h('h2', { id: 'people-title' }, 'People'), rows,
    h('p', { class: 'fine' }, () => unknown.value));
}

const KEYS = [
  ['Enter', 'send the message'], ['Shift + Enter', 'start a new line'], ['F6', 'go to the next part of the page'],
  ['↑ ↓ Home End', 'walk through the messages'], ['Ctrl + K', 'join a room'], ['Alt + ↑ ↓', 'go to the next room'],
  ['Ctrl + /', 'show these keys'],
];

/** The keys, in a dialog. */
export function help() {
  const dialog = h('dialog', { class: 'help', 'aria-labelledby': 'help-title', onclick: (event) => { if (event.target === dialog) dialog.close(); } },
    h('div', { class: 'help-body' },
      h('h2', { id: 'help-title' }, 'Keys'),
      h('dl', null, KEYS.map(([key, what]) => h('div', null, h('dt', null, h('kbd', null, key)), h('dd', null, what)))),
      h('form', { method: 'dialog', onsubmit: (event) => { event.preventDefault(); dialog.close(); } }, h('button', { class: 'button' }, 'Close'))));
  return dialog;
}

/**
 * @param {Chat} chat
 * @param {{ goTo: (name: string) => void, help: () => void, signOut: () => void, theme: () => string, setTheme: (theme: string) => void }} actions
 */
export function side(chat, actions) {
  const themes = h('select', { id: 'theme', class: 'select', 'aria-label': 'Theme', onchange: () => actions.setTheme(themes.value) },
    ['system', 'light', 'dark'].map((name) => h('option', { value: name, selected: actions.theme() === name }, name[0]?.toUpperCase() + name.slice(1))));
  const column = h('aside', { class: 'side', 'aria-label': 'Rooms and people' },
    h('div', { class: 'brand' }, icon('logo'), h('span', null, 'Outspoke')),
    roomList(chat, actions.goTo), people(chat),
    h('div', { class: 'me' },
      avatar(chat.me.userId, chat.me.name), h('bdi', { class: 'ellipsis name' }, chat.me.name), themes,
      h('button', { type: 'button', class: 'icon-button keys', 'aria-label': 'Keys', title: 'Keys (Ctrl + /)', onclick: actions.help }, icon('keys')),
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
