/**
 * Users and their connections: who is here, how well they follow, and what is decided about their credentials.
 */
import { ask, may, path, told } from './api.js';
import {
  asked, attempt, button, confirm, confirmByName, every, field, formDialog, heading, millis, moment, number, problemText, section, silentText, span,
} from './desk.js';
import { follow } from './follow.js';
import { linkToUser } from './rooms.js';
import { table } from './table.js';
import { h, sizeText } from '../shared/dom.js';
import { signal } from '../shared/reactive.js';

/** @import { Child } from '../shared/types.js' */
/** @import { Connection, Ruling, Silent, User } from './types.js' */

const PAGE = 100;
const EVERY_MS = 3_000;

/** @param {string | null} user @returns {Child[]} */
export const view = (user) => (user === null ? all() : one(user));

/** @returns {Child[]} */
function all() {
  const byName = h('input', { class: 'input', autocomplete: 'off', spellcheck: false });
  return [
    heading('Users'),
    h('form', { class: 'line-form', onsubmit: (event) => { event.preventDefault(); if (byName.value.trim()) location.href = linkToUser(byName.value.trim()); } },
      field('Open by id', byName), h('button', { class: 'button', type: 'submit' }, 'Open')),
    may('GET /users') && users(),
    may('GET /clients') && connections(null),
    may('GET /rulings') && rulings(null),
    may('POST /tokens/{token}/revoke') && revokeToken(),
  ];
}

/** @param {string} user @returns {Child[]} */
function one(user) {
  return [
    heading(user, h('a', { href: 'admin#users' }, 'All users')),
    h('p', { class: 'bar' },
      may('POST /disconnect') && button('Disconnect …', () => disconnectDialog(user), { label: `Disconnect ${user} …` }),
      may('POST /users/{user}/revoke') && button('Revoke credentials …', () => revokeDialog(user)),
      may('DELETE /users/{user}/data') && button('Erase data …', () => confirmByName(`Erase the data of ${user}?`,
        'What the user said is emptied everywhere, and what is kept of the user is forgotten. This cannot be undone.', user, 'Erase',
        () => void attempt(`The data of ${user} was erased.`, () => ask(path`users/${user}/data`, { method: 'DELETE' }))), { kind: 'small danger' })),
    may('GET /clients') && connections(user),
    follow('user', user),
    may('GET /rulings') && rulings(user),
  ];
}

function users() {
  const found = signal(/** @type {readonly User[]} */ ([]));
  const next = signal(/** @type {string | null} */ (null));
  const missing = signal(/** @type {readonly Silent[]} */ ([]));
  const problem = signal('');
  let pages = 1;
  const look = async () => {
    try {
      /** @type {User[]} */
      const all_ = [];
      let after = '';
      for (let page = 0; page < pages; page += 1) {
        const said = await ask(`users?limit=${PAGE}${after}`);
        all_.push(...said.users);
        next.value = said.next ?? null;
        missing.value = said.silent ?? [];
        if (!said.next) break;
        after = path`&after=${said.next}`;
      }
      found.value = all_;
      problem.value = '';
    } catch (error) { problem.value = told(error); }
  };
  every(EVERY_MS, look);
  return section('Who is here',
    problemText(() => problem.value),
    problemText(() => silentText(missing.value)),
    table({
      caption: () => `Users connected to all nodes, ${number.format(found.value.length)} shown`, empty: 'Nobody is connected.',
      rows: () => found.value, key: ({ userId }) => userId,
      columns: [
        { head: 'User', text: ({ userId }) => userId, order: ({ userId }) => userId, make: (now, text) => h('a', { href: () => linkToUser(now().userId) }, text) },
        { head: 'Connections', figure: true, text: ({ clients }) => number.format(clients), order: ({ clients }) => clients },
        { head: 'Nodes', text: ({ nodes }) => nodes.join(', '), order: ({ nodes }) => nodes.join(', ') },
      ],
    }),
    h('p', { hidden: () => next.value === null }, button('More users', () => { pages += 1; void look(); })));
}

