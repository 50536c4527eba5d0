/**
 * Tenants: which there are, what they may use and what they use; made, changed and removed.
 */
import { ask, may, path } from './api.js';
import { asked, attempt, button, confirmByName, every, field, formDialog, heading, number, problemText } from './desk.js';
import { table } from './table.js';
import { h, sizeText } from '../shared/dom.js';

/** @import { Child } from '../shared/types.js' */
/** @import { Column, Tenant } from './types.js' */

const EVERY_MS = 5_000;
/** @type {[keyof Tenant['quotas'], string][]} */
const QUOTAS = [
  ['connectionsMax', 'Connections'], ['roomsMax', 'Rooms'], ['messagesPerSecond', 'Messages per second'], ['storedBytesMax', 'Stored bytes'],
];

/** @returns {Child[]} */
export function view() {
  const tenants = asked(async () => /** @type {Tenant[]} */ ((await ask('tenants?limit=1000', { everywhere: true })).tenants));
  every(EVERY_MS, tenants.again);
  const puts = may('PUT /tenants/{tenant}');
  const removes = may('DELETE /tenants/{tenant}');
  /** @param {() => Tenant} now */
  const acts = (now) => [
    puts && button('Change …', () => putDialog(now(), tenants.again), { label: `Change ${called(now())} …` }),
    removes && button('Remove …', () => removeDialog(now().tenant, tenants.again), { label: `Remove ${called(now())} …`, kind: 'small danger' }),
  ];
  return [
    heading('Tenants'),
    puts && h('p', { class: 'bar' }, button('New tenant …', () => putDialog(null, tenants.again))),
    problemText(() => tenants.problem.value),
    table({
      caption: () => `Tenants, ${number.format(tenants.answer.value?.length ?? 0)}: used, and may use`, empty: 'There are none yet.',
      rows: () => tenants.answer.value ?? [], key: ({ tenant }) => tenant,
      columns: [
        { head: 'Tenant', text: called, order: ({ tenant }) => tenant },
        { head: 'Named', text: ({ known }) => (known ? 'yes' : 'no: somebody was let in'), order: ({ known }) => String(known) },
        used('Connections', ({ usage }) => usage.connections, ({ quotas }) => quotas.connectionsMax),
        used('Rooms', ({ usage }) => usage.rooms, ({ quotas }) => quotas.roomsMax),
        used('Stored', ({ usage }) => usage.storedBytes, ({ quotas }) => quotas.storedBytesMax, sizeText),
        { head: 'Messages per second', figure: true, text: ({ quotas }) => limit(quotas.messagesPerSecond), order: ({ quotas }) => quotas.messagesPerSecond || Infinity },
      ],
      ...(puts || removes ? { actions: acts } : {}),
    }),
  ];
}

/** @param {Tenant} tenant */
const called = ({ tenant }) => tenant || '(without a name)';

/** @param {number} most @param {(value: number) => string} [text] */
const limit = (most, text = number.format) => (most === 0 ? 'not limited' : text(most));

/**
 * @param {string} head @param {(tenant: Tenant) => number | undefined} is @param {(tenant: Tenant) => number} most @param {(value: number) => string} [text]
 * @returns {Column<Tenant>}
 */
function used(head, is, most, text = number.format) {
  return {
    head, figure: true, order: (tenant) => is(tenant) ?? -1,
    text: (tenant) => `${is(tenant) === undefined ? 'not known' : text(/** @type {number} */ (is(tenant)))} of ${limit(most(tenant), text)}`,
  };
}

/** @param {Tenant | null} tenant @param {() => unknown} after */
function putDialog(tenant, after) {
  const name = h('input', { class: 'input', autocomplete: 'off', spellcheck: false, required: true, pattern: '[A-Za-z0-9_\\-][A-Za-z0-9_.\\-]{0,63}' });
  const inputs = QUOTAS.map(([quota, label]) => {
    const input = h('input', { class: 'input', type: 'number', min: '0', step: '1', value: String(tenant?.quotas[quota] ?? 0), required: true });
    return { quota, input, part: field(label, input) };
  });
  formDialog(tenant ? `Change ${called(tenant)}` : 'New tenant', tenant ? 'Change' : 'Make', [
    tenant ? null : field('Name', name, '1 to 64 letters, digits, -, _ and .'),
    h('p', { class: 'fine' }, '0: not limited.'), inputs.map(({ part }) => part),
  ], () => {
    const whom = tenant?.tenant ?? name.value.trim();
    const body = Object.fromEntries(inputs.map(({ quota, input }) => [quota, Number(input.value)]));
    void attempt(`The tenant ${whom} was ${tenant ? 'changed' : 'made'}.`, () => ask(path`tenants/${whom}`, { method: 'PUT', body, everywhere: true }), after);
  });
}

/** @param {string} name @param {() => unknown} after */
function removeDialog(name, after) {
  const erase = h('input', { type: 'checkbox', id: 'erase' });
  confirmByName(`Remove the tenant ${name}?`, 'Its clients are disconnected, and nobody is let in any more.', name, 'Remove',
    () => void attempt(`The tenant ${name} was removed.`, () => ask(`${path`tenants/${name}`}?data=${erase.checked ? 'erase' : 'keep'}`, { method: 'DELETE', everywhere: true }), after),
    h('p', { class: 'check' }, erase, h('label', { for: 'erase' }, 'Also forget everything that was said there; this cannot be undone')));
}
