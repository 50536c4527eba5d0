/**
 * Why did somebody get a message, or not? Told as steps, from who said it to each connection.
 */
import { ask, told } from './api.js';
import { field, heading, millis, problemText, section, tell } from './desk.js';
import { h } from '../shared/dom.js';
import { signal } from '../shared/reactive.js';

/** @import { Child } from '../shared/types.js' */
/** @import { Explained, Step } from './types.js' */

/** @typedef {'good' | 'wait' | 'bad' | 'unknown'} Tone */
/** What became of it at a connection, in words, and whether that is well. @type {Record<string, [Tone, string]>} */
const OUTCOMES = {
  written: ['good', 'written to its socket'], recovered: ['good', 'got it from history'],
  queued: ['wait', 'waits for the client to read'], pending: ['wait', 'its turn has not come yet'],
  skipped: ['bad', 'left out, because the client reads too slowly'], joined_later: ['bad', 'came into the room behind it'],
  left: ['bad', 'had left the room before'], removed: ['bad', 'had been taken out of the room'], ended: ['bad', 'had ended'],
  refused: ['bad', 'was refused the room'], not_member: ['bad', 'is not known to have been in the room'], unspeakable: ['bad', 'its dialect has no words for it'],
  unknown: ['unknown', 'it is not remembered what became of it'],
};
const SIGNS = { good: '✓', wait: '…', bad: '✗', unknown: '?' };
const SAID = { good: 'Yes', wait: 'Waiting', bad: 'No', unknown: 'Not known' };

/** @param {string} at */
const clock = (at) => new Date(at).toISOString().slice(11, 23);

/** What the server says, as steps. @param {Explained} of @returns {Step[]} */
export function stepsOf(of) {
  /** @type {Step[]} */
  const steps = [];
  const by = of.from?.userId ? ` by ${of.from.userId}` : '';
  if (of.published) steps.push({ tone: 'good', text: `Published${by} on ${of.published.node} at ${clock(of.published.at)}, ${of.published.via === 'socket' ? 'over a connection' : 'by the application'}` });
  else steps.push({ tone: 'unknown', text: 'Where it was published is not known' });
  if (of.stored) steps.push({ tone: 'good', text: `${{ memory: 'Kept in memory', stored: 'Stored' }[of.stored.durability] ?? `Stored (${of.stored.durability})`}${of.stored.tookMs === undefined ? '' : `, which took ${millis(of.stored.tookMs)}`}` });
  if (of.bus) steps.push(of.bus.told ? { tone: 'good', text: `Given to the bus (${of.bus.kind}) for the other nodes` } : { tone: 'bad', text: `Not given to the bus (${of.bus.kind}): other nodes find it in the store` });
  for (const node of of.nodes ?? []) {
    if (!node.answered) { steps.push({ tone: 'unknown', text: `${node.node} did not answer` }); continue; }
    const members = (node.handedOut ?? []).reduce((sum, shard) => sum + shard.members, 0);
    const heard = node.heard ? `${{ published: 'had it first', bus: 'heard it from the bus', store: 'read it from the store, since the bus had lost it' }[node.heard.how] ?? node.heard.how} at ${clock(node.heard.at)}` : 'does not know it';
    steps.push({ tone: node.heard ? 'good' : 'unknown', text: `${node.node} ${heard}${node.handedOut?.length ? `, and handed it to ${members} ${members === 1 ? 'member' : 'members'}` : ''}` });
  }
  for (const one of of.user?.connections ?? []) {
    const [tone, words] = OUTCOMES[one.outcome] ?? ['unknown', one.outcome];
    const more = [one.at && `at ${clock(one.at)}`, one.policy && `policy ${one.policy}`, one.queuedBytes && `${one.queuedBytes} bytes wait`, one.code && `code ${one.code}`, one.reason, one.why].filter(Boolean);
    steps.push({ tone, text: `Connection ${one.clientId.slice(0, 8)}${one.device ? ` (${one.device})` : ''} on ${one.node}: ${words}${more.length ? ` (${more.join('; ')})` : ''}` });
  }
  const receipts = of.user?.receipts;
  if (receipts) steps.push({ tone: receipts.delivered ? 'good' : 'unknown', text: receipts.seen ? 'The client said that it was seen' : receipts.delivered ? 'The client said that it has it' : 'The client has not said that it has it' });
  for (const text of of.unknown ?? []) steps.push({ tone: 'unknown', text });
  return steps;
}

/** Which message is meant: a place such as `lobby@42`, or an id. @param {string} text @returns {Record<string, string> | null} */
export function messageOf(text) {
  const at = text.lastIndexOf('@');
  if (at > 0 && /^\d+$/u.test(text.slice(at + 1))) return { room: text.slice(0, at), offset: text.slice(at + 1) };
  return /^[0-9a-z-]{8,64}$/iu.test(text) ? { message: text } : null;
}

/** @param {string | null} of a message @returns {Child[]} */
export function view(of) {
  const message = h('input', { class: 'input', autocomplete: 'off', spellcheck: false, required: true, value: of ?? '' });
  const user = h('input', { class: 'input', autocomplete: 'off', spellcheck: false });
  const answer = signal(/** @type {Explained | null} */ (null));
  const problem = signal('');
  const look = async () => {
    const named = messageOf(message.value.trim());
    answer.value = null;
    problem.value = named ? '' : 'Say which message: a room and an offset, such as lobby@42, or the message’s id.';
    if (!named) return;
    try {
      const query = new URLSearchParams({ ...named, ...(user.value.trim() ? { user: user.value.trim() } : {}) });
      const said = await ask(`explain?${query}`);
      answer.value = said;
      tell(said.summary);
    } catch (error) { problem.value = told(error); }
  };
  if (of) void look();
  return [
    heading('Explain'),
    h('p', null, 'Why did a user get a message, or not? The server says what it remembers of recent ones.'),
    h('form', { class: 'line-form', onsubmit: (event) => { event.preventDefault(); void look(); } },
      field('Message', message, 'ROOM@OFFSET, such as lobby@42, or an id.'), field('User', user, 'Empty: only the message itself.'),
      h('button', { class: 'button primary', type: 'submit' }, 'Explain')),
    problemText(() => problem.value),
    () => {
      const said = answer.value;
      return said && section(said.summary, h('ol', { class: 'steps' }, stepsOf(said).map(({ tone, text }) => h('li', { class: tone },
        h('span', { class: 'sign', 'aria-hidden': 'true' }, SIGNS[tone]), h('span', null, h('span', { class: 'sr-only' }, `${SAID[tone]}: `), text)))));
    },
  ];
}