/** Connections of everybody, or of one. @param {string | null} user */
function connections(user) {
  const found = signal(/** @type {readonly Connection[]} */ ([]));
  const next = signal(/** @type {string | null} */ (null));
  const missing = signal(/** @type {readonly Silent[]} */ ([]));
  const problem = signal('');
  let pages = 1;
  const of = user === null ? '' : path`&user=${user}`;
  const look = async () => {
    try {
      /** @type {Connection[]} */
      const all_ = [];
      let after = '';
      for (let page = 0; page < pages; page += 1) {
        const said = await ask(`clients?limit=${PAGE}${of}${after}`);
        all_.push(...said.clients);
        next.value = said.next ?? null;
        missing.value = said.silent ?? [];
        if (!said.next) break;
        after = path`&after=${said.next}`;
      }
      found.value = all_;
      problem.value = '';
    } catch (error) { problem.value = told(error); }
  };
  every(EVERY_MS, look);
  /** @param {Connection} connection */
  const name = ({ userId, device, clientId }) => `${userId}${device ? ` on ${device}` : ''} (${clientId.slice(0, 8)})`;
  /** @param {() => Connection} now */
  const acts = (now) => [
    may('POST /disconnect') && button('Disconnect', () => confirm(`Disconnect ${name(now())}?`, 'The connection is closed, and told to stay away until somebody comes back by hand.', 'Disconnect',
      () => void attempt(`${name(now())} was disconnected.`, () => ask('disconnect', { method: 'POST', body: { client: now().clientId } }), look)), { label: `Disconnect ${name(now())}` }),
  ];
  return section('Connections',
    problemText(() => problem.value),
    problemText(() => silentText(missing.value)),
    table({
      caption: () => `Connections to all nodes, ${number.format(found.value.length)} shown`, empty: 'None to any node.',
      rows: () => found.value, key: ({ clientId }) => clientId,
      columns: [
        { head: 'Connection', text: ({ clientId }) => clientId.slice(0, 8), make: (now, text) => (may('GET /clients/{client}') ? h('a', { href: `admin#connection/${now().clientId}` }, text) : text) },
        { head: 'User', text: ({ userId }) => userId, order: ({ userId }) => userId, make: (now, text) => h('a', { href: () => linkToUser(now().userId) }, text) },
        { head: 'Node', text: ({ node }) => node, order: ({ node }) => node },
        { head: 'Name', text: ({ username }) => username ?? '', order: ({ username }) => username ?? '' },
        { head: 'Device', text: ({ device }) => device ?? '', order: ({ device }) => device ?? '' },
        { head: 'Dialect', text: ({ dialect }) => dialect, order: ({ dialect }) => dialect },
        { head: 'For', figure: true, text: ({ connectedSeconds }) => span(connectedSeconds), order: ({ connectedSeconds }) => connectedSeconds },
        { head: 'Waiting', figure: true, text: ({ queuedBytes }) => sizeText(queuedBytes), order: ({ queuedBytes }) => queuedBytes },
        { head: 'Behind', figure: true, text: ({ oldestQueuedMs }) => (oldestQueuedMs === undefined ? '–' : millis(oldestQueuedMs)), order: ({ oldestQueuedMs }) => oldestQueuedMs ?? -1 },
        { head: 'Round trip', figure: true, text: ({ roundTripMs }) => (roundTripMs === undefined ? '–' : millis(roundTripMs)), order: ({ roundTripMs }) => roundTripMs ?? -1 },
      ],
      ...(may('POST /disconnect') ? { actions: acts } : {}),
    }),
    h('p', { hidden: () => next.value === null }, button('More connections', () => { pages += 1; void look(); })));
}

