/**
 * Questions to the HTTP API, with the key of whoever is signed in.
 *
 * The key is in this module's memory, and in the tab's storage only where that was asked for. It travels in the `Authorization`
 * header and nowhere else.
 */
import { signal } from '../shared/reactive.js';

/** @import { Caller } from './types.js' */

const STORED = 'outspoke.admin.key';

/** Who is signed in. @type {import('../shared/reactive.js').Signal<Caller | null>} */
export const me = signal(/** @type {Caller | null} */ (null));
/** The tenant that is looked at; '' for the one without a name. */
export const tenant = signal('');

let key = '';

/** A refusal, and the status that it came with. */
export class Refused extends Error {
  /** @param {string} message @param {number} status @param {string} code */
  constructor(message, status, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/**
 * Asks, and gives what is answered.
 * @param {string} path below `api/v1/`, its names percent-encoded
 * @param {{ method?: string, body?: unknown, accept?: 'json' | 'text', everywhere?: boolean }} [how] `everywhere`: not of a tenant
 * @returns {Promise<any>}
 */
export async function ask(path, { method = 'GET', body, accept = 'json', everywhere = false } = {}) {
  const answer = await open(path, { method, body, everywhere });
  return accept === 'text' ? answer.text() : answer.json();
}

/**
 * The same, with the answer as it comes.
 * @param {string} path
 * @param {{ method?: string, body?: unknown, everywhere?: boolean, signal?: AbortSignal }} [how]
 */
export async function open(path, { method = 'GET', body, everywhere = false, signal: until } = {}) {
  /** @type {Record<string, string>} */
  const headers = {};
  if (key) headers['Authorization'] = `Bearer ${key}`;
  if (tenant.peek() && !everywhere) headers['X-Tenant'] = tenant.peek();
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  const answer = await fetch(`api/v1/${path}`, {
    method, headers, cache: 'no-store', credentials: 'omit', ...(until ? { signal: until } : {}),
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  if (answer.ok) return answer;
  const refusal = await answer.json().catch(() => null);
  if (answer.status === 401 && me.peek()) signOut();
  throw new Refused(refusal?.message ?? `the server answered with status ${answer.status}`, answer.status, refusal?.error ?? '');
}

/** A path, its names encoded. @param {TemplateStringsArray} parts @param {...string | number} names */
export function path(parts, ...names) {
  return String.raw({ raw: parts }, ...names.map((name) => encodeURIComponent(name)));
}

/** What to tell people of an error. @param {unknown} error */
export function told(error) {
  return error instanceof TypeError ? 'The server cannot be reached.' : /** @type {Error} */ (error).message;
}

/** Whether the one who is signed in may do this at all, and the server can. @param {string} operation such as `GET /rooms` */
export const may = (operation) => me.value?.operations.includes(operation) ?? false;

/** @param {string} given @param {boolean} keep whether the tab remembers it */
export async function signIn(given, keep) {
  key = given;
  try {
    const caller = await ask('whoami', { everywhere: true });
    remember(keep ? given : null);
    tenant.value = caller.tenant ?? '';
    me.value = caller;
  } catch (error) {
    key = '';
    throw error;
  }
}

export function signOut() {
  key = '';
  remember(null);
  tenant.value = '';
  me.value = null;
}

/** The key that the tab remembers. */
export function remembered() {
  try { return sessionStorage.getItem(STORED); } catch { return null; }
}

/** @param {string | null} given */
function remember(given) {
  try {
    if (given === null) sessionStorage.removeItem(STORED);
    else sessionStorage.setItem(STORED, given);
  } catch { /* The browser forbids it: then the page alone knows. */ }
}
