/**
 * A room, as the application sees it: what is said there, in order, none twice, and what is missing.
 *
 * The hub hands it the frames of its room and sends its requests. Invariants: the place only moves forward within an
 * epoch, together with what is handed out; a jump of it is told as a `$gap` before anything that follows; while history
 * is being fetched, what is live waits. Answers are taken in callbacks and not by promises, because the frames behind
 * an answer may be handed out before a promise settles.
 */
import { ASYNC_DISPOSE, HubError, againIn, errorOf, isPlace, listeners, passing, timerOf, until, valueOf, waiting, whenAborted } from './base.js';

/** @import { AnyEnvelope, Call, Env, Envelope, EventOptions, Frame, Gap, HistoryPage, JoinOptions, Member, Notices, Position, Publication, PublishOptions, Room, RoomInfo } from './types.js' */

/** Live messages that wait for history at most; beyond that, the rest of the history is given up. */
const WAITING_MAX = 4_096;
/** No answer for so long: it is asked again. */
export const UNANSWERED_MS = 20_000;
const history = () => import('./history.js');

/**
 * What a room needs of its hub.
 * @typedef {object} Host
 * @property {Env} env
 * @property {any} welcome the last one
 * @property {(frame: Frame, answered: (answer: any) => void) => void} ask calls back at once with the answer, and with null when the connection is lost
 * @property {(frame: Frame) => void} tell
 * @property {(type: string, fields: object, call?: Call) => Promise<any>} request
 * @property {(room: Inner, frame: Frame, options?: PublishOptions) => Publication} submit
 * @property {() => void} pump
 * @property {Map<string, Inner>} rooms by their keys, and private conversations by their names too
 * @property {(room: Inner, error: HubError) => void} gone
 * @property {(what: string) => (why: unknown) => void} log
 */
/** @typedef {ReturnType<typeof makeRoom>} Inner */

/** What a room is known by: its name, or, as no name of a room can be, the user whom a private conversation is with. @param {any} frame @returns {string} */
export const keyOf = ({ to, room }) => (to === undefined ? room : `\0${to}`);

/** Whether it claims a place in a log. @param {any} frame */
export const isMessageFrame = (frame) => typeof frame.id === 'string' && typeof frame.timestamp === 'string' && 'offset' in frame;

