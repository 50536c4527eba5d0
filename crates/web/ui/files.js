/**
 * Files in messages: images as previews with a lightbox, everything else as a card to download.
 *
 * Loaded with the first message that has one. Addresses are asked for when they are needed, since they end after a while; what is
 * shown is the server's preview, never the file itself, so nothing that somebody sent is ever run or drawn unchecked.
 */
import { createFiles } from '../sdk/files.js';
import { h, icon, sizeText } from '../shared/dom.js';

/** @import { Chat } from './chat.js' */
/** @import { Attachment, MessageItem } from './types.js' */

/** @typedef {{ url: string, preview: string | null, expires: string }} FileLink */
/** @type {Map<string, Promise<FileLink>>} */
const links = new Map();
/** Addresses are asked for anew some time before they end. */
const MARGIN_MS = 30_000;

/** @param {Chat} chat @param {string} id @returns {Promise<FileLink>} */
function linkOf(chat, id) {
  const ask = () => createFiles(chat.world.files.hub, chat.world.files.options).link(id);
  const asked = (links.get(id) ?? Promise.reject(new Error('not asked yet'))).then((link) => (Date.parse(link.expires) - Date.now() > MARGIN_MS ? link : ask()), ask);
  links.set(id, asked);
  asked.catch(() => links.delete(id));
  return asked;
}

/** The picture as a `blob:`, which is all the policy lets a page show. @param {string} address */
async function picture(address) {
  const answer = await fetch(address, { credentials: 'omit' });
  const type = answer.headers.get('Content-Type') ?? '';
  if (!answer.ok || !/^image\/(?:png|jpeg|gif|webp|avif)\b/u.test(type)) throw new Error('no picture');
  return URL.createObjectURL(await answer.blob());
}

/** @param {Chat} chat @param {Attachment} file */
async function download(chat, file) {
  const { url } = await linkOf(chat, file.id);
  h('a', { href: url, download: file.name, rel: 'noopener' }).click();
}

/** @param {Chat} chat @param {MessageItem} item @param {Attachment} file */
export function attachment(chat, item, file) {
  return file.preview ? preview(chat, item, file) : card(chat, file);
}

/** @param {Chat} chat @param {Attachment} file */
function card(chat, file) {
  const said = h('span', { class: 'fine', role: 'status' }, sizeText(file.size));
  const get = () => download(chat, file).catch(() => { said.textContent = 'It cannot be had at the moment. Please try again.'; });
  return h('div', { class: 'file' }, icon('file'), h('div', { class: 'about' }, h('bdi', { class: 'ellipsis' }, file.name), said),
    h('button', { type: 'button', class: 'icon-button', 'aria-label': `Download ${file.name}`, title: 'Download', onclick: () => void get() }, icon('download')));
}

/** @param {Chat} chat @param {MessageItem} item @param {Attachment} file */
function preview(chat, item, file) {
  const image = h('img', { alt: file.alt || file.name, class: 'preview' });
  const { width, height } = file;
  // The place is kept from the beginning, so that nothing jumps when the picture comes.
  if (width && height) {
    const scale = Math.min(1, 360 / width, 280 / height);
    image.width = Math.max(24, Math.round(width * scale));
    image.height = Math.max(24, Math.round(height * scale));
  }
  const button = h('button', { type: 'button', class: 'picture', 'aria-label': `Show ${file.alt || file.name}`, onclick: () => lightbox(chat, item, file) }, image);
  const show = async () => {
    try {
      const link = await linkOf(chat, file.id);
      if (!link.preview) throw new Error('no preview');
      image.src = await picture(link.preview);
      image.onload = () => URL.revokeObjectURL(image.src);
    } catch {
      button.replaceWith(card(chat, file));
    }
  };
  // Far away pictures are not asked for before somebody comes near.
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    void show();
  }, { rootMargin: '600px' }).observe(button);
  return button;
}

/** The pictures of a message, one at a time. @param {Chat} chat @param {MessageItem} item @param {Attachment} first */
function lightbox(chat, item, first) {
  const files = item.files.filter((file) => file.preview);
  let at = files.indexOf(first);
  const image = h('img', { alt: '' });
  const caption = h('p', { class: 'caption', 'aria-live': 'polite' });
  const step = (/** @type {number} */ by) => {
    at = (at + by + files.length) % files.length;
    void show();
  };
  async function show() {
    const file = /** @type {Attachment} */ (files[at]);
    image.alt = file.alt || file.name;
    caption.textContent = `${file.alt || file.name}${files.length > 1 ? ` (${at + 1} of ${files.length})` : ''}`;
    try {
      const { preview: address } = await linkOf(chat, file.id);
      if (!address || file !== files[at]) return;
      image.src = await picture(address);
      image.onload = () => URL.revokeObjectURL(image.src);
    } catch {
      caption.textContent = `${file.name} cannot be shown at the moment.`;
    }
  }
  const many = files.length > 1;
  const dialog = h('dialog', {
    class: 'lightbox', 'aria-label': 'Pictures of this message',
    onclick: (event) => { if (event.target === dialog) dialog.close(); },
    onclose: () => dialog.remove(),
    onkeydown: (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (by !== undefined && many) step(by);
    },
  },
  h('div', { class: 'lightbox-bar' }, caption,
    h('button', { type: 'button', class: 'icon-button', 'aria-label': 'Previous picture', hidden: !many, onclick: () => step(-1) }, icon('left')),
    h('button', { type: 'button', class: 'icon-button', 'aria-label': 'Next picture', hidden: !many, onclick: () => step(1) }, icon('right')),
    h('button', { type: 'button', class: 'icon-button', 'aria-label': 'Download', title: 'Download', onclick: () => void download(chat, /** @type {Attachment} */ (files[at])).catch(() => { caption.textContent = 'It cannot be had at the moment.'; }) }, icon('download')),
    h('button', { type: 'button', class: 'icon-button', 'aria-label': 'Close', onclick: () => dialog.close() }, icon('close'))),
  image);
  document.body.append(dialog);
  dialog.showModal();
  void show();
}
