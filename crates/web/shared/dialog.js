/**
 * Native dialogs: one that shows something, and one that asks before something is done.
 *
 * A dialog is made, shown and thrown away; the browser gives the focus back to where it was.
 */
import { h } from './dom.js';

/** @import { Child } from './types.js' */

/** @param {string} title @param {string} kind @param {(close: () => void) => Child[]} inside */
export function show(title, kind, inside) {
  const dialog = h('dialog', {
    class: `dialog ${kind}`, 'aria-labelledby': 'dialog-title',
    onclick: (event) => { if (event.target === dialog) dialog.close(); },
    onclose: () => dialog.remove(),
  });
  dialog.append(h('div', { class: 'dialog-body' }, h('h2', { id: 'dialog-title' }, title), inside(() => dialog.close())));
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** @param {string} question @param {string} consequence @param {string} verb @param {() => void} act */
export function confirm(question, consequence, verb, act) {
  show(question, 'confirm', (close) => [h('p', null, consequence), h('div', { class: 'buttons' },
    h('button', { type: 'button', class: 'button', onclick: close }, 'Cancel'),
    h('button', { type: 'button', class: 'button danger', onclick: () => { act(); close(); } }, verb))]);
}
