/**
 * Tables that live: rows stay where they are while their cells change, so that focus and selection survive.
 *
 * The order is made when somebody sorts, or when rows come or go, and not with every figure that changes: nothing
 * jumps away under the pointer.
 */
import { h, list } from '../shared/dom.js';
import { computed, effect, signal, untracked } from '../shared/reactive.js';

/** @import { Child } from '../shared/types.js' */
/** @import { Column } from './types.js' */

/**
 * @template T
 * @param {{
 *   caption: string | (() => string), columns: readonly Column<T>[], rows: () => readonly T[], key: (row: T) => string,
 *   empty: string, actions?: (row: () => T) => Child[], sorted?: [head: string, descending: boolean],
 * }} of
 */
export function table({ caption, columns, rows, key, empty, actions, sorted }) {
  const by = signal(sorted ?? /** @type {[string, boolean] | null} */ (null));
  /** @type {Map<string, { id: string, now: import('../shared/reactive.js').Signal<T> }>} */
  const known = new Map();
  const count = signal(0);
  /** Which rows there are, as text, so that equal ones are equal. */
  const keys = computed(() => JSON.stringify(rows().map(key)));
  const order = computed(() => {
    const wanted = /** @type {string[]} */ (JSON.parse(keys.value));
    const chosen = by.value;
    return untracked(() => {
      keep(rows());
      const shown = wanted.flatMap((id) => known.get(id) ?? []);
      const of = columns.find(({ head }) => head === chosen?.[0])?.order;
      if (!chosen || !of) return shown;
      const sign = chosen[1] ? -1 : 1;
      return shown.sort((a, b) => sign * compare(of(a.now.peek()), of(b.now.peek())));
    });
  });
  /** @param {readonly T[]} all */
  function keep(all) {
    const ids = new Set(all.map(key));
    for (const id of known.keys()) if (!ids.has(id)) known.delete(id);
    for (const row of all) {
      const id = key(row);
      const old = known.get(id);
      if (old) old.now.value = row;
      else known.set(id, { id, now: signal(row) });
    }
    count.value = all.length;
  }
  effect(() => { const all = rows(); untracked(() => keep(all)); });

  const body = h('tbody');
  list(body, () => order.value, ({ id }) => id, ({ now }) => h('tr', null,
    columns.map((column, at) => {
      const text = computed(() => column.text(now.value));
      const inside = column.make ? column.make(() => now.value, () => text.value) : () => text.value;
      const kind = column.figure ? 'figure' : '';
      return at === 0 ? h('th', { scope: 'row', class: kind }, inside) : h('td', { class: kind }, inside);
    }),
    actions ? h('td', { class: 'acts' }, h('div', null, actions(() => now.value))) : null));

  const named = typeof caption === 'string' ? () => caption : caption;
  return h('div', { class: 'scroll', tabIndex: 0, role: 'region', 'aria-label': named },
    h('table', null,
      h('caption', null, named),
      h('thead', null, h('tr', null,
        columns.map((column) => head(column, by)),
        actions ? h('th', { scope: 'col', class: 'acts' }, 'Actions') : null)),
      body),
    h('p', { class: 'fine none', hidden: () => count.value > 0 }, empty));
}

/** @template T @param {Column<T>} column @param {import('../shared/reactive.js').Signal<[string, boolean] | null>} by */
function head({ head: name, order, figure }, by) {
  const kind = figure ? 'figure' : '';
  if (!order) return h('th', { scope: 'col', class: kind }, name);
  const direction = () => (by.value?.[0] !== name ? 'none' : by.value[1] ? 'descending' : 'ascending');
  const turn = () => {
    const now = by.peek();
    by.value = now?.[0] === name ? [name, !now[1]] : [name, figure ?? false];
  };
  return h('th', { scope: 'col', class: kind, 'aria-sort': direction },
    h('button', { type: 'button', class: 'sort', onclick: turn }, name, h('span', { 'aria-hidden': 'true', class: 'arrow' }, () => ({ none: '↕', ascending: '↑', descending: '↓' })[direction()])));
}

/** @param {number | string} a @param {number | string} b */
function compare(a, b) {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  return String(a).localeCompare(String(b), 'en', { numeric: true });
}
