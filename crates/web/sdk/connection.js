/**
 * One lasting connection over many sockets.
 *
 * Knows when to connect, when to wait, when a socket is dead though it does not say so, when to show a fresh token
 * and when to stay away; what the frames mean is the hub's business. Everything outside comes in through `Env`.
 *
 * Invariants: at most one socket is listened to; exactly one of the states of `ConnState` holds; one random number
 * is drawn for each wait; nothing but pings goes to a socket that is not trusted.
 */
import { HubError, told, valueOf } from './base.js';

/** @import { ConnState, Env, Frame, HubOptions, SocketLike, TokenRequest } from './types.js' */

const WELCOME_MS = 10_000;
const SILENCE_MS = 30_000;
const SECOND_OPINION_MS = 5_000;
/** A timer this late means that the machine slept, not that the peer is dead. */
const SLEPT_MS = 3_000;
const BINARY = 'outspoke.v1.binary';
/** Close codes below 3000 with which one comes back; those of 4500 and more are for good. */
const COMES_BACK = [1001, 1005, 1006, 1011, 1013];
/** @type {Record<number, string>} */
const NAMES = {
  1000: 'normal', 1002: 'protocol_error', 1007: 'invalid_data', 1009: 'message_too_big', 4500: 'replaced', 4501: 'kicked',
  4502: 'tenant_removed', 4503: 'revoked', 4504: 'unauthorized',
};

/** @param {unknown} data @returns {Frame | null} */
function decode(data) {
  try {
    let text = data;
    let bytes;
    if (data instanceof ArrayBuffer) {
      const end = new DataView(data).getUint16(0) + 2;
      text = new TextDecoder().decode(new Uint8Array(data, 2, end - 2));
      bytes = new Uint8Array(data, end);
    }
    const frame = JSON.parse(/** @type {string} */ (text));
    if (typeof frame?.type !== 'string') return null;
    return bytes ? { ...frame, data: bytes } : frame;
  } catch {
    return null;
  }
}

/**
 * @param {string | URL} url
 * @param {HubOptions} options
 * @param {Env} env
 * @param {{ hear(frame: Frame): void, lost(): void, queued(): number, log(text: string, detail: unknown): void }} hub
 */
