/**
 * One socket for all tabs of a browser.
 *
 * In a shared worker, `serveTabs()` owns the socket; in each tab, `sharedSocket(worker)` is a WebSocket for the tab's own hub,
 * which keeps its rooms, places and outbox as always. The worker speaks for all: it gives requests ids of its own and takes
 * the answers to whom they belong, hands a room's frames to the tabs that are in it, and leaves a room with its last tab.
 *
 * Invariants: a tab gets the frames of a room from the answer to its own `subscribe` on, in the order of the socket; what
 * answers one tab no other hears of; a tab that is gone is in no room.
 *
 * ```js
 * // outspoke-worker.js                          // each tab
 * import { serveTabs } from '.../worker.js';     const worker = new SharedWorker('/outspoke-worker.js', { type: 'module' });
 * serveTabs();                                   const hub = createHub('/ws', { env: { WebSocket: sharedSocket(worker) } });
 * ```
 */

/** @import { SocketLike } from './types.js' */

/**
 * @typedef {object} Tab
 * @property {number} key
 * @property {Set<string>} rooms
 * @property {boolean} welcomed
 * @property {(message: any) => void} say
 */
/** @typedef {{ postMessage(message: any): void, onmessage: ((event: { data: any }) => void) | null, start?(): void, close?(): void }} PortLike */

/** @param {Uint8Array} bytes @returns {{ header: any, payload: Uint8Array<ArrayBuffer> }} */
function split(bytes) {
  const end = new DataView(bytes.buffer, bytes.byteOffset).getUint16(0) + 2;
  return { header: JSON.parse(new TextDecoder().decode(bytes.subarray(2, end))), payload: bytes.slice(end) };
}

/** @param {any} header @param {Uint8Array} payload */
function joined(header, payload) {
  const head = new TextEncoder().encode(JSON.stringify(header));
  const whole = new Uint8Array(2 + head.length + payload.length);
  new DataView(whole.buffer).setUint16(0, head.length);
  whole.set(head, 2);
  whole.set(payload, 2 + head.length);
  return whole;
}

/**
 * Shares one socket among ports.
 * @param {{ WebSocket?: new (url: string, protocols: string[]) => SocketLike }} [env]
 */
export function multiplexer({ WebSocket: Socket = /** @type {any} */ (globalThis).WebSocket } = {}) {
  /** @type {Set<Tab>} */
  const tabs = new Set();
  /** Whose request has which id; also of tabs that are gone, so that no other gets the answers. @type {Map<string, { tab: Tab, id: unknown, type: string, room: unknown }>} */
  const asked = new Map();
  /** @type {SocketLike | null} */
  let socket = null;
  /** @type {any} */
  let welcome = null;
  let keys = 0;

  /** @param {Tab} tab @param {any} frame @param {Uint8Array} [payload] */
  const hand = (tab, frame, payload) => tab.say({ data: payload ? joined(frame, payload).buffer : JSON.stringify(frame) });

  /** @param {string} url @param {string[]} protocols */
  function open(url, protocols) {
    welcome = null;
    const mine = socket = new Socket(url, protocols);
    mine.binaryType = 'arraybuffer';
    mine.onopen = () => { for (const tab of tabs) tab.say({ open: mine.protocol }); };
    mine.onmessage = ({ data }) => {
      const { header, payload } = typeof data === 'string' ? { header: parsed(data), payload: undefined } : split(new Uint8Array(data));
      if (header) heard(header, payload);
    };
    mine.onerror = (/** @type {any} */ event) => { for (const tab of tabs) tab.say({ error: String(event?.message ?? '') }); };
    mine.onclose = ({ code, reason }) => {
      if (socket !== mine) return;
      socket = welcome = null;
      asked.clear();
      const cut = [...tabs];
      tabs.clear();
      for (const tab of cut) tab.say({ close: code, reason });
    };
  }

  /** Whether a tab is in the room or about to be, not counting one. @param {string} room @param {Tab} [but] */
  function wanted(room, but) {
    const entering = [...asked.values()].filter((question) => question.type === 'subscribe' && question.room === room);
    return [...tabs].some((tab) => tab !== but && (tab.rooms.has(room) || entering.some((question) => question.tab === tab)));
  }

  /** Leaves a room that no tab wants any more. @param {string} room */
  function empty(room) {
    if (!wanted(room) && socket?.readyState === 1) socket.send(JSON.stringify({ type: 'unsubscribe', room }));
  }

  /** @param {string} text */
  function parsed(text) {
    try {
      return JSON.parse(text);
    } catch {
      return null;
    }
  }

  /** @param {any} frame @param {Uint8Array} [payload] */
  function heard(frame, payload) {
    const question = typeof frame.id === 'string' ? asked.get(frame.id) : undefined;
    if (question) {
      asked.delete(frame.id);
      const { tab, id, room } = question;
      if (!tabs.has(tab)) return frame.type === 'subscribed' ? empty(frame.room) : undefined;
      if (frame.type === 'subscribed') tab.rooms.add(String(frame.room));
      if (frame.type === 'unsubscribed') tab.rooms.delete(String(room));
      return hand(tab, { ...frame, id });
    }
    if (frame.type === 'welcome') welcome = frame;
    const { room } = frame;
    const known = typeof room === 'string' && [...tabs].some((tab) => tab.rooms.has(room));
    for (const tab of tabs) {
      if (frame.type === 'welcome') tab.welcomed = true;
      // What no tab has asked for, such as a private message, is everybody's.
      if (!known || tab.rooms.has(room)) hand(tab, frame, payload);
      if (frame.type === 'unsubscribed') tab.rooms.delete(room);
    }
  }

  /** @param {Tab} tab @param {any} frame @param {Uint8Array} [payload] */
  function sent(tab, frame, payload) {
    if (!socket || typeof frame !== 'object' || !frame) return;
    const { type, room, id } = frame;
    if (type === 'unsubscribe' && wanted(room, tab)) {
      tab.rooms.delete(room);
      if (id !== undefined) hand(tab, { type: 'unsubscribed', id, room });
      return;
    }
    let whole = frame;
    if (id !== undefined) {
      keys += 1;
      const own = `w${keys.toString(36)}`;
      asked.set(own, { tab, id, type, room });
      whole = { ...frame, id: own };
    }
    socket.send(payload ? joined(whole, payload) : JSON.stringify(whole));
  }

  /** @param {Tab} tab */
  function gone(tab) {
    if (!tabs.delete(tab)) return;
    for (const room of tab.rooms) empty(room);
    if (!tabs.size) {
      const last = socket;
      socket = welcome = null;
      last?.close(1000);
    }
  }

  return {
    /** A tab, by its port. @param {PortLike} port */
    connect(port) {
      /** @type {Tab | null} */
      let tab = null;
      port.onmessage = ({ data: { open: url, protocols, send, close, alive } }) => {
        if (url) {
          if (tab) gone(tab);
          keys += 1;
          const key = keys;
          const now = tab = { key, rooms: new Set(), welcomed: false, say: (message) => { if (now === tab) port.postMessage(message); } };
          tabs.add(tab);
          if (!socket) return open(url, protocols);
          if (socket.readyState !== 1) return undefined;
          tab.say({ open: socket.protocol });
          if (welcome) hand(tab, welcome);
        } else if (tab && send !== undefined) {
          if (typeof send === 'string') sent(tab, parsed(send));
          else {
            const { header, payload } = split(new Uint8Array(send));
            sent(tab, header, payload);
          }
        } else if (tab && close) {
          gone(tab);
          tab = null;
        }
        // A tab that is killed says nothing; but its lock is free then.
        if (alive) globalThis.navigator?.locks?.request(alive, () => { if (tab) gone(tab); });
        return undefined;
      };
      port.start?.();
    },
  };
}

