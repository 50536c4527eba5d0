/**
 * One lasting connection over many sockets.
 *
 * Knows when to connect, when to wait, when a socket is dead though it does not say so, and when to stay
 * away; what the messages mean is `chat.js`'s business. Everything outside comes in through `Env`, so the
 * tests run it on a clock of their own.
 *
 * Invariants: at most one socket is listened to; exactly one of the states of `ConnectionState` holds; a
 * message is handed to a socket only while that socket is trusted.
 */
import { effect, signal } from './reactive.js';

/** @import { Cause, ClientRequest, ConnectionState, Env, Link, ServerEvent, Socket } from './types.js' */

export const TIMES = Object.freeze({
  /** The wait before try n is random in [0, min(cap, base * 2^n)): a fleet cut off together comes back spread out. */
  retryBase: 1_000,
  retryCap: 30_000,
  /** A connection that held this long was good: the next wait starts small again. */
  stable: 10_000,
  /** From opening a socket to the server's welcome. */
  connect: 10_000,
  /** Silence before asking, when the server does not ping. */
  silence: 30_000,
  /** How long an answer may take before the socket counts as dead. */
  grace: 10_000,
  /** The same, when there is reason for doubt: the network came back, the machine woke up. */
  graceInDoubt: 3_000,
  /** The browser said offline: it is believed this long before the server is asked for a second opinion. */
  secondOpinion: 5_000,
  /** A timer this late means that the machine slept, not that the peer is dead. */
  slept: 3_000,
});

/** Beyond this the socket is only filling memory; what is not sent stays in the outbox. */
const BUFFERED_MAX = 1 << 20;

/** Whether a close code says "stay away": coming back the same way would end the same way. @param {number} code */
export function isTerminal(code) {
  return (code >= 4500 && code <= 4999) || code === 1000 || code === 1002 || code === 1007 || code === 1009;
}

/** @param {number} attempt @param {() => number} random */
export function backoff(attempt, random) {
  return random() * Math.min(TIMES.retryCap, TIMES.retryBase * 2 ** attempt);
}

/** @param {unknown} data @returns {ServerEvent | null} */
export function decode(data) {
  if (typeof data !== 'string') return null;
  try {
    const event = JSON.parse(data);
    return typeof event === 'object' && event !== null && typeof event.type === 'string' ? event : null;
  } catch {
    return null;
  }
}

export class Connection {
  /** @type {import('./reactive.js').Signal<ConnectionState>} */
  state = signal(/** @type {ConnectionState} */ ({ status: 'idle' }));
  /** @type {(event: ServerEvent) => void} */
  onEvent = () => {};

  /** @type {Socket | null} */
  #socket = null;
  #attempt = 0;
  #since = 0;
  /** @type {number} */
  #silence = TIMES.silence;
  #heardAt = 0;
  #pings = 0;
  /** @type {{ id: string, askedAt: number } | null} */
  #probe = null;
  #networkGone = false;
  /** @type {number | null} */
  #delayAsked = null;
  /** @type {unknown} */
  #timer = null;
  #timerDue = 0;

  /** @param {() => string} url @param {Env} env */
  constructor(url, env) {
    this.url = url;
    this.env = env;
  }

  /** Connects now, whatever the state; a wait in progress ends. */
  connect() {
    const { status } = this.state.peek();
    if (status === 'connecting' || status === 'online') return;
    if (status === 'idle' || status === 'closed') this.#attempt = 0;
    this.#open();
  }

  /** Leaves for good, until the next `connect()`. */
  close() {
    this.#forget(1000);
    this.state.value = { status: 'idle' };
  }

  /** Hands a request to the socket. False: there is no trusted socket, the caller keeps the request. @param {ClientRequest} request */
  send(request) {
    const socket = this.#socket;
    if (this.state.peek().status !== 'online' || !socket || socket.readyState !== 1) return false;
    if (socket.bufferedAmount > BUFFERED_MAX) return false;
    socket.send(JSON.stringify(request));
    return true;
  }

