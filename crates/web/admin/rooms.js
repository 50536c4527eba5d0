/**
 * Rooms: which there are; and of one who is in it, what was said, and who is kept out.
 */
import { Refused, ask, may, path, told } from './api.js';
import {
  asked, attempt, button, confirm, confirmByName, every, facts, field, formDialog, heading, moment, number, problemText, section,
} from './desk.js';
import { follow } from './follow.js';
import { table } from './table.js';
import { h } from '../shared/dom.js';
import { computed, signal } from '../shared/reactive.js';

/** @import { Child } from '../shared/types.js' */
/** @import { Member, Room, Ruling, Said } from './types.js' */

const PAGE = 100;
const EVERY_MS = 5_000;

/** @param {string | null} room @returns {Child[]} */
export const view = (room) => (room === null ? all() : one(room));

/**
 * The address of a room's view. Relative to the folder: what begins with `#` is a way within the page to readers of it.
 * @param {string} room
 */
export const linkToRoom = (room) => `admin#rooms/${encodeURIComponent(room)}`;
/** @param {string} user */
export const linkToUser = (user) => `admin#users/${encodeURIComponent(user)}`;

/** @returns {Child[]} */
function all() {
  const rooms = signal(/** @type {readonly Room[]} */ ([]));
  const next = signal(/** @type {string | null} */ (null));
  const problem = signal('');
  let prefix = '';
  let turn = 0;
  /** @param {boolean} more */
  async function look(more) {
    const mine = turn += 1;
    const after = more && next.peek() ? path`&after=${/** @type {string} */ (next.peek())}` : '';
    try {
      const said = await ask(`rooms?limit=${PAGE}${path`&prefix=${prefix}`}${after}`);
      if (mine !== turn) return;
      rooms.value = more ? [...rooms.peek(), ...said.rooms] : said.rooms;
      next.value = said.next ?? null;
      problem.value = '';
    } catch (error) {
      if (mine === turn) problem.value = told(error);
    }
  }
  const search = h('input', { class: 'input', type: 'search', autocomplete: 'off', spellcheck: false });
  const byName = h('input', { class: 'input', autocomplete: 'off', spellcheck: false });
  const list = may('GET /rooms');
  if (list) void look(false);
  return [
    heading('Rooms'),
    h('div', { class: 'forms' },
      list && h('form', { class: 'line-form', role: 'search', onsubmit: (event) => { event.preventDefault(); prefix = search.value.trim(); void look(false); } },
        field('Rooms that begin with', search), h('button', { class: 'button', type: 'submit' }, 'Search')),
      h('form', { class: 'line-form', onsubmit: (event) => { event.preventDefault(); if (byName.value.trim()) location.href = linkToRoom(byName.value.trim()); } },
        field('Open by name', byName), h('button', { class: 'button', type: 'submit' }, 'Open'))),
    problemText(() => problem.value),
    list && table({
      caption: () => `Rooms, ${number.format(rooms.value.length)} shown${next.value ? ', there are more' : ''}`,
      empty: 'There are none: nobody is in one, and none has messages.',
      rows: () => rooms.value, key: (room) => room.room,
      columns: [
        { head: 'Room', text: ({ room }) => room, order: ({ room }) => room, make: (now, text) => h('a', { href: () => linkToRoom(now().room) }, text) },
        { head: 'Members', figure: true, text: ({ members }) => number.format(members), order: ({ members }) => members },
        { head: 'Messages', figure: true, text: (room) => number.format(kept(room)), order: kept },
        { head: 'Class', text: (room) => room.class, order: (room) => room.class },
        { head: 'Kept', text: ({ durability }) => durability, order: ({ durability }) => durability },
      ],
    }),
    h('p', { hidden: () => next.value === null }, button('More rooms', () => void look(true))),
  ];
}

/** How many messages a room keeps. @param {Room} room */
const kept = ({ first, head }) => Math.max(0, head - first + 1);

