import { computed, signal } from '@preact/signals';
import { Component, render } from 'preact';
import '../../shared/style.css';
import { connect } from '../../shared/wire.js';

const online = signal(true);
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

/** A row never changes but for its tick, which is a signal. */
class Row extends Component {
  shouldComponentUpdate() { return false; }

  render({ row }) {
    return <li data-id={row.id}><b>{row.from}</b><span>{row.text}</span><time>{row.at}</time><i class="tick">{row.state}</i></li>;
  }
}

const People = () => <ul id="people">{people.value.map(({ id, name }) => <li key={id}>{name}</li>)}</ul>;
const Log = () => <ol id="log" role="log" aria-label="Messages">{messages.value.map((row) => <Row key={row.id} row={row} />)}</ol>;
const Banner = () => <p id="banner" role="status" hidden={online.value}>Offline. What you write is sent when you are back.</p>;

let text;
const choose = (command) => { draft.value = `${command.name} `; text.focus(); };
function onKeyDown(event) {
  const count = matching.value.length;
  if (count === 0) return;
  if (event.key === 'ArrowDown') chosen.value = (chosen.value + 1) % count;
  else if (event.key === 'ArrowUp') chosen.value = (chosen.value + count - 1) % count;
  else if (event.key === 'Tab') choose(matching.value[chosen.value]);
  else return;
  event.preventDefault();
}
function onSubmit(event) {
  event.preventDefault();
  if (draft.value.trim() === '') return;
  say(draft.value);
  draft.value = '';
}

const Composer = () => (
  <form onSubmit={onSubmit}>
    <ul id="commands" role="listbox" aria-label="Commands" hidden={matching.value.length === 0}>
      {matching.value.map((command, at) => (
        <li key={command.name} role="option" aria-selected={at === chosen.value} onClick={() => choose(command)}>
          {command.name} {command.hint}
        </li>
      ))}
    </ul>
    <input id="text" ref={(element) => { text = element; }} role="combobox" aria-label="Message" aria-controls="commands"
      aria-expanded={matching.value.length > 0} autocomplete="off" disabled={people.value.length === 0} value={draft}
      onKeyDown={onKeyDown} onInput={(event) => { draft.value = event.target.value; chosen.value = 0; }} />
    <button>Send</button>
  </form>
);

render(<><Banner /><nav aria-label="People"><People /></nav><main><Log /><Composer /></main></>, document.body);