  /** Somebody misses an answer: ask whether the server is there. */
  doubt() {
    if (this.state.peek().status === 'online' && !this.#probe) this.#ask(TIMES.grace);
  }

  /** The browser says the network is gone. Said at once, but the socket is kept: it often survives. */
  networkLost() {
    const state = this.state.peek();
    this.#networkGone = true;
    if (state.status === 'connecting') this.#drop('network');
    else if (state.status === 'offline') this.state.value = { ...state, cause: 'network' };
    else if (state.status === 'online') {
      this.#probe = null;
      this.state.value = { status: 'offline', cause: 'network', attempt: 0, retryAt: null };
      this.#arm(TIMES.secondOpinion, () => this.#sendPing());
    }
  }

  /** The browser says the network is back. */
  networkFound() {
    this.#networkGone = false;
    if (this.state.peek().status !== 'offline') return;
    if (this.#socket) this.#ask(TIMES.graceInDoubt);
    else this.#open();
  }

  /** The page is looked at again, after sleep or from another tab: timers may have been late. */
  wake() {
    const state = this.state.peek();
    if (state.status === 'offline' && state.retryAt !== null) this.#open();
    else if (state.status === 'online' && this.env.now() - this.#heardAt > TIMES.grace) this.#ask(TIMES.graceInDoubt);
  }

  #open() {
    this.#forget();
    this.state.value = { status: 'connecting', attempt: this.#attempt };
    this.#since = 0;
    /** @type {Socket} */
    let socket;
    try {
      socket = this.env.open(this.url());
    } catch {
      return this.#wait('unreachable');
    }
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#heard(data);
    socket.onclose = ({ code, reason }) => this.#closed(code, reason);
    this.#arm(TIMES.connect, () => this.#drop('unreachable'));
  }

  /** @param {unknown} data */
  #heard(data) {
    this.#heardAt = this.env.now();
    const event = decode(data);
    if (!event) return;
    if (event.type === 'welcome') this.#welcomed(event);
    else if (event.type === 'pong') this.#answered(event.id);
    else if (event.type === 'going_away') this.#delayAsked = Math.max(0, Number(event.reconnectAfter) || 0);
    this.onEvent(event);
  }

  /** @param {ServerEvent} welcome */
  #welcomed(welcome) {
    this.#since = this.env.now();
    this.#silence = welcome.pingInterval ? Math.max(1_000, welcome.pingInterval) : TIMES.silence;
    this.state.value = { status: 'online', since: this.#since };
    this.#watch();
  }

  /** @param {string | undefined} id */
  #answered(id) {
    if (!this.#probe || id !== this.#probe.id) return;
    this.#probe = null;
    if (this.state.peek().status === 'offline') this.state.value = { status: 'online', since: this.#since };
    this.#watch();
  }

  /** Waits for the moment at which the silence will have lasted too long. */
  #watch() {
    const left = this.#heardAt + this.#silence - this.env.now();
    if (left <= 0) this.#ask(TIMES.grace);
    else this.#arm(left, () => this.#watch());
  }

  /** @param {number} grace */
  #ask(grace) {
    this.#sendPing();
    this.#arm(grace, (late) => {
      const { status } = this.state.peek();
      // Anything heard while online proves the socket; a browser that was offline needs the very answer.
      if (status === 'online' && this.#probe && this.#heardAt > this.#probe.askedAt) {
        this.#probe = null;
        this.#watch();
      } else if (late > TIMES.slept) this.#ask(TIMES.graceInDoubt);
      else this.#drop('silence', true);
    });
  }

  #sendPing() {
    if (this.#socket?.readyState !== 1) return;
    this.#pings += 1;
    this.#probe = { id: `ping-${this.#pings}`, askedAt: this.env.now() };
    this.#socket.send(JSON.stringify({ type: 'ping', id: this.#probe.id }));
  }

  /** @param {number} code @param {string} reason */
  #closed(code, reason) {
    this.#forget();
    if (isTerminal(code)) this.state.value = { status: 'closed', code, reason };
    else this.#wait(this.#since ? 'server' : 'unreachable');
  }

  /** Gives a socket up without waiting for it: closing a dead one can take minutes. @param {Cause} cause @param {boolean} [atOnce] */
  #drop(cause, atOnce) {
    this.#forget(1000);
    if (atOnce && this.#isStable()) {
      this.#attempt = 0;
      this.#open();
    } else this.#wait(cause);
  }

  #isStable() {
    return this.#since > 0 && this.env.now() - this.#since >= TIMES.stable;
  }

  /** @param {Cause} cause */
  #wait(cause) {
    if (this.#isStable()) this.#attempt = 0;
    const delay = (this.#delayAsked ?? 0) + backoff(this.#attempt, () => this.env.random());
    this.#delayAsked = null;
    this.#attempt += 1;
    if (this.#networkGone) cause = 'network';
    this.state.value = { status: 'offline', cause, attempt: this.#attempt, retryAt: this.env.now() + delay };
    this.#arm(delay, () => this.#open());
  }

  /** @param {number} [code] */
  #forget(code) {
    const socket = this.#socket;
    this.#socket = null;
    this.#probe = null;
    this.#disarm();
    if (!socket) return;
    socket.onmessage = null;
    socket.onclose = null;
    try { socket.close(code); } catch { /* it was never open */ }
  }

  /** One timer at a time: the newest purpose wins. @param {number} ms @param {(late: number) => void} run */
  #arm(ms, run) {
    this.#disarm();
    this.#timerDue = this.env.now() + ms;
    this.#timer = this.env.setTimeout(() => {
      this.#timer = null;
      run(this.env.now() - this.#timerDue);
    }, ms);
  }

  #disarm() {
    if (this.#timer !== null) this.env.clearTimeout(this.#timer);
    this.#timer = null;
  }
}

