import { createMemo, createSignal, For } from 'solid-js';
import { createStore, produce } from 'solid-js/store';
import { render } from 'solid-js/web';
import '../../shared/style.css';
import { connect } from '../../shared/wire.js';

function Chat() {
  const [online, setOnline] = createSignal(true);
  const [people, setPeople] = createSignal([]);
  const [commands, setCommands] = createSignal([]);
  const [messages, setMessages] = createStore([]);
  const [draft, setDraft] = createSignal('');
  const [chosen, setChosen] = createSignal(0);
  const places = new Map();
  const matching = createMemo(() => (draft().startsWith('/') ? commands().filter(({ name }) => name.startsWith(draft())) : []));

  const say = connect({
    online: setOnline,
    people: (message) => setPeople(message.people),
    commands: (message) => setCommands(message.commands),
    messages: (message) => setMessages(produce((rows) => {
      for (const row of message.messages) places.set(row.id, rows.push(row) - 1);
    })),
    receipt: ({ id, state }) => setMessages(places.get(id), 'state', state),
  });

  let text;
  const choose = (command) => { setDraft(`${command.name} `); text.focus(); };
  const onKeyDown = (event) => {
    const count = matching().length;
    if (count === 0) return;
    if (event.key === 'ArrowDown') setChosen((chosen() + 1) % count);
    else if (event.key === 'ArrowUp') setChosen((chosen() + count - 1) % count);
    else if (event.key === 'Tab') choose(matching()[chosen()]);
    else return;
    event.preventDefault();
  };
  const onSubmit = (event) => {
    event.preventDefault();
    if (draft().trim() === '') return;
    say(draft());
    setDraft('');
  };

  return (
    <>
      <p id="banner" role="status" hidden={online()}>Offline. What you write is sent when you are back.</p>
      <nav aria-label="People"><ul id="people"><For each={people()}>{({ name }) => <li>{name}</li>}</For></ul></nav>
      <main>
        <ol id="log" role="log" aria-label="Messages">
          <For each={messages}>{(row) => (
            <li data-id={row.id}><b>{row.from}</b><span>{row.text}</span><time>{row.at}</time><i class="tick">{row.state}</i></li>
          )}</For>
        </ol>
        <form onSubmit={onSubmit}>
          <ul id="commands" role="listbox" aria-label="Commands" hidden={matching().length === 0}>
            <For each={matching()}>{(command, at) => (
              <li role="option" aria-selected={at() === chosen()} onClick={() => choose(command)}>{command.name} {command.hint}</li>
            )}</For>
          </ul>
          <input id="text" ref={text} role="combobox" aria-label="Message" aria-controls="commands" aria-expanded={matching().length > 0}
            autocomplete="off" disabled={people().length === 0} value={draft()} onKeyDown={onKeyDown}
            onInput={(event) => { setDraft(event.target.value); setChosen(0); }} />
          <button>Send</button>
        </form>
      </main>
    </>
  );
}

render(() => <Chat />, document.body);
