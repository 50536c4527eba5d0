/** The mini chat on the two modules of the web chat: `reactive.js` and `dom.js`. */
import { byId, h, list } from './dom.js';
import { computed, effect, signal } from './reactive.js';
import { connect } from './wire.js';

const online = signal(false);
const people = signal([]);
const commands = signal([]);
const messages = signal([]);
const draft = signal('');
const chosen = signal(0);
const byMessage = new Map();

const matching = computed(() => (draft.value.startsWith('/') ? commands.value.filter(({ name }) => name.startsWith(draft.value)) : []));

const say = connect({
  online: (is) => { online.value = is; },
  people: (message) => { people.value = message.people; },
  commands: (message) => { commands.value = message.commands; },
  messages(message) {
    const rows = message.messages.map((row) => ({ ...row, state: signal(row.state) }));
    for (const row of rows) byMessage.set(row.id, row);
    messages.value = [...messages.value, ...rows];
  },
  receipt({ id, state }) { byMessage.get(id).state.value = state; },
});

const text = byId('text');
const choose = (command) => { draft.value = `${command.name} `; text.focus(); };

list(byId('people'), () => people.value, ({ id }) => id, ({ name }) => h('li', null, name));
list(byId('log'), () => messages.value, ({ id }) => id, (row) => h('li', { 'data-id': row.id },
  h('b', null, row.from), h('span', null, row.text), h('time', null, row.at), h('i', { class: 'tick' }, () => row.state.value)));
list(byId('commands'), () => matching.value, ({ name }) => name, (command) => h('li', {
  role: 'option', 'aria-selected': () => matching.value[chosen.value] === command, onclick: () => choose(command),
}, `${command.name} ${command.hint}`));

effect(() => { byId('banner').hidden = online.value; text.disabled = people.value.length === 0; });
effect(() => {
  const open = matching.value.length > 0;
  byId('commands').hidden = !open;
  text.setAttribute('aria-expanded', open);
});
effect(() => { if (text.value !== draft.value) text.value = draft.value; });

text.addEventListener('input', () => { draft.value = text.value; chosen.value = 0; });
text.addEventListener('keydown', (event) => {
  const count = matching.value.length;
  if (count === 0) return;
  if (event.key === 'ArrowDown') chosen.value = (chosen.value + 1) % count;
  else if (event.key === 'ArrowUp') chosen.value = (chosen.value + count - 1) % count;
  else if (event.key === 'Tab') choose(matching.value[chosen.value]);
  else return;
  event.preventDefault();
});
document.querySelector('form').addEventListener('submit', (event) => {
  event.preventDefault();
  if (draft.value.trim() === '') return;
  say(draft.value);
  draft.value = '';
});