/** @param {any} frame @param {boolean} replayed @returns {Envelope<string, any>} */
export function envelopeOf(frame, replayed) {
  const { type, room = '', ...notice } = frame;
  const { id = '', userId, username = '', timestamp, epoch, offset, to, edited, deleted, reactions, ...rest } = notice;
  const { target, base64, data = base64 === undefined ? rest : Uint8Array.from(atob(base64), (char) => char.charCodeAt(0)) } = rest;
  const from = userId === undefined ? null : { userId, username };
  const event = { id, room, type, data: notice, offset: null, epoch: null, ts: Date.parse(timestamp), from, replayed, to, edited, deleted, reactions };
  return isMessageFrame(frame) ? { ...event, data: target === undefined ? data : rest, epoch, offset } : event;
}

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
  const members = valueOf(/** @type {ReadonlyMap<string, Member>} */ (new Map()));
  const counts = valueOf({ users: 0, members: 0 });
  const again = timerOf(env);
  /** @type {Position | null} */
  let position = options.since ?? null;
  /** @type {HubError | null} */
  let error = null;
  /** What was said up to here, was said before we came. */
  let newFrom = 0;
  /** Live messages behind the history that is being fetched. @type {any[] | null} */
  let waitingFrames = null;
  /** Where that history ends. @type {Position} */
  let fetched;
  /** Whether an answer to `subscribe` is to come. */
  let asked = false;
  let refusals = 0;
  let unhear = () => {};

  const is = (/** @type {'joining' | 'joined' | 'left'} */ now) => state.get() === now;
  /** How far a place is beyond ours; undefined where they cannot be compared. @param {Position} place @returns {any} */
  const ahead = ({ epoch, offset }) => (position?.epoch === epoch ? offset - position.offset : undefined);

  /** @param {Position} to @param {Gap['reason']} reason */
  function gap({ epoch, offset }, reason) {
    const from = position;
    const missed = ahead({ epoch, offset }) ?? null;
    position = { epoch, offset };
    emit('$gap', { room: inner.name, type: '$gap', from, to: position, missed, reason });
  }

  /** @param {any} frame @param {Gap['reason']} [unsaid] why there may be a jump */
  function handOut(frame, unsaid = 'lost') {
    const { epoch, offset } = frame;
    const isMessage = isMessageFrame(frame);
    if (isMessage) {
      const by = ahead(frame);
      if (!isPlace(frame) || by <= 0) return;
      if (position && by !== 1) gap({ epoch, offset: offset - 1 }, by ? unsaid : 'epoch');
      position = { epoch, offset };
    }
    try {
      let event = envelopeOf(frame, isMessage && offset <= newFrom);
      const judged = /** @type {any} */ (schema?.[event.type]?.['~standard'].validate(event.data));
      if (judged) {
        if (judged.issues || !('value' in judged)) throw judged.issues;
        event = { ...event, data: judged.value };
      }
      emit(event.type, event);
      emit('*', event);
    } catch (issues) {
      hub.log(`message of ${inner.name}`)(issues);
    }
  }

  /** Fetches what lies between the place and `last`. @param {Position} last */
  async function fetchUpTo(last) {
    const waits = waitingFrames ??= [];
    // Not if the connection was lost meanwhile, or it was given up.
    const wanted = () => waitingFrames === waits;
    fetched = last;
    await history().then(({ replay }) => replay(env, inner, last, (frame) => handOut(frame, 'expired'), wanted)).catch(hub.log('history'));
    if (wanted()) caughtUp();
  }

  function caughtUp() {
    const waits = waitingFrames ?? [];
    waitingFrames = null;
    if (ahead(fetched) > 0) gap(fetched, 'expired');
    for (const frame of waits) handOut(frame);
  }

  /** @param {any} frame */
  function subscribed(frame) {
    if (!isPlace(frame)) return;
    const { epoch, offset } = frame;
    /** @type {any} */
    const said = { topic: '', unread: null, seen: null, delivered: null, ...frame };
    const { head, first, recovered } = said;
    const by = ahead(frame);
    newFrom = position || last ? head : 0;
    again();
    refusals = 0;
    if (!position || recover === 'none') position = { epoch, offset };
    else if (recover === 'latest') {
      if (!(by <= 0)) gap(frame, 'skipped');
    } else if (by === undefined) gap({ epoch, offset: first - 1 }, 'epoch');
    info.set(said);
    if (recovered !== true && ahead(frame) > 0) fetchUpTo({ epoch, offset });
    state.set('joined');
    hub.pump();
  }

  async function subscribe() {
    let shown;
    try {
      shown = typeof token === 'function' ? await token() : token;
    } catch (failure) {
      return refused(passing('no_token', String(failure)));
    }
    if (asked || !is('joining')) return;
    asked = true;
    again(UNANSWERED_MS, () => {
      asked = false;
      subscribe();
    });
    const place = (recover === 'replay' || !info.get()) && (position ?? { last });
    hub.ask({ type: 'subscribe', room: inner.name, token: shown || undefined, ...place }, (answer) => {
      asked = false;
      if (answer?.type === 'error') refused(errorOf(answer));
      // It may have been asked twice, and we may have left.
      else if (answer && is('joining')) subscribed(answer);
    });
  }

  /** @param {HubError} why */
  function refused(why) {
    if (!is('joining')) return;
    if (!why.retryable) return inner.gone(why);
    refusals += 1;
    again(againIn(refusals, why), subscribe);
  }

  /** @param {EventOptions} [how] */
  function events(how = {}) {
    /** @type {any[]} */
    const early = [];
    const unhear = on('*', (event) => early.push(event));
    const reader = import('./events.js').then(({ read }) => {
      unhear();
      return read(room, early, how);
    });
    return (async function* read() { yield* await reader; }());
  }

  /** @param {'delivered' | 'seen'} what @param {any} argument */
  const receipts = (what, argument) => import('./receipts.js').then(({ receiptsOf }) => receiptsOf(hub, inner)[what](argument)).catch(hub.log('receipts'));
  const presence = () => import('./presence.js').then(({ presenceOf }) => presenceOf(inner, members, counts));

  const inner = {
    hub,
    name,
    to,
    state,
    /** The server has a name for the conversation. @param {string} known @param {Position} [from] we are in already, after this place */
    bind(known, from) {
      if (inner.name) return;
      inner.name = known;
      hub.rooms.set(known, inner);
      if (from) {
        position ??= from;
        state.set('joined');
      } else inner.online();
    },
    online() {
      if (inner.name && is('joining') && !refusals) subscribe();
    },
    lost() {
      waitingFrames = null;
      again();
      refusals = 0;
      if (is('joined')) state.set('joining');
    },
    /** @param {HubError} why */
    gone(why) {
      if (is('left')) return;
      inner.lost();
      unhear();
      error = why;
      state.set('left');
      emit('$left', why);
      hub.gone(inner, why);
    },
    /** @param {any} frame */
    hear(frame) {
      const { type } = frame;
      if (type === 'unsubscribed') return inner.gone(errorOf({ error: type, ...frame }));
      if (!is('joined')) return;
      if (type === 'subscribed') {
        // The server put us there, into another log.
        if (ahead(frame) === undefined) subscribed(frame);
      } else if (waitingFrames && isMessageFrame(frame)) {
        if (waitingFrames.push(frame) > WAITING_MAX) caughtUp();
      } else if (type === 'gap') {
        if (isPlace(frame) && !(ahead(frame) <= 0)) gap(frame, /** @type {any} */ (frame).missed === 0 ? 'epoch' : 'overflow');
      } else {
        handOut(frame);
      }
    },
    /** @type {Room<any>} */
    room: /** @type {any} */ (null),
  };

  /** @param {Call} [call] @returns {Promise<void>} */
  const ready = (call) => until(env, call, state, (now) => error ?? now === 'joined');

  /** @param {string} type @param {any} data @returns {Frame} */
  function frameOf(type, data) {
    const goal = to ? { to } : { room: inner.name };
    const verb = to ? 'direct' : type === 'chat' ? type : 'publish';
    if (type === 'chat') return { type: verb, ...goal, ...(data instanceof Uint8Array ? { data } : { content: data.content }) };
    return { type: verb, ...goal, ...(type !== 'message' && { event: type }), data };
  }

  /** @param {any} [call] */
  async function leave(call) {
    // Once: the name may be that of another one by now.
    if (is('left')) return;
    // Said at once: whoever joins again in the next line must be behind it.
    const answered = inner.name && waiting(env, call, (done) => hub.ask({ type: 'unsubscribe', room: inner.name }, done));
    inner.gone(new HubError('left'));
    await answered;
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
      then: (/** @type {any} */ done, /** @type {any} */ failed) => history().then(({ page }) => page(inner, query)).then(done, failed),
      async* [Symbol.asyncIterator]() { yield* (await history()).pages(inner, query); },
    }),
    publish: (/** @type {string} */ type, /** @type {any} */ data, /** @type {PublishOptions} */ how) => hub.submit(inner, frameOf(type, data), how),
    submit: (/** @type {Frame} */ frame, /** @type {PublishOptions} */ how) => hub.submit(inner, to ? frame : { ...frame, room: inner.name }, how),
    presence: {
      get: members.get,
      subscribe(/** @type {any} */ run) {
        presence().catch(hub.log('presence'));
        return members.subscribe(run);
      },
      counts,
      refresh: async (/** @type {Call} */ call) => (await presence())(call),
    },
    typing(active = true) {
      if (is('joined')) hub.tell({ type: 'typing', room: inner.name, active });
    },
    delivered: (/** @type {number} */ upTo) => { receipts('delivered', upTo); },
    seen: (/** @type {number} */ upTo) => { receipts('seen', upTo); },
    leave,
    [ASYNC_DISPOSE]: leave,
    [Symbol.asyncIterator]: events,
  };
  inner.room = room;
  unhear = whenAborted(options.signal, leave);
  return inner;
}
