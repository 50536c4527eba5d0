/**
 * Uploads that go on where they stopped, and links to what was uploaded.
 *
 * Speaks tus 1.0.0 to the `/files` beside the hub's `/ws` (docs/operating/files.md), with the same credential. Sends in
 * parts; after a failure it asks how far it came, waits as the connection does (full jitter), and goes on. Invariant: what
 * the server has confirmed is never sent again, and what it has refused for good is not tried again.
 */
import { HubError, WORLD, valueOf, waiting } from './base.js';

/** @import { Call, Env, Readable } from './types.js' */

const PART_BYTES = 512 * 1024;
const BASE_MS = 1_000;
const CAP_MS = 30_000;
/** What may be better next time, beside whatever is the server's fault. */
const AGAIN = [408, 409, 423, 425, 429, 460];

/** @typedef {{ status: 'waiting' | 'uploading' | 'paused' | 'done' | 'failed' | 'cancelled', sent: number, size: number }} UploadState */
/** @typedef {{ id: string, url: string }} Uploaded */
/** @typedef {{ id: string, name: string, type: string, size: number, sha256: string, width?: number, height?: number, preview?: boolean }} FileInfo */

/**
 * An upload under way. Awaiting it gives the file's id, or throws why it failed.
 * @typedef {object} Upload
 * @property {Readable<UploadState>} state
 * @property {string | null} url where it is: keep it to go on after the page was loaded anew
 * @property {() => void} pause
 * @property {() => void} resume
 * @property {() => Promise<void>} cancel ends it and takes away what is there
 * @property {PromiseLike<Uploaded>['then']} then
 */

/**
 * @typedef {object} UploadOptions
 * @property {string} [name] shown to others
 * @property {string} [type] what the uploader takes it for; the server looks for itself
 * @property {string} [room] a room it is for
 * @property {AbortSignal} [signal] stops, and leaves what is there to go on from
 * @property {string} [url] goes on with an upload begun before
 * @property {number} [partBytes]
 */

/** @param {string} text */
const base64 = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));

/** Wakes whoever waits; the next one waits anew. */
function bell() {
  /** @type {() => void} */
  let ring = () => {};
  return { ring: () => ring(), wait: () => new Promise((/** @type {(value?: unknown) => void} */ rung) => { ring = () => rung(); }) };
}

/**
 * @param {string | URL} hub the hub's address, that of `/ws`
 * @param {{ token?: string | (() => string | Promise<string>), fetch?: typeof fetch, env?: Partial<Env>, attempts?: number }} [options] `attempts`: failures in a row before giving up (10)
 */
