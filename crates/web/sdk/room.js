/**
 * A room, as the application sees it: what is said there, in order, none twice, and what is missing.
 *
 * The hub hands it the frames of its room and sends its requests. Invariants: the place only moves forward within an
 * epoch, together with what is handed out; a jump of it is told as a `$gap` before anything that follows; while history
 * is being fetched, what is live waits. Answers are taken in callbacks and not by promises, because the frames behind
 * an answer may be handed out before a promise settles.
 */
import { ASYNC_DISPOSE, HubError, errorOf, isPlace, listeners, until, valueOf, waiting } from './base.js';

/** @import { AnyEnvelope, Call, Env, Envelope, Frame, Gap, HistoryPage, JoinOptions, Member, Notices, Position, Publication, PublishOptions, Room, RoomInfo } from './types.js' */

/** Live messages that wait for history at most; beyond that, the rest of the history is given up. */
const WAITING_MAX = 4_096;
/** Acknowledged messages whose receipts are watched. */
const WATCHED_MAX = 256;
const AGAIN_MS = 1_000;
const AGAIN_MAX_MS = 30_000;
const queries = () => import('./queries.js');
const RECEIPTS = /** @type {const} */ (['delivered', 'seen']);

/**
 * What a room needs of its hub.
 * @typedef {object} Host
 * @property {Env} env
 * @property {() => boolean} online
 * @property {() => string} me
 * @property {(frame: Frame, answered: (answer: any) => void) => boolean} ask calls back at once with the answer, and with null when the connection is lost
 * @property {(frame: Frame) => void} tell
 * @property {(type: string, fields: object, call?: Call) => Promise<any>} request
 * @property {(room: Inner, frame: Frame, options?: PublishOptions) => Publication} submit
 * @property {() => void} pump
 * @property {(room: Inner) => void} bound the room has a name now
 * @property {(room: Inner, error: HubError) => void} gone
 * @property {(text: string, detail: unknown) => void} log
 */
/** @typedef {ReturnType<typeof makeRoom>} Inner */

/**
 * How long to wait after temporary refusals: longer with each in a row. Those that come while it waits already are of one sort
 * with the first.
 * @param {Env} env
 */
export function patience(env) {
  let refusals = 0;
  const self = {
    /** Nothing is asked before this moment. */
    until: 0,
    /** @param {HubError} why */
    refused(why) {
      const now = env.now();
      if (now >= self.until) refusals += 1;
      self.until = Math.max(self.until, now + Math.max(why.retryAfterMs ?? 0, Math.min(AGAIN_MS * 2 ** (refusals - 1), AGAIN_MAX_MS)));
      return self.until - now;
    },
    served() { if (env.now() >= self.until) refusals = 0; },
    forget() { self.until = refusals = 0; },
  };
  return self;
}

/** @param {any} frame @param {boolean} replayed @returns {Envelope<string, any>} */
export function envelopeOf(frame, replayed) {
  const { type, room = '', id = '', userId, username = '', timestamp, epoch, offset, to, edited, deleted, reactions, ...rest } = frame;
  const isMessage = isMessageFrame(frame);
  let data = isMessage ? rest : { ...frame };
  if (isMessage && rest.target === undefined) {
    if ('data' in rest) data = rest.data;
    else if ('base64' in rest) data = Uint8Array.from(atob(rest.base64), (char) => char.charCodeAt(0));
  } else if (!isMessage) {
    delete data.type;
    delete data.room;
  }
  /** @type {any} */
  const event = {
    id, room, type, data, offset: isMessage ? offset : null, epoch: isMessage ? epoch : null, ts: Date.parse(timestamp),
    from: userId === undefined ? null : { userId, username }, replayed,
  };
  for (const [name, value] of Object.entries({ to, edited, deleted, reactions })) if (value !== undefined) event[name] = value;
  return event;
}

/** Whether it claims a place in a log. @param {any} frame */
export const isMessageFrame = (frame) => typeof frame?.id === 'string' && typeof frame.timestamp === 'string' && 'offset' in frame;

/**
 * @param {Host} hub
 * @param {string} name
 * @param {JoinOptions<any>} options
 * @param {string} [to] the other user, if it is a private conversation
 */
