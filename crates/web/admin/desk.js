/**
 * What every view stands on: words for who cannot see a change, time that can be held still, parts that recur.
 */
import { Refused, told } from './api.js';
import { confirm as confirmed, show } from '../shared/dialog.js';
import { byId, h } from '../shared/dom.js';
import { effect, onEnd, signal, untracked } from '../shared/reactive.js';

/** @import { Child } from '../shared/types.js' */
/** @import { Silent } from './types.js' */

/** Whether what is shown changes by itself. */
export const paused = signal(false);

export const number = new Intl.NumberFormat('en');
const decimal = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });

/** Says something once, politely. @param {string} text */
export function tell(text) {
  const status = byId('status');
  // The same words again are heard again only if they are new.
  if (status.textContent === text) status.textContent = '';
  status.textContent = text;
}

/**
 * Does something again and again, at once for the first time: never while it is held still, hidden, or still under way.
 * @param {number} ms @param {() => Promise<unknown>} run
 */
export function every(ms, run) {
  let ended = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let next;
  let running = false;
  const turn = async () => {
    clearTimeout(next);
    if (ended || running || document.hidden || paused.peek()) return;
    running = true;
    try { await run(); } finally { running = false; }
    if (!ended) next = setTimeout(turn, ms);
  };
  document.addEventListener('visibilitychange', turn);
  effect(() => { if (!paused.value) untracked(() => void turn()); });
  onEnd(() => {
    ended = true;
    clearTimeout(next);
    document.removeEventListener('visibilitychange', turn);
  });
}

/**
 * A question, its answer, and what went wrong: `again()` asks anew, answers to earlier questions are dropped.
 * @template T @param {() => Promise<T>} question
 */
export function asked(question) {
  const answer = signal(/** @type {T | null} */ (null));
  const problem = signal('');
  let turn = 0;
  let ended = false;
  onEnd(() => { ended = true; });
  const again = async () => {
    const mine = turn += 1;
    try {
      const given = await question();
      if (mine !== turn || ended) return;
      problem.value = '';
      answer.value = given;
    } catch (error) {
      if (mine === turn && !ended) problem.value = told(error);
    }
  };
  return { answer, problem, again };
}

/** What went wrong, read out. @param {() => string} problem */
export const problemText = (problem) => h('p', { class: 'problem', role: 'alert', textContent: problem });

/** Which nodes a list is without, in words. @param {readonly Silent[]} silent */
export const silentText = (silent) => silent.map(({ node, why }) => `Without ${node}: ${why}.`).join(' ');

/** The head of a view; it takes the focus when the view is opened. @param {string} title @param {...Child} beside */
export const heading = (title, ...beside) => h('div', { class: 'view-head' }, h('h1', { tabIndex: -1, class: 'title' }, title), beside);

/** @param {string} title @param {...Child} inside */
export function section(title, ...inside) {
  const id = `section-${sections += 1}`;
  return h('section', { 'aria-labelledby': id }, h('h2', { id }, title), inside);
}
let sections = 0;

/** A field with its label. @param {string} label @param {HTMLElement} input @param {string} [hint] */
export function field(label, input, hint) {
  input.id ||= `field-${fields += 1}`;
  if (hint) input.setAttribute('aria-describedby', `${input.id}-hint`);
  return h('p', { class: 'field' }, h('label', { for: input.id }, label), input, hint ? h('span', { class: 'fine', id: `${input.id}-hint` }, hint) : null);
}
let fields = 0;

/** @param {string} text @param {() => void} act @param {{ label?: string, kind?: string, disabled?: () => boolean }} [more] */
export function button(text, act, { label, kind = 'small', disabled } = {}) {
  return h('button', { type: 'button', class: `button ${kind}`, onclick: act, ...(label ? { 'aria-label': label } : {}), ...(disabled ? { disabled } : {}) }, text);
}

/** Names and values. @param {() => [string, string][]} pairs */
export function facts(pairs) {
  const shown = h('dl', { class: 'facts' });
  effect(() => {
    const wanted = pairs();
    // Only what has changed is touched: whoever reads or has selected something keeps their place.
    for (const [at, [name, value]] of wanted.entries()) {
      const pair = shown.children[at] ?? shown.appendChild(h('div', null, h('dt'), h('dd')));
      for (const [part, text] of /** @type {[Element, string][]} */ ([[pair.children[0], name], [pair.children[1], value]])) {
        if (part.textContent !== text) part.textContent = text;
      }
    }
    while (shown.children.length > wanted.length) shown.lastElementChild?.remove();
  });
  return shown;
}

