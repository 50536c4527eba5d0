/**
 * One connection: where it is, how far behind it is in each of its rooms; ending it, and making it slow for a while.
 */
import { ask, may, path } from './api.js';
import { asked, attempt, button, confirm, every, facts, field, formDialog, heading, millis, number, problemText, section, span } from './desk.js';
import { linkToRoom, linkToUser } from './rooms.js';
import { table } from './table.js';
import { h, sizeText } from '../shared/dom.js';
import { computed } from '../shared/reactive.js';

/** @import { Child } from '../shared/types.js' */
/** @import { Connection, Place1 } from './types.js' */

const EVERY_MS = 2_000;

/** @param {string | null} id @returns {Child[]} */
export function view(id) {
  const client = id ?? '';
  const said = asked(() => ask(path`clients/${client}`));
  const known = computed(() => /** @type {Connection | null} */ (said.answer.value));
  every(EVERY_MS, said.again);
  return [
    heading(`Connection ${client.slice(0, 8)}`, h('a', { href: 'admin#users' }, 'All connections')),
    problemText(() => said.problem.value),
    h('p', { class: 'bar' },
      may('POST /clients/{client}/disconnect') && button('Disconnect', () => confirm('Disconnect it?', 'The connection is closed, and told to stay away until somebody comes back by hand.', 'Disconnect',
        () => void attempt('The connection was ended.', () => ask(path`clients/${client}/disconnect`, { method: 'POST', body: {} }), said.again))),
      may('POST /clients/{client}/slow') && button('Make it slow …', () => slowDialog(client))),
    h('p', { hidden: () => known.value === null }, 'User: ', h('a', { href: () => linkToUser(known.value?.userId ?? '') }, () => known.value?.userId ?? '')),
    facts(() => factsOf(known.value)),
    section('Its rooms', table({
      caption: () => `How far it is in each room${known.value?.moreRooms ? `; ${number.format(known.value.moreRooms)} more are not shown` : ''}`, empty: 'It is in none.',
      rows: () => /** @type {readonly Place1[]} */ (known.value?.rooms ?? []), key: ({ room }) => room,
      columns: [
        { head: 'Room', text: ({ room }) => room, order: ({ room }) => room, make: (now, text) => h('a', { href: () => linkToRoom(now().room) }, text) },
        { head: 'Joined at', figure: true, text: ({ joined }) => number.format(joined) },
        { head: 'Written up to', figure: true, text: ({ offset }) => (offset === undefined ? '–' : number.format(offset)) },
        { head: 'Newest', figure: true, text: ({ head }) => number.format(head) },
        { head: 'Behind', figure: true, text: ({ behind }) => number.format(behind ?? 0), order: ({ behind }) => behind ?? 0 },
      ],
    })),
  ];
}

/** @param {Connection | null} of @returns {[string, string][]} */
function factsOf(of) {
  if (of === null) return [];
  return [
    ['Node', of.node], ['Device', of.device || 'none'], ['Dialect', of.dialect], ['Address', of.address ?? 'not known'], ['Connected for', span(of.connectedSeconds)],
    ['Waiting', sizeText(of.queuedBytes)], ['Behind', of.oldestQueuedMs === undefined ? 'no' : millis(of.oldestQueuedMs)],
    ['Round trip', of.roundTripMs === undefined ? 'not known yet' : millis(of.roundTripMs)], ['Made slow', of.slowed ? 'yes' : 'no'],
  ];
}

/** @param {string} client */
function slowDialog(client) {
  const seconds = h('input', { class: 'input', type: 'number', min: '1', max: '60', value: '10', required: true });
  formDialog('Make this connection a slow reader?', 'Make it slow', [
    h('p', null, 'The server writes nothing to it for a while, so that you see what its rooms do with a client that falls behind.'), field('For how many seconds', seconds),
  ], () => void attempt('The connection is slow for a while.', () => ask(path`clients/${client}/slow`, { method: 'POST', body: { seconds: Number(seconds.value) } })), 'danger');
}
