/**
 * Figures of hours and days: what was said, by how many, and where most.
 */
import { ask, may, path } from './api.js';
import { bars } from './chart.js';
import { asked, facts, field, heading, number, problemText, section } from './desk.js';
import { linkToRoom } from './rooms.js';
import { table } from './table.js';
import { h } from '../shared/dom.js';
import { computed } from '../shared/reactive.js';

/** @import { Child } from '../shared/types.js' */
/** @import { Series, Span } from './types.js' */

/** @returns {Child[]} */
export function view() {
  const ofRoom = h('input', { class: 'input', autocomplete: 'off', spellcheck: false });
  const grains = h('select', { class: 'select' }, h('option', { value: 'hour' }, 'hour'), h('option', { value: 'day' }, 'day'));
  // The answer knows its room, so that no room's name ever stands above the figures of another one.
  const figures = asked(async () => {
    const room = ofRoom.value.trim();
    return { ...await ask(`${room ? path`analytics/rooms/${room}` : 'analytics'}?by=${grains.value}`), room };
  });
  const top = asked(() => ask('analytics/rooms?limit=20'));
  const whole = may('GET /analytics');
  const tops = may('GET /analytics/rooms');
  const spans = computed(() => /** @type {Span[]} */ (figures.answer.value?.spans ?? []));
  const room = computed(() => figures.answer.value?.room ?? '');
  const grain = computed(() => /** @type {string} */ (figures.answer.value?.by ?? 'hour'));
  if (whole) void figures.again();
  if (tops) void top.again();
  /** Hours and days are those of UTC. @param {number} at */
  const when = (at) => {
    const text = new Date(at).toISOString();
    return grain.value === 'day' ? text.slice(0, 10) : `${text.slice(0, 10)} ${text.slice(11, 16)}`;
  };
  /** @param {string} name @param {(span: Span) => number | undefined} of @returns {() => readonly Series[]} */
  const series = (name, of) => () => [{ name, points: spans.value.map((span) => ({ at: Date.parse(span.begin), value: of(span) ?? null })) }];
  /** @param {(span: Span) => number | undefined} of */
  const most = (of) => number.format(Math.max(0, ...spans.value.map((span) => of(span) ?? 0)));
  const show = (/** @type {Event} */ event) => {
    event.preventDefault();
    void figures.again();
  };
  const everywhere = () => spans.value.some((span) => span.connectionsMax !== undefined);
  return [
    heading('Analytics'),
    h('form', { class: 'line-form', onsubmit: show },
      may('GET /analytics/rooms/{room}') && field('Room', ofRoom, 'Empty: all of them.'), field('By', grains), h('button', { class: 'button', type: 'submit' }, 'Show')),
    problemText(() => figures.problem.value),
    facts(() => [
      [room.value ? `Messages in ${room.value}` : 'Messages', number.format(spans.value.reduce((sum, span) => sum + span.messages, 0))],
      [`Most users in one ${grain.value}`, most((span) => span.users)],
      ...(everywhere() ? /** @type {[string, string][]} */ ([['Most connections', most((span) => span.connectionsMax)], ['Busiest minute', most((span) => span.messagesPerMinuteMax)]]) : []),
    ]),
    section('Charts', h('div', { class: 'plots' },
      bars({ title: 'Messages', unit: 'messages', series: series('Messages', (span) => span.messages), when }),
      h('div', { hidden: () => !spans.value.some((span) => span.users !== undefined) }, bars({ title: 'Active users', unit: 'users', series: series('Users', (span) => span.users), when })),
      h('div', { hidden: () => !everywhere() }, bars({ title: 'Most connections', unit: 'connections', series: series('Connections', (span) => span.connectionsMax), when })))),
    h('p', { class: 'fine' }, 'Hours and days are those of UTC. Above 256 users in one, their number is estimated.'),
    tops && section('Busiest rooms today',
      problemText(() => top.problem.value),
      table({
        caption: () => `Rooms by messages${top.answer.value ? ` on ${top.answer.value.day}` : ''}`, empty: 'Nothing was said today.',
        rows: () => /** @type {{ room: string, messages: number }[]} */ (top.answer.value?.rooms ?? []), key: (busy) => busy.room,
        columns: [
          { head: 'Room', text: (busy) => busy.room, order: (busy) => busy.room, make: (now, text) => h('a', { href: () => linkToRoom(now().room) }, text) },
          { head: 'Messages', figure: true, text: ({ messages }) => number.format(messages), order: ({ messages }) => messages },
        ],
      })),
  ];
}
