/**
 * The overview: the nodes, what this server does at the moment, and the bus between them.
 */
import { ask, may, path, told } from './api.js';
import { lines } from './chart.js';
import { attempt, button, every, facts, field, heading, millis, notice, number, orderDialog, problemText, rate, section, span, tell } from './desk.js';
import { table } from './table.js';
import { h } from '../shared/dom.js';
import { batch, computed, signal } from '../shared/reactive.js';

/** @import { Child } from '../shared/types.js' */
/** @import { Bus, Node, Series } from './types.js' */

const EVERY_MS = 3_000;
/** Points of a chart: ten minutes. */
const POINTS_MAX = 200;

/** @param {Node} node */
export function stateOf(node) {
  /** @type {string[]} */
  const words = [];
  if (node.draining) words.push('draining');
  if (node.silent) words.push('silent');
  if (!node.hearsUs) words.push('does not hear this one');
  return words.join(', ') || 'serving';
}

/** What has changed since the last time, in words. @param {Map<string, string>} before states by name @param {readonly Node[]} nodes */
export function news(before, nodes) {
  const now = new Map(nodes.map((node) => [node.name, stateOf(node)]));
  const words = [...now].flatMap(([name, is]) => {
    const was = before.get(name);
    if (was === undefined) return [`${name} has come.`];
    return was === is ? [] : [`${name} is ${is}.`];
  });
  return [...words, ...[...before.keys()].filter((name) => !now.has(name)).map((name) => `${name} has gone.`)].join(' ');
}

/** Sums of an exposition's samples by name, labels left out. @param {string} text OpenMetrics */
export function samples(text) {
  /** @type {Map<string, number>} */
  const sums = new Map();
  for (const line of text.split('\n')) {
    const found = /^([a-z_]+)(?:\{[^}]*\})? (\S+)/u.exec(line);
    if (!found) continue;
    const [, name, value] = /** @type {[string, string, string]} */ (/** @type {unknown} */ (found));
    sums.set(name, (sums.get(name) ?? 0) + Number(value));
  }
  return sums;
}

/** Points that are forgotten when there are too many. @param {string} name */
function recorder(name) {
  const points = signal(/** @type {Series['points']} */ ([]));
  return {
    series: () => ({ name, points: points.value }),
    /** @param {number} at @param {number | null} value */
    add(at, value) { points.value = [...points.peek(), { at, value }].slice(-POINTS_MAX); },
  };
}

