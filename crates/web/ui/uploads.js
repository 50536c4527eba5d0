/**
 * Files on their way: queued, sent in pieces, described, and taken away again.
 *
 * Loaded with the first file that somebody attaches. The sending, with its pieces and second tries, is the client library's
 * (`sdk/files.js`); the composer asks for what is ready when it sends.
 */
import { createFiles } from '../sdk/files.js';
import { batch, computed, effect, signal, untracked } from '../shared/reactive.js';
import { h, icon, list, sizeText } from '../shared/dom.js';

/** @import { Chat } from './chat.js' */
/** @typedef {ReturnType<ReturnType<typeof createFiles>['upload']>} Sending */
/** @typedef {{ key: number, file: File, sending: Sending | null, id: string, sent: number, state: 'waiting' | 'sending' | 'broken' | 'done' | 'refused', why: string, alt: string }} Upload */

const AT_ONCE = 2;
const FILES_MAX = 10;

/** Why a file was not taken, as a sentence. @param {{ code?: number, message?: string }} error */
function reasonOf({ code, message }) {
  const text = (message && !message.startsWith('http_') && message) || {
    404: 'this server takes no files', 413: 'the file is too large', 415: 'files of this type are not taken', 507: 'there is no space left for your files',
  }[code ?? 0] || 'it could not be sent';
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

/** @param {Chat} chat @param {() => void} changed */
export function uploads(chat, changed) {
  const files = createFiles(chat.world.files.hub, { ...chat.world.files.options, attempts: 1_000 });
  const entries = signal(/** @type {readonly Upload[]} */ ([]));
  let keys = 0;

  /** @param {number} key @param {Partial<Upload>} change */
  const change = (key, change) => { entries.value = entries.peek().map((entry) => (entry.key === key ? { ...entry, ...change } : entry)); };
  const find = (/** @type {number} */ key) => entries.peek().find((entry) => entry.key === key);

  const pump = () => {
    const busy = entries.peek().filter(({ state }) => state === 'sending' || state === 'broken').length;
    for (const { key, file } of entries.peek().filter(({ state }) => state === 'waiting').slice(0, Math.max(0, AT_ONCE - busy))) send(key, file);
  };
  /** @param {number} key @param {File} file */
  const send = (key, file) => {
    const sending = files.upload(file, { room: chat.room.name });
    change(key, { sending, state: 'sending' });
    sending.state.subscribe(({ status, sent }) => {
      if (status === 'waiting' || status === 'uploading') change(key, { sent, state: status === 'waiting' && sent > 0 ? 'broken' : 'sending' });
    });
    sending.then(({ id }) => change(key, { id, state: 'done', sent: file.size }), (error) => {
      if (find(key)) change(key, { state: 'refused', why: reasonOf(error) });
    }).then(() => {
      changed();
      pump();
    });
  };

  /** @param {number} key */
  const remove = (key) => {
    const entry = find(key);
    entries.value = entries.peek().filter((other) => other.key !== key);
    if (entry?.state === 'done') files.remove(entry.id).catch(() => { /* the server cleans up what nobody uses */ });
    else void entry?.sending?.cancel();
    changed();
    pump();
    document.getElementById('message')?.focus();
  };

  const view = h('ul', { class: 'uploads', 'aria-label': 'Files to send' });
  {
    list(view, () => entries.value.map(({ key }) => key), (key) => key, (key) => {
      const entry = computed(() => /** @type {Upload} */ (entries.value.find((one) => one.key === key) ?? {}));
      const { file } = /** @type {Upload} */ (untracked(() => find(key)));
      const image = /^image\/(?:png|jpeg|gif|webp|avif)$/u.test(file.type);
      const url = image ? URL.createObjectURL(file) : '';
      const picture = image ? h('img', { src: url, alt: '', onload: () => URL.revokeObjectURL(url) }) : icon('file');
      const state = () => {
        const { state: name, sent, why } = entry.value;
        switch (name) {
          case 'done': return sizeText(file.size);
          case 'refused': return why;
          case 'broken': return 'Interrupted. It goes on by itself.';
          default: return `${Math.floor((sent / Math.max(1, file.size)) * 100)} %`;
        }
      };
      return h('li', { class: () => `upload ${entry.value.state}` }, picture,
        h('div', { class: 'about' },
          h('bdi', { class: 'ellipsis' }, file.name), h('span', { class: 'state' }, state),
          h('progress', { max: Math.max(1, file.size), value: () => entry.value.sent ?? 0, hidden: () => entry.value.state === 'done' || entry.value.state === 'refused', 'aria-label': `Sending ${file.name}` }),
          image && h('input', {
            class: 'input alt', placeholder: 'Describe the image for those who cannot see it', 'aria-label': `Description of ${file.name}`, maxLength: 500,
            oninput: (event) => change(key, { alt: /** @type {HTMLInputElement} */ (event.target).value.trim() }),
            onkeydown: (event) => { if (event.key === 'Enter') { event.preventDefault(); document.getElementById('message')?.focus(); } },
          })),
        h('button', { type: 'button', class: 'icon-button', 'aria-label': `Take ${file.name} away`, title: 'Take away', onclick: () => remove(key) }, icon('close')));
    });
    // Who is back need not wait for the next try.
    effect(() => {
      if (chat.link.state.value.status === 'online') untracked(() => { for (const { sending } of entries.peek()) sending?.resume(); });
    });
  }

  return {
    view, entries,
    /** @param {readonly File[]} files */
    add(files) {
      const space = FILES_MAX - entries.peek().length;
      entries.value = [...entries.peek(), ...files.slice(0, space).map((file) => /** @type {Upload} */ ({
        key: keys += 1, file, sending: null, id: '', sent: 0, state: 'waiting', why: '', alt: '',
      }))];
      if (files.length > space) chat.problem.value = `A message takes at most ${FILES_MAX} files.`;
      pump();
    },
    /** What can go with a message; `null` while something is not there yet. */
    ready() {
      const wanted = entries.peek().filter(({ state }) => state !== 'refused');
      return wanted.some(({ state }) => state !== 'done') ? null : wanted.map(({ id, alt, file }) => ({ id, alt, name: file.name }));
    },
    clear() { batch(() => { entries.value = []; }); },
  };
}