/** @param {string} name @returns {Child[]} */
function one(name) {
  const room = asked(() => ask(path`rooms/${name}`));
  const known = computed(() => /** @type {Room | null} */ (room.answer.value));
  const looks = may('GET /rooms/{room}');
  if (looks) every(EVERY_MS, room.again);
  return [
    heading(name, h('a', { href: 'admin#rooms' }, 'All rooms')),
    problemText(() => room.problem.value),
    looks && facts(() => {
      const of = known.value;
      if (of === null) return [];
      return [['Members', number.format(of.members)], ['Messages', number.format(kept(of))], ['Class', of.class], ['Kept', of.durability], ['Newest offset', number.format(of.head)], ['Epoch', of.epoch ?? 'none']];
    }),
    may('GET /rooms/{room}/presence') && members(name),
    may('POST /rooms/{room}/members/{user}/remove') && keptOut(name),
    follow('room', name),
    may('GET /rooms/{room}/history') && history(name, room.again),
  ];
}

/** @param {string} room */
function members(room) {
  const people = signal(/** @type {readonly Member[]} */ ([]));
  const next = signal(/** @type {string | null} */ (null));
  const problem = signal('');
  let pages = 1;
  every(EVERY_MS, async () => {
    try {
      /** @type {Member[]} */
      const found = [];
      let after = '';
      for (let page = 0; page < pages; page += 1) {
        const said = await ask(`${path`rooms/${room}/presence`}?limit=${PAGE}${after}`);
        found.push(...said.users);
        next.value = said.next ?? null;
        if (!said.next) break;
        after = path`&after=${said.next}`;
      }
      people.value = found;
      problem.value = '';
    } catch (error) {
      // A room that there is none of yet is told of once, above.
      problem.value = error instanceof Refused && error.status === 404 ? '' : told(error);
    }
  });
  const mayRemove = may('POST /rooms/{room}/members/{user}/remove');
  return section('Members',
    problemText(() => problem.value),
    table({
      caption: () => `Who is in the room, ${number.format(people.value.length)} shown`, empty: 'Nobody, as far as this server knows.',
      rows: () => people.value, key: ({ userId }) => userId,
      columns: [
        { head: 'User', text: ({ userId }) => userId, order: ({ userId }) => userId, make: (now, text) => h('a', { href: () => linkToUser(now().userId) }, text) },
        { head: 'Name', text: ({ username }) => username, order: ({ username }) => username },
        { head: 'State', text: ({ online }) => (online ? '● here' : '○ away'), order: ({ online }) => String(online) },
        { head: 'Devices', figure: true, text: ({ devices }) => number.format(devices.length), order: ({ devices }) => devices.length },
        { head: 'Since', text: ({ since }) => moment(since), order: ({ since }) => since },
      ],
      ...(mayRemove ? { actions: (/** @type {() => Member} */ now) => [button('Remove', () => removeDialog(room, now().userId), { label: `Remove ${now().userId} from the room` })] } : {}),
    }),
    h('p', { hidden: () => next.value === null }, button('More members', () => { pages += 1; })));
}

/** Asks for how long somebody is to stay out of a room. @param {string} room @param {string} user */
function removeDialog(room, user) {
  const seconds = h('input', { class: 'input', type: 'number', min: '1', value: '300', required: true });
  formDialog(`Remove ${user} from ${room}?`, 'Remove', [
    h('p', null, 'All of the user’s devices leave the room, and may not come back for a while.'), field('For how many seconds', seconds),
  ], () => void attempt(`${user} was removed.`, () => ask(path`rooms/${room}/members/${user}/remove`, { method: 'POST', body: { seconds: Number(seconds.value) } })), 'danger');
}

