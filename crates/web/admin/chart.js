/**
 * Charts of lines and bars, drawn as SVG, each with a table that says the same.
 *
 * Lines are told apart by their dashes as well as by their colour. Nothing moves but by being drawn anew.
 */
import { h } from '../shared/dom.js';
import { effect, signal } from '../shared/reactive.js';
import { number } from './desk.js';

/** @import { Series } from './types.js' */

const SPACE = 'http://www.w3.org/2000/svg';
const [WIDTH, HEIGHT] = [600, 150];
/** Lines in one chart; what is more is in the table only. */
export const LINES_MAX = 6;

/**
 * Lines over time.
 * @param {{ title: string, unit: string, series: () => readonly Series[], text?: (value: number) => string, when?: (at: number) => string }} of
 */
export function lines({ title, unit, series, text = (value) => number.format(value), when = (at) => new Date(at).toLocaleTimeString('en-GB') }) {
  return figure(title, unit, series, text, when, (all, from, until, most) => all.slice(0, LINES_MAX).map(({ points }, index) => {
    const x = (/** @type {number} */ at) => (until === from ? WIDTH : ((at - from) / (until - from)) * WIDTH);
    let pen = 'M';
    const steps = points.map(({ at, value }) => {
      if (value === null) { pen = 'M'; return ''; }
      const step = `${pen}${x(at).toFixed(1)} ${(HEIGHT - (value / most) * (HEIGHT - 4)).toFixed(1)}`;
      pen = 'L';
      return step;
    });
    return svg('path', { d: steps.join('') || 'M0 0', class: `line line-${index}` });
  }));
}

/**
 * Bars, one for each point of the only series.
 * @param {{ title: string, unit: string, series: () => readonly Series[], text?: (value: number) => string, when: (at: number) => string }} of
 */
export function bars({ title, unit, series, text = (value) => number.format(value), when }) {
  return figure(title, unit, series, text, when, (all, _from, _until, most) => {
    const points = all[0]?.points ?? [];
    const wide = WIDTH / Math.max(1, points.length);
    return points.map(({ value }, index) => {
      const high = ((value ?? 0) / most) * (HEIGHT - 4);
      return svg('rect', { x: (index * wide + wide * 0.1).toFixed(1), y: (HEIGHT - high).toFixed(1), width: (wide * 0.8).toFixed(1), height: high.toFixed(1), class: 'bar' });
    });
  });
}

/** @param {string} name @param {Record<string, string>} attributes */
function svg(name, attributes) {
  const element = document.createElementNS(SPACE, name);
  for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, value);
  return element;
}

/**
 * @param {string} title @param {string} unit @param {() => readonly Series[]} series @param {(value: number) => string} text @param {(at: number) => string} when
 * @param {(all: readonly Series[], from: number, until: number, most: number) => SVGElement[]} draw
 */
function figure(title, unit, series, text, when, draw) {
  const drawing = svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true', focusable: 'false', class: 'chart' });
  const [top, begin, end] = [h('span'), h('span'), h('span')];
  const legend = h('ul', { class: 'legend' });
  const rows = h('tbody');
  const heads = h('tr');
  const now = h('p', { class: 'now' });
  const open = signal(false);
  effect(() => {
    const all = series();
    const points = all.flatMap((one) => one.points);
    const times = points.map(({ at }) => at);
    const values = points.flatMap(({ value }) => value ?? []);
    const most = ceiling(Math.max(0, ...values));
    const [from, until] = [Math.min(...times), Math.max(...times)];
    drawing.replaceChildren(...(times.length === 0 ? [] : draw(all, from, until, most)));
    top.textContent = `${text(most)} ${unit}`;
    begin.textContent = times.length === 0 ? '' : when(from);
    end.textContent = times.length === 0 ? '' : when(until);
    const latest = all.map((one) => `${all.length > 1 ? `${one.name}: ` : ''}${last(one, text)}`).join(', ');
    now.textContent = latest ? `${latest} ${unit}` : 'nothing yet';
    legend.replaceChildren(...(all.length > 1 ? all.slice(0, LINES_MAX).map(({ name }, index) => {
      const sample = svg('svg', { viewBox: '0 0 24 8', class: 'sample', 'aria-hidden': 'true', focusable: 'false' });
      sample.append(svg('path', { d: 'M0 4L24 4', class: `line line-${index}` }));
      return h('li', null, sample, name);
    }) : []));
    if (!open.value) return;
    heads.replaceChildren(h('th', { scope: 'col' }, 'Time'), ...all.map(({ name }) => h('th', { scope: 'col', class: 'figure' }, `${name}, ${unit}`)));
    const moments = [...new Set(times)].sort((a, b) => b - a);
    const at = all.map((one) => new Map(one.points.map((point) => [point.at, point.value])));
    rows.replaceChildren(...moments.map((time) => h('tr', null, h('th', { scope: 'row' }, when(time)),
      at.map((values_) => h('td', { class: 'figure' }, values_.get(time) == null ? '–' : text(/** @type {number} */ (values_.get(time))))))));
  });
  return h('figure', { class: 'plot' },
    h('figcaption', null, h('h3', null, title), now),
    h('div', { class: 'frame', 'aria-hidden': 'true' }, h('div', { class: 'axis' }, top, h('span', null, '0')), drawing, h('div', { class: 'axis below' }, begin, end)),
    legend,
    h('details', { ontoggle: (event) => { open.value = /** @type {HTMLDetailsElement} */ (event.target).open; } },
      h('summary', null, `${title} as a table`),
      h('div', { class: 'scroll', tabIndex: 0, role: 'region', 'aria-label': `${title} as a table` }, h('table', null, h('caption', null, `${title}, the newest first`), h('thead', null, heads), rows))));
}

/** @param {Series} series @param {(value: number) => string} text */
function last({ points }, text) {
  const value = points[points.length - 1]?.value;
  return value == null ? '–' : text(value);
}

/** The next round figure: 1, 2 or 5 and zeros. @param {number} value */
export function ceiling(value) {
  if (value <= 1) return 1;
  const zeros = 10 ** Math.floor(Math.log10(value));
  return zeros * (/** @type {number} */ ([1, 2, 5, 10].find((step) => step * zeros >= value)));
}
