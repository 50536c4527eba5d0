/**
 * The nodes of a cluster: asks the HTTP API again and again, and shows who is there and how they are.
 *
 * What changes is told in words, once, to who cannot see it: a node has come, gone, begun to drain. Figures change silently.
 * Nothing takes the focus, and what is shown can be held still.
 */

import { Refused, ask, field, number, part, refresh, sums, table, told } from './common.js';

/** @typedef {{ id: string, name: string, version: string, url?: string, here: boolean, draining: boolean, connections: number, rooms: number, uptimeSeconds: number, silentSeconds: number, silent: boolean, lagMs: number, hearsUs: boolean }} Node */
/** @typedef {{ kind: string, connected: boolean, detail?: string, queuedBytes: number, sent: number, heard: number, unsent: number, missed: number, repeated: number, garbage: number, foreign: number, forged: number, stale: number }} Bus */
/** @typedef {{ id: string, name: string }} Label */
/** @typedef {{ from: Label, answered: boolean, routes: { to: Label, roundTripMs?: number, clockAheadMs?: number }[] }} Check */

/** How often it is asked. */
const EVERY_MS = 3000;
const HEADINGS = ['Node', 'State', 'Connections', 'Rooms', 'Up for', 'Last heard', 'Lag', 'Version', 'Address'];

const problem = part('problem', HTMLElement);
const progress = part('status', HTMLElement);
const pause = part('pause', HTMLButtonElement);
const check = part('check', HTMLButtonElement);

/** What was shown last: state by node. @type {Map<string, { name: string, state: string }> | null} */
let known = null;
/** The key that was accepted, while it is asked again and again. @type {string | null} */
let key = null;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let next;
/** Which question the page waits for: answers to earlier ones are late. */
let turn = 0;

/** @param {HTMLElement} element @param {string} text */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** @param {Node} node */
function state(node) {
  /** @type {string[]} */
  const words = [];
  if (node.draining) words.push('draining');
  if (node.silent) words.push('silent');
  if (!node.hearsUs) words.push('does not hear this one');
  return words.join(', ') || 'serving';
}

/** @param {number} seconds */
function span(seconds) {
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  return minutes > 0 ? `${minutes} min` : `${Math.floor(seconds)} s`;
}

/** @param {Node} node */
function cells(node) {
  return [
    node.here ? `${node.name} (this one)` : node.name,
    { serving: '●', draining: '◐' }[state(node)] ?? '○',
    number.format(node.connections),
    number.format(node.rooms),
    span(node.uptimeSeconds),
    node.here ? '' : `${span(node.silentSeconds)} ago`,
    node.here ? '' : `${number.format(node.lagMs)} ms`,
    node.version,
    node.url ?? '',
  ].map((text, column) => (column === 1 ? `${text} ${state(node)}` : text));
}

/** What has changed since the last time, in words. @param {Node[]} nodes */
function news(nodes) {
  const now = new Map(nodes.map((node) => [node.id, { name: node.name, state: state(node) }]));
  const before = known;
  known = now;
  if (before === null) return `${nodes.length === 1 ? 'One node' : `${nodes.length} nodes`}.`;
  const words = [...now].flatMap(([id, { name, state: is }]) => {
    const was = before.get(id);
    if (was === undefined) return [`${name} has come.`];
    return was.state === is ? [] : [`${name} is ${is}.`];
  });
  const gone = [...before].filter(([id]) => !now.has(id)).map(([, { name }]) => `${name} has gone.`);
  return [...words, ...gone].join(' ');
}

/** @param {Bus | undefined} bus */
function showBus(bus) {
  part('bus-section', HTMLElement).hidden = bus === undefined;
  if (bus === undefined) return;
  const how = bus.connected ? 'connected' : 'away';
  say(part('bus-state', HTMLElement), `The bus (${bus.kind}) is ${how}${bus.detail ? `: ${bus.detail}` : '.'}`);
  /** @type {[string, number][]} */
  const counts = [
    ['Sent', bus.sent], ['Heard', bus.heard], ['Not sent', bus.unsent], ['Missed', bus.missed], ['Repeated', bus.repeated],
    ['Not ours', bus.garbage + bus.foreign + bus.forged + bus.stale], ['Bytes waiting', bus.queuedBytes],
  ];
  sums('bus', counts.map(([name, count]) => [name, number.format(count)]));
}

/** Asks once, and shows what is said. */
async function look() {
  if (key === null) return;
  clearTimeout(next);
  const mine = turn += 1;
  try {
    const { nodes, bus } = await ask('nodes', { key });
    if (mine !== turn) return;
    refresh('nodes', 'Nodes, the one that answers first', HEADINGS, nodes.map(cells));
    showBus(bus);
    part('nodes-view', HTMLElement).hidden = false;
    say(part('updated', HTMLElement), `As of ${new Date().toLocaleTimeString()}`);
    say(problem, '');
    const changed = news(nodes);
    if (changed) say(progress, changed);
  } catch (error) {
    if (mine !== turn) return;
    say(progress, '');
    say(problem, told(error));
    // What it needs is another key, not another try.
    if (error instanceof Refused && error.status < 500) key = null;
  }
  later();
}

/** Looks again in a while, unless nobody looks at the page or it is held still. */
function later() {
  clearTimeout(next);
  if (key === null || document.hidden || pause.getAttribute('aria-pressed') === 'true') return;
  next = setTimeout(look, EVERY_MS);
}

/** @param {Check[]} checks */
function showChecks(checks) {
  const names = checks.map(({ from }) => from.name);
  const rows = checks.map(({ from, answered, routes }) => {
    const to = new Map(routes.map((route) => [route.to.id, route]));
    return [from.name, ...checks.map(({ from: other }) => {
      if (other.id === from.id) return '–';
      const route = to.get(other.id);
      if (!answered) return 'not known: no answer';
      if (route?.roundTripMs === undefined) return 'no answer';
      return `${route.roundTripMs.toFixed(1)} ms, clock ${number.format(route.clockAheadMs ?? 0)} ms ahead`;
    })];
  });
  table('routes', 'From each node to every other: there and back, and how far the other clock is ahead', ['From', ...names.map((name) => `to ${name}`)], rows);
  part('check-view', HTMLElement).hidden = false;
}

part('ask', HTMLFormElement).addEventListener('submit', (event) => {
  event.preventDefault();
  key = field('key');
  known = null;
  say(problem, '');
  say(progress, 'Asking …');
  void look();
});

pause.addEventListener('click', () => {
  const paused = pause.getAttribute('aria-pressed') !== 'true';
  pause.setAttribute('aria-pressed', String(paused));
  if (paused) clearTimeout(next);
  else void look();
});

check.addEventListener('click', async () => {
  say(progress, 'Checking …');
  try {
    const { ok, checks } = await ask('cluster/check', { key: field('key'), method: 'POST' });
    showChecks(checks);
    say(progress, ok ? 'Every node reaches every other.' : 'Some nodes do not reach each other: see the table.');
  } catch (error) {
    say(progress, '');
    say(problem, told(error));
  }
});

document.addEventListener('visibilitychange', () => {
  if (!document.hidden && pause.getAttribute('aria-pressed') !== 'true') void look();
});