/** The connection broke before the answer came. */
export class CutOff extends Error {}

/** Questions and their answers, over a connection that comes and goes. @implements {Link} */
export class Questions {
  /** @type {(event: ServerEvent) => void} */
  onEvent = () => {};
  #count = 0;
  /** @type {Map<string, { resolve(answer: any): void, reject(why: unknown): void }>} */
  #open = new Map();

  /** @param {Connection} connection @param {string} session */
  constructor(connection, session) {
    this.connection = connection;
    this.session = session;
    this.state = connection.state;
    connection.onEvent = (event) => this.#heard(event);
    effect(() => {
      const state = connection.state.value;
      if (state.status === 'online' || (state.status === 'offline' && state.retryAt === null)) return;
      for (const [id, { reject }] of this.#open) {
        this.#open.delete(id);
        reject(new CutOff());
      }
    });
  }

  /** @param {string} type @param {Record<string, unknown>} [fields] @returns {Promise<any>} */
  ask(type, fields) {
    this.#count += 1;
    const id = `${this.session}-${this.#count}`;
    return new Promise((resolve, reject) => {
      if (this.connection.send({ type, id, ...fields })) this.#open.set(id, { resolve, reject });
      else reject(new CutOff());
    });
  }

  /** @param {string} type @param {Record<string, unknown>} [fields] */
  tell(type, fields) { this.connection.send({ type, ...fields }); }

  doubt() { this.connection.doubt(); }
  connect() { this.connection.connect(); }
  close() { this.connection.close(); }

  /** @param {ServerEvent} event */
  #heard(event) {
    const waiting = event.id === undefined ? undefined : this.#open.get(event.id);
    if (waiting) this.#open.delete(/** @type {string} */ (event.id));
    // What a subscription says is for everybody, too: messages may stand right behind it.
    if (!waiting || event.type === 'subscribed' || event.type === 'unsubscribed') this.onEvent(event);
    if (waiting && event.type === 'error') waiting.reject(event);
    else waiting?.resolve(event);
  }
}
