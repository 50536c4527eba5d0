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
  /** @param {string} reason @param {string} [message] @param {number} [code] @param {boolean} [retryable] @param {number | null} [retryAfterMs] */
  constructor(reason, message, code = 0, retryable = false, retryAfterMs = null) {
    super(message || reason);
    this.name = 'HubError';
    this.reason = reason;
    this.code = code;
    this.retryable = retryable;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Durations that others tell us are believed up to here. */
const TOLD_MAX = 300_000;
/** @param {unknown} ms @returns {number | null} */
export const told = (ms) => (typeof ms === 'number' && ms >= 0 ? Math.min(ms, TOLD_MAX) : null);

/** @param {any} frame */
export const errorOf = (frame) => new HubError(String(frame.error), frame.message, Number(frame.code) || 0, frame.temporary === true, told(frame.retryAfter));

/** @param {any} frame @returns {frame is Position} */
export const isPlace = (frame) => typeof frame.epoch === 'string' && Number.isSafeInteger(frame.offset) && frame.offset >= 0;

/** Runs what is not ours: its mistakes are reported as uncaught, and stop nothing. @template A @param {(argument: A) => void} run @param {A} argument */
export function guarded(run, argument) {
  try {
    run(argument);
  } catch (error) {
    queueMicrotask(() => { throw error; });
  }
}

/** @param {() => void} end @returns {Off} */
export const off = (end) => Object.assign(() => end(), { [DISPOSE]: end });

/**
 * @template T @typedef {Readable<T> & { set(value: T): void }} Value
 */

/** @template T @param {T} value @returns {Value<T>} */
export function valueOf(value) {
  /** @type {Set<{ run: (value: T) => void }>} */
  const readers = new Set();
  return {
    get: () => value,
    set(next) {
      if (Object.is(next, value)) return;
      value = next;
      for (const { run } of [...readers]) guarded(run, value);
    },
    subscribe(run) {
      const reader = { run };
      readers.add(reader);
      guarded(run, value);
      return off(() => readers.delete(reader));
    },
  };
}

export function listeners() {
  /** @type {Map<string, Set<{ run: (event: any) => void }>>} */
  const all = new Map();
  return {
    /** @param {string} type @param {(event: any) => void} run @param {{ signal?: AbortSignal | undefined }} [options] */
    on(type, run, { signal } = {}) {
      const listener = { run };
      const ofType = all.get(type) ?? new Set();
      const end = off(() => {
        ofType.delete(listener);
        signal?.removeEventListener('abort', end);
      });
      if (signal?.aborted) return end;
      all.set(type, ofType.add(listener));
      signal?.addEventListener('abort', end);
      return end;
    },
    /** @param {string} type @param {unknown} event */
    emit(type, event) {
      for (const { run } of [...all.get(type) ?? []]) guarded(run, event);
    },
  };
}

/**
 * A promise that can be given up. `begin` gets what settles it, and returns what to stop then.
 * @template T
 * @param {Env} env
 * @param {Call | undefined} call
 * @param {(resolve: (value: T) => void, reject: (error: unknown) => void) => (() => void) | void} begin
 * @returns {Promise<T>}
 */
export function waiting(env, { signal, timeoutMs } = {}, begin) {
  /** @type {(() => void)[]} */
  const ends = [];
  /** @type {Promise<T>} */
  const outcome = new Promise((resolve, reject) => {
    if (signal) {
      const aborted = () => reject(signal.reason);
      if (signal.aborted) return aborted();
      signal.addEventListener('abort', aborted);
      ends.push(() => signal.removeEventListener('abort', aborted));
    }
    if (timeoutMs !== undefined) {
      const timer = env.setTimeout(() => reject(new HubError('timed_out', '', 0, true)), timeoutMs);
      ends.push(() => env.clearTimeout(timer));
    }
    ends.push(begin(resolve, reject) ?? (() => {}));
  });
  return outcome.finally(() => ends.map((end) => end()));
}

/** Waits until a value is as wanted; `judge` may also throw. @template T @param {Env} env @param {Call | undefined} call @param {Readable<T>} value @param {(value: T) => boolean} judge @returns {Promise<void>} */
export const until = (env, call, value, judge) => waiting(env, call, (resolve, reject) => value.subscribe((now) => {
  try {
    if (judge(now)) resolve(undefined);
  } catch (error) {
    reject(error);
  }
}));

/** The world as browsers and newer runtimes have it. @type {Env} */
export const WORLD = {
  WebSocket: /** @type {any} */ (globalThis).WebSocket,
  now: Date.now,
  random: Math.random,
  setTimeout: (run, ms) => setTimeout(run, ms),
  clearTimeout: (timer) => clearTimeout(timer),
  // Not crypto.randomUUID: pages that came over plain HTTP do not have it.
  unique: () => crypto.getRandomValues(new Uint32Array(3)).join('-').replace(/\d+/gu, (part) => (+part).toString(36)),
  watch({ online, offline, wake }) {
    const ending = new AbortController();
    const page = globalThis.document;
    /** @param {EventTarget | undefined} target @param {string} type @param {() => void} run */
    const hear = (target, type, run) => target?.addEventListener?.(type, run, { signal: ending.signal });
    hear(globalThis, 'online', online);
    hear(globalThis, 'offline', offline);
    hear(globalThis, 'pageshow', wake);
    hear(page, 'resume', wake);
    hear(page, 'visibilitychange', () => { if (page.visibilityState === 'visible') wake(); });
    return () => ending.abort();
  },
};
