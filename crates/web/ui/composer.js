/**
 * Where one writes: Enter sends, Shift+Enter starts a line, nothing typed is ever thrown away.
 *
 * What is wrong is said next to the text, in words, and the text stays. Drafts are kept per room.
 */
import { computed, effect, signal, untracked } from './reactive.js';
import { h, icon } from './dom.js';
import { CONTENT_MAX, lengthOf } from './chat.js';

/** @import { Chat } from './chat.js' */

/** From here on the counter shows. */
const COUNTER_FROM = CONTENT_MAX * 0.8;

/** @param {Chat} chat */
export function composer(chat) {
  const length = signal(0);
  const wrong = signal('');
  const problem = computed(() => wrong.value || chat.problem.value);
  const over = computed(() => length.value > CONTENT_MAX);

  const input = h('textarea', {
    id: 'message', rows: 1, class: 'message-input', enterKeyHint: 'send',
    placeholder: () => `Message #${chat.room.name}`,
    'aria-label': () => `Message to ${chat.room.name}`,
    'aria-describedby': 'composer-hint composer-count composer-problem',
    'aria-invalid': () => (over.value || wrong.value !== '' ? 'true' : 'false'),
    oninput: () => changed(),
    onkeydown: (event) => {
      // During composition Enter chooses a character; 229 is what older Safari says instead.
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
      event.preventDefault();
      send();
    },
  });
  const changed = () => {
    chat.room.draft = input.value;
    length.value = lengthOf(input.value.trim());
    if (!over.peek()) wrong.value = '';
    fit(input);
  };
  const send = () => {
    const refusal = chat.say(input.value);
    if (refusal && length.peek() > 0) wrong.value = refusal;
    if (!refusal) {
      input.value = '';
      changed();
    }
    input.focus();
  };

  effect(() => {
    const room = chat.room;
    untracked(() => {
      input.value = room.draft;
      changed();
    });
  });

  return h('form', { class: 'composer', 'aria-label': 'Write a message', onsubmit: (event) => { event.preventDefault(); send(); } },
    h('p', { class: 'problem', id: 'composer-problem', role: 'alert' }, () => problem.value),
    h('div', { class: () => `field${over.value ? ' over' : ''}` }, input,
      h('button', { type: 'submit', class: 'send', 'aria-label': 'Send message', title: 'Send (Enter)' }, icon('send'))),
    h('div', { class: 'foot' },
      h('span', { class: 'hint', id: 'composer-hint' }, h('kbd', null, 'Enter'), ' to send, ', h('kbd', null, 'Shift + Enter'), ' for a new line'),
      h('span', { class: () => `count${over.value ? ' over' : ''}`, id: 'composer-count' },
        () => (length.value >= COUNTER_FROM ? countText(length.value) : ''))));
}

/** @param {number} length */
function countText(length) {
  const left = CONTENT_MAX - length;
  const count = Math.abs(left);
  return `${count} ${count === 1 ? 'character' : 'characters'} ${left < 0 ? 'too many' : 'left'}`;
}

/** Grows the field with its text where CSS cannot. @param {HTMLTextAreaElement} input */
function fit(input) {
  if (CSS.supports('field-sizing', 'content')) return;
  input.style.setProperty('height', 'auto');
  input.style.setProperty('height', `${input.scrollHeight}px`);
}
