/**
 * The output of a process as a log: coloured, followed or held still, with what became of it.
 *
 * Loaded with the first line of output. What a program prints is hostile until shown otherwise: of its control sequences only
 * colours and weights (SGR, ECMA-48 section 8.3.117) are obeyed, as classes; all others are dropped, and the rest is text.
 */
import { effect, signal, untracked } from '../shared/reactive.js';
import { h, icon } from '../shared/dom.js';

/** @import { LogLine, ProcessEntry, ProcessStatus } from './types.js' */
/** @typedef {{ text: string, classes: string }} Run */
/** @typedef {{ fg: number | null, bg: number | null, bold: boolean, dim: boolean, italic: boolean, underline: boolean, inverse: boolean }} Style */

/** Lines in the document; the rest is a click away. */
const SHOWN_MAX = 500;
const LINE_MAX = 4_000;

/** @returns {Style} */
const plain = () => ({ fg: null, bg: null, bold: false, dim: false, italic: false, underline: false, inverse: false });

/** A line as runs of text that look alike. @param {string} line @returns {Run[]} */
export function runsOf(line) {
  /** @type {Run[]} */
  const runs = [];
  let style = plain();
  const cut = line.length > LINE_MAX ? `${line.slice(0, LINE_MAX)} …` : line;
  // CSI sequences, OSC strings, two-character escapes, and the control characters that are no tab.
  const parts = /\u001b\[([0-9;:]*)([@-~])|\u001b\[[^@-~]*[@-~]?|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|\u001b[^[\]]?|[\u0000-\u0008\u000a-\u001a\u001c-\u001f\u007f-\u009f]/gu;
  let from = 0;
  const push = (/** @type {string} */ text) => { if (text) runs.push({ text, classes: classesOf(style) }); };
  for (const match of cut.matchAll(parts)) {
    push(cut.slice(from, match.index));
    from = match.index + match[0].length;
    if (match[2] === 'm') style = styled(style, match[1] ?? '');
  }
  push(cut.slice(from));
  return runs;
}

/** @param {Style} was @param {string} codes @returns {Style} */
function styled(was, codes) {
  let style = { ...was };
  const numbers = codes.split(/[;:]/u).map((code) => Number(code) || 0);
  for (let at = 0; at < numbers.length; at += 1) {
    const code = numbers[at] ?? 0;
    if (code === 0) style = plain();
    else if (code === 1) style.bold = true;
    else if (code === 2) style.dim = true;
    else if (code === 3) style.italic = true;
    else if (code === 4) style.underline = true;
    else if (code === 7) style.inverse = true;
    else if (code === 22) style.bold = style.dim = false;
    else if (code === 23) style.italic = false;
    else if (code === 24) style.underline = false;
    else if (code === 27) style.inverse = false;
    else if (code >= 30 && code <= 37) style.fg = code - 30;
    else if (code === 39) style.fg = null;
    else if (code >= 40 && code <= 47) style.bg = code - 40;
    else if (code === 49) style.bg = null;
    else if (code >= 90 && code <= 97) style.fg = code - 82;
    else if (code >= 100 && code <= 107) style.bg = code - 92;
    else if (code === 38 || code === 48) {
      const colour = numbers[at + 1] === 5 ? numbers[at + 2] ?? 0 : numbers[at + 1] === 2 ? nearest(numbers[at + 2] ?? 0, numbers[at + 3] ?? 0, numbers[at + 4] ?? 0) : 0;
      style[code === 38 ? 'fg' : 'bg'] = ofPalette(colour);
      at += numbers[at + 1] === 5 ? 2 : 4;
    }
  }
  return style;
}

/** One of the sixteen for one of the 256. @param {number} colour */
function ofPalette(colour) {
  if (colour < 16) return Math.max(0, colour);
  if (colour >= 232) return colour < 244 ? 8 : 7;
  const cube = colour - 16;
  return nearest(Math.floor(cube / 36) * 51, (Math.floor(cube / 6) % 6) * 51, (cube % 6) * 51);
}

/** One of the sixteen for any. @param {number} red @param {number} green @param {number} blue */
function nearest(red, green, blue) {
  const most = Math.max(red, green, blue);
  const bits = (red > most / 2 ? 1 : 0) | (green > most / 2 ? 2 : 0) | (blue > most / 2 ? 4 : 0);
  return most < 48 ? 0 : bits + (most > 192 ? 8 : 0);
}

/** @param {Style} style */
function classesOf({ fg, bg, bold, dim, italic, underline, inverse }) {
  const [front, back] = inverse ? [bg ?? 'inverse', fg ?? 'inverse'] : [fg, bg];
  return [
    front !== null && `fg-${front}`, back !== null && `bg-${back}`, bold && 'bold', dim && 'dim', italic && 'italic', underline && 'underline',
  ].filter(Boolean).join(' ');
}

/** @param {LogLine} line */
function lineOf(line) {
  return h('div', { class: `log-line ${line.stream === 'stderr' ? 'stderr' : ''}` },
    line.stream === 'stderr' && h('span', { class: 'sr-only' }, 'Error output: '),
    runsOf(line.text).map(({ text, classes }) => (classes ? h('span', { class: classes }, text) : text)));
}

/** What became of it, in words. @param {ProcessStatus | null} status @returns {{ tone: string, word: string }} */
export function statusText(status) {
  if (status === null) return { tone: 'wait', word: 'Running' };
  switch (status.status) {
    case 'running': return { tone: 'wait', word: 'Running' };
    case 'exited': return status.exitCode === 0 ? { tone: 'good', word: 'Done, exit code 0' } : { tone: 'bad', word: `Failed, exit code ${status.exitCode}` };
    case 'signaled': return { tone: 'bad', word: `Ended by ${status.signal ?? 'a signal'}` };
    case 'failed': return { tone: 'bad', word: 'Could not be run' };
    default: return { tone: 'wait', word: status.status };
  }
}

/** @param {ProcessEntry} entry */
export function processCard({ id, log }) {
  const following = signal(true);
  const out = h('div', {
    class: 'log-lines', tabIndex: 0, role: 'region', 'aria-label': `Output of ${id}`,
    onscroll: () => { if (out.scrollHeight - out.scrollTop - out.clientHeight > 24 && following.peek()) following.value = false; },
  });
  /** @type {LogLine[]} What stands in `out`. */
  let shown = [];
  const hidden = signal(0);
  const show = () => {
    const wanted = log.lines.slice(-SHOWN_MAX);
    hidden.value = log.dropped + log.lines.length - wanted.length;
    const goesOn = shown.length > 0 && wanted.includes(/** @type {LogLine} */ (shown.at(-1))) && wanted[0] !== undefined && shown.includes(wanted[0]);
    if (goesOn) {
      for (let gone = shown.indexOf(/** @type {LogLine} */ (wanted[0])); gone > 0; gone -= 1) out.firstElementChild?.remove();
      out.append(...wanted.slice(wanted.indexOf(/** @type {LogLine} */ (shown.at(-1))) + 1).map(lineOf));
    } else out.replaceChildren(...wanted.map(lineOf));
    shown = wanted;
    if (following.peek()) out.scrollTop = out.scrollHeight;
  };
  // Many lines come at once: the document is changed once a frame.
  let frame = 0;
  effect(() => {
    log.version.value;
    const follows = following.value;
    untracked(() => {
      if (follows) frame ||= requestAnimationFrame(() => { frame = 0; show(); });
    });
  });
  const state = () => statusText(log.status.value);
  return h('section', { class: 'process-card', 'aria-label': `Process ${id}` },
    h('header', null, icon('terminal'), h('bdi', { class: 'ellipsis name', title: id }, () => log.title.value || id),
      h('span', { class: () => `chip ${state().tone}` }, h('span', { class: 'dot', 'aria-hidden': 'true' }), () => state().word),
      h('button', {
        type: 'button', class: 'button small', 'aria-pressed': () => String(following.value), title: 'Scroll along with what comes',
        onclick: () => { following.value = !following.peek(); },
      }, () => (following.value ? 'Following' : 'Follow'))),
    h('p', { class: 'fine', hidden: () => hidden.value === 0 }, () => `${hidden.value} earlier lines are not shown.`), out);
}
