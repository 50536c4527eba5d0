/**
 * The client library as the page uses it: one hub, its rooms, and frames as they are on the wire.
 *
 * `chat.js` asks and is told through this; connecting, recovering, and sending again are the library's work. Invariant: what comes
 * from a room is handed on in the order of its offsets, each message once.
 */
import { createHub } from '../sdk/index.js';
import { batch, signal } from '../shared/reactive.js';

/** @import { ConnectionState, Link, ServerEvent, Unsent } from './types.js' */
/** @import { ConnState, Env, Envelope, Hub, HubError, Publication, Room } from '../sdk/types.js' */

/** The connection broke before the answer came. */
export class CutOff extends Error {}

/** What is said in fields of its own, and not in `data`. */
const WORDED = new Set(['chat', 'action', 'topic', 'rename', 'edit', 'delete', 'reaction', 'system']);

/** A message as it was on the wire. @param {Envelope<string, any>} event @returns {ServerEvent} */
function frameOf({ type, room, id, data, offset, epoch, ts, from, to, edited, deleted, reactions, replayed }) {
  if (offset === null) return { type, room, ...data };
  return {
    type, room, id, offset, epoch, replayed, timestamp: Number.isNaN(ts) ? undefined : new Date(ts).toISOString(),
    ...(from && { userId: from.userId, username: from.username }), to, edited, deleted, reactions,
    ...(WORDED.has(type) ? data : data instanceof Uint8Array ? { bytes: data.length } : { data }),
  };
}

/** @param {ConnState} now @returns {ConnectionState} */
function stateOf(now) {
  switch (now.status) {
    case 'online': return { status: 'online', since: now.since };
    case 'closed': return { status: 'closed', code: now.error?.code ?? 0, reason: now.error?.message ?? '' };
    case 'offline': {
      const cause = now.cause === 'watchdog' ? 'silence' : now.cause !== 'network' ? 'server' : globalThis.navigator?.onLine === false ? 'network' : 'unreachable';
      return { status: 'offline', cause, attempt: now.attempt, retryAt: now.retryAt };
    }
    default: return now;
  }
}

/** @implements {Link} */
export class HubLink {
  /** @type {import('../shared/reactive.js').Signal<ConnectionState>} */
  state = signal(/** @type {ConnectionState} */ ({ status: 'idle' }));
  /** @type {(event: ServerEvent) => void} */
  onEvent = () => {};
  /** @type {Map<string, Room<any>>} */
  #rooms = new Map();

  /**
   * @param {URL} url
   * @param {{ device?: string, token?: string, env?: Partial<Env> }} options
   */
  constructor(url, options) {
    /** @type {Hub<any>} */
    const hub = this.hub = createHub(url, { ...options, autoConnect: false });
    const tell = (/** @type {ServerEvent} */ event) => batch(() => this.onEvent(event));
    hub.state.subscribe((now) => { this.state.value = stateOf(now); });
    hub.user.subscribe((user) => {
      const now = hub.state.get();
      if (user && now.status === 'online') tell({ type: 'welcome', ...user, clientId: now.session, node: now.node });
    });
    hub.on('conversations', ({ data }) => tell({ ...data, type: 'conversations' }));
    hub.on('direct', ({ data }) => tell({ type: 'direct', message: data }));
    hub.on('subscribed', ({ data }) => tell({ ...data, type: 'placed' }));
    hub.on('system', ({ data }) => tell({ ...data, type: 'system' }));
    hub.on('error', (error) => tell({ type: 'error', message: error.message, retryAfterMs: error.retryAfterMs }));
  }

  /** @param {string} type @param {Record<string, unknown>} [fields] @returns {Promise<any>} */
  async ask(type, fields) {
    if (this.state.peek().status !== 'online') throw new CutOff();
    return this.hub.request(type, fields);
  }

  /** Goes into a room, or a conversation, and stays there over every reconnect. @param {string} name @param {string} [peer] */
  join(name, peer) {
    if (this.#rooms.has(peer ?? name)) return;
    const room = peer ? this.hub.direct(peer) : this.hub.room(name);
    this.#rooms.set(peer ?? name, room);
    const about = () => ({ room: room.name || name, peer });
    const tell = (/** @type {ServerEvent} */ event) => batch(() => this.onEvent(event));
    room.info.subscribe((info) => { if (info) tell({ type: 'subscribed', ...about(), ...info, ...room.position }); });
    room.state.subscribe((state) => {
      if (state !== 'left') return void (state === 'joined' && room.name && tell({ type: 'joined', ...about() }));
      if (this.#rooms.delete(peer ?? name)) tell({ type: 'left', ...about(), error: room.error });
    });
    room.on('*', (event) => tell({ ...frameOf(event), ...about() }));
    room.on('$gap', ({ to, missed, reason }) => tell({ type: 'gap', ...about(), ...to, missed, reason }));
  }

  /** @param {string} name @param {string} [peer] */
  leave(name, peer) {
    const room = this.#rooms.get(peer || name);
    this.#rooms.delete(peer || name);
    room?.leave().catch(() => { /* the connection ended first, which is as good */ });
  }

  /** What is to be said, now or as soon as it can be. @param {Unsent} entry @returns {Publication | null} */
  send({ id, room: name, to, text, files }) {
    const room = this.#rooms.get(to || name);
    if (!room) return null;
    if (files.length === 0) return room.publish('chat', { content: text }, { id });
    return room.publish('file', { content: text, files: files.map((file) => ({ id: file.id, ...(file.alt && { alt: file.alt }) })) }, { id });
  }

  /** @param {string} name @param {string} peer @param {boolean} active */
  typing(name, peer, active) { this.#rooms.get(peer || name)?.typing(active); }

  /** @param {string} name @param {string} peer @param {'delivered' | 'seen'} kind @param {number} upTo */
  mark(name, peer, kind, upTo) { this.#rooms.get(peer || name)?.[kind](upTo); }

  /** Connects at once, whatever it waits for. */
  connect() {
    const { status } = this.state.peek();
    if (status === 'offline') this.hub.retryNow();
    else this.hub.connect().catch(() => { /* the state says so */ });
  }

  close() { void this.hub.close(); }
}
