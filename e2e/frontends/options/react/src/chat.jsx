import { memo, useEffect, useMemo, useRef, useState } from 'react';
import { connect } from '../../shared/wire.js';

const Row = memo(function Row({ row }) {
  return <li data-id={row.id}><b>{row.from}</b><span>{row.text}</span><time>{row.at}</time><i className="tick">{row.state}</i></li>;
});

/** The mini chat. */
export default function Chat() {
  const [online, setOnline] = useState(true);
  const [people, setPeople] = useState([]);
  const [commands, setCommands] = useState([]);
  const [messages, setMessages] = useState([]);
  const [draft, setDraft] = useState('');
  const [chosen, setChosen] = useState(0);
  const say = useRef(null);
  const text = useRef(null);

  useEffect(() => {
    say.current = connect({
      online: setOnline,
      people: (message) => setPeople(message.people),
      commands: (message) => setCommands(message.commands),
      messages: (message) => setMessages((rows) => [...rows, ...message.messages]),
      receipt: ({ id, state }) => setMessages((rows) => rows.map((row) => (row.id === id ? { ...row, state } : row))),
    });
  }, []);

  const matching = useMemo(
    () => (draft.startsWith('/') ? commands.filter(({ name }) => name.startsWith(draft)) : []),
    [draft, commands],
  );
  const rows = useMemo(() => messages.map((row) => <Row key={row.id} row={row} />), [messages]);

  const choose = (command) => {
    setDraft(`${command.name} `);
    text.current.focus();
  };
  const onKeyDown = (event) => {
    const count = matching.length;
    if (count === 0) return;
    if (event.key === 'ArrowDown') setChosen((chosen + 1) % count);
    else if (event.key === 'ArrowUp') setChosen((chosen + count - 1) % count);
    else if (event.key === 'Tab') choose(matching[chosen]);
    else return;
    event.preventDefault();
  };
  const onSubmit = (event) => {
    event.preventDefault();
    if (draft.trim() === '') return;
    say.current(draft);
    setDraft('');
  };

  return (
    <>
      <p id="banner" role="status" hidden={online}>Offline. What you write is sent when you are back.</p>
      <nav aria-label="People"><ul id="people">{people.map(({ id, name }) => <li key={id}>{name}</li>)}</ul></nav>
      <main>
        <ol id="log" role="log" aria-label="Messages">{rows}</ol>
        <form onSubmit={onSubmit}>
          <ul id="commands" role="listbox" aria-label="Commands" hidden={matching.length === 0}>
            {matching.map((command, at) => (
              <li key={command.name} role="option" aria-selected={at === chosen} onClick={() => choose(command)}>
                {command.name} {command.hint}
              </li>
            ))}
          </ul>
          <input id="text" ref={text} role="combobox" aria-label="Message" aria-controls="commands" aria-expanded={matching.length > 0}
            autoComplete="off" disabled={people.length === 0} value={draft} onKeyDown={onKeyDown}
            onChange={(event) => { setDraft(event.target.value); setChosen(0); }} />
          <button>Send</button>
        </form>
      </main>
    </>
  );
}
