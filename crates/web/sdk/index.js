/**
 * `@outspoke/client`: one lasting connection to an Outspoke hub, the rooms in it, and what is on its way to them.
 *
 * This module owns the outbox and the answers that are waited for; `connection.js` owns the socket, `room.js` the
 * places. Invariants: a message is in the outbox until it is acknowledged or has failed, at most `max` of them, in the
 * order in which they were made; at most `WINDOW` are on the wire; whatever is sent again has the key it had before.
 * Types: `types.d.ts`; behaviour: docs/clients/specification.md.
 */
import { ASYNC_DISPOSE, HubError, WORLD, errorOf, isPlace, listeners, until, valueOf, waiting } from './base.js';
import { connection } from './connection.js';
import { makeRoom, patience } from './room.js';

export { HubError };

/** @import { Ack, AnyRooms, Call, Env, Frame, Hub, HubOptions, JoinOptions, OutboxEntry, Publication, PublicationState, PublishOptions, User } from './types.js' */
/** @import { Host, Inner } from './room.js' */

const WINDOW = 64;
/** No answer for so long: it is sent again. */
const UNANSWERED_MS = 20_000;
const RATE_LIMITED = 162;

/**
 * @typedef {object} Item a message of ours
 * @property {Publication} publication
 * @property {OutboxEntry} entry
 * @property {boolean} volatile
 * @property {import('./base.js').Value<PublicationState>} state
 * @property {unknown} flying the timer of what is on the wire, without an answer; else null
 * @property {() => void} land it is not on the wire any more
 * @property {(error: HubError) => void} requeue nor has it an answer: it is sent again, or fails if it was now or never
 * @property {(error: HubError | null, ack?: Ack) => void} settle
 */

/** @param {any} frame */
const goalOf = (frame) => frame.to ?? frame.room;

/**
 * Makes a hub, which connects at once unless told otherwise.
 * @template [S=AnyRooms] the rooms, and what is said in them
 * @param {string | URL} url
 * @param {HubOptions} [options]
 * @returns {Hub<S>}
 */
