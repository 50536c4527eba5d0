/**
 * Files on their way: queued, sent in pieces, taken up again after a break, described, and taken away.
 *
 * Loaded with the first file that somebody attaches. Speaks tus 1.0.0 (https://tus.io/protocols/resumable-upload): a piece that was
 * lost is asked for and sent again, so nothing begins anew. The composer asks for what is ready when it sends.
 */
import { batch, computed, effect, scope, signal, untracked } from './reactive.js';
import { h, icon, list, sizeText } from './dom.js';

/** @import { Chat } from './chat.js' */
/** @typedef {{ key: number, file: File, address: string, id: string, sent: number, state: 'waiting' | 'sending' | 'broken' | 'done' | 'refused', why: string, alt: string, abort: AbortController }} Upload */

const PIECE = 512 * 1024;
const AT_ONCE = 2;
const FILES_MAX = 10;
const RETRY_MS = 2_000;
const TUS = { 'Tus-Resumable': '1.0.0' };

/** @param {string} text */
const base64 = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));

/** @param {Response} answer */
async function problemOf(answer) {
  const said = await answer.json().catch(() => null);
  const text = said?.message ?? said?.detail ?? { 413: 'the file is too large', 415: 'files of this type are not taken', 404: 'this server takes no files', 507: 'there is no space left for your files' }[answer.status] ?? `the server answered with status ${answer.status}`;
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}`;
}

/** @param {Chat} chat @param {() => void} changed */
export function uploads(chat, changed) {
  const entries = signal(/** @type {readonly Upload[]} */ ([]));
  let keys = 0;
  const { headers, address } = chat.world.files;

  /** @param {number} key @param {Partial<Upload>} change */
  const change = (key, change) => { entries.value = entries.peek().map((entry) => (entry.key === key ? { ...entry, ...change } : entry)); };
  const find = (/** @type {number} */ key) => entries.peek().find((entry) => entry.key === key);

  const pump = () => {
    const busy = entries.peek().filter(({ state }) => state === 'sending').length;
    for (const entry of entries.peek().filter(({ state }) => state === 'waiting').slice(0, AT_ONCE - busy)) {
      change(entry.key, { state: 'sending' });
      void send(entry.key).catch(() => broken(entry.key));
    }
  };
  /** @param {number} key */
  const broken = (key) => {
    const entry = find(key);
    if (!entry || entry.abort.signal.aborted) return;
    change(key, { state: 'broken' });
    chat.world.clock.setTimeout(() => again(key), RETRY_MS);
  };
  /** @param {number} key */
  const again = (key) => {
    if (find(key)?.state !== 'broken') return;
    change(key, { state: 'waiting' });
    pump();
  };
  /** @param {number} key @param {Response} answer */
  const refused = async (key, answer) => {
    if (answer.status >= 500 && answer.status !== 507) return broken(key);
    change(key, { state: 'refused', why: await problemOf(answer) });
    pump();
  };

  /** @param {number} key */
  async function send(key) {
    const entry = find(key);
    if (!entry) return;
    const { file, abort: { signal: aborted } } = entry;
    let at = 0;
    let where = entry.address;
    if (where) {
      const answer = await fetch(where, { method: 'HEAD', headers: { ...TUS, ...headers() }, signal: aborted });
      if (!answer.ok) where = '';
      else at = Number(answer.headers.get('Upload-Offset'));
    }
    if (!where) {
      const metadata = Object.entries({ filename: file.name, filetype: file.type || 'application/octet-stream', room: chat.room.name }).map(([name, value]) => `${name} ${base64(value)}`);
      const answer = await fetch(address('files'), { method: 'POST', headers: { ...TUS, ...headers(), 'Upload-Length': String(file.size), 'Upload-Metadata': metadata.join(',') }, signal: aborted });
      const location = answer.headers.get('Location');
      if (!answer.ok || !location) return refused(key, answer);
      const url = new URL(location, answer.url);
      const id = url.pathname.split('/').at(-1) ?? '';
      where = address(`files/${id}`);
      change(key, { address: where, id });
    }
    while (at < file.size) {
      const answer = await fetch(where, {
        method: 'PATCH', headers: { ...TUS, ...headers(), 'Upload-Offset': String(at), 'Content-Type': 'application/offset+octet-stream' },
        body: file.slice(at, at + PIECE), signal: aborted,
      });
      if (answer.status === 409) return broken(key);
      if (!answer.ok) return refused(key, answer);
      at = Number(answer.headers.get('Upload-Offset'));
      change(key, { sent: at });
    }
    change(key, { state: 'done', sent: file.size });
    changed();
    pump();
  }

  /** @param {number} key */
  const remove = (key) => {
    const entry = find(key);
    entry?.abort.abort();
    if (entry?.address) void fetch(entry.address, { method: 'DELETE', headers: { ...TUS, ...headers() } }).catch(() => { /* the server cleans up what nobody uses */ });
    entries.value = entries.peek().filter((other) => other.key !== key);
    changed();
    pump();
    document.getElementById('message')?.focus();
  };

  const view = h('ul', { class: 'uploads', 'aria-label': 'Files to send' });
  scope(() => {
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
          case 'broken': return 'Waiting for the connection …';
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
    effect(() => {
      if (chat.link.state.value.status === 'online') untracked(() => { for (const { key, state } of entries.peek()) if (state === 'broken') again(key); });
    });
  });

  return {
    view, entries,
    /** @param {readonly File[]} files */
    add(files) {
      const space = FILES_MAX - entries.peek().length;
      entries.value = [...entries.peek(), ...files.slice(0, space).map((file) => /** @type {Upload} */ ({
        key: keys += 1, file, address: '', id: '', sent: 0, state: 'waiting', why: '', alt: '', abort: new AbortController(),
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
