/**
 * What is asked for now and then, in native dialogs: a confirmation, a reaction, the settings and the keys.
 *
 * Loaded when one of them is wanted.
 */
import { confirm, show } from '../shared/dialog.js';
import { h } from '../shared/dom.js';

export { confirm };

const EMOJI = ['👍', '👎', '❤️', '😂', '🎉', '🙏', '👀', '🔥', '✅', '❌', '😀', '😅', '😉', '😊', '😍', '🤔', '😮', '😢', '😡', '😴', '👏', '🙌', '💪', '🤝', '👋', '🚀', '⭐', '💡', '☕', '🍕', '🐛', '📌'];

const KEYS = [
  ['Enter', 'send the message'], ['Shift + Enter', 'start a new line'], ['/', 'begin a command'], ['@', 'mention somebody'],
  ['↑ in an empty field', 'edit what you said last'], ['F6', 'go to the next part of the page'],
  ['↑ ↓ Home End', 'walk through the messages'], ['Enter on a message', 'react, copy, edit, delete'],
  ['Ctrl + K', 'join a room'], ['Alt + ↑ ↓', 'go to the next room'], ['Ctrl + Shift + F', 'search in this room'], ['Ctrl + /', 'show these keys'],
];

/** @param {(emoji: string) => void} act */
export function pickReaction(act) {
  show('React', 'reactions-dialog', (close) => [
    h('div', { class: 'emoji' }, EMOJI.map((emoji) => h('button', { type: 'button', class: 'icon-button', 'aria-label': `React with ${emoji}`, onclick: () => { act(emoji); close(); } }, emoji)))]);
}

/**
 * @param {{ get(key: string): string, set(key: string, value: string): void, notifications: { possible: boolean, on: boolean, set(on: boolean): Promise<string> } }} settings
 */
export function settings({ get, set, notifications }) {
  /** @param {string} key @param {string} label @param {[string, string][]} choices */
  const choice = (key, label, choices) => h('div', { class: 'setting' }, h('label', { for: `setting-${key}` }, label),
    h('select', { id: `setting-${key}`, class: 'select', onchange: (event) => set(key, /** @type {HTMLSelectElement} */ (event.target).value) },
      choices.map(([value, text]) => h('option', { value, selected: get(key) === value }, text))));
  const said = h('p', { class: 'fine', role: 'status' });
  const box = h('input', {
    type: 'checkbox', id: 'setting-notifications', checked: notifications.on, disabled: !notifications.possible,
    onchange: async () => {
      said.textContent = await notifications.set(box.checked);
      box.checked = notifications.on;
    },
  });
  show('Settings', 'settings', (close) => [
    choice('theme', 'Theme', [['system', 'System'], ['light', 'Light'], ['dark', 'Dark']]),
    choice('spoken', 'Read aloud by a screen reader', [['all', 'All new messages'], ['mentions', 'Mentions and private messages'], ['none', 'Nothing']]),
    h('div', { class: 'setting' }, h('label', { for: 'setting-notifications' }, 'Notify me of mentions and private messages while I look elsewhere'), box), said,
    h('h3', null, 'Keys'),
    h('dl', null, KEYS.map(([key, what]) => h('div', null, h('dt', null, h('kbd', null, key)), h('dd', null, what)))),
    h('div', { class: 'buttons' }, h('button', { type: 'button', class: 'button', onclick: close }, 'Close'))]);
}
