/**
 * One lasting connection over many sockets.
 *
 * Knows when to connect, when to wait, and when to stay away; whether an open socket lives, and when to show a fresh token, is
 * known by `session.js`, and what the frames mean by the hub. Everything outside comes in through `Env`.
 *
 * Invariants: at most one socket is listened to; exactly one of the states of `ConnState` holds; one random number
 * is drawn for each wait.
 */
import { CLOSE_NAMES, HubError, passing, timerOf, valueOf } from './base.js';

/** @import { ConnState, Env, Frame, HubOptions, SocketLike, TokenRequest } from './types.js' */

const WELCOME_MS = 10_000;
const BINARY = 'outspoke.v1.binary';
/** Close codes below 3000 with which one comes back; those of 4500 and more are for good. */
const COMES_BACK = [1001, 1005, 1006, 1011, 1013];

/** @param {unknown} data @returns {Frame | null} */
function decode(data) {
  try {
    if (!(data instanceof ArrayBuffer)) return JSON.parse(/** @type {string} */ (data));
    const bytes = new Uint8Array(data);
    const [high = 0, low = 0] = bytes;
    const end = high * 256 + low + 2;
    return { ...JSON.parse(new TextDecoder().decode(bytes.subarray(2, end))), data: bytes.subarray(end) };
  } catch {
    return null;
  }
}

/**
 * @param {string | URL} url
 * @param {HubOptions} options
 * @param {Env} env
 * @param {{ hear(frame: Frame): void, lost(): void, queued(): number, ask(frame: Frame, answered: (answer: any) => void): void, log(what: string): (why: unknown) => void }} hub
 */
