/**
 * The log: how much the server writes into it at the moment, and what operators did.
 */
import { ask, may, path, told } from './api.js';
import { asked, attempt, button, every, facts, field, heading, millis, moment, problemText, section, silentText, span } from './desk.js';
import { table } from './table.js';
import { h } from '../shared/dom.js';
import { computed, signal } from '../shared/reactive.js';

/** @import { Child } from '../shared/types.js' */
/** @import { Audited, LogLevel, Silent } from './types.js' */

/** @returns {Child[]} */
export const view = () => [heading('Log'), may('GET /log-level') && level(), may('GET /audit') && audit()];

function level() {
  const said = asked(() => ask('log-level', { everywhere: true }));
  const known = computed(() => /** @type {LogLevel | null} */ (said.answer.value));
  every(5_000, said.again);
  const directives = h('input', { class: 'input code', autocomplete: 'off', spellcheck: false, required: true, value: 'info,outspoke_hub=debug' });
  const minutes = h('input', { class: 'input', type: 'number', min: '1', max: '1440', value: '10', required: true });
  /** @param {string | null} to */
  const put = (to) => attempt(to === null ? 'The log is as it is configured.' : `The log follows ${to}.`,
    () => ask('log-level', { method: 'PUT', body: to === null ? { directives: null } : { directives: to, seconds: Number(minutes.value) * 60 }, everywhere: true }), said.again);
  return section('Level of the server that answers',
    problemText(() => said.problem.value),
    facts(() => (known.value === null ? [] : [
      ['Now', known.value.directives], ['Configured', known.value.configured], ['Back in', known.value.secondsLeft === undefined ? '–' : span(known.value.secondsLeft)],
    ])),
    may('PUT /log-level') && h('form', { class: 'line-form', onsubmit: (event) => { event.preventDefault(); void put(directives.value.trim()); } },
      field('Directives', directives, 'As in log.level.'), field('For how many minutes', minutes),
      h('button', { class: 'button', type: 'submit' }, 'Change'), button('Back to the configured level', () => void put(null), { kind: '' })));
}

function audit() {
  const entries = signal(/** @type {readonly Audited[]} */ ([]));
  const next = signal(/** @type {string | null} */ (null));
  const missing = signal(/** @type {readonly Silent[]} */ ([]));
  const problem = signal('');
  /** @param {boolean} more */
  const look = async (more) => {
    try {
      const said = await ask(`audit?limit=100${more && next.peek() !== null ? path`&before=${next.peek() ?? ''}` : ''}`, { everywhere: true });
      entries.value = more ? [...entries.peek(), ...said.entries] : said.entries;
      next.value = said.next ?? null;
      missing.value = said.silent ?? [];
      problem.value = '';
    } catch (error) { problem.value = told(error); }
  };
  void look(false);
  return section('What operators did',
    h('p', { class: 'bar' }, button('Look again', () => void look(false))),
    problemText(() => problem.value),
    problemText(() => silentText(missing.value)),
    table({
      caption: 'Requests that changed something on any node, the newest first', empty: 'Nobody has changed anything since the servers were started.',
      rows: () => entries.value, key: (entry) => `${entry.node} ${entry.number} ${entry.at}`,
      columns: [
        { head: 'Time', text: ({ at }) => moment(at), order: ({ at }) => at },
        { head: 'Node', text: ({ node }) => node, order: ({ node }) => node },
        { head: 'Who', text: ({ who }) => who, order: ({ who }) => who },
        { head: 'From', text: ({ from }) => from, order: ({ from }) => from },
        { head: 'Tenant', text: ({ tenant }) => tenant ?? '', order: ({ tenant }) => tenant ?? '' },
        { head: 'Action', text: ({ action }) => action, order: ({ action }) => action },
        { head: 'With', text: ({ details }) => Object.entries(details ?? {}).map(([name, value]) => `${name} ${typeof value === 'string' ? value : JSON.stringify(value)}`).join(', ') },
        { head: 'Result', text: ({ result, status }) => `${result} (${status})`, order: ({ result }) => result },
        { head: 'Took', figure: true, text: ({ tookMs }) => millis(tookMs), order: ({ tookMs }) => tookMs },
      ],
    }),
    h('p', { hidden: () => next.value === null }, button('Older', () => void look(true))));
}