export function createFiles(hub, { token, fetch: load = fetch.bind(globalThis), attempts = 10, ...options } = {}) {
  const env = { ...WORLD, ...options.env };
  const base = new URL(hub, globalThis.location?.href);
  base.protocol = base.protocol.replace('ws', 'http');
  base.pathname = base.pathname.replace(/\/ws$/u, '/files');
  // In open mode the address says who we are, to `/files` as to `/ws`.
  for (const name of [...base.searchParams.keys()]) if (name !== 'userId' && name !== 'username') base.searchParams.delete(name);

  /** The address of a file, or of something about it. @param {string} path */
  const at = (path) => {
    const url = new URL(base);
    url.pathname += `/${path}`;
    return url;
  };

  /** @param {string | URL} url @param {RequestInit} init */
  async function call(url, { headers, ...init }) {
    const shown = typeof token === 'function' ? await token() : token;
    const response = await load(url, {
      ...init, credentials: 'omit', redirect: 'error',
      headers: { 'Tus-Resumable': '1.0.0', ...(shown && { Authorization: `Bearer ${shown}` }), ...headers },
    });
    if (response.ok) return response;
    const { error, message } = await response.json().catch(() => ({}));
    const seconds = Number(response.headers.get('Retry-After'));
    const { status } = response;
    const retryable = AGAIN.includes(status) || (status >= 500 && status !== 507);
    throw new HubError(error ?? `http_${status}`, message, status, retryable, seconds > 0 ? seconds * 1_000 : null);
  }

  /** @param {string} url */
  const idOf = (url) => decodeURIComponent(new URL(url).pathname.split('/').at(-1) ?? '');

  /**
   * Begins at once.
   * @param {Blob | ArrayBuffer | Uint8Array<ArrayBuffer>} content
   * @param {UploadOptions} [how]
   * @returns {Upload}
   */
  function upload(content, { name, type, room, signal, url: known, partBytes = PART_BYTES } = {}) {
    const blob = content instanceof Blob ? content : new Blob([content]);
    const { size } = blob;
    const shownName = name ?? (typeof File !== 'undefined' && content instanceof File ? content.name : 'file');
    const state = valueOf(/** @type {UploadState} */ ({ status: 'waiting', sent: 0, size }));
    let url = known ?? null;
    let paused = false;
    let cancelled = false;
    /** Ends the request under way. */
    let request = new AbortController();
    const woken = bell();
    /** @param {UploadState['status']} status @param {number} [sent] */
    const is = (status, sent = state.get().sent) => state.set({ status, sent, size });
    const stopped = () => { if (signal?.aborted || cancelled) throw cancelled ? new HubError('cancelled') : signal?.reason; };
    const stop = () => {
      request.abort();
      woken.ring();
    };
    signal?.addEventListener('abort', stop);

    async function begin() {
      const metadata = { filename: shownName, filetype: type ?? blob.type, room };
      const pairs = Object.entries(metadata).filter(([, value]) => value).map(([key, value]) => `${key} ${base64(/** @type {string} */ (value))}`);
      const response = await call(base, { method: 'POST', signal: request.signal, headers: { 'Upload-Length': String(size), 'Upload-Metadata': pairs.join() } });
      const location = response.headers.get('Location');
      if (!location) throw new HubError('no_location', 'the server did not say where the upload is; does CORS expose Location?');
      url = new URL(location, base).href;
      return 0;
    }

    async function howFar() {
      const response = await call(/** @type {string} */ (url), { method: 'HEAD', signal: request.signal });
      return Number(response.headers.get('Upload-Offset'));
    }

    /** Sends until everything is there. @param {number} from */
    async function send(from) {
      let sent = from;
      is('uploading', sent);
      while (sent < size) {
        const response = await call(/** @type {string} */ (url), {
          method: 'PATCH', signal: request.signal, body: blob.slice(sent, sent + partBytes),
          headers: { 'Upload-Offset': String(sent), 'Content-Type': 'application/offset+octet-stream' },
        });
        sent = Number(response.headers.get('Upload-Offset'));
        is('uploading', sent);
      }
    }

    /** @returns {Promise<Uploaded>} */
    async function run() {
      for (let failures = 0; ;) {
        stopped();
        if (paused) {
          is('paused');
          await woken.wait();
          continue;
        }
        request = new AbortController();
        const before = state.get().sent;
        try {
          await send(url ? await howFar() : await begin());
          is('done', size);
          return { id: idOf(/** @type {string} */ (url)), url: /** @type {string} */ (url) };
        } catch (error) {
          stopped();
          if (paused) continue;
          if (state.get().sent > before) failures = 0;
          if (error instanceof HubError && !error.retryable || failures >= attempts) throw error;
          is('waiting');
          const wait = error instanceof HubError && error.retryAfterMs || env.random() * Math.min(CAP_MS, BASE_MS * 2 ** failures);
          failures += 1;
          await waiting(env, {}, (resolve) => {
            const timer = env.setTimeout(() => resolve(undefined), wait);
            woken.wait().then(resolve);
            return () => env.clearTimeout(timer);
          });
        }
      }
    }

    const outcome = run().finally(() => signal?.removeEventListener('abort', stop));
    outcome.catch(() => is(cancelled ? 'cancelled' : 'failed'));
    return {
      state,
      get url() { return url; },
      pause() {
        paused = true;
        stop();
      },
      /** Also ends a wait after a failure. */
      resume() {
        paused = false;
        woken.ring();
      },
      async cancel() {
        const over = ['done', 'failed', 'cancelled'].includes(state.get().status);
        cancelled = !over;
        stop();
        if (over) return;
        await outcome.catch(() => {});
        if (url) await call(url, { method: 'DELETE' }).catch(() => {});
      },
      then: (done, failed) => outcome.then(done, failed),
    };
  }

  return {
    upload,
    /** What is known of a whole file. @param {string} id @param {Call} [how] @returns {Promise<FileInfo>} */
    info: (id, how) => waiting(env, how, (resolve, reject) => { call(at(id), { signal: how?.signal ?? null }).then((response) => response.json()).then(resolve, reject); }),
    /** Addresses that work for a while without a credential. @param {string} id @param {Call} [how] @returns {Promise<{ url: string, preview: string | null, expires: string }>} */
    link: (id, how) => waiting(env, how, (resolve, reject) => {
      call(at(`${id}/link`), { method: 'POST', signal: how?.signal ?? null }).then((response) => response.json()).then(({ url, preview, expires }) => {
        const whole = (/** @type {string} */ path) => new URL(path, base).href;
        return { url: whole(url), preview: preview && whole(preview), expires };
      }).then(resolve, reject);
    }),
    /** Takes a file away. @param {string} id @param {Call} [how] @returns {Promise<void>} */
    remove: async (id, how) => { await call(at(id), { method: 'DELETE', signal: how?.signal ?? null }); },
  };
}
