/**
 * Search in what is loaded of the room: a bar above the log, which walks from one place found to the next.
 *
 * Loaded when somebody searches. Marks with the browser's own highlights where it has them, so that no row is touched; older pages
 * are fetched on demand, a page at a time.
 */
import { effect, scope, signal } from '../shared/reactive.js';
import { h, icon } from '../shared/dom.js';

/** @import { Chat } from './chat.js' */

/** @type {(() => void) | null} */
let open = null;

/** The places of a text in the log, newest last. @param {HTMLElement} log @param {string} wanted @returns {Range[]} */
function placesOf(log, wanted) {
  /** @type {Range[]} */
  const places = [];
  if (!wanted) return places;
  const texts = document.createTreeWalker(log, NodeFilter.SHOW_TEXT, (node) =>
    (node.parentElement?.closest('.items .text, .items .file, .items .name, .items .words') ? NodeFilter.FILTER_ACCEPT : NodeFilter.FILTER_SKIP));
  for (let node = texts.nextNode(); node; node = texts.nextNode()) {
    const text = (node.nodeValue ?? '').toLocaleLowerCase();
    // Where lower case has another length, places in it are none in the text.
    if (text.length !== node.nodeValue?.length) continue;
    for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + wanted.length)) {
      const range = document.createRange();
      range.setStart(node, at);
      range.setEnd(node, at + wanted.length);
      places.push(range);
    }
  }
  return places;
}

/** @param {string} name @param {Range[]} ranges */
function highlight(name, ranges) {
  if (!('highlights' in CSS)) return;
  if (ranges.length > 0) CSS.highlights.set(name, new Highlight(...ranges));
  else CSS.highlights.delete(name);
}

/** @param {Chat} chat @param {HTMLElement} stage */
export function search(chat, stage) {
  if (open) return /** @type {HTMLElement | null} */ (stage.querySelector('.search input'))?.focus();
  const log = /** @type {HTMLElement} */ (document.getElementById('log'));
  const found = signal(/** @type {Range[]} */ ([]));
  const at = signal(0);
  const query = signal('');
  let fresh = true;
  /** @type {HTMLElement} */
  let bar;
  const close = () => {
    open?.();
    open = null;
    highlight('found', []);
    highlight('found-here', []);
    bar.remove();
    document.getElementById('message')?.focus();
  };
  const end = scope(() => {
    const input = h('input', {
      type: 'search', class: 'input', placeholder: 'Search in what is loaded', 'aria-label': 'Search in this room', autocomplete: 'off',
      oninput: () => {
        fresh = true;
        query.value = input.value;
      },
      onkeydown: (event) => {
        if (event.key === 'Escape') close();
        else if (event.key === 'Enter') step(event.shiftKey ? 1 : -1);
        else return;
        event.preventDefault();
      },
    });
    const step = (/** @type {number} */ by) => {
      const { length } = found.peek();
      if (length > 0) at.value = (at.peek() + by + length) % length;
    };
    const says = () => {
      if (query.value.trim() === '') return '';
      return found.value.length === 0 ? 'Not found in what is loaded' : `${found.value.length - at.value} of ${found.value.length}`;
    };
    bar = h('div', { class: 'search', role: 'search' }, icon('search'), input,
      h('span', { class: 'says', role: 'status' }, says),
      h('button', { type: 'button', class: 'icon-button', 'aria-label': 'Older place', title: 'Older (Enter)', onclick: () => step(-1) }, icon('up')),
      h('button', { type: 'button', class: 'icon-button', 'aria-label': 'Newer place', title: 'Newer (Shift + Enter)', onclick: () => step(1) }, icon('down')),
      h('button', { type: 'button', class: 'link', hidden: () => chat.room.older.value !== 'more' && chat.room.older.value !== 'failed', onclick: () => void chat.loadOlder(chat.room) }, 'Load older'),
      h('button', { type: 'button', class: 'icon-button', 'aria-label': 'Close search', onclick: close }, icon('close')));
    effect(() => {
      chat.room.items.value;
      const wanted = query.value.trim().toLocaleLowerCase();
      // The rows are made by another effect, which may come after this one.
      queueMicrotask(() => {
        found.value = placesOf(log, wanted);
        highlight('found', found.peek());
        // A new search begins with the newest place.
        const last = Math.max(0, found.peek().length - 1);
        at.value = fresh ? last : Math.min(at.peek(), last);
        fresh = false;
      });
    });
    effect(() => {
      const place = found.value[at.value];
      highlight('found-here', place ? [place] : []);
      place?.startContainer.parentElement?.closest('li')?.scrollIntoView({ block: 'center' });
    });
    stage.prepend(bar);
    input.focus();
  });
  open = end;
}