export function connection(url, options, env, hub) {
  const { token, tokenBy, device = env.unique() } = options;
  const byMessage = tokenBy === 'message';
  const { baseMs = 1_000, capMs = 30_000, maxAttempts = Infinity, stableMs = 60_000 } = options.reconnect || {};
  const state = valueOf(/** @type {ConnState} */ ({ status: 'idle' }));
  const timer = timerOf(env);
  const own = new URL(url, globalThis.location?.href);
  own.protocol = own.protocol.replace('http', 'ws');

  /** @type {SocketLike | null} */
  let socket = null;
  /** Ends what was asked for a socket: its tokens. */
  let asking = new AbortController();
  let attempt = 0;
  /** The state while online; null before `welcome`. @type {Extract<ConnState, { status: 'online' }> | null} */
  let session = null;
  let resumed = false;
  let networkGone = false;
  /** @type {number | null} */
  let limit = null;
  /** Where a server that goes away has sent us, for one attempt. @type {URL | null} */
  let elsewhere = null;
  let rejected = false;
  /** What looks after the session. @type {ReturnType<typeof import('./session.js').look> | null} */
  let keeper = null;

  const is = (/** @type {ConnState['status']} */ status) => state.get().status === status;

  /** Lets go of the socket, without waiting for its end: closing a dead one can take minutes. */
  function forget() {
    const old = socket;
    const ended = session;
    asking.abort();
    asking = new AbortController();
    timer();
    socket = session = keeper = null;
    if (old) {
      // Not null: `ws` throws errors that nobody listens to.
      old.onopen = old.onmessage = old.onclose = old.onerror = () => {};
      old.close(1000);
    }
    if (ended) {
      if (env.now() - ended.since >= stableMs) attempt = 0;
      hub.lost();
    }
  }

  /** @param {HubError | null} error */
  function end(error) {
    forget();
    attempt = 0;
    rejected = false;
    state.set({ status: 'closed', error });
  }

  /** @param {Extract<ConnState, { status: 'offline' }>['cause']} cause @param {number} waits @param {number | null} retryAt */
  const offline = (cause, waits, retryAt) => state.set({ status: 'offline', cause: networkGone ? 'network' : cause, attempt: waits, retryAt, queued: hub.queued() });

  /** @param {Extract<ConnState, { status: 'offline' }>['cause']} cause */
  function wait(cause) {
    forget();
    if (options.reconnect === false || attempt >= maxAttempts) return end(passing('gave_up'));
    const delay = env.random() * (limit ?? Math.min(capMs, baseMs * 2 ** attempt));
    limit = null;
    attempt += 1;
    offline(cause, attempt, env.now() + delay);
    timer(delay, open);
  }

  /** @param {TokenRequest['reason']} reason @param {(token: string) => void} take @param {() => void} fail */
  async function ask(reason, take, fail) {
    const { signal } = asking;
    let shown = token;
    let then = take;
    try {
      if (typeof token === 'function') shown = await token({ reason, signal });
    } catch (error) {
      hub.log('token')(error);
      then = fail;
    }
    if (!signal.aborted) then(/** @type {string} */ (shown));
  }

  /** The address of the next attempt. */
  function address() {
    const next = new URL(elsewhere ?? own);
    elsewhere = null;
    const fields = /** @type {[string, string][]} */ ([...own.searchParams, ['join', 'none'], ['device', device]]);
    for (const [name, value] of fields) {
      if (!next.searchParams.has(name)) next.searchParams.set(name, value);
    }
    return next.href;
  }

  function open() {
    forget();
    state.set({ status: 'connecting', attempt });
    ask(rejected ? 'rejected' : 'connect', (shown) => {
      const offered = [BINARY, 'outspoke.v1'];
      if (shown && !byMessage) offered.push(`outspoke.bearer.${shown}`);
      let status = '';
      try {
        socket = new env.WebSocket(address(), offered);
      } catch (error) {
        hub.log('socket')(error);
        return wait('network');
      }
      socket.binaryType = 'arraybuffer';
      socket.onopen = () => { if (shown && byMessage) write({ type: 'auth', token: shown }); };
      socket.onmessage = ({ data }) => heard(decode(data));
      // Where a refused handshake can be seen at all, its status is at the end of a text.
      socket.onerror = ({ message }) => { [status = ''] = /40[13]$/u.exec(message) ?? []; };
      socket.onclose = ({ code, reason }) => closed(status && !session ? 4504 : code, reason || status);
      timer(WELCOME_MS, () => wait('watchdog'));
    }, () => wait('auth'));
  }

  /** @param {number} code @param {string} reason */
  function closed(code, reason) {
    if (code === 4504 && typeof token === 'function' && !rejected) {
      rejected = true;
      wait('auth');
    } else if (code >= 4500 || (code < 3000 && !COMES_BACK.includes(code))) {
      end(new HubError(CLOSE_NAMES[code] ?? `close_${code}`, reason, code));
    } else wait(code === 1005 || code === 1006 ? 'network' : 'server');
  }

  /** @param {any} frame */
  function heard(frame) {
    keeper?.heard(frame);
    if (typeof frame?.type !== 'string') return;
    if (frame.type === 'welcome' && !session) welcomed(frame);
    if (session) hub.hear(frame);
  }

  /** @param {any} frame */
  function welcomed(frame) {
    timer();
    rejected = false;
    const now = session = { status: 'online', since: env.now(), rttMs: null, session: frame.clientId, resumed, node: frame.node?.name ?? '' };
    resumed = true;
    state.set(session);
    const line = {
      ...hub, env, options, state, lost: asking.signal, write, wait, open, offline, token: ask, end, own,
      away(/** @type {number | null} */ ms, /** @type {URL | null} */ to) { limit = ms; elsewhere = to; },
    };
    import('./session.js').then(({ look }) => { if (session === now) keeper = look(line, frame, now); }).catch(hub.log('session'));
  }

  /** @param {object} frame */
  const write = (frame) => socket?.send(JSON.stringify(frame));

  /** Ends a wait; a socket that was kept is asked first. */
  function retryNow() {
    if (!is('offline')) return;
    if (keeper) keeper.retryNow();
    else open();
  }

  return {
    state,
    retryNow,
    /** Whether bytes can be sent as they are. */
    binary: () => socket?.protocol === BINARY,
    connect() {
      if (!is('connecting') && !is('online')) open();
    },
    close: () => end(null),
    /** Hands something to the socket. False: there is none to be trusted. @param {string | Uint8Array<ArrayBuffer>} data */
    send(data) {
      if (!is('online') || socket?.readyState !== 1) return false;
      socket.send(data);
      return true;
    },
    /** What the system says. */
    world: {
      offline() {
        networkGone = true;
        if (keeper) keeper.offline();
        else if (is('connecting') || session) wait('network');
      },
      online() {
        networkGone = false;
        retryNow();
      },
      wake() {
        if (keeper) keeper.wake();
        else retryNow();
      },
    },
  };
}