export function makeRoom(hub, name, options, to) {
  const { env } = hub;
  const { recover = 'replay', last, schema, token } = options;
  const { on, emit } = listeners();
  const state = valueOf(/** @type {'joining' | 'joined' | 'left'} */ ('joining'));
  const info = valueOf(/** @type {RoomInfo | null} */ (null));
  /** @type {Position | null} */
  let position = options.since ?? null;
  /** @type {HubError | null} */
  let error = null;
  /** What was said up to here, was said before we came. */
  let newFrom = 0;
  /** Live messages behind the history that is being fetched. @type {any[] | null} */
  let waitingFrames = null;
  /** Whether an answer to `subscribe` is to come. */
  let asked = false;
  /** @type {unknown} */
  let again;
  /** @type {{ ack: Position, state: { get(): string, set(state: any): void } }[]} */
  let watched = [];
  const marks = { delivered: 0, seen: 0 };
  const members = valueOf(/** @type {ReadonlyMap<string, Member>} */ (new Map()));
  const counts = valueOf({ users: 0, members: 0 });
  /** @type {Promise<(call?: Call) => Promise<ReadonlyMap<string, Member>>> | undefined} */
  let watching;
  const watch = () => watching ??= queries().then(({ watchPresence }) => watchPresence(inner, members, counts));

  /** @param {Position} upTo @param {Gap['reason']} reason */
  function gap(upTo, reason) {
    const from = position;
    const missed = from && from.epoch === upTo.epoch ? upTo.offset - from.offset : null;
    position = { epoch: upTo.epoch, offset: upTo.offset };
    emit('$gap', { room: inner.name, type: '$gap', from, to: position, missed, reason });
  }

  /** @param {any} frame @param {Gap['reason']} [unsaid] why there may be a jump */
  function handOut(frame, unsaid = 'lost') {
    /** @type {Envelope<any, any>} */
    let event;
    if (isMessageFrame(frame)) {
      if (!isPlace(frame)) return;
      const { epoch, offset } = frame;
      const same = position?.epoch === epoch;
      if (same && position && offset <= position.offset) return;
      if (position && !(same && offset === position.offset + 1)) gap({ epoch, offset: offset - 1 }, same ? unsaid : 'epoch');
      position = { epoch, offset };
    }
    try {
      event = envelopeOf(frame, isMessageFrame(frame) && frame.offset <= newFrom);
      const judged = /** @type {any} */ (schema?.[event.type]?.['~standard'].validate(event.data));
      if (judged) {
        if (judged.issues || !('value' in judged)) throw judged.issues;
        event = { ...event, data: judged.value };
      }
    } catch (issues) {
      return hub.log(`a message of ${inner.name} is not as it should be`, issues);
    }
    emit(event.type, event);
    emit('*', event);
  }

  /** Fetches what lies between the place and `last`, page by page. @param {Position} last */
  function fetchUpTo(last) {
    const waits = waitingFrames ??= [];
    const after = position?.offset ?? 0;
    hub.ask({ type: 'history', room: inner.name, after }, (page) => {
      // Lost meanwhile, or given up: the place is where we were handed out to.
      if (!page || waitingFrames !== waits) return;
      for (const frame of page.epoch === last.epoch && Array.isArray(page.messages) ? page.messages : []) {
        if (isMessageFrame(frame) && frame.epoch === last.epoch && frame.offset <= last.offset) handOut(frame, 'expired');
      }
      if (page.more && position && position.offset > after && position.offset < last.offset) fetchUpTo(last);
      else caughtUp(last);
    });
  }

  /** @param {Position} last */
  function caughtUp(last) {
    const waits = waitingFrames ?? [];
    waitingFrames = null;
    if (position && position.offset < last.offset) gap(last, 'expired');
    for (const frame of waits) handOut(frame);
  }

  /** @type {Position} */
  let fetched;

  /** @param {any} frame */
  function subscribed(frame) {
    if (!isPlace(frame)) return;
    const { epoch, offset, recovered, head = offset, first = 1, durability = '', topic = '', unread = null, seen = null, delivered = null, members: there = 0 } = /** @type {any} */ (frame);
    const was = position;
    newFrom = was || last ? head : 0;
    inner.patience.served();
    if (!was || recover === 'none') position = { epoch, offset };
    else if (recover === 'latest') {
      if (was.epoch !== epoch || was.offset < offset) gap(frame, 'skipped');
    } else if (was.epoch !== epoch) {
      gap({ epoch, offset: Math.min(Math.max(first - 1, 0), offset) }, 'epoch');
    }
    if (was?.epoch !== epoch) marks.delivered = marks.seen = 0;
    info.set({ durability, members: there, head, first, topic, unread, seen, delivered });
    if (position && recovered !== true && position.offset < offset) {
      fetched = { epoch, offset };
      fetchUpTo(fetched);
    }
    state.set('joined');
    for (const kind of RECEIPTS) if (marks[kind] > (info.get()?.[kind] ?? Infinity)) mark(kind);
    hub.pump();
  }

  async function subscribe() {
    let shown;
    try {
      shown = typeof token === 'function' ? await token() : token;
    } catch (failure) {
      return refused(new HubError('no_token', String(failure), 0, true));
    }
    if (!hub.online() || state.get() !== 'joining' || asked) return;
    const place = recover === 'replay' || !info.get() ? position ?? (last && !info.get() ? { last } : {}) : {};
    asked = hub.ask({ type: 'subscribe', room: inner.name, ...(shown && { token: shown }), ...place }, (answer) => {
      asked = false;
      if (answer?.type === 'error') refused(errorOf(answer));
      else if (answer) subscribed(answer);
    });
  }

  /** @param {HubError} why */
  function refused(why) {
    if (state.get() !== 'joining') return;
    if (!why.retryable) return inner.gone(why);
    env.clearTimeout(again);
    again = env.setTimeout(subscribe, inner.patience.refused(why));
  }

  /** @param {'delivered' | 'seen'} kind */
  function mark(kind) {
    if (info.get()?.unread !== null && state.get() === 'joined') hub.tell({ type: kind, room: inner.name, offset: marks[kind] });
  }

  /** @param {'delivered' | 'seen'} kind @param {number} upTo */
  function markUpTo(kind, upTo) {
    if (upTo <= marks[kind]) return;
    marks[kind] = upTo;
    mark(kind);
  }

  /** @param {any} frame */
  function receipt({ userId, receipt: kind, epoch, offset }) {
    if (userId === hub.me() || !RECEIPTS.includes(kind)) return;
    for (const { ack, state: reached } of watched) {
      if (ack.epoch === epoch && ack.offset <= offset && reached.get() !== 'seen') reached.set(kind);
    }
    watched = watched.filter(({ state: reached }) => reached.get() !== 'seen');
  }

  /** @param {any} [options] */
  function events({ signal, buffer = 1_024, overflow } = {}) {
    /** @type {any[]} */
    const queue = [];
    let wake = () => {};
    /** What to end with, once the queue is empty. @type {{ error?: HubError } | null} */
    let over = signal?.aborted || error ? {} : null;
    const end = (/** @type {HubError | undefined} */ failure = undefined) => {
      over = failure ? { error: failure } : {};
      wake();
    };
    const offs = [on('*', (event) => {
      if (queue.push(event) > buffer) {
        if (overflow === 'throw') {
          queue.length = 0;
          end(new HubError('overflow'));
        }
        else queue.shift();
      }
      wake();
    }, { signal }), on('$left', () => end())];
    signal?.addEventListener('abort', () => end());
    return (async function* read() {
      try {
        for (;;) {
          if (queue.length) yield queue.shift();
          else if (over?.error) throw over.error;
          else if (over) return;
          else await new Promise((woken) => { wake = () => woken(undefined); });
        }
      } finally {
        for (const heard of offs) heard();
      }
    }());
  }

  const inner = {
    name,
    to,
    state,
    patience: patience(env),
    /** Whether something of ours may be sent. */
    isOpen: () => (to ? state.get() !== 'left' : state.get() === 'joined'),
    /** Something of ours is there. @param {any} ack @param {any} reached */
    acked(ack, reached) {
      inner.patience.served();
      if (to && ack.room) inner.bind(ack.room);
      if (isPlace(ack)) watched = [...watched.slice(1 - WATCHED_MAX), { ack, state: reached }];
    },
    /** The server has a name for the conversation. @param {string} known @param {Position} [from] we are in already, after this place */
    bind(known, from) {
      if (inner.name) return;
      inner.name = known;
      hub.bound(inner);
      if (from) {
        position ??= from;
        state.set('joined');
      } else inner.online();
    },
    online() {
      if (inner.name) subscribe();
    },
    lost() {
      waitingFrames = null;
      env.clearTimeout(again);
      inner.patience.forget();
      if (state.get() === 'joined') state.set('joining');
    },
    /** Put there by the server. @param {any} frame */
    put(frame) {
      if (state.get() === 'joined' && position?.epoch !== frame.epoch) subscribed(frame);
    },
    /** @param {HubError} why */
    gone(why) {
      if (state.get() === 'left') return;
      inner.lost();
      error = why;
      state.set('left');
      emit('$left', why);
      hub.gone(inner, why);
    },
    /** @param {any} frame */
    hear(frame) {
      if (state.get() !== 'joined') return;
      if (waitingFrames && isMessageFrame(frame)) {
        if (waitingFrames.push(frame) > WAITING_MAX) caughtUp(fetched);
        return;
      }
      if (frame.type === 'gap') {
        if (isPlace(frame) && !(position?.epoch === frame.epoch && frame.offset <= position.offset)) {
          gap(frame, /** @type {any} */ (frame).missed === 0 ? 'epoch' : 'overflow');
        }
        return;
      }
      if (frame.type === 'receipt') receipt(frame);
      handOut(frame);
    },
    /** @param {string} type @param {object} fields @param {Call} [call] */
    async request(type, fields, call) {
      await ready(call);
      return hub.request(type, { room: inner.name, ...fields }, call);
    },
    /** @type {Room<any>} */
    room: /** @type {any} */ (null),
  };

  /** @param {Call} [call] */
  const ready = (call) => until(env, call, state, (now) => {
    if (error) throw error;
    return now === 'joined';
  });

  /** @param {string} type @param {any} data @returns {Frame} */
  function frameOf(type, data) {
    const goal = to ? { to } : { room: inner.name };
    const verb = to ? 'direct' : type === 'chat' ? type : 'publish';
    if (type === 'chat' && !(data instanceof Uint8Array)) return { type: verb, ...goal, content: data.content };
    return { type: verb, ...goal, ...(type !== 'message' && type !== 'chat' && { event: type }), data };
  }

  /** @type {any} */
  const room = {
    get name() { return inner.name; },
    get position() { return position; },
    get error() { return error; },
    state,
    info,
    ready,
    on,
    events,
    history: (/** @type {any} */ query) => ({
      then: (/** @type {any} */ done, /** @type {any} */ failed) => queries().then(({ page }) => page(inner, query)).then(done, failed),
      async* [Symbol.asyncIterator]() { yield* (await queries()).pages(inner, query); },
    }),
    publish: (/** @type {string} */ type, /** @type {any} */ data, /** @type {PublishOptions} */ how) => hub.submit(inner, frameOf(type, data), how),
    submit: (/** @type {Frame} */ frame, /** @type {PublishOptions} */ how) => hub.submit(inner, to ? frame : { ...frame, room: inner.name }, how),
    presence: {
      get: members.get,
      subscribe(/** @type {any} */ run) {
        watch().catch((why) => hub.log('no presence', why));
        return members.subscribe(run);
      },
      counts,
      refresh: async (/** @type {Call} */ call) => (await watch())(call),
    },
    typing(active = true) {
      if (state.get() === 'joined') hub.tell({ type: 'typing', room: inner.name, active });
    },
    delivered: (/** @type {number} */ upTo) => markUpTo('delivered', upTo),
    seen: (/** @type {number} */ upTo) => markUpTo('seen', upTo),
    async leave(/** @type {Call} */ call) {
      // Said at once: whoever joins again in the next line must be behind it.
      const answered = inner.name && waiting(env, call, (resolve) => {
        if (!hub.ask({ type: 'unsubscribe', room: inner.name }, resolve)) resolve(null);
      });
      inner.gone(new HubError('left'));
      await (answered || null);
    },
    [ASYNC_DISPOSE]: () => room.leave(),
    [Symbol.asyncIterator]: () => events(),
  };
  inner.room = room;
  const { signal } = options;
  if (signal?.aborted) room.leave();
  else signal?.addEventListener('abort', () => room.leave(), { once: true });
  return inner;
}