/** @returns {Child[]} */
export function view() {
  const nodes = signal(/** @type {readonly Node[]} */ ([]));
  const bus = signal(/** @type {Bus | null} */ (null));
  const problem = signal('');
  const measured = signal(/** @type {Map<string, number> | null} */ (null));
  /** @type {Map<string, ReturnType<typeof recorder>>} */
  const ofNodes = new Map();
  const connections = signal(/** @type {readonly Series[]} */ ([]));
  const [messages, deliveries, waiting] = [recorder('Messages'), recorder('Deliveries'), recorder('Waiting')];
  /** @type {Map<string, string> | null} */
  let known = null;
  /** What a draining node had when that was seen first. @type {Map<string, number>} */
  const begun = new Map();
  /** @type {{ at: number, counts: Map<string, number> } | null} */
  let before = null;

  async function lookAtNodes() {
    if (!may('GET /nodes')) return;
    const said = await ask('nodes', { everywhere: true });
    const at = Date.now();
    const all = /** @type {Node[]} */ (said.nodes);
    for (const node of all) {
      if (!node.draining) begun.delete(node.id);
      else if (!begun.has(node.id)) begun.set(node.id, node.connections);
      if (!ofNodes.has(node.id)) ofNodes.set(node.id, recorder(node.name));
    }
    for (const [id, record] of ofNodes) record.add(at, all.find((node) => node.id === id)?.connections ?? null);
    batch(() => {
      nodes.value = all;
      bus.value = said.bus ?? null;
      connections.value = [...ofNodes.values()].map((record) => record.series());
    });
    const words = known ? news(known, all) : '';
    known = new Map(all.map((node) => [node.name, stateOf(node)]));
    if (words) tell(words);
  }

  async function measure() {
    if (!may('GET /metrics')) return;
    const counts = samples(await ask('metrics', { accept: 'text', everywhere: true }));
    const at = performance.now();
    /** How much more a second; not known where the server is another, or was started anew. @param {string} name */
    const perSecond = (name) => {
      const more = before ? (counts.get(name) ?? 0) - (before.counts.get(name) ?? 0) : -1;
      return before && more >= 0 ? more / ((at - before.at) / 1000) : null;
    };
    batch(() => {
      messages.add(Date.now(), perSecond('outspoke_messages_total'));
      deliveries.add(Date.now(), perSecond('outspoke_deliveries_total'));
      waiting.add(Date.now(), counts.get('outspoke_outbox_bytes') ?? null);
      measured.value = counts;
    });
    before = { at, counts };
  }

  every(EVERY_MS, async () => {
    try {
      await Promise.all([lookAtNodes(), measure()]);
      problem.value = '';
    } catch (error) {
      problem.value = told(error);
    }
  });

  const here = computed(() => nodes.value.find((node) => node.here)?.name ?? 'this server');
  /** @param {string} name */
  const count = (name) => measured.value?.get(name) ?? 0;
  return [
    heading('Overview'),
    problemText(() => problem.value),
    may('GET /nodes') && section('Nodes', nodeTable(() => nodes.value, begun)),
    section('The last ten minutes', h('div', { class: 'plots' },
      may('GET /nodes') && lines({ title: 'Connections', unit: 'connections', series: () => connections.value }),
      may('GET /metrics') && [
        lines({ title: 'Messages', unit: 'per second', text: rate, series: () => [messages.series()] }),
        lines({ title: 'Deliveries', unit: 'per second', text: rate, series: () => [deliveries.series()] }),
        lines({ title: 'Waiting for slow readers', unit: 'bytes', series: () => [waiting.series()] }),
      ])),
    may('GET /metrics') && section('The server that answers', facts(() => [
      ['Name', here.value],
      ['Connections', number.format(count('outspoke_clients'))],
      ['Of those behind', number.format(count('outspoke_clients_behind'))],
      ['Rooms', number.format(count('outspoke_rooms'))],
      ['Messages so far', number.format(count('outspoke_messages_total'))],
      ['Deliveries so far', number.format(count('outspoke_deliveries_total'))],
      ['Memory', `${number.format(Math.round(count('process_resident_memory_bytes') / 1e6))} MB`],
      ['Panics', number.format(count('outspoke_panics_total'))],
    ])),
    h('div', { hidden: () => bus.value === null }, section('Bus', facts(() => busFacts(bus.value)))),
  ];
}

/** @param {Bus | null} bus @returns {[string, string][]} */
function busFacts(bus) {
  if (bus === null) return [];
  return [
    ['Kind', bus.kind], ['State', `${bus.connected ? 'connected' : 'away'}${bus.detail ? `: ${bus.detail}` : ''}`],
    ['Sent', number.format(bus.sent)], ['Heard', number.format(bus.heard)], ['Not sent', number.format(bus.unsent)],
    ['Missed', number.format(bus.missed)], ['Repeated', number.format(bus.repeated)],
    ['Not ours', number.format(bus.garbage + bus.foreign + bus.forged + bus.stale)], ['Bytes waiting', number.format(bus.queuedBytes)],
  ];
}