/**
 * Does something that the server may refuse, and says what came of it.
 * @param {string} done what to say then @param {() => Promise<unknown>} act @param {() => unknown} [after]
 */
export async function attempt(done, act, after) {
  try {
    await act();
    tell(done);
    notice(done, 'good');
    await after?.();
  } catch (error) {
    notice(told(error), 'bad');
    if (!(error instanceof Refused) && !(error instanceof TypeError)) throw error;
  }
}

/** Words at the head of the page, until the next ones or until the view is left. @param {string} text @param {'good' | 'bad'} tone */
export function notice(text, tone) {
  const place = byId('notice');
  place.className = `notice ${tone}`;
  // What was done is told politely by `tell`, what failed is an alert.
  place.setAttribute('role', tone === 'bad' ? 'alert' : 'none');
  place.replaceChildren(text);
}

export function clearNotice() { byId('notice').replaceChildren(); }

/** Asks before something is done. @param {string} question @param {string} consequence @param {string} verb @param {() => void} act */
export const confirm = (question, consequence, verb, act) => confirmed(question, consequence, verb, act);

/**
 * Asks before something that cannot be undone: the name must be typed.
 * @param {string} question @param {string} consequence @param {string} name @param {string} verb @param {() => void} act @param {...Child} more
 */
export function confirmByName(question, consequence, name, verb, act, ...more) {
  const typed = signal('');
  show(question, 'confirm', (close) => [
    h('p', null, consequence),
    h('form', {
      class: 'stack', onsubmit: (event) => {
        event.preventDefault();
        if (typed.value !== name) return;
        close();
        act();
      },
    },
    more,
    field(`Type ${name} to confirm`, h('input', { class: 'input', autocomplete: 'off', spellcheck: false, oninput: (event) => { typed.value = /** @type {HTMLInputElement} */ (event.target).value; } })),
    h('div', { class: 'buttons' }, button('Cancel', close, { kind: '' }), h('button', { type: 'submit', class: 'button danger', disabled: () => typed.value !== name }, verb))),
  ]);
}

/** A dialog with a form. @param {string} title @param {string} verb @param {Child[]} inside @param {() => void} act @param {string} [kind] */
export function formDialog(title, verb, inside, act, kind = 'primary') {
  return show(title, 'form', (close) => [h('form', {
    class: 'stack', onsubmit: (event) => {
      event.preventDefault();
      close();
      act();
    },
  }, inside, h('div', { class: 'buttons' }, button('Cancel', close, { kind: '' }), h('button', { type: 'submit', class: `button ${kind}` }, verb)))]);
}

/**
 * A dialog with a form that stays open until the server has agreed: what it says against it is read out beside the fields.
 * @param {string} title @param {string} verb @param {Child[]} inside @param {() => Promise<unknown>} act @param {() => void} done
 */
export function orderDialog(title, verb, inside, act, done) {
  const problem = signal('');
  const busy = signal(false);
  return show(title, 'form', (close) => [h('form', {
    class: 'stack', onsubmit: async (event) => {
      event.preventDefault();
      if (busy.peek()) return;
      busy.value = true;
      problem.value = '';
      try {
        await act();
        close();
        done();
      } catch (error) {
        problem.value = told(error);
        if (!(error instanceof Refused) && !(error instanceof TypeError)) throw error;
      } finally { busy.value = false; }
    },
  }, inside, problemText(() => problem.value), h('div', { class: 'buttons' }, button('Cancel', close, { kind: '' }), h('button', { type: 'submit', class: 'button danger', disabled: () => busy.value }, verb)))]);
}

/** @param {number} seconds */
export function span(seconds) {
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  return minutes > 0 ? `${minutes} min` : `${Math.floor(seconds)} s`;
}

/** @param {number} ms */
export const millis = (ms) => (ms >= 10_000 ? span(ms / 1000) : `${decimal.format(ms)} ms`);

/** @param {number} value */
export const rate = (value) => decimal.format(value);

/** A moment, in the reader's time zone. @param {string | number} at */
export const moment = (at) => new Date(at).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });
