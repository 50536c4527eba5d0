/**
 * What the other modules are made of: errors, values that change, listeners, waits, and the world by default.
 *
 * Nothing here knows what a hub is.
 */

/** @import { Call, Env, Off, Position, Readable, SocketLike } from './types.js' */

/** @param {string} name @returns {any} */
const symbol = (name) => /** @type {any} */ (Symbol)[name] ?? Symbol.for(`Symbol.${name}`);
/** `Symbol.dispose` and `Symbol.asyncDispose`, also where the runtime does not have them yet. @type {typeof Symbol.dispose} */
export const DISPOSE = symbol('dispose');
/** @type {typeof Symbol.asyncDispose} */
export const ASYNC_DISPOSE = symbol('asyncDispose');

export class HubError extends Error {
  name = 'HubError';

  /** @param {string} reason @param {string} [message] @param {number} [code] @param {boolean} [retryable] @param {number | null} [retryAfterMs] */
  constructor(reason, message, code = 0, retryable = false, retryAfterMs = null) {
    super(message || reason);
    this.reason = reason;
    this.code = code;
    this.retryable = retryable;
    this.retryAfterMs = retryAfterMs;
  }
}

/** An error of our own, after which the same may succeed. @param {string} reason @param {string} [message] */
export const passing = (reason, message) => new HubError(reason, message, 0, true);

/** The names of close codes: those that may come first; `session.js` adds the others. @type {Record<number, string>} */
export const CLOSE_NAMES = { 4503: 'revoked', 4504: 'unauthorized' };

/** Durations that others tell us are believed up to here. */
const TOLD_MAX = 300_000;
/** @param {unknown} ms @returns {number | null} */
export const told = (ms) => (typeof ms === 'number' && ms >= 0 ? Math.min(ms, TOLD_MAX) : null);

const AGAIN_MS = 1_000;
const AGAIN_MAX_MS = 30_000;
/** How long to wait after so many temporary refusals in a row. @param {number} refusals @param {HubError} why the last one */
export const againIn = (refusals, { retryAfterMs }) => Math.max(retryAfterMs ?? 0, Math.min(AGAIN_MS * 2 ** (refusals - 1), AGAIN_MAX_MS));

/** What an answer complains of; without an answer, that the connection is lost. @param {any} frame */
export const errorOf = (frame) => {
  const { error, message, code, temporary, retryAfter } = frame ?? { error: 'connection_lost', temporary: true };
  return new HubError(error, message, code, temporary, told(retryAfter));
};

/** @param {any} frame @returns {frame is Position} */
export const isPlace = (frame) => typeof frame.epoch === 'string' && Number.isSafeInteger(frame.offset) && frame.offset >= 0;

/** What should be a list of objects, from somebody who may send anything. @param {unknown} list @returns {any[]} */
export const listOf = (list) => (Array.isArray(list) ? list.filter((one) => typeof one === 'object' && one) : []);

/** Runs what is not ours: its mistakes are reported as uncaught, and stop nothing. @template A @param {(argument: A) => void} run @param {A} argument */
export function guarded(run, argument) {
  try {
    run(argument);
  } catch (error) {
    queueMicrotask(() => { throw error; });
  }
}

/** @param {() => void} end @returns {Off} */
export const off = (end) => Object.assign(end, { [DISPOSE]: end });

/** Runs it when the signal says so, at once if it has; calling what is returned ends that. @param {AbortSignal | undefined} signal @param {() => void} run */
export function whenAborted(signal, run) {
  if (signal?.aborted) run();
  else signal?.addEventListener('abort', run);
  return () => signal?.removeEventListener('abort', run);
}

/** Those who want to hear of events, by their types. */
export function listeners() {
  /** @type {Set<[string, (event: any) => void]>} */
  const all = new Set();
  return {
    /** @param {string} type @param {(event: any) => void} run @param {{ signal?: AbortSignal | undefined }} [options] */
    on(type, run, { signal } = {}) {
      /** @type {[string, (event: any) => void]} */
      const one = [type, run];
      all.add(one);
      const unhear = whenAborted(signal, () => all.delete(one));
      return off(() => {
        all.delete(one);
        unhear();
      });
    },
    /** @param {string} type @param {unknown} event */
    emit(type, event) {
      for (const [wanted, run] of [...all]) if (wanted === type) guarded(run, event);
    },
  };
}

/**
 * @template T @typedef {Readable<T> & { set(value: T): void }} Value
 */

/** @template T @param {T} value @returns {Value<T>} */
export function valueOf(value) {
  const { on, emit } = listeners();
  return {
    get: () => value,
    set(next) {
      if (!Object.is(next, value)) emit('', value = next);
    },
    subscribe(run) {
      const end = on('', run);
      guarded(run, value);
      return end;
    },
  };
}

/** One timer, for the newest purpose: setting it ends what it was set for; without a purpose it is off. @param {Env} env */
export function timerOf(env) {
  /** @type {unknown} */
  let timer;
  return (/** @type {number | void} */ ms, /** @type {(() => void) | void} */ run) => {
    env.clearTimeout(timer);
    timer = run && env.setTimeout(run, /** @type {number} */ (ms));
  };
}

/**
 * A promise that can be given up. `begin` gets what settles it, and returns what to stop then.
 * @template T
 * @param {Env} env
 * @param {Call | undefined} call
 * @param {(resolve: (value: T) => void, reject: (error: unknown) => void) => (() => void) | void} begin
 * @param {(why: unknown) => void} [given] up: called then, to settle it
 * @returns {Promise<T>}
 */
export function waiting(env, { signal, timeoutMs } = {}, begin, given) {
  const timer = timerOf(env);
  /** @type {((() => void) | void)[]} */
  let ends = [];
  return new Promise((resolve, reject) => {
    const fail = given ?? reject;
    if (timeoutMs !== undefined) timer(timeoutMs, () => fail(passing('timed_out')));
    ends = [timer, begin(/** @type {any} */ (resolve), reject), whenAborted(signal, () => fail(signal?.reason))];
  }).finally(() => { for (const end of ends) end?.(); });
}

/** Waits until a value is as it should be; where `judge` says an error, that is thrown. @template T @param {Env} env @param {Call | undefined} call @param {Readable<T>} value @param {(now: T) => unknown} judge @returns {Promise<void>} */
export const until = (env, call, value, judge) => waiting(env, call, (done, fail) => value.subscribe((now) => {
  const verdict = judge(now);
  if (verdict === true) done();
  else if (verdict) fail(verdict);
}));

/** The world as browsers and newer runtimes have it. @type {Env} */
export const WORLD = {
  WebSocket: /** @type {any} */ (globalThis).WebSocket,
  now: Date.now,
  random: Math.random,
  setTimeout: (run, ms) => setTimeout(run, ms),
  clearTimeout: (timer) => clearTimeout(timer),
  // Not crypto.randomUUID: pages that came over plain HTTP do not have it.
  unique: () => crypto.getRandomValues(new Uint32Array(3)).join('-'),
  watch({ online, offline, wake }) {
    const ending = new AbortController();
    const hear = { online, offline, pageshow: wake, resume: wake, visibilitychange: () => { if (!document.hidden) wake(); } };
    // What happens to the document goes past the window first, though not all of it comes back.
    for (const [type, run] of Object.entries(hear)) globalThis.addEventListener?.(type, run, { capture: true, signal: ending.signal });
    return () => ending.abort();
  },
};
