/**
 * Looks after a connection from its `welcome` to its end: whether the server is still there, and whether the token is still good.
 *
 * Loaded by `connection.js` behind the first `welcome`. Where it does not come, a connection lasts until its socket says that it
 * is closed, or the system that the network is gone, and most close codes have no names. Invariants: nothing but pings goes to a socket that is in doubt; at most
 * one question is open.
 */
import { CLOSE_NAMES, timerOf, told } from './base.js';

/** @import { ConnState, Env, Frame, HubError, HubOptions, TokenRequest } from './types.js' */

const SILENCE_MS = 30_000;
const SILENCE_MIN_MS = 1_000;
const SILENCE_MAX_MS = 3_600_000;
const SECOND_OPINION_MS = 5_000;
/** A timer this late means that the machine slept, not that the peer is dead. */
const SLEPT_MS = 3_000;

Object.assign(CLOSE_NAMES, {
  1000: 'normal', 1002: 'protocol_error', 1007: 'invalid_data', 1009: 'message_too_big', 4500: 'replaced', 4501: 'kicked', 4502: 'tenant_removed',
});

/**
 * What it needs of its connection.
 * @typedef {object} Line
 * @property {Env} env
 * @property {HubOptions} options
 * @property {import('./base.js').Value<ConnState>} state
 * @property {AbortSignal} lost
 * @property {(frame: object) => void} write
 * @property {(cause: 'network' | 'watchdog') => void} wait gives the socket up, and comes back after a while
 * @property {() => void} open gives the socket up for another one
 * @property {(cause: 'network', waits: number, retryAt: null) => void} offline shows that it is in doubt
 * @property {(reason: TokenRequest['reason'], take: (token: string) => void, fail: () => void) => void} token
 * @property {(frame: Frame, answered: (answer: any) => void) => void} ask
 * @property {(error: HubError) => void} end
 * @property {URL} own the application's address
 * @property {(ms: number | null, to: URL | null) => void} away the limit of the next wait, and where the attempt after it goes
 * @property {(what: string) => (why: unknown) => void} log
 */

/** @param {Line} line @param {any} welcome @param {Extract<ConnState, { status: 'online' }>} session */
export function look(line, welcome, session) {
  const { env, options, state, lost, write, wait, open } = line;
  const { graceMs = 10_000, probeMs = 2_000 } = options.watchdog || {};
  const { pingInterval } = welcome;
  const silence = pingInterval > 0 ? Math.min(Math.max(pingInterval, SILENCE_MIN_MS), SILENCE_MAX_MS) : SILENCE_MS;
  const timer = timerOf(env);
  let heardAt = session.since;
  let now = session;
  let pings = 0;
  /** The question that nobody has answered. @type {{ id: string, at: number } | null} */
  let asked = null;
  const online = () => state.get().status === 'online';

  /** Waits for the moment at which the silence will have lasted too long. */
  function watch() {
    timer();
    if (options.watchdog === false) return;
    const left = heardAt + silence - env.now();
    if (left > 0) timer(left, watch);
    else doubt(graceMs, () => wait('watchdog'));
  }

  /** Asks whether the server is there. @param {number} ms @param {() => void} dead */
  function doubt(ms, dead) {
    const at = env.now();
    pings += 1;
    asked = { id: `p${pings}`, at };
    write({ type: 'ping', id: asked.id });
    timer(ms, () => (env.now() - at - ms > SLEPT_MS ? doubt(probeMs, dead) : dead()));
  }

  /** What is less safe than the application's own address does not get its token. @param {any} frame */
  function goingAway({ reconnectAfter, url }) {
    /** @type {URL | null} */
    let to = null;
    try { to = new URL(url); } catch { /* it is no address */ }
    line.away(told(reconnectAfter), to && ['wss:', line.own.protocol].includes(to.protocol) ? to : null);
  }

  lost.addEventListener('abort', () => timer());
  watch();
  if (typeof options.token === 'function' && welcome.expires) {
    import('./refresh.js').then(({ keepFresh }) => keepFresh(env, welcome, session.since, lost, line)).catch(line.log('refreshing'));
  }
  return {
    /** Something came, which may be nothing that can be read. @param {any} frame */
    heard(frame) {
      heardAt = env.now();
      if (frame?.type === 'going_away') goingAway(frame);
      const answer = asked && frame?.type === 'pong' && frame.id === asked.id;
      if (!asked || !answer && !online()) return;
      if (answer) now = { ...now, rttMs: heardAt - asked.at };
      asked = null;
      state.set(now);
      watch();
    },
    /** The system says that the network is gone; the socket is kept, because it often survives. */
    offline() {
      if (!online()) return;
      asked = null;
      line.offline('network', 0, null);
      timer(SECOND_OPINION_MS, () => doubt(graceMs, () => wait('network')));
    },
    /** Whether to go on or to connect anew, at once. */
    retryNow: () => doubt(probeMs, open),
    /** We are looked at again. */
    wake() {
      if (online() && !asked && env.now() - heardAt > graceMs) doubt(probeMs, () => wait('watchdog'));
    },
  };
}