export function connection(url, options, env, hub) {
  const { token } = options;
  const byMessage = options.tokenBy === 'message';
  const { baseMs = 1_000, capMs = 30_000, maxAttempts = Infinity, stableMs = 60_000 } = options.reconnect || {};
  const { graceMs = 10_000, probeMs = 2_000 } = options.watchdog || {};
  const device = options.device ?? env.unique();
  const state = valueOf(/** @type {ConnState} */ ({ status: 'idle' }));

  /** @type {SocketLike | null} */
  let socket = null;
  /** Ends what was asked for a socket: its token. */
  let asking = new AbortController();
  let attempt = 0;
  /** The state while online; null before `welcome`. @type {Extract<ConnState, { status: 'online' }> | null} */
  let session = null;
  let sessions = 0;
  let heardAt = 0;
  let silence = SILENCE_MS;
  let networkGone = false;
  /** @type {number | null} */
  let limit = null;
  let rejected = false;
  let pings = 0;
  /** @type {{ id: string, at: number } | null} */
  let probe = null;
  /** @type {unknown} */
  let timer;
  /** What keeps the token fresh. @type {ReturnType<typeof import('./refresh.js').keepFresh> | null} */
  let fresh = null;

  const is = (/** @type {ConnState['status']} */ status) => state.get().status === status;

  /** One timer at a time: the newest purpose wins. @param {number} ms @param {(late: number) => void} run */
  function arm(ms, run) {
    env.clearTimeout(timer);
    const due = env.now() + ms;
    timer = env.setTimeout(() => run(env.now() - due), ms);
  }

  /** @param {object} frame */
  const write = (frame) => socket?.send(JSON.stringify(frame));

  /** Lets go of the socket, without waiting for its end: closing a dead one can take minutes. @param {number} [code] */
  function forget(code) {
    const old = socket;
    const ended = session;
    asking.abort();
    asking = new AbortController();
    env.clearTimeout(timer);
    fresh?.stop();
    socket = probe = session = fresh = null;
    if (old) {
      old.onopen = old.onmessage = old.onclose = null;
      // Not null: `ws` throws errors that nobody listens to.
      old.onerror = () => {};
      try { old.close(code); } catch { /* it was never open */ }
    }
    if (ended) {
      if (env.now() - ended.since >= stableMs) attempt = 0;
      hub.lost();
    }
  }

  /** @param {HubError | null} error */
  function end(error) {
    forget(1000);
    state.set({ status: 'closed', error });
  }

  /** @param {'network' | 'watchdog' | 'server' | 'auth'} cause */
  function wait(cause) {
    forget(1000);
    if (options.reconnect === false || attempt >= maxAttempts) {
      return end(new HubError('gave_up', '', 0, true));
    }
    const delay = env.random() * (limit ?? Math.min(capMs, baseMs * 2 ** attempt));
    limit = null;
    attempt += 1;
    state.set({ status: 'offline', cause: networkGone ? 'network' : cause, attempt, retryAt: env.now() + delay, queued: hub.queued() });
    arm(delay, open);
  }

  /** @param {TokenRequest['reason']} reason @param {(token: string) => void} take @param {() => void} fail */
  function ask(reason, take, fail) {
    if (typeof token !== 'function') return take(token ?? '');
    const { signal } = asking;
    Promise.resolve().then(() => token({ reason, signal })).then((got) => {
      if (!signal.aborted) take(got);
    }, (error) => {
      hub.log('no token', error);
      if (!signal.aborted) fail();
    });
  }

  function open() {
    forget(1000);
    state.set({ status: 'connecting', attempt });
    ask(rejected ? 'rejected' : 'connect', (shown) => {
      const address = new URL(url, globalThis.location?.href);
      address.protocol = address.protocol.replace('http', 'ws');
      for (const [name, value] of [['join', 'none'], ['device', device]]) {
        if (name && value && !address.searchParams.has(name)) address.searchParams.set(name, value);
      }
      const offered = [BINARY, 'outspoke.v1'];
      if (shown && !byMessage) offered.push(`outspoke.bearer.${shown}`);
      let status = '';
      try {
        socket = new env.WebSocket(address.href, offered);
      } catch (error) {
        hub.log('no socket', error);
        return wait('network');
      }
      socket.binaryType = 'arraybuffer';
      socket.onopen = () => { if (shown && byMessage) write({ type: 'auth', token: shown }); };
      socket.onmessage = ({ data }) => heard(decode(data));
      // Where a refused handshake can be seen at all, its status is at the end of a text.
      socket.onerror = (event) => { status = /40[13]$/u.exec(event?.message)?.[0] ?? ''; };
      socket.onclose = ({ code, reason }) => closed(status && !session ? 4504 : code, reason || status);
      arm(WELCOME_MS, () => wait('watchdog'));
    }, () => wait('auth'));
  }

  /** @param {number} code @param {string} reason */
  function closed(code, reason) {
    if (code === 4504 && typeof token === 'function' && !rejected) {
      rejected = true;
      wait('auth');
    } else if (code >= 4500 || (code < 3000 && !COMES_BACK.includes(code))) {
      end(new HubError(NAMES[code] ?? `close_${code}`, reason, code));
    } else wait(code === 1005 || code === 1006 ? 'network' : 'server');
  }

  /** @param {any} frame */
  function heard(frame) {
    heardAt = env.now();
    if (probe && frame?.type === 'pong' && frame.id === probe.id && session) {
      session = { ...session, rttMs: heardAt - probe.at };
      trust();
    } else if (probe && is('online')) trust();
    if (!frame) return;
    if (frame.type === 'welcome' && !session) welcomed(frame);
    else if (frame.type === 'going_away') limit = told(frame.reconnectAfter);
    fresh?.hear(frame);
    if (session) hub.hear(frame);
  }

  /** The socket is as good as it was. */
  function trust() {
    probe = null;
    if (session) state.set(session);
    watch();
  }

  /** @param {any} frame */
  function welcomed(frame) {
    rejected = false;
    silence = frame.pingInterval > 0 ? Math.min(Math.max(frame.pingInterval, 1_000), 3_600_000) : SILENCE_MS;
    session = { status: 'online', since: heardAt, rttMs: null, session: String(frame.clientId), resumed: sessions > 0, node: String(frame.node?.name ?? '') };
    sessions += 1;
    trust();
    if (typeof token === 'function' && frame.expires) keepFresh(frame, heardAt, asking.signal).catch((error) => hub.log('no refreshing', error));
  }

  /** @param {any} welcome @param {number} at @param {AbortSignal} lost */
  async function keepFresh(welcome, at, lost) {
    const refreshing = await import('./refresh.js');
    if (!lost.aborted) fresh = refreshing.keepFresh(env, welcome, at, { ask, end, write: (frame) => send(JSON.stringify(frame)) });
  }

  /** Hands something to the socket. False: there is none to be trusted. @param {string | Uint8Array<ArrayBuffer>} data */
  function send(data) {
    if (!is('online') || socket?.readyState !== 1) return false;
    socket.send(data);
    return true;
  }

  /** Waits for the moment at which the silence will have lasted too long. */
  function watch() {
    env.clearTimeout(timer);
    if (options.watchdog === false) return;
    const left = heardAt + silence - env.now();
    if (left > 0) arm(left, watch);
    else doubt(graceMs, () => wait('watchdog'));
  }

  /** Asks whether the server is there. @param {number} ms @param {() => void} dead */
  function doubt(ms, dead) {
    pings += 1;
    probe = { id: `p${pings}`, at: env.now() };
    write({ type: 'ping', id: probe.id });
    arm(ms, (late) => (late > SLEPT_MS ? doubt(probeMs, dead) : dead()));
  }

  return {
    state,
    /** Whether bytes can be sent as they are. */
    binary: () => socket?.protocol === BINARY,
    connect() {
      if (is('connecting') || is('online')) return;
      if (!is('offline')) {
        attempt = 0;
        rejected = false;
      }
      open();
    },
    close: () => end(null),
    send,
    retryNow() {
      if (!is('offline')) return;
      if (session) doubt(probeMs, open);
      else open();
    },
    /** What the system says. */
    world: {
      offline() {
        networkGone = true;
        if (is('connecting')) wait('network');
        else if (session && is('online')) {
          probe = null;
          state.set({ status: 'offline', cause: 'network', attempt: 0, retryAt: null, queued: hub.queued() });
          arm(SECOND_OPINION_MS, () => doubt(graceMs, () => wait('network')));
        }
      },
      online() {
        networkGone = false;
        if (!is('offline')) return;
        if (session) doubt(probeMs, open);
        else open();
      },
      wake() {
        if (is('offline') && !session) open();
        else if (is('online') && !probe && env.now() - heardAt > graceMs) doubt(probeMs, () => wait('watchdog'));
      },
    },
  };
}