/** @param {string} user */
function disconnectDialog(user) {
  const device = h('input', { class: 'input', autocomplete: 'off', spellcheck: false });
  const reason = h('input', { class: 'input', autocomplete: 'off', maxLength: 120 });
  const back = h('input', { type: 'checkbox', id: 'come-back' });
  formDialog(`Disconnect ${user}?`, 'Disconnect', [
    h('p', null, 'On all nodes.'), field('Device', device, 'Empty: all of them.'), field('Reason', reason, 'The client is told.'),
    h('p', { class: 'check' }, back, h('label', { for: 'come-back' }, 'Ask them to come back by themselves')),
  ], () => void attempt(`${user} was disconnected.`, () => ask('disconnect', {
    method: 'POST',
    body: { user, reconnect: back.checked, ...(device.value.trim() ? { device: device.value.trim() } : {}), ...(reason.value.trim() ? { reason: reason.value.trim() } : {}) },
  })), 'danger');
}

/** @param {string} user */
function revokeDialog(user) {
  const device = h('input', { class: 'input', autocomplete: 'off', spellcheck: false });
  const days = h('input', { class: 'input', type: 'number', min: '1', max: '365', value: '30', required: true });
  formDialog(`Revoke what ${user} has?`, 'Revoke', [
    h('p', null, 'Every credential that was issued until now is not accepted any more, and its connections are closed.'),
    field('Device', device, 'Empty: all of them.'), field('For how many days', days, 'Until the last of the credentials has ended.'),
  ], () => void attempt(`The credentials of ${user} were revoked.`, () => ask(path`users/${user}/revoke`, {
    method: 'POST', body: { seconds: Number(days.value) * 86_400, ...(device.value.trim() ? { device: device.value.trim() } : {}) },
  })), 'danger');
}

function revokeToken() {
  const token = h('input', { class: 'input', autocomplete: 'off', spellcheck: false, required: true });
  return section('Revoke a token', h('form', {
    class: 'line-form', onsubmit: (event) => {
      event.preventDefault();
      const id = token.value.trim();
      if (!id) return;
      confirm(`Revoke the token ${id}?`, 'It is not accepted any more, and its connections are closed.', 'Revoke',
        () => void attempt(`The token ${id} was revoked.`, () => ask(path`tokens/${id}/revoke`, { method: 'POST', body: {} })));
    },
  }, field('The token’s id', token, 'Its jti, or key:NAME of a limited key; never the token itself.'), h('button', { class: 'button', type: 'submit' }, 'Revoke …')));
}

/** What a ruling says, in words. @param {Ruling} ruling */
export function verdictOf({ verdict, room, permissions, reconnect }) {
  if (verdict === 'revoked') return reconnect ? 'revoked: to come back with a fresh one' : 'revoked';
  if (verdict === 'barred') return `kept out of ${room}`;
  if (verdict === 'permissions') return `may only ${Object.entries(permissions ?? {}).map(([action, patterns]) => `${action}: ${patterns.join(', ')}`).join('; ') || 'nothing'}`;
  return verdict;
}

/** What is decided about everybody's credentials, or one's. @param {string | null} user */
function rulings(user) {
  const held = asked(async () => /** @type {Ruling[]} */ ((await ask('rulings?limit=1000')).rulings).filter((ruling) => user === null || ruling.user === user));
  every(EVERY_MS, held.again);
  /** @param {Ruling} ruling */
  const whom = (ruling) => (ruling.token ? `token ${ruling.token}` : `${ruling.user ?? ''}${ruling.device ? ` on ${ruling.device}` : ''}`);
  return section('Rulings',
    problemText(() => held.problem.value),
    table({
      caption: 'What is decided about credentials that are out', empty: 'Nothing is decided.',
      rows: () => held.answer.value ?? [], key: ({ ruling }) => ruling,
      columns: [
        { head: 'About', text: whom, order: whom },
        { head: 'Verdict', text: verdictOf, order: verdictOf },
        { head: 'Made', text: ({ made }) => moment(made), order: ({ made }) => made },
        { head: 'Until', text: ({ until }) => moment(until), order: ({ until }) => until },
      ],
      ...(may('DELETE /rulings/{ruling}') ? {
        actions: (/** @type {() => Ruling} */ now) => [button('Lift', () => void attempt(`The ruling about ${whom(now())} was lifted.`, () => ask(path`rulings/${now().ruling}`, { method: 'DELETE' }), held.again), { label: `Lift the ruling about ${whom(now())}: ${verdictOf(now())}` })],
      } : {}),
    }));
}
