/**
 * The configuration: what is in force and where it was made; and reading it again, with the difference shown before.
 */
import { ask, may, told } from './api.js';
import { asked, button, field, heading, notice, number, problemText, section, tell } from './desk.js';
import { table } from './table.js';
import { h } from '../shared/dom.js';
import { computed, signal } from '../shared/reactive.js';

/** @import { Child } from '../shared/types.js' */
/** @import { Difference, Origin, Reload, Setting } from './types.js' */

/** @param {Origin} origin */
export function placeOf(origin) {
  if (origin.layer === 'file') return `${origin.file}${origin.line ? `:${origin.line}:${origin.column}` : ''}`;
  return origin.layer === 'default' ? 'default' : `${origin.layer === 'env' ? 'variable' : 'flag'} ${origin.name}`;
}

/** A value as text. @param {unknown} value */
export function valueText(value) {
  if (typeof value === 'string') return value === '' ? '""' : value;
  return typeof value === 'number' ? number.format(value) : JSON.stringify(value);
}

/** @returns {Child[]} */
export function view() {
  const config = asked(() => ask('config', { everywhere: true }));
  const looks = may('GET /config');
  if (looks) void config.again();
  return [
    heading('Configuration'),
    may('POST /reload') && reload(config.again),
    looks && settings(config),
  ];
}

/** @param {{ answer: { value: any }, problem: { value: string } }} config */
function settings({ answer, problem }) {
  const wanted = signal('');
  const onlyChanged = signal(false);
  const shown = computed(() => {
    const all = /** @type {Setting[]} */ (answer.value?.settings ?? []);
    const words = wanted.value.trim().toLowerCase();
    return all.filter((setting) => (!onlyChanged.value || setting.source.layer !== 'default')
      && (words === '' || setting.key.includes(words) || valueText(setting.value).toLowerCase().includes(words)));
  });
  const waiting = computed(() => /** @type {Difference[]} */ (answer.value?.waiting ?? []));
  return section('Settings of the server that answers',
    problemText(() => problem.value),
    h('div', { hidden: () => waiting.value.length === 0 }, differences(() => 'Read, and in force after a restart', () => waiting.value)),
    h('div', { class: 'line-form' },
      field('Settings that contain', h('input', { class: 'input', type: 'search', autocomplete: 'off', spellcheck: false, oninput: (event) => { wanted.value = /** @type {HTMLInputElement} */ (event.target).value; } })),
      h('p', { class: 'check' }, h('input', { type: 'checkbox', id: 'only-changed', onchange: (event) => { onlyChanged.value = /** @type {HTMLInputElement} */ (event.target).checked; } }),
        h('label', { for: 'only-changed' }, 'Without defaults'))),
    table({
      caption: () => `Settings${answer.value?.file ? ` with the file ${answer.value.file}` : ''}, ${number.format(shown.value.length)} shown`, empty: 'None is like that.',
      rows: () => shown.value, key: ({ key }) => key,
      columns: [
        { head: 'Setting', text: ({ key }) => key, order: ({ key }) => key },
        { head: 'Value', text: ({ value }) => valueText(value) },
        { head: 'From', text: ({ source }) => placeOf(source), order: ({ source }) => placeOf(source) },
        { head: 'Over', text: ({ over }) => over.map(placeOf).join(', ') },
        { head: 'Default', text: (setting) => valueText(setting.default) },
      ],
    }));
}

/** @param {() => string} caption @param {() => readonly Difference[]} rows */
function differences(caption, rows) {
  return table({
    caption, rows, key: ({ key }) => key, empty: 'Nothing.',
    columns: [
      { head: 'Setting', text: ({ key }) => key },
      { head: 'In force', text: ({ old }) => old },
      { head: 'New', text: (difference) => difference.new },
      { head: 'From', text: ({ source }) => source },
      { head: 'Counts', text: ({ counts }) => ({ at_once: 'at once', new_clients: 'for clients that connect from then on', new_rooms: 'for rooms that begin from then on', restart: 'after a restart' })[counts] ?? counts },
    ],
  });
}

/** @param {() => unknown} after */
function reload(after) {
  const report = signal(/** @type {Reload | null} */ (null));
  const problem = signal('');
  const nothing = computed(() => {
    const of = report.value;
    return of !== null && of.changed.length === 0 && of.notes.length === 0;
  });
  /** @param {boolean} dry */
  const read = async (dry) => {
    try {
      const said = /** @type {Reload} */ (await ask(`reload?dry_run=${dry}`, { method: 'POST', everywhere: true }));
      problem.value = '';
      report.value = dry ? said : null;
      if (dry) return void tell(nothing.peek() ? 'Nothing would change.' : `${said.changed.length} settings would change.`);
      const done = `The configuration was read again: ${said.changed.length} settings changed.`;
      tell(done);
      notice(done, 'good');
      await after();
    } catch (error) {
      report.value = null;
      problem.value = told(error);
    }
  };
  return section('Read it again',
    h('p', null, 'The server reads its file and variables again. Look at the difference before you put it in force.'),
    h('p', { class: 'bar' }, button('Show what would change', () => void read(true))),
    problemText(() => problem.value),
    h('div', { hidden: () => report.value === null },
      h('p', { hidden: () => !nothing.value }, 'Nothing would change.'),
      h('div', { hidden: () => (report.value?.changed.length ?? 0) === 0 }, differences(() => 'What would change', () => report.value?.changed ?? [])),
      h('div', { hidden: () => (report.value?.waiting.length ?? 0) === 0 }, differences(() => 'What would wait for a restart', () => report.value?.waiting ?? [])),
      () => h('div', null, [...report.value?.notes ?? [], ...report.value?.warnings ?? []].map((text) => h('p', null, text))),
      h('p', { class: 'bar', hidden: () => nothing.value }, button('Put it in force', () => void read(false), { kind: 'primary' }), button('Leave it', () => { report.value = null; }))));
}
