/**
 * Where one writes: Enter sends, Shift+Enter starts a line, nothing typed is ever thrown away.
 *
 * What is wrong is said next to the text, in words, and the text stays. Drafts are kept per room. Commands, people and rooms are
 * completed from a listbox that the text field points at (a `textarea` may not be a combobox, so it stays a text field with
 * `aria-autocomplete` and `aria-activedescendant`).
 */
import { batch, computed, effect, signal, untracked } from '../shared/reactive.js';
import { append, h, icon, list } from '../shared/dom.js';
import { CONTENT_MAX, isCommand, isListed, lengthOf } from './chat.js';

/** @import { Chat } from './chat.js' */
/** @typedef {{ key: string, label: string, hint: string, from: number, text: string }} Option */

/** From here on the counter shows. */
const COUNTER_FROM = CONTENT_MAX * 0.8;
const OPTIONS_MAX = 8;

/** @param {string} word What has blanks is one word in quotes only. */
const quoted = (word) => (/[\s"]/u.test(word) ? `"${word.replace(/["\\]/gu, '\\$&')}"` : word);

/** What could stand in place of what is before the caret. @param {Chat} chat @param {string} text @returns {Option[]} */
export function completions(chat, text) {
  const starts = (/** @type {string} */ word, /** @type {string} */ typed) => word.toLocaleLowerCase().startsWith(typed.toLocaleLowerCase());
  const command = /^\/(\S*)$/u.exec(text);
  if (command && isCommand(text)) {
    return chat.commands.peek().filter(({ name }) => starts(name, command[1] ?? ''))
      .map(({ name, usage, summary, arguments: args }) => ({ key: `/${name}`, label: usage, hint: summary, from: 0, text: `/${name}${args.length > 0 ? ' ' : ''}` }));
  }
  const everyone = [...chat.room.people.peek().values()].filter(({ userId }) => userId !== chat.me.userId);
  const argument = isCommand(text) ? /^\/(\S+)\s+((?:\S+\s+)*)(\S*)$/u.exec(text) : null;
  const spec = argument && chat.commands.peek().find(({ name }) => name === argument[1]);
  const kind = spec?.arguments[(argument?.[2]?.match(/\S+/gu) ?? []).length]?.kind;
  const typed = argument?.[3] ?? '';
  const from = text.length - typed.length;
  if (kind === 'user') {
    return everyone.filter(({ userId, name }) => starts(userId, typed) || starts(name, typed))
      .map(({ userId, name }) => ({ key: userId, label: name, hint: userId, from, text: `${quoted(userId)} ` }));
  }
  if (kind === 'room') {
    return [...chat.rooms.peek().values()].filter(({ name }) => !name.startsWith('@') && starts(name, typed.replace(/^#/u, '')))
      .map(({ name }) => ({ key: name, label: `#${name}`, hint: '', from, text: quoted(name) }));
  }
  if (kind === 'command') {
    return chat.commands.peek().filter(({ name }) => starts(name, typed)).map(({ name, summary }) => ({ key: name, label: name, hint: summary, from, text: name }));
  }
  const mention = /(?:^|\s)@([\p{L}\p{N}_.-]*)$/u.exec(text);
  if (!mention) return [];
  return everyone.filter(({ name }) => starts(name, mention[1] ?? ''))
    .map(({ userId, name }) => ({ key: userId, label: name, hint: userId === name ? '' : userId, from: text.length - (mention[1] ?? '').length, text: `${name} ` }));
}

/** @param {readonly string[]} names */
export function typingText(names) {
  if (names.length === 0) return '';
  if (names.length > 3) return 'Several people are typing';
  return `${names.length === 1 ? names[0] : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`} ${names.length === 1 ? 'is' : 'are'} typing`;
}

/** @param {Chat} chat */
export function composer(chat) {
  const length = signal(0);
  const wrong = signal('');
  const problem = computed(() => wrong.value || chat.problem.value);
  const over = computed(() => length.value > CONTENT_MAX);
  const options = signal(/** @type {readonly Option[]} */ ([]));
  const active = signal(0);
  const chosen = () => options.value[active.value];
  /** Files that will go along, once there are any: a module of its own. @type {import('../shared/reactive.js').Signal<ReturnType<typeof import('./uploads.js').uploads> | null>} */
  const files = signal(null);

  const input = h('textarea', {
    id: 'message', rows: 1, class: 'message-input', enterKeyHint: 'send',
    placeholder: () => `Message ${chat.room.isPrivate ? '' : '#'}${chat.room.title}`,
    'aria-label': () => (chat.editing.value ? 'Edit the message' : `Message to ${chat.room.title}`),
    'aria-describedby': 'composer-hint composer-count composer-problem',
    'aria-invalid': () => (over.value || wrong.value !== '' ? 'true' : 'false'),
    'aria-autocomplete': 'list', 'aria-haspopup': 'listbox', 'aria-controls': 'completions',
    'aria-activedescendant': () => (chosen() ? `option-${active.value}` : null),
    oninput: () => changed(true),
    onblur: () => { options.value = []; },
    onkeydown: (event) => pressed(event),
    onpaste: (event) => {
      const pasted = [...event.clipboardData?.files ?? []];
      if (pasted.length === 0 || !chat.takesFiles.peek()) return;
      event.preventDefault();
      void attach(pasted);
    },
  });
  /** @param {boolean} [byHand] */
  const changed = (byHand) => {
    if (!chat.editing.peek()) chat.room.draft.value = input.value;
    length.value = lengthOf(input.value.trim());
    if (!over.peek()) wrong.value = '';
    if (byHand) {
      if (!chat.editing.peek() && !isCommand(input.value)) chat.type(input.value.trim() !== '');
      batch(() => {
        active.value = 0;
        options.value = completions(chat, input.value.slice(0, input.selectionStart)).slice(0, OPTIONS_MAX);
      });
    }
    fit(input);
  };
  /** @param {Option} option */
  const accept = (option) => {
    input.setRangeText(option.text, option.from, input.selectionStart, 'end');
    input.focus();
    changed(true);
  };
  /** @param {KeyboardEvent} event */
  const pressed = (event) => {
    // During composition Enter chooses a character; 229 is what older Safari says instead.
    if (event.isComposing || event.keyCode === 229) return;
    const count = options.peek().length;
    const option = options.peek()[active.peek()];
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (count > 0 && step !== undefined) active.value = (active.peek() + step + count) % count;
    else if (option && (event.key === 'Tab' || (event.key === 'Enter' && !event.shiftKey)) && input.value.slice(option.from, input.selectionStart) !== option.text.trimEnd()) accept(option);
    else if (event.key === 'Escape' && count > 0) options.value = [];
    else if (event.key === 'Escape' && chat.editing.peek()) chat.editing.value = null;
    else if (event.key === 'ArrowUp' && input.value === '' && chat.lastOwn()) chat.editing.value = chat.lastOwn() ?? null;
    else if (event.key === 'Enter' && !event.shiftKey) send();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const send = () => {
    const editing = chat.editing.peek();
    const attached = files.peek()?.ready() ?? [];
    if (attached === null) {
      wrong.value = 'A file is still on its way. Please wait for it, or take it away.';
      return input.focus();
    }
    const refusal = editing ? chat.edit(editing, input.value) : chat.say(input.value, attached);
    if (refusal && (length.peek() > 0 || editing)) wrong.value = refusal;
    if (!refusal && !editing) {
      files.peek()?.clear();
      input.value = '';
      changed();
    }
    options.value = [];
    input.focus();
  };
  const tray = h('div', { class: 'tray', hidden: () => files.value === null || files.value.entries.value.length === 0 });
  /** @param {Iterable<File>} chosenFiles */
  const attach = async (chosenFiles) => {
    const kept = [...chosenFiles];
    try {
      const { uploads } = await import('./uploads.js');
      if (!files.peek()) {
        const made = uploads(chat, () => wrong.value = '');
        append(tray, [made.view]);
        files.value = made;
      }
      files.peek()?.add(kept);
      input.focus();
    } catch {
      wrong.value = 'Files cannot be sent at the moment: a part of this page is missing. Please load it again.';
    }
  };
  const chooser = h('input', { type: 'file', multiple: true, hidden: true, onchange: () => { void attach(chooser.files ?? []); chooser.value = ''; } });

  effect(() => {
    const room = chat.room;
    const editing = chat.editing.value;
    untracked(() => {
      input.value = editing ? editing.text : room.draft.peek();
      options.value = [];
      changed();
      if (editing) {
        input.focus();
        input.setSelectionRange(input.value.length, input.value.length);
      }
    });
  });
  chat.onReturned = (name, text) => {
    const room = chat.rooms.peek().get(name);
    if (!room || room.draft.peek() !== '') return;
    room.draft.value = text;
    if (room === chat.room && !chat.editing.peek()) {
      input.value = text;
      changed();
    }
  };

  const box = h('ul', { class: 'completions', id: 'completions', role: 'listbox', 'aria-label': 'Completions', hidden: () => options.value.length === 0 });
  list(box, () => options.value, ({ key }) => key, (option) => {
    const place = () => options.value.indexOf(option);
    return h('li', {
      id: () => `option-${place()}`, role: 'option', 'aria-selected': () => String(active.value === place()),
      onpointerdown: (event) => { event.preventDefault(); accept(option); },
    }, h('bdi', { class: 'what' }, option.label), h('span', { class: 'ellipsis why' }, option.hint));
  });
  const typing = computed(() => typingText([...chat.room.typing.value.values()].map(({ name }) => name)));

  return {
    attach,
    view: h('form', { class: 'composer', 'aria-label': 'Write a message', onsubmit: (event) => { event.preventDefault(); send(); } },
      h('p', { class: 'problem', id: 'composer-problem', role: 'alert' }, () => problem.value), box,
      h('div', { class: 'editing', hidden: () => chat.editing.value === null }, icon('edit'), h('span', null, 'Editing your message'),
        h('button', { type: 'button', class: 'link', onclick: () => { chat.editing.value = null; input.focus(); } }, 'Cancel')),
      h('div', { class: () => `field${over.value ? ' over' : ''}` }, tray,
        h('button', { type: 'button', class: 'icon-button attach', 'aria-label': 'Attach files', title: 'Attach files', hidden: () => !chat.takesFiles.value, onclick: () => chooser.click() }, icon('clip')), chooser, input,
        h('button', { type: 'submit', class: 'send', 'aria-label': () => (chat.editing.value ? 'Save the edit' : 'Send message'), title: 'Send (Enter)' }, icon('send'))),
      h('div', { class: 'foot' },
        h('span', { class: 'typing' }, h('span', { class: 'dots', 'aria-hidden': 'true', hidden: () => typing.value === '' }, h('i', null), h('i', null), h('i', null)), () => typing.value),
        h('span', { class: 'hint', id: 'composer-hint' }, h('kbd', null, 'Enter'), ' to send, ', h('kbd', null, '/'), ' for commands'),
        h('span', { class: () => `count${over.value ? ' over' : ''}`, id: 'composer-count' },
          () => (length.value >= COUNTER_FROM ? countText(length.value) : '')))),
  };
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