/** Who may not come in, and letting in again. @param {string} room */
function keptOut(room) {
  const rulings = asked(async () => /** @type {Ruling[]} */ ((await ask('rulings?limit=1000')).rulings).filter((ruling) => ruling.room === room));
  const sees = may('GET /rulings');
  const user = h('input', { class: 'input', autocomplete: 'off', spellcheck: false, required: true });
  if (sees) every(EVERY_MS, rulings.again);
  /** @param {string} whom */
  const readmit = (whom) => attempt(`${whom} may come in again.`, () => ask(path`rooms/${room}/members/${whom}/readmit`, { method: 'POST' }), rulings.again);
  return section('Kept out',
    problemText(() => rulings.problem.value),
    sees && table({
      caption: 'Who may not come in', empty: 'Nobody is kept out.',
      rows: () => rulings.answer.value ?? [], key: ({ ruling }) => ruling,
      columns: [
        { head: 'User', text: (ruling) => ruling.user ?? '', order: (ruling) => ruling.user ?? '' },
        { head: 'Until', text: ({ until }) => moment(until), order: ({ until }) => until },
      ],
      actions: (now) => [button('Let in', () => void readmit(now().user ?? ''), { label: `Let ${now().user} in again` })],
    }),
    h('form', { class: 'line-form', onsubmit: (event) => { event.preventDefault(); if (user.value.trim()) void readmit(user.value.trim()); } },
      field('User', user), h('button', { class: 'button', type: 'submit' }, 'Let in again')));
}

/** What somebody said, as text. @param {Said} said */
export function wordsOf(said) {
  if (said.deleted) return '(deleted)';
  if (typeof said.content === 'string') return said.content;
  return said.data === undefined ? '' : JSON.stringify(said.data);
}

/** @param {string} room @param {() => unknown} changed */
function history(room, changed) {
  const messages = signal(/** @type {readonly Said[]} */ ([]));
  const more = signal(false);
  const problem = signal('');
  /** @param {boolean} older */
  async function read(older) {
    const oldest = messages.peek()[messages.peek().length - 1];
    const before = older && oldest ? `&before=${oldest.offset}` : '';
    try {
      const said = await ask(`${path`rooms/${room}/history`}?limit=50${before}`);
      const page = /** @type {Said[]} */ (said.messages).filter((message) => typeof message.offset === 'number').sort((a, b) => b.offset - a.offset);
      messages.value = older ? [...messages.peek(), ...page] : page;
      more.value = page.length > 0 && /** @type {Said} */ (page[page.length - 1]).offset > said.first;
      problem.value = '';
    } catch (error) {
      problem.value = error instanceof Refused && error.status === 404 ? '' : told(error);
    }
  }
  const shown = signal(false);
  const clear = () => confirmByName(`Clear the history of ${room}?`, 'Everything that was said in the room is forgotten, for everybody. This cannot be undone.', room, 'Clear the history',
    () => void attempt('The history was cleared.', () => ask(path`rooms/${room}/history`, { method: 'DELETE' }), () => Promise.all([shown.peek() && read(false), changed()])));
  /** @param {Said} said */
  const remove = (said) => confirm(`Delete the message at offset ${said.offset}?`, 'Its words disappear for everybody; its place stays.', 'Delete',
    () => void attempt('The message was deleted.', () => ask(path`rooms/${room}/messages/${said.offset}`, { method: 'DELETE' }), () => read(false)));
  return section('History',
    h('p', { class: 'bar' },
      button('Read the history', () => { shown.value = true; void read(false); }),
      may('DELETE /rooms/{room}/history') && button('Clear the history …', clear, { kind: 'small danger' })),
    problemText(() => problem.value),
    h('div', { hidden: () => !shown.value },
      table({
        caption: 'What was said, the newest first', empty: 'Nothing that is kept.',
        rows: () => messages.value, key: ({ offset }) => String(offset),
        columns: [
          { head: 'Offset', figure: true, text: ({ offset }) => String(offset), make: (now, text) => (may('GET /explain') ? h('a', { href: `admin#explain/${encodeURIComponent(`${room}@${now().offset}`)}`, 'aria-label': `${now().offset}: explain what became of it` }, text) : text) },
          { head: 'Time', text: ({ timestamp }) => moment(timestamp) },
          { head: 'From', text: ({ username, userId }) => username || userId || 'the application' },
          { head: 'Type', text: ({ type }) => type },
          { head: 'Message', text: wordsOf },
        ],
        ...(may('DELETE /rooms/{room}/messages/{offset}') ? { actions: (/** @type {() => Said} */ now) => [h('span', { hidden: () => now().deleted === true }, button('Delete', () => remove(now()), { label: `Delete the message at offset ${now().offset}` }))] } : {}),
      }),
      h('p', { hidden: () => !more.value }, button('Older messages', () => void read(true)))));
}
