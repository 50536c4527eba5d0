/**
 * The figures: asks the HTTP API, and shows what it says as a chart and as tables.
 *
 * The chart repeats what the table says, for who sees it.
 */

import { ask as get, field, number, part, sums, table, told } from './common.js';

/** @typedef {{ begin: string, messages: number, users?: number, usersExact?: boolean, rooms?: number, messagesPerMinuteMax?: number, connectionsMax?: number }} Span */
/** @typedef {{ heading: string, of: (span: Span) => string | number }} Column */

const SVG = 'http://www.w3.org/2000/svg';

const form = part('ask', HTMLFormElement);
const problem = part('problem', HTMLElement);
const progress = part('status', HTMLElement);
const figures = part('figures', HTMLElement);

/** What the fields say. */
function wanted() {
  return { key: field('key'), tenant: field('tenant'), room: field('room'), by: part('by', HTMLSelectElement).value };
}

/** @param {string} begin @param {string} by */
function when(begin, by) {
  return by === 'day' ? begin.slice(0, 10) : `${begin.slice(0, 10)} ${begin.slice(11, 16)}`;
}

/** @param {Span} span */
function users(span) {
  if (span.users === undefined) return '';
  return `${span.usersExact ? '' : 'about '}${number.format(span.users)}`;
}

/** @param {number | undefined} count */
const shown = (count) => number.format(count ?? 0);

/** @param {string} by @param {boolean} ofRoom @returns {Column[]} */
function columns(by, ofRoom) {
  /** @type {Column[]} */
  const always = [
    { heading: by === 'day' ? 'Day' : 'Hour', of: (span) => when(span.begin, by) },
    { heading: 'Messages', of: (span) => shown(span.messages) },
  ];
  if (ofRoom) return by === 'day' ? [...always, { heading: 'Users', of: users }] : always;
  return [
    ...always,
    { heading: 'Users', of: users },
    { heading: 'Rooms', of: (span) => shown(span.rooms) },
    { heading: 'Messages in the busiest minute', of: (span) => shown(span.messagesPerMinuteMax) },
    { heading: 'Most connections', of: (span) => shown(span.connectionsMax) },
  ];
}

/** @param {Span[]} spans */
function chart(spans) {
  const most = Math.max(1, ...spans.map((span) => span.messages));
  const width = 720 / Math.max(1, spans.length);
  const bars = spans.map((span, index) => {
    const height = (span.messages / most) * 192;
    const bar = document.createElementNS(SVG, 'rect');
    const place = { x: index * width + width * 0.1, y: 200 - height, width: width * 0.8, height };
    for (const [name, value] of Object.entries(place)) bar.setAttribute(name, value.toFixed(2));
    return bar;
  });
  part('chart', SVGSVGElement).replaceChildren(...bars);
}

/** @param {Span[]} spans @param {string} by @param {string} room */
function show(spans, by, room) {
  const all = columns(by, room !== '');
  const title = room ? `Messages in ${room} by ${by}` : `Messages by ${by}`;
  part('series-title', HTMLElement).textContent = title;
  const total = spans.reduce((sum, span) => sum + span.messages, 0);
  const most = (/** @type {(span: Span) => number | undefined} */ of) => shown(Math.max(0, ...spans.map((span) => of(span) ?? 0)));
  /** @type {[string, string][]} */
  const pairs = [['Messages', shown(total)]];
  if (!room) {
    pairs.push([`Most users in one ${by}`, most((span) => span.users)]);
    pairs.push(['Most connections', most((span) => span.connectionsMax)]);
    pairs.push(['Busiest minute', most((span) => span.messagesPerMinuteMax)]);
  }
  sums('sums', pairs);
  chart(spans);
  const newestFirst = [...spans].reverse().map((span) => all.map((column) => column.of(span)));
  table('series', `${title}, in UTC, the newest first`, all.map((column) => column.heading), newestFirst);
}

/** @param {SubmitEvent} event */
async function ask(event) {
  event.preventDefault();
  const { key, tenant, room, by } = wanted();
  problem.textContent = '';
  progress.textContent = 'Asking …';
  try {
    const of = room ? `analytics/rooms/${encodeURIComponent(room)}` : 'analytics';
    const [series, top] = await Promise.all([
      get(`${of}?by=${by}`, { key, tenant }),
      room ? null : get('analytics/rooms?limit=20', { key, tenant }),
    ]);
    show(series.spans, by, room);
    part('top-section', HTMLElement).hidden = top === null;
    if (top !== null) {
      const rows = top.rooms.map((/** @type {{ room: string, messages: number }} */ busy) => [busy.room, shown(busy.messages)]);
      table('top', `Rooms by messages on ${top.day}`, ['Room', 'Messages'], rows);
    }
    figures.hidden = false;
    progress.textContent = '';
  } catch (error) {
    progress.textContent = '';
    problem.textContent = told(error);
  }
}

form.addEventListener('submit', ask);
