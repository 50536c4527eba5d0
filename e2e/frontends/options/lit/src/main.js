import { html, LitElement } from 'lit';
import { repeat } from 'lit/directives/repeat.js';
import '../../shared/style.css';
import { connect } from '../../shared/wire.js';

/** The mini chat, rendered into the page itself: one stylesheet for everything, and no shadow for a reader to cross. */
class MiniChat extends LitElement {
  static properties = {
    online: { state: true }, people: { state: true }, commands: { state: true },
    messages: { state: true }, draft: { state: true }, chosen: { state: true },
  };

  constructor() {
    super();
    Object.assign(this, { online: true, people: [], commands: [], messages: [], draft: '', chosen: 0 });
    this.say = connect({
      online: (online) => { this.online = online; },
      people: ({ people }) => { this.people = people; },
      commands: ({ commands }) => { this.commands = commands; },
      messages: ({ messages }) => { this.messages = [...this.messages, ...messages]; },
      receipt: ({ id, state }) => { this.messages = this.messages.map((row) => (row.id === id ? { ...row, state } : row)); },
    });
  }

  createRenderRoot() { return this; }

  get matching() {
    return this.draft.startsWith('/') ? this.commands.filter(({ name }) => name.startsWith(this.draft)) : [];
  }

  choose(command) {
    this.draft = `${command.name} `;
    this.querySelector('#text').focus();
  }

  onKeyDown(event) {
    const count = this.matching.length;
    if (count === 0) return;
    if (event.key === 'ArrowDown') this.chosen = (this.chosen + 1) % count;
    else if (event.key === 'ArrowUp') this.chosen = (this.chosen + count - 1) % count;
    else if (event.key === 'Tab') this.choose(this.matching[this.chosen]);
    else return;
    event.preventDefault();
  }

  onSubmit(event) {
    event.preventDefault();
    if (this.draft.trim() === '') return;
    this.say(this.draft);
    this.draft = '';
  }

  onInput(event) {
    this.draft = event.target.value;
    this.chosen = 0;
  }

  render() {
    const commands = this.matching;
    return html`
      <p id="banner" role="status" ?hidden=${this.online}>Offline. What you write is sent when you are back.</p>
      <nav aria-label="People"><ul id="people">${this.people.map(({ name }) => html`<li>${name}</li>`)}</ul></nav>
      <main>
        <ol id="log" role="log" aria-label="Messages">${repeat(this.messages, ({ id }) => id, (row) => html`<li data-id=${row.id}><b>${row.from}</b><span>${row.text}</span><time>${row.at}</time><i class="tick">${row.state}</i></li>`)}</ol>
        <form @submit=${this.onSubmit}>
          <ul id="commands" role="listbox" aria-label="Commands" ?hidden=${commands.length === 0}>
            ${commands.map((command, at) => html`<li role="option" aria-selected=${at === this.chosen} @click=${() => this.choose(command)}>${command.name} ${command.hint}</li>`)}
          </ul>
          <input id="text" role="combobox" aria-label="Message" aria-controls="commands" aria-expanded=${commands.length > 0}
            autocomplete="off" ?disabled=${this.people.length === 0} .value=${this.draft} @keydown=${this.onKeyDown} @input=${this.onInput}>
          <button>Send</button>
        </form>
      </main>`;
  }
}

customElements.define('mini-chat', MiniChat);
document.body.append(document.createElement('mini-chat'));
