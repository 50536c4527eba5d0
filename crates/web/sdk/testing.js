/**
 * For tests of applications: a world in which time stands still, and a hub that lives in it.
 *
 * `fakeWorld()` gives a hub its clock, random numbers, network and sockets, and the test moves them. `fakeHub(world)`
 * answers on those sockets as a server does: rooms with a log, acknowledgements, history, presence, idempotency keys.
 */

/** @import { Env, SocketLike } from './types.js' */

/** A socket whose other end is the test. @implements {SocketLike} */
export class FakeSocket {
  readyState = 0;
  bufferedAmount = 0;
  protocol = '';
  binaryType = 'blob';
  /** @type {((event: any) => void) | null} */
  onopen = null;
  /** @type {((event: any) => void) | null} */
  onmessage = null;
  /** @type {((event: any) => void) | null} */
  onclose = null;
  /** @type {((event: any) => void) | null} */
  onerror = null;
  /** What the client has sent and nobody has taken. @type {(string | Uint8Array)[]} */
  sent = [];
  /** The code with which the client closed; null: it did not. @type {number | null} */
  closedWith = null;
  /** Called with everything that the client sends. @type {(data: string | Uint8Array) => void} */
  onsent = () => {};

  /** @param {string} url @param {string[]} protocols */
  constructor(url, protocols) {
    this.url = new URL(url);
    this.protocols = protocols;
  }

  /** @param {string | Uint8Array<ArrayBuffer>} data */
  send(data) {
    if (this.readyState === 0) throw new DOMException('still connecting', 'InvalidStateError');
    if (this.readyState > 1) return;
    this.sent.push(data);
    this.onsent(data);
  }

  /** @param {number} [code] */
  close(code = 1005) {
    if (this.readyState > 1) return;
    this.readyState = 2;
    this.closedWith = code;
  }

  /** The handshake succeeds. @param {string} [protocol] */
  open(protocol = this.protocols[0]) {
    this.readyState = 1;
    this.protocol = protocol ?? '';
    this.onopen?.({});
  }

  /** It fails; `status` as far as it can be seen. @param {number} [status] */
  refuse(status) {
    this.readyState = 3;
    this.onerror?.({ message: status ? `Unexpected server response: ${status}` : '' });
    this.onclose?.({ code: 1006, reason: '' });
  }

  /** The server sends an object as text, text as it is, or bytes. @param {object | string | ArrayBuffer} frame */
  hear(frame) {
    this.onmessage?.({ data: typeof frame === 'string' || frame instanceof ArrayBuffer ? frame : JSON.stringify(frame) });
  }

  /** The connection ends. @param {number} [code] @param {string} [reason] */
  end(code = 1006, reason = '') {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }
}

/** Lets everything happen that needs no time. */
export async function settled() {
  for (let turn = 0; turn < 3; turn += 1) {
    await new Promise((done) => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => { port1.close(); done(undefined); };
      port2.postMessage(0);
    });
  }
}

/** @param {{ now?: number, random?: number[] }} [options] */
export function fakeWorld({ now = 1_000_000, random = [] } = {}) {
  /** @type {Map<number, { at: number, run: () => void }>} */
  const timers = new Map();
  /** @type {{ online(): void, offline(): void, wake(): void } | null} */
  let watcher = null;
  let ids = 0;
  /** @type {FakeSocket[]} */
  const sockets = [];
  /** @type {(socket: FakeSocket) => void} */
  let opened = () => {};
  /** @param {number} until */
  const nextBefore = (until) => [...timers].filter(([, timer]) => timer.at <= until).sort((a, b) => a[1].at - b[1].at || a[0] - b[0])[0];
  const world = {
    /** The numbers that `random` gives next; 0.5 where there are none. */
    random,
    sockets,
    get socket() { return /** @type {FakeSocket} */ (sockets.at(-1)); },
    get now() { return now; },
    get timers() { return timers.size; },
    /** Called with every new socket. @param {(socket: FakeSocket) => void} run */
    onsocket(run) { opened = run; },
    network: {
      online: () => watcher?.online(),
      offline: () => watcher?.offline(),
    },
    /** The page is looked at again. */
    wake: () => watcher?.wake(),
    /** Lets time pass: every timer runs at its own moment, and whatever needs no time happens in between. @param {number} ms */
    async advance(ms) {
      const end = now + ms;
      await settled();
      for (let next = nextBefore(end); next; next = nextBefore(end)) {
        timers.delete(next[0]);
        now = Math.max(now, next[1].at);
        next[1].run();
        await settled();
      }
      now = end;
    },
    /** The machine sleeps: time passes, and what was due runs late. @param {number} ms */
    async sleep(ms) {
      now += ms;
      await world.advance(0);
    },
    /** @type {Env} */
    env: {
      WebSocket: /** @type {any} */ (class extends FakeSocket {
        /** @param {string} url @param {string[]} protocols */
        constructor(url, protocols) {
          super(url, protocols);
          sockets.push(this);
          queueMicrotask(() => opened(this));
        }
      }),
      now: () => now,
      random: () => random.shift() ?? 0.5,
      setTimeout(run, ms) {
        ids += 1;
        timers.set(ids, { at: now + ms, run });
        return ids;
      },
      clearTimeout: (timer) => { timers.delete(timer); },
      unique() {
        ids += 1;
        return `u${ids}-`;
      },
      watch(hear) {
        watcher = hear;
        return () => { watcher = null; };
      },
    },
  };
  return world;
}
