/**
 * `@outspoke/client`: one lasting connection to an Outspoke hub, the rooms in it, and what is on its way to them.
 *
 * This module owns the answers that are waited for, and our messages until they have an end; `connection.js` owns the socket, `room.js`
 * the places. They are the core; what sends messages is `outbox.js`, and what else is not needed to be there is loaded with `import()`
 * as well. Invariants: a message is in the list until it is acknowledged or has failed, in the order in which they were made; it
 * ends once. Types: `types.d.ts`; behaviour: docs/clients/specification.md.
 */
import { ASYNC_DISPOSE, HubError, WORLD, errorOf, isPlace, listeners, passing, until, valueOf, waiting } from './base.js';
import { connection } from './connection.js';
import { keyOf, makeRoom } from './room.js';

export { HubError };

/** @import { Ack, AnyRooms, Call, Env, Frame, Hub, HubOptions, JoinOptions, Publication, PublicationState, User } from './types.js' */
/** @import { Host, Inner } from './room.js' */
/** @import { Answered, Host as Outgoing, Item } from './outbox.js' */

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
  if (!env.WebSocket) throw new TypeError('no WebSocket: use @outspoke/client/node');
  const { on, emit } = listeners();
  const { max = 1_024, ttlMs = 300_000, overflow = 'reject' } = options.outbox || {};
  const user = valueOf(/** @type {User | null} */ (null));
  const outbox = valueOf(/** @type {readonly Publication[]} */ ([]));
  /** By their keys, and private conversations by their names too. @type {Map<string, Inner>} */
  const rooms = new Map();
  /** What names private conversations, where there are any. @type {ReturnType<typeof import('./direct.js').naming> | null} */
  let naming = null;
  /** Who waits for which answer; null: the connection is lost. @type {Map<string, Answered>} */
  const answers = new Map();
  /** Messages of ours, from the making of them to their end. @type {Item[]} */
  let items = [];
  /** What sends them. @type {ReturnType<typeof import('./outbox.js').outboxOf> | null} */
  let sender = null;
  /** @type {(() => void) | null} */
  let unwatch = null;
  let ids = 0;
  const unique = env.unique();
  const newId = () => unique + (ids += 1).toString(36);

  /** @type {Host['log']} */
  const log = (text) => (detail) => options.log?.({ level: 'warn', text, detail });
  const net = connection(url, options, env, { hear, lost, queued: () => items.length, ask, log });
  const online = () => net.state.get().status === 'online';
  const all = () => new Set(rooms.values());

  // --- requests

  /** @param {Frame} frame @param {Answered} answered */
  function ask(frame, answered) {
    const id = newId();
    answered.type = frame.type;
    if (net.send(JSON.stringify({ ...frame, id }))) answers.set(id, answered);
    else answered(null);
  }

  /** @param {string} type @param {object} [fields] @param {Call} [call] @returns {Promise<any>} */
  async function request(type, fields, call) {
    await ready(call);
    return waiting(env, call, (done, fail) => ask({ type, ...fields }, (answer) => {
      if (!answer || answer.type === 'error') fail(errorOf(answer));
      else done(answer);
    }));
  }

  /** @param {Call} [call] @returns {Promise<void>} */
  const ready = (call) => until(env, call, net.state, (now) => (now.status === 'closed' ? now.error ?? new HubError('closed') : now.status === 'online'));

  // --- what comes

  /** @param {any} frame */
  function hear(frame) {
    const { type, id } = frame;
    const answered = answers.get(id);
    if (answered) {
      answers.delete(id);
      return answered(frame);
    }
    if (type === 'welcome') return welcomed(frame);
    if (type === 'error') return emit(type, errorOf(frame));
    // With a pong, a socket that was in doubt is trusted again.
    if (type === 'pong') return resume();
    // Nobody waits for it any more.
    if (type === 'ack') return;
    const room = rooms.get(frame.room) ?? conversation(frame);
    if (room) room.hear(frame);
    else emit(frame.to === undefined ? type : 'direct', { type, data: frame });
  }

  /** The private conversation that a message shows to be in this room. @param {any} frame */
  function conversation(frame) {
    const { to, room: name, userId, epoch, offset } = frame;
    const direct = rooms.get(keyOf({ to: to === host.welcome.userId ? userId : to }));
    if (direct?.name !== '' || typeof name !== 'string' || !isPlace(frame)) return undefined;
    direct.bind(name, { epoch, offset: offset - 1 });
    return direct;
  }

  /**
   * Joins the rooms that we are not in, and sends what waits; before anything is said in conversations that were opened by their
   * user it looks for their names, so that what is found is not what is said.
   */
  async function resume() {
    for (const room of all()) room.online();
    if ([...all()].some(({ name, state }) => !name && state.get() === 'joining')) {
      host.naming = true;
      await import('./direct.js').then((direct) => {
        naming ??= direct.naming(ask, all, on);
        naming.find();
      }).catch(log('conversations'));
      host.naming = false;
    }
    pump();
  }

  /** @param {any} frame */
  function welcomed(frame) {
    host.welcome = frame;
    const { userId, username, openMode } = frame;
    user.set({ userId, username, openMode });
    resume();
    load();
  }

  function lost() {
    const waited = [...answers.values()];
    answers.clear();
    sender?.lost();
    for (const room of all()) room.lost();
    for (const answered of waited) answered(null);
  }

  // --- what goes

  const pump = () => sender?.pump();

  /** Gets what sends messages: as soon as we are online, so that it is there when we are not; never before, since browsers may remember what they could not load. */
  const load = () => import('./outbox.js').then(({ outboxOf }) => { sender ??= outboxOf(host); }).catch(log('outbox'));

  /** @type {Outgoing['queue']} */
  function queue(next) {
    if (next) {
      items = next;
      outbox.set(items.map(({ publication }) => publication));
      const now = net.state.get();
      if (now.status === 'offline') net.state.set({ ...now, queued: items.length });
    }
    return items;
  }

  /** @type {Outgoing['makeItem']} */
  function makeItem(entry, how, room) {
    const { id, at, frame } = entry;
    const state = valueOf(/** @type {PublicationState} */ ('queued'));
    /** @type {any} */
    let settled;
    const { signal, timeoutMs = ttlMs } = how;
    /** @type {Item} */
    const item = {
      entry, how, room, state, late: 'expired',
      publication: {
        id, at, frame, state, error: null,
        cancel: () => item.late === 'expired' && item.settle(new HubError('cancelled')),
        then: (...both) => (item.heard = outcome.then(...both)),
      },
      settle(error, ack, why = error) {
        if (!items.includes(item)) return false;
        item.publication.error = error;
        if (error) settled[1](why);
        else settled[0](ack);
        state.set(error ? 'failed' : 'acked');
        queue(items.filter((other) => other !== item));
        return true;
      },
    };
    queue([...items, item]);
    const outcome = /** @type {Promise<Ack>} */ (waiting(env, { signal, timeoutMs: at + timeoutMs - env.now() }, (...both) => { settled = both; }, (why) => {
      if (signal?.aborted) item.settle(new HubError('aborted'), undefined, why);
      else item.settle(passing(item.late));
    }));
    outcome.catch(() => {});
    return item;
  }

  /** @type {Host['submit']} */
  function submit(room, { data, ...rest }, how = {}) {
    const bytes = data instanceof Uint8Array ? data : undefined;
    const frame = bytes || data === undefined ? rest : { ...rest, data };
    const item = makeItem({ id: how.id ?? newId(), at: env.now(), frame, ...(bytes && { bytes }) }, how, room);
    if (items.length > max) (overflow === 'reject' ? item : items.find((other) => other.late === 'expired'))?.settle(passing('outbox_full', `${max} messages wait already`));
    if (sender) sender.add(item);
    else if (online()) load();
    else if (room.room.error) item.settle(room.room.error);
    else if (how.volatile || options.outbox === false) item.settle(passing('offline'));
    return item.publication;
  }

  // --- rooms

  /** @type {Host & Outgoing} */
  const host = {
    env, options, net, answers, rooms, welcome: {}, naming: false, ask, request, submit, pump, queue, makeItem, log, on,
    tell: (frame) => { net.send(JSON.stringify(frame)); },
    gone(room, error) {
      for (const [key, one] of rooms) {
        if (one !== room) continue;
        rooms.delete(key);
        for (const item of items) if (keyOf(item.entry.frame) === key) item.settle(error);
      }
    },
  };

  /** @param {string} name @param {JoinOptions<any>} [how] @param {string} [to] */
  function opened(name, how = {}, to) {
    if (!(to ?? name)) throw new TypeError('no name');
    const key = keyOf({ room: name, to });
    let room = rooms.get(key);
    if (!room) {
      room = makeRoom(host, name, how, to);
      if (room.state.get() !== 'left') rooms.set(key, room);
      if (online()) resume();
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
    if (call?.timeoutMs) await until(env, call, outbox, ({ length }) => !length).catch(() => {});
    unwatch?.();
    unwatch = null;
    net.close();
    const closed = new HubError('closed');
    for (const room of all()) room.gone(closed);
    for (const item of items) item.settle(closed);
  }

  if (options.outbox) load();
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
    room: (/** @type {string} */ name, /** @type {JoinOptions<any>} */ how) => opened(name, how),
    direct: (/** @type {string} */ userId, /** @type {JoinOptions<any>} */ how) => opened('', how, userId),
    on,
    request,
    [ASYNC_DISPOSE]: close,
  };
  return hub;
}
