/**
 * Who is where: the people of the room and the servers that they are connected to, as a graph and as an equal table.
 *
 * Loaded when it is wanted. The graph is decoration for who sees it: everything in it is in the table, in words.
 */
import { effect, scope, signal } from '../shared/reactive.js';
import { h } from '../shared/dom.js';
import { time } from './timeline.js';

/** @import { Chat } from './chat.js' */
/** @import { Device, Person } from './types.js' */

const SPACE = 'http://www.w3.org/2000/svg';
const WIDTH = 640;
const ROW = 34;
/** More people than this are counted in the graph and named in the table only. */
const DRAWN_MAX = 24;

/** @param {string} tag @param {Record<string, string | number>} attributes @param {...(Node | string)} children */
function s(tag, attributes, ...children) {
  const element = document.createElementNS(SPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/** Where somebody is of whom several servers have not said it. */
const SOMEWHERE = 'one of the servers';

/** Who is connected where, as far as it is known: with one server, `here` is its name or '', all are there. @param {readonly Person[]} people @param {string} here @param {string} self @returns {{ node: string, people: { person: Person, devices: Device[] }[] }[]} */
export function placesOf(people, here, self) {
  /** @type {Map<string, { person: Person, devices: Device[] }[]>} */
  const nodes = new Map([[here, []]]);
  for (const person of people) {
    if (!person.here) continue;
    const unsaid = here === '' || person.userId === self ? here : SOMEWHERE;
    /** @type {Map<string, Device[]>} */
    const by = new Map();
    for (const device of person.devices) by.set(device.node || unsaid, [...by.get(device.node || unsaid) ?? [], device]);
    if (by.size === 0) by.set(unsaid, []);
    for (const [node, devices] of by) nodes.set(node, [...nodes.get(node) ?? [], { person, devices }]);
  }
  return [...nodes].map(([node, there]) => ({ node, people: there.sort((a, b) => a.person.name.localeCompare(b.person.name)) }))
    .sort((a, b) => Number(b.node === here) - Number(a.node === here) || a.node.localeCompare(b.node));
}

/** @param {ReturnType<typeof placesOf>} places @param {string} self @param {string} here */
function graph(places, self, here) {
  const drawn = places.map(({ node, people }) => ({ node, people: people.slice(0, DRAWN_MAX), more: Math.max(0, people.length - DRAWN_MAX) }));
  const rows = drawn.reduce((sum, { people, more }) => sum + Math.max(2, people.length + (more > 0 ? 1 : 0)), 0);
  const height = rows * ROW + 20;
  const svg = s('svg', { viewBox: `0 0 ${WIDTH} ${height}`, class: 'graph', 'aria-hidden': 'true', focusable: 'false' });
  /** @type {{ x: number, y: number }[]} */
  const hubs = [];
  let top = 10;
  for (const { node, people, more } of drawn) {
    const count = Math.max(2, people.length + (more > 0 ? 1 : 0));
    const middle = top + (count * ROW) / 2;
    hubs.push({ x: 150, y: middle });
    const labels = [...people.map(({ person, devices }) => ({ text: person.name, me: person.userId === self, devices: devices.length })), ...(more > 0 ? [{ text: `and ${more} more`, me: false, devices: 0 }] : [])];
    labels.forEach((label, index) => {
      const y = top + (count * ROW) / 2 + (index - (labels.length - 1) / 2) * ROW;
      svg.append(s('path', { class: 'edge', d: `M178 ${middle} C260 ${middle} 250 ${y} 330 ${y}` }),
        s('circle', { class: label.me ? 'someone me' : 'someone', cx: 340, cy: y, r: 8 }),
        s('text', { x: 358, y: y + 5 }, `${label.text.length > 26 ? `${label.text.slice(0, 25)}…` : label.text}${label.me ? ' (you)' : ''}${label.devices > 1 ? ` · ${label.devices} devices` : ''}`));
    });
    svg.append(s('rect', { class: node === here ? 'node here' : 'node', x: 122, y: middle - 24, width: 56, height: 48, rx: 12 }),
      s('path', { class: 'glyph', d: `M138 ${middle - 8}h24M138 ${middle}h24M138 ${middle + 8}h14` }),
      s('text', { class: 'node-name', x: 150, y: middle + 42, 'text-anchor': 'middle' }, (node || 'this server').slice(0, 20)));
    top += count * ROW;
  }
  for (let at = 1; at < hubs.length; at += 1) {
    const [a, b] = [/** @type {{ x: number, y: number }} */ (hubs[at - 1]), /** @type {{ x: number, y: number }} */ (hubs[at])];
    svg.prepend(s('path', { class: 'bus', d: `M${a.x - 28} ${a.y} C70 ${a.y} 70 ${b.y} ${b.x - 28} ${b.y}` }));
  }
  return svg;
}

/** @param {ReturnType<typeof placesOf>} places @param {string} self @param {string} here */
function table(places, self, here) {
  const rows = places.flatMap(({ node, people }) => (people.length === 0 ? [] : people.map(({ person, devices }) => h('tr', null,
    h('th', { scope: 'row' }, h('bdi', null, person.name), person.userId === self && h('span', { class: 'tag' }, 'you')),
    h('td', null, `${node || 'this server'}${node === here ? ' (yours)' : ''}`),
    h('td', null, devices.length > 0 && [devices.length, ', since ', time(Date.parse(/** @type {Device} */ (devices[0]).since))])))));
  return h('table', null, h('caption', null, 'People in this room, and where they are connected'),
    h('thead', null, h('tr', null, ['Person', 'Server', 'Devices'].map((text) => h('th', { scope: 'col' }, text)))), h('tbody', null, rows));
}

/** @param {Chat} chat */
export function where(chat) {
  const count = signal('');
  const end = scope(() => {
    const drawing = h('div');
    const region = h('div', { class: 'scroll', tabIndex: 0, role: 'region', 'aria-label': 'Who is where, as a table' });
    const body = h('div', { class: 'where-body' }, drawing, region);
    let shown = '';
    effect(() => {
      const here = chat.node.value;
      const places = placesOf([...chat.room.people.value.values()], here, chat.me.userId);
      const people = places.reduce((sum, place) => sum + place.people.length, 0);
      count.value = `${people} ${people === 1 ? 'person' : 'people'} on ${places.length} ${places.length === 1 ? 'server' : 'servers'}`;
      // People change with all that they say; what is shown of them here mostly does not.
      const now = JSON.stringify([here, places.map(({ node, people: there }) => [node, there.map(({ person, devices }) => [person.userId, person.name, devices])])]);
      if (now === shown) return;
      shown = now;
      drawing.replaceChildren(graph(places, chat.me.userId, here));
      region.replaceChildren(table(places, chat.me.userId, here));
    });
    const dialog = h('dialog', {
      class: 'dialog where', 'aria-labelledby': 'where-title',
      onclick: (event) => { if (event.target === dialog) dialog.close(); },
      onclose: () => { dialog.remove(); end(); },
    }, h('div', { class: 'dialog-body' },
      h('h2', { id: 'where-title' }, () => `Who is where in ${chat.room.title}`),
      h('p', { class: 'fine' }, () => count.value), body,
      h('p', { class: 'fine' }, 'For operators: ', h('a', { href: 'nodes' }, 'all servers and how they are')),
      h('div', { class: 'buttons' }, h('button', { type: 'button', class: 'button', onclick: () => dialog.close() }, 'Close'))));
    document.body.append(dialog);
    dialog.showModal();
  });
}