/** In the shared worker's script. */
export function serveTabs() {
  const { connect } = multiplexer();
  globalThis.addEventListener('connect', (event) => connect(/** @type {any} */ (event).ports[0]));
}

/**
 * In a tab: what its hub uses for a WebSocket (`env: { WebSocket: sharedSocket(worker) }`). The address and the token are those of
 * the tab that opened the socket; let all tabs of a worker be the same user's, with the same `device`.
 * @param {{ port: PortLike }} worker
 * @returns {new (url: string, protocols: string[]) => SocketLike}
 */
export function sharedSocket({ port }) {
  /** @type {TabSocket | null} */
  let current = null;
  const lock = `outspoke-${Math.random().toString(36).slice(2)}`;
  // Said once we have it: the worker must not have it first.
  globalThis.navigator?.locks?.request(lock, () => {
    port.postMessage({ alive: lock });
    return new Promise(() => {});
  });
  port.onmessage = ({ data }) => current?.said(data);
  port.start?.();
  globalThis.addEventListener?.('pagehide', () => port.postMessage({ close: true }));

  /** @implements {SocketLike} */
  class TabSocket {
    readyState = 0;
    protocol = '';
    bufferedAmount = 0;
    binaryType = 'arraybuffer';
    /** @type {((event: any) => void) | null} */
    onopen = null;
    /** @type {((event: any) => void) | null} */
    onmessage = null;
    /** @type {((event: any) => void) | null} */
    onclose = null;
    /** @type {((event: any) => void) | null} */
    onerror = null;

    /** @param {string} url @param {string[]} protocols */
    constructor(url, protocols) {
      current = this;
      port.postMessage({ open: url, protocols });
    }

    /** @param {any} message */
    said({ open, data, error, close, reason }) {
      if (open !== undefined) {
        this.readyState = 1;
        this.protocol = open;
        this.onopen?.({});
      } else if (data !== undefined) this.onmessage?.({ data });
      else if (error !== undefined) this.onerror?.({ message: error });
      else if (close !== undefined) {
        this.readyState = 3;
        current = null;
        this.onclose?.({ code: close, reason });
      }
    }

    /** @param {string | Uint8Array<ArrayBuffer>} data */
    send(data) {
      port.postMessage({ send: typeof data === 'string' ? data : data.slice().buffer });
    }

    close() {
      this.readyState = 3;
      if (current !== this) return;
      current = null;
      port.postMessage({ close: true });
    }
  }
  return TabSocket;
}