export function createHub(url, options = {}) {
  /** @type {Env} */
  const env = { ...WORLD, ...options.env };
  if (!env.WebSocket) throw new TypeError('no WebSocket: use @outspoke/client/node, or env.WebSocket');
  const { max = 1_024, ttlMs = 300_000, overflow = 'reject', store } = options.outbox || {};
  const { on, emit } = listeners();
  const user = valueOf(/** @type {User | null} */ (null));
  const outbox = valueOf(/** @type {readonly Publication[]} */ ([]));
  /** @type {Map<string, Inner>} */
  const rooms = new Map();
  /** Private conversations, by the other user. @type {Map<string, Inner>} */
  const directs = new Map();
  /** Who waits for which answer; null: the connection is lost. @type {Map<string, (answer: any) => void>} */
  const answers = new Map();
  /** @type {Item[]} */
  let items = [];
  let flying = 0;
  let window = WINDOW;
  /** When we were too fast. */
  const pace = patience(env);
  let bytesMax = Infinity;
  /** @type {unknown} */
  let pumpTimer;
  /** @type {(() => void) | null} */
  let unwatch = null;
  let ids = 0;
  const unique = env.unique();
  const newId = () => {
    ids += 1;
    return `${unique}${ids.toString(36)}`;
  };

  /** @param {string} text @param {unknown} detail */
  const log = (text, detail) => options.log?.({ level: 'warn', text, detail });
  const net = connection(url, options, env, { hear, lost, queued: () => items.length, log });
  const online = () => net.state.get().status === 'online';
  const all = () => new Set([...rooms.values(), ...directs.values()]);

  // --- requests

  /** @type {Host['ask']} */
  function ask(frame, answered) {
    const id = newId();
    const { type, ...fields } = frame;
    if (!net.send(JSON.stringify({ type, id, ...fields }))) return false;
    answers.set(id, answered);
    return true;
  }

  /** @param {string} type @param {object} [fields] @param {Call} [call] @returns {Promise<any>} */
  async function request(type, fields, call) {
    await ready(call);
    return waiting(env, call, (resolve, reject) => {
      const lostIt = () => reject(new HubError('connection_lost', '', 0, true));
      const asked = ask({ type, ...fields }, (answer) => {
        if (!answer) lostIt();
        else if (answer.type === 'error') reject(errorOf(answer));
        else resolve(answer);
      });
      if (!asked) lostIt();
    });
  }

  /** @param {Call} [call] */
  const ready = (call) => until(env, call, net.state, (now) => {
    if (now.status === 'closed') throw now.error ?? new HubError('closed');
    return now.status === 'online';
  });

  // --- what comes

  /** @param {any} frame */
  function hear(frame) {
    const { type, id, room: name } = frame;
    const waits = typeof id === 'string' && answers.get(id);
    if (waits) {
      answers.delete(id);
      return waits(frame);
    }
    if (type === 'welcome') return welcomed(frame);
    if (type === 'error') return complained(errorOf(frame));
    // With a pong, a socket that was in doubt is trusted again.
    if (type === 'pong') return pump();
    if (type === 'ack' || type === 'authenticated') return;
    if (type === 'conversations') bind(frame.conversations);
    const known = rooms.get(name);
    if (type === 'unsubscribed') return known?.gone(errorOf({ error: 'unsubscribed', ...frame }));
    if (type === 'subscribed' && known) return known.put(frame);
    const room = known ?? conversation(frame);
    if (room) return room.hear(frame);
    emit(frame.to === undefined ? type : 'direct', { type, data: frame });
  }

  /** @param {HubError} error */
  function slowDown(error) {
    pace.refused(error);
    window = 1;
  }

  /** An error that answers nothing. @param {HubError} error */
  function complained(error) {
    // What comes too fast is not even read: nothing of it will be answered.
    if (error.code === RATE_LIMITED) {
      slowDown(error);
      for (const item of items) if (item.flying !== null) item.requeue(error);
      pump();
    }
    emit('error', error);
  }

  /** The private conversation that a message shows to be in this room. @param {any} frame */
  function conversation({ to, room: name, userId, epoch, offset }) {
    const direct = to !== undefined && directs.get(to === host.me() ? userId : to);
    if (!direct || typeof name !== 'string' || direct.name || !isPlace({ epoch, offset })) return undefined;
    direct.bind(name, { epoch, offset: offset - 1 });
    return direct;
  }

  /** @param {any} conversations */
  function bind(conversations) {
    for (const entry of Array.isArray(conversations) ? conversations : []) {
      if (typeof entry?.room === 'string') directs.get(entry.with)?.bind(entry.room);
    }
  }

  /** Looks for the names of the conversations that were opened by their user. @param {object} [from] */
  function findConversations(from) {
    if (![...directs.values()].some((direct) => !direct.name)) return;
    ask({ type: 'conversations', ...from }, (page) => {
      if (page?.type !== 'conversations') return;
      bind(page.conversations);
      if (page.next !== undefined) return findConversations({ after: page.next });
      // Nothing was said yet: there is nothing to wait for.
      for (const direct of directs.values()) if (!direct.name && direct.state.get() === 'joining') direct.state.set('joined');
    });
  }

  /** @param {any} frame */
  function welcomed(frame) {
    bytesMax = frame.maxMessageBytes > 0 ? frame.maxMessageBytes : Infinity;
    user.set({ userId: String(frame.userId), username: String(frame.username), openMode: frame.openMode === true });
    for (const room of all()) room.online();
    findConversations();
    pump();
  }

  function lost() {
    const waited = [...answers.values()];
    answers.clear();
    pace.forget();
    for (const room of all()) room.lost();
    for (const waits of waited) waits(null);
  }

  // --- what goes

  /** Sends what may be sent. */
  function pump() {
    if (!online()) return;
    env.clearTimeout(pumpTimer);
    const now = env.now();
    let next = Infinity;
    for (const item of items) {
      if (flying >= Math.floor(window)) break;
      const { frame } = item.entry;
      const room = frame.to ? directs.get(String(frame.to)) : rooms.get(String(frame.room));
      if (item.flying !== null || !room?.isOpen()) continue;
      const from = Math.max(room.patience.until, pace.until);
      if (from > now) next = Math.min(next, from);
      else send(item, room);
    }
    if (next < Infinity) pumpTimer = env.setTimeout(pump, next - now);
  }

  /** @param {Item} item @param {Inner} room */
  function send(item, room) {
    const { publication, entry: { id, frame, bytes }, volatile } = item;
    const { type, ...fields } = frame;
    const text = JSON.stringify({ type, id, ...fields, ...(!volatile && { idempotencyKey: id }) });
    /** @type {string | Uint8Array<ArrayBuffer>} */
    let whole = text;
    if (bytes || text.length * 3 > bytesMax) {
      const header = new TextEncoder().encode(text);
      const length = bytes ? header.length + bytes.length + 2 : header.length;
      if (length > bytesMax) return item.settle(new HubError('too_large', `${length} bytes, of at most ${bytesMax}`));
      if (bytes) {
        if (!net.binary()) return item.settle(new HubError('unsupported_frame'));
        whole = new Uint8Array(length);
        new DataView(whole.buffer).setUint16(0, header.length);
        whole.set(header, 2);
        whole.set(bytes, header.length + 2);
      }
    }
    if (!net.send(whole)) return;
    flying += 1;
    item.flying = env.setTimeout(() => {
      item.requeue(new HubError('unconfirmed', '', 0, true));
      pump();
    }, UNANSWERED_MS);
    item.state.set('sent');
    answers.set(id, (answer) => {
      item.land();
      if (items.includes(item)) answered(item, room, answer);
      pump();
    });
  }

  /** @param {Item} item @param {Inner} room @param {any} answer */
  function answered(item, room, answer) {
    if (answer?.type === 'error') {
      const error = errorOf(answer);
      if (!error.retryable) return item.settle(error);
      if (error.code === RATE_LIMITED) slowDown(error);
      else room.patience.refused(error);
      item.requeue(error);
    } else if (answer) {
      pace.served();
      window = Math.min(window + 1 / window, WINDOW);
      item.settle(null, {
        id: String(answer.messageId ?? ''), room: String(answer.room ?? room.name), epoch: answer.epoch, offset: answer.offset,
        ts: Date.parse(answer.timestamp), duplicate: answer.duplicate === true, answer,
      });
      room.acked(answer, item.state);
    } else item.requeue(new HubError('connection_lost', '', 0, true));
  }

  const changed = () => {
    outbox.set(items.map(({ publication }) => publication));
    const now = net.state.get();
    if (now.status === 'offline') net.state.set({ ...now, queued: items.length });
  };

  /** @param {OutboxEntry} entry @param {PublishOptions} [how] @returns {Item} */
  function makeItem(entry, { signal, timeoutMs = ttlMs, volatile = false } = {}) {
    const state = valueOf(/** @type {PublicationState} */ ('queued'));
    /** @type {HubError | null} */
    let error = null;
    /** @type {(ack: Ack) => void} */
    let resolve;
    /** @type {(error: unknown) => void} */
    let reject;
    /** @type {Promise<Ack>} */
    const outcome = new Promise((...both) => { [resolve, reject] = both; });
    outcome.catch(() => {});
    let everSent = false;
    /** @type {Publication} */
    const publication = {
      id: entry.id,
      at: entry.at,
      frame: entry.frame,
      state,
      get error() { return error; },
      cancel() {
        if (everSent || !items.includes(item)) return false;
        item.settle(new HubError('cancelled'));
        return true;
      },
      then: (done, failed) => outcome.then(done, failed),
    };
    const aborted = () => item.settle(new HubError('aborted'));
    const timer = env.setTimeout(() => item.settle(new HubError(everSent ? 'unconfirmed' : 'expired', '', 0, true)), Math.max(entry.at + timeoutMs - env.now(), 0));
    const watching = state.subscribe((now) => { everSent ||= now === 'sent'; });
    /** @type {Item} */
    const item = {
      publication, entry, state, volatile, flying: null,
      land() {
        if (item.flying === null) return;
        env.clearTimeout(item.flying);
        item.flying = null;
        flying -= 1;
      },
      requeue(error) {
        item.land();
        if (volatile) item.settle(error);
        else if (items.includes(item)) state.set('queued');
      },
      settle(failure, ack) {
        env.clearTimeout(timer);
        signal?.removeEventListener('abort', aborted);
        watching();
        items = items.filter((other) => other !== item);
        item.land();
        if (store && !volatile && failure?.reason !== 'closed') store.remove(entry.id).catch((why) => log('outbox store', why));
        error = failure;
        state.set(failure ? 'failed' : 'acked');
        if (ack) resolve(ack);
        else reject(failure?.reason === 'aborted' ? signal?.reason : failure);
        changed();
      },
    };
    signal?.addEventListener('abort', aborted);
    return item;
  }

  /** @type {Host['submit']} */
  function submit(room, { data, ...frame }, how = {}) {
    const bytes = data instanceof Uint8Array ? data : undefined;
    const whole = /** @type {Frame} */ (bytes || data === undefined ? frame : { ...frame, data });
    const item = makeItem({ id: how.id ?? newId(), at: env.now(), frame: whole, ...(bytes && { bytes }) }, how);
    const now = how.volatile || options.outbox === false;
    const victim = items.length < max ? null : overflow === 'reject' ? item : items.find((other) => other.publication.state.get() === 'queued') ?? item;
    items.push(item);
    const failure = room.room.error ?? (net.state.get().status === 'closed' && now ? new HubError('closed') : null);
    if (failure) item.settle(failure);
    else if (how.signal?.aborted) item.settle(new HubError('aborted'));
    else victim?.settle(new HubError('outbox_full', `${max} messages wait already`, 0, true));
    if (items.includes(item) && !now && store) store.put(item.entry).catch((why) => log('outbox store', why));
    changed();
    pump();
    if (now && item.flying === null && items.includes(item)) item.settle(new HubError('offline', '', 0, true));
    return item.publication;
  }

  // --- rooms

  /** @type {Host} */
  const host = {
    env, online, ask, request, submit, pump, log,
    me: () => user.get()?.userId ?? '',
    tell: (frame) => { net.send(JSON.stringify(frame)); },
    bound: (room) => { rooms.set(room.name, room); },
    gone(room, error) {
      rooms.delete(room.name);
      if (room.to) directs.delete(room.to);
      const goal = room.to ?? room.name;
      for (const item of items) if (goalOf(item.entry.frame) === goal) item.settle(error);
    },
  };

  /** @param {Map<string, Inner>} of @param {string} key @param {() => Inner} make */
  function opened(of, key, make) {
    let room = of.get(key);
    if (!room) {
      room = make();
      if (room.state.get() !== 'left') of.set(key, room);
      if (online()) {
        room.online();
        findConversations();
      }
    }
    return room.room;
  }

  /** @param {Call} [call] */
  function connect(call) {
    unwatch ??= env.watch(net.world);
    net.connect();
    return ready(call);
  }

  /** @param {Call} [call] */
  async function close(call) {
    if (call?.timeoutMs) await until(env, call, outbox, ({ length }) => length === 0).catch(() => {});
    unwatch?.();
    unwatch = null;
    const closed = new HubError('closed');
    net.close();
    for (const room of all()) room.gone(closed);
    for (const { settle } of [...items]) settle(closed);
  }

  if (store) {
    store.load().then((kept) => {
      const known = new Set(items.map(({ entry }) => entry.id));
      items.unshift(...kept.filter(({ id }) => !known.has(id)).map((entry) => makeItem(entry)));
      changed();
      pump();
    }, (why) => log('outbox store', why));
  }
  if (options.autoConnect !== false) connect().catch(() => {});

  /** @type {Hub<any>} */
  const hub = {
    state: net.state,
    user,
    outbox,
    connect,
    ready,
    close,
    retryNow: net.retryNow,
    room: (/** @type {string} */ name, /** @type {JoinOptions<any>} */ how = {}) => opened(rooms, name, () => makeRoom(host, name, how)),
    direct: (/** @type {string} */ userId, /** @type {JoinOptions<any>} */ how = {}) => opened(directs, userId, () => makeRoom(host, '', how, userId)),
    on,
    request,
    [ASYNC_DISPOSE]: () => close(),
  };
  return hub;
}
