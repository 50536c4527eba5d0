/**
 * The mini chat as templates on the server, filled in at every request and for every message.
 *
 * In Rust these would be askama's or maud's; what reaches the browser, which is what is measured, would be the same.
 */
const ESCAPES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const safe = (value) => String(value).replace(/[&<>"']/gu, (c) => ESCAPES[c]);

const row = ({ id, from, text, at, state }) => `<li data-id="${safe(id)}"><b>${safe(from)}</b><span>${safe(text)}</span>`
  + `<time>${safe(at)}</time><i class="tick" id="tick-${safe(id)}">${safe(state)}</i></li>`;

const composer = (draft = '', disabled = true) => `<input id="text" name="text" role="combobox" aria-label="Message" aria-controls="commands"
 autocomplete="off" value="${safe(draft)}" ${disabled ? 'disabled' : 'autofocus'}
 hx-get="/commands" hx-trigger="input delay:50ms" hx-target="#commands" hx-swap="outerHTML">`;

const partial = (target, swap, content) => `<hx-partial hx-target="${target}" hx-swap="${swap}">${content}</hx-partial>`;

/** What goes over the connection for each message of the other options. */
export const fragments = {
  people: ({ people }) => partial('#people', 'innerHTML', people.map(({ name }) => `<li>${safe(name)}</li>`).join(''))
    + partial('#text', 'outerHTML', composer('', false)),
  messages: ({ messages }) => partial('#log', 'beforeend', messages.map(row).join('')),
  receipt: ({ id, state }) => partial(`#tick-${id}`, 'innerHTML', safe(state)),
};

/** The list of commands that begin like `text`. */
export function commandList(commands, text) {
  const matching = text.startsWith('/') ? commands.filter(({ name }) => name.startsWith(text)) : [];
  const options = matching.map(({ name, hint }) => `<li role="option" hx-get="/composer?text=${encodeURIComponent(`${name} `)}"
 hx-target="#text" hx-swap="outerHTML">${safe(name)} ${safe(hint)}</li>`);
  return `<ul id="commands" role="listbox" aria-label="Commands" ${matching.length ? '' : 'hidden'}>${options.join('')}</ul>`;
}

export { composer };

/** The page. */
export const page = () => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Mini chat</title>
<meta name="htmx-config" content='{"extensions":"ws","includeIndicatorCSS":false}'>
<link rel="stylesheet" href="/style.css">
<script src="/htmx.js"></script>
<script src="/hx-ws.js"></script>
<script defer src="/app.js"></script>
</head>
<body hx-ws:connect="/ws?as=html">
<p id="banner" role="status" hidden>Offline. What you write is sent when you are back.</p>
<nav aria-label="People"><ul id="people"></ul></nav>
<main>
<ol id="log" role="log" aria-label="Messages"></ol>
<form hx-ws:send>
${commandList([], '')}
${composer()}
<button>Send</button>
</form>
</main>
</body>
</html>
`;
