/**
 * What happens to a room or a user, as it happens.
 *
 * It is shown and not read out: who wants to hear it goes to the list. The newest is first; what is too long ago is forgotten.
 */
import { may, open, told } from './api.js';
import { button, problemText, section, tell } from './desk.js';
import { read } from './sse.js';
import { table } from './table.js';
import { h } from '../shared/dom.js';
import { onEnd, signal } from '../shared/reactive.js';

/** @import { Covered, Happening } from './types.js' */

const SHOWN_MAX = 200;
/** What is in columns of its own, or says nothing to people. */
const ELSEWHERE = ['at', 'node', 'room', 'userId', 'clientId', 'number', 'event'];

/** The rest of an event, in words. @param {Happening} happening */
export function detailOf(happening) {
  const rest = Object.entries(happening).filter(([name]) => !ELSEWHERE.includes(name));
  return rest.map(([name, value]) => `${name} ${typeof value === 'string' ? value : JSON.stringify(value)}`).join(', ');
}

/** Which nodes tell, in words. @param {Covered | null} covered */
export function coverageText(covered) {
  if (covered === null) return 'Asking the nodes …';
  const { nodes, silent } = covered;
  const telling = nodes.length === 1 ? `Following on ${nodes[0]}.` : `Following on ${nodes.length} nodes: ${nodes.join(', ')}.`;
  return [telling, ...silent.map(({ node, why }) => `${node} does not tell: ${why}.`)].join(' ');
}

/** @param {'room' | 'user'} kind @param {string} name */
export function follow(kind, name) {
  if (!may('GET /follow')) return null;
  const events = signal(/** @type {readonly Happening[]} */ ([]));
  const on = signal(false);
  const problem = signal('');
  const covered = signal(/** @type {Covered | null} */ (null));
  let number = 0;
  /** @type {AbortController | null} */
  let ending = null;
  const payload = h('input', { type: 'checkbox', id: 'follow-payload' });
  const stop = () => {
    ending?.abort();
    ending = null;
    on.value = false;
  };
  onEnd(stop);
  async function start() {
    const mine = ending = new AbortController();
    on.value = true;
    problem.value = '';
    covered.value = null;
    tell(`Following ${name}.`);
    const query = new URLSearchParams({ [kind]: name, ...(payload.checked ? { payload: 'true' } : {}) });
    try {
      await read(await open(`follow?${query}`, { signal: mine.signal }), (event, data) => {
        if (event === 'following' || event === 'nodes') covered.value = data;
        number += 1;
        events.value = [{ ...data, event, number }, ...events.peek()].slice(0, SHOWN_MAX);
      });
      problem.value = 'The server has ended this: follow again.';
    } catch (error) {
      if (mine.signal.aborted) return;
      problem.value = told(error);
    }
    if (ending === mine) stop();
  }
  return section('Live',
    h('p', { class: 'bar' },
      h('span', { hidden: () => on.value }, button('Follow', () => void start(), { label: `Follow ${name}` })),
      h('span', { hidden: () => !on.value }, button('Stop following', stop)),
      kind === 'room' && h('span', { class: 'check', hidden: () => on.value }, payload, h('label', { for: 'follow-payload' }, 'with what is said')),
      h('span', { class: 'fine', hidden: () => !on.value }, () => coverageText(covered.value))),
    problemText(() => problem.value),
    h('div', { hidden: () => !on.value && events.value.length === 0 }, table({
      caption: `What happens, the newest first, at most ${SHOWN_MAX}`, empty: 'Nothing has happened yet.',
      rows: () => events.value, key: (happening) => String(happening.number),
      columns: [
        { head: 'Time', text: ({ at }) => new Date(at).toISOString().slice(11, 23) },
        { head: 'Node', text: ({ node }) => node ?? '' },
        { head: 'What', text: ({ event }) => event.replaceAll('_', ' ') },
        { head: 'Room', text: ({ room }) => room ?? '' },
        { head: 'User', text: ({ userId }) => userId ?? '' },
        { head: 'Connection', text: ({ clientId }) => clientId?.slice(0, 8) ?? '' },
        { head: 'Detail', text: detailOf },
      ],
    })));
}
