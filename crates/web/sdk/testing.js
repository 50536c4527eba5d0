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

/**
 * A server in memory, on the sockets of a fake world: rooms with a log, acknowledgements, idempotency keys, recovery,
 * history, presence, typing, receipts. It answers without taking time.
 * @param {ReturnType<typeof fakeWorld>} world
 * @param {{ userId?: string, username?: string, maxMessageBytes?: number, kept?: number }} [options] `kept`: messages that a room keeps
 */
export function fakeHub(world, { userId = 'me', username = 'Me', maxMessageBytes = 8_192, kept = 1_000 } = {}) {
  /** @typedef {{ epoch: string, head: number, log: any[], keys: Map<string, any> }} FakeRoom */
  /** @type {Map<string, FakeRoom>} */
  const rooms = new Map();
  /** @type {Map<FakeSocket, Set<string>>} */
  const clients = new Map();
  /** @type {Map<string, { code: number, error: string, message: string, temporary: boolean, retryAfter?: number }>} */
  const refusals = new Map();
  let accepting = true;
  let ids = 0;
  let epochs = 0;
  const newEpoch = () => {
    epochs += 1;
    return `epoch-${epochs}`;
  };
  const timestamp = () => new Date(world.now).toISOString();

  /** @param {string} name @returns {FakeRoom} */
  function roomOf(name) {
    const room = rooms.get(name) ?? { epoch: newEpoch(), head: 0, log: [], keys: new Map() };
    rooms.set(name, room);
    return room;
  }

  /** A binary frame as if it were text. @param {Uint8Array} bytes */
  function binary(bytes) {
    const end = new DataView(bytes.buffer, bytes.byteOffset).getUint16(0) + 2;
    return { ...JSON.parse(new TextDecoder().decode(bytes.subarray(2, end))), base64: btoa(String.fromCharCode(...bytes.subarray(end))) };
  }

  /** @param {FakeRoom} room */
  const firstOf = (room) => room.log[0]?.offset ?? room.head + 1;

  /** @param {string} name @param {any} frame */
  function tell(name, frame) {
    for (const [socket, joined] of clients) if (joined.has(name) && socket.readyState === 1) socket.hear(frame);
  }

  /** @param {string} name @param {any} frame @param {{ userId: string, username: string }} author */
  function publish(name, { type, data, base64, content, event, offset: target, reaction, remove }, author) {
    const room = roomOf(name);
    room.head += 1;
    ids += 1;
    const sort = type === 'publish' || type === 'direct' ? event ?? (content === undefined ? 'message' : 'chat') : type === 'react' ? 'reaction' : type;
    const message = {
      type: sort, ...author, ...(content !== undefined && { content }), ...(data !== undefined && { data }), ...(base64 !== undefined && { base64 }),
      ...(reaction !== undefined && { reaction, removed: remove === true }), ...(target !== undefined && { target }),
      timestamp: timestamp(), room: name, id: `message-${ids}`, epoch: room.epoch, offset: room.head,
    };
    room.log.push(message);
    room.log.splice(0, room.log.length - kept);
    return message;
  }

  /** @param {FakeSocket} socket @param {any} frame */
  function answer(socket, frame) {
    const { type, id, room: name, idempotencyKey } = frame;
    const joined = /** @type {Set<string>} */ (clients.get(socket));
    const say = (/** @type {object} */ what) => { if (id !== undefined) socket.hear({ ...what, ...(id !== undefined && { id }) }); };
    const refused = refusals.get(type);
    if (refused) return say({ type: 'error', ...refused });
    if (type === 'ping') return socket.hear({ type: 'pong', ...(id !== undefined && { id }) });
    if (type === 'auth') return say({ type: 'authenticated' });
    if (type === 'subscribe') {
      const room = roomOf(name);
      const placed = typeof frame.epoch === 'string';
      const recovered = placed && frame.epoch === room.epoch && frame.offset + 1 >= firstOf(room);
      const offset = recovered ? frame.offset : frame.last ? Math.max(firstOf(room) - 1, room.head - frame.last) : room.head;
      joined.add(name);
      say({ type: 'subscribed', room: name, epoch: room.epoch, offset, members: 1, head: room.head, first: firstOf(room), ...(placed && { recovered }), durability: 'memory', unread: 0, seen: 0, delivered: 0 });
      for (const message of room.log) if (message.offset > offset) socket.hear(message);
      return undefined;
    }
    if (type === 'unsubscribe') {
      joined.delete(name);
      return say({ type: 'unsubscribed', room: name });
    }
    if (type === 'history') {
      const room = roomOf(name);
      const { before = Infinity, after = -1, limit = 100 } = frame;
      const found = room.log.filter(({ offset }) => offset < before && offset > after);
      const messages = frame.after === undefined ? found.slice(-limit) : found.slice(0, limit);
      return say({ type: 'history', room: name, epoch: room.epoch, first: firstOf(room), head: room.head, more: found.length > messages.length, messages });
    }
    if (type === 'presence') {
      return say({ type: 'presence', room: name, userCount: 1, members: 1, users: [{ userId, username, online: true, since: timestamp(), devices: [] }] });
    }
    if (type === 'conversations') return say({ type: 'conversations', conversations: [] });
    if (type === 'commands') return say({ type: 'commands', data: [] });
    if (type === 'typing') return tell(name, { type: 'typing', room: name, userId, username, clientId: 'client', active: frame.active !== false, expiresAfter: 6_000 });
    if (type === 'seen' || type === 'delivered') {
      return tell(name, { type: 'receipt', room: name, userId, receipt: type, epoch: roomOf(name).epoch, offset: frame.offset });
    }
    if (!['chat', 'publish', 'direct', 'edit', 'delete', 'react'].includes(type)) {
      return say({ type: 'error', code: 101, error: 'unknown_type', message: `no handler for type "${type}"`, temporary: false });
    }
    const goal = type === 'direct' ? `@${[userId, frame.to].sort().join('~')}` : name;
    const { keys } = roomOf(goal);
    const known = keys.get(idempotencyKey);
    const message = known ?? publish(goal, frame, { userId, username });
    if (idempotencyKey !== undefined) keys.set(idempotencyKey, message);
    say({ type: 'ack', room: goal, messageId: message.id, epoch: message.epoch, offset: message.offset, timestamp: message.timestamp, ...(known && { duplicate: true }) });
    if (!known) tell(goal, message);
    return undefined;
  }

  world.onsocket((socket) => {
    if (!accepting) return socket.refuse();
    socket.open();
    clients.set(socket, new Set());
    socket.onsent = (data) => {
      const frame = typeof data === 'string' ? JSON.parse(data) : binary(data);
      queueMicrotask(() => { if (socket.readyState === 1) answer(socket, frame); });
    };
    socket.hear({ type: 'welcome', clientId: `client-${clients.size}`, userId, username, timestamp: timestamp(), pingInterval: 54_000, maxMessageBytes, openMode: true });
    return undefined;
  });

  return {
    /** Somebody else says something. @param {string} room @param {any} data @param {{ event?: string, userId?: string, username?: string }} [how] */
    say(room, data, { event = 'message', userId: author = 'ann', username: name = 'Ann' } = {}) {
      const message = publish(room, event === 'chat' ? { type: 'chat', content: data } : { type: 'publish', event, data }, { userId: author, username: name });
      tell(room, message);
      return message;
    },
    /** Any frame, to everybody in the room. @param {string} room @param {object} frame */
    tell,
    /** From now on, requests of this type are refused; null: not any more. @param {string} type @param {{ code: number, error: string, message: string, temporary: boolean, retryAfter?: number } | null} error */
    refuse(type, error) {
      if (error) refusals.set(type, error);
      else refusals.delete(type);
    },
    /** Cuts all connections, and refuses new ones until `mend()`. @param {number} [code] */
    cut(code = 1006) {
      accepting = false;
      for (const socket of [...clients.keys()]) {
        clients.delete(socket);
        socket.end(code);
      }
    },
    mend() { accepting = true; },
    /** The room's log is lost, and another one begins. @param {string} room */
    forget(room) { rooms.delete(room); },
    /** What the room keeps. @param {string} room */
    log: (room) => roomOf(room).log,
  };
}