/** @param {() => readonly Node[]} nodes @param {Map<string, number>} begun */
function nodeTable(nodes, begun) {
  /** @param {Node} node */
  const stateText = (node) => {
    const sign = { serving: '●', draining: '◐' }[stateOf(node)] ?? '○';
    const from = begun.get(node.id);
    const left = from ? `, ${number.format(node.connections)} of ${number.format(from)} left` : '';
    return `${sign} ${stateOf(node)}${left}`;
  };
  return table({
    caption: 'Nodes, the one that answers first', empty: 'No node has answered yet.', rows: nodes, key: (node) => node.id,
    columns: [
      { head: 'Node', text: (node) => (node.here ? `${node.name} (this one)` : node.name), order: (node) => node.name },
      {
        head: 'State', text: stateText, order: stateOf,
        make: (now, text) => [h('span', null, text), h('progress', {
          class: 'drain', 'aria-label': () => `Clients that ${now().name} has sent away`, hidden: () => !begun.get(now().id) || !now().draining,
          max: () => begun.get(now().id) ?? 1, value: () => Math.max(0, (begun.get(now().id) ?? 0) - now().connections),
        })],
      },
      { head: 'Connections', figure: true, text: (node) => number.format(node.connections), order: (node) => node.connections },
      { head: 'Rooms', figure: true, text: (node) => number.format(node.rooms), order: (node) => node.rooms },
      { head: 'Up for', figure: true, text: (node) => span(node.uptimeSeconds), order: (node) => node.uptimeSeconds },
      { head: 'Last heard', figure: true, text: (node) => (node.here ? '–' : `${span(node.silentSeconds)} ago`), order: (node) => node.silentSeconds },
      { head: 'Lag', figure: true, text: (node) => (node.here ? '–' : millis(node.lagMs)), order: (node) => node.lagMs },
      { head: 'Version', text: (node) => node.version, order: (node) => node.version },
      { head: 'Address', text: (node) => node.url ?? '' },
    ],
    ...(may('POST /nodes/{node}/drain') ? { actions: (/** @type {() => Node} */ node) => orders(node, nodes) } : {}),
  });
}

/** @param {() => Node} node @param {() => readonly Node[]} nodes */
function orders(node, nodes) {
  const name = node().name;
  const resume = () => attempt(`${name} takes clients again.`, () => ask(path`nodes/${node().id}/resume`, { method: 'POST', everywhere: true }));
  return [
    h('span', { hidden: () => node().draining }, button('Drain …', () => drainDialog(node(), nodes()), { label: `Drain ${name} …` })),
    h('span', { hidden: () => !node().draining },
      button('Drain otherwise …', () => drainDialog(node(), nodes()), { label: `Drain ${name} otherwise …` }),
      button('Resume', () => void resume(), { label: `Resume ${name}` })),
  ];
}

/**
 * How a node is drained. What is left empty is as its settings have it; what does not fit, the fields and then the server say.
 * @param {Node} node @param {readonly Node[]} nodes
 */
function drainDialog(node, nodes) {
  const batch = h('input', { class: 'input', type: 'number', min: '1', max: '1000000', step: '1' });
  const interval = h('input', { class: 'input', type: 'number', min: '1', max: '60000', step: '1' });
  const others = nodes.filter((other) => other.id !== node.id && !other.draining && other.url);
  const to = h('input', { class: 'input code', autocomplete: 'off', spellcheck: false, maxLength: 2048 });
  const known = h('datalist', { id: 'drain-targets' }, others.map(({ name, url }) => h('option', { value: name }, url)));
  to.setAttribute('list', 'drain-targets');
  const order = () => {
    const query = new URLSearchParams(Object.entries({ batch: batch.value, intervalMs: interval.value, to: to.value.trim() }).filter(([, value]) => value !== ''));
    return ask(`${path`nodes/${node.id}/drain`}${query.size > 0 ? `?${query}` : ''}`, { method: 'POST', everywhere: true });
  };
  orderDialog(`Drain ${node.name}?`, 'Drain', [
    h('p', null, 'It takes no new clients and sends its own away, to the other nodes where there are any.'),
    field('Clients at once', batch, 'Empty: as in drain.batch. 1 to 1,000,000.'),
    field('Milliseconds between two batches', interval, 'Empty: as in drain.interval. 1 to 60,000.'),
    field('Send them to', to, 'A node, or an address such as wss://hub-2.example.com/ws. Empty: the node that each user prefers.'), known,
  ], order, () => {
    tell(`${node.name} drains.`);
    notice(`${node.name} drains.`, 'good');
  });
}
