/**
 * Sends what the application has to say: in order, none lost, none twice, and at the pace that the server allows.
 *
 * Loaded by `index.js` behind the first `welcome`, when the line is known to be good, so that it is there when it is bad; messages
 * that were made before wait in the hub's list, which has its limits itself. Invariants: a message is in that list until it is
 * acknowledged or has failed; at most `WINDOW` are on the wire; whatever is sent again has the key
 * that it had before.
 */
import { HubError, againIn, errorOf, isPlace, passing, timerOf } from './base.js';
import { UNANSWERED_MS, keyOf } from './room.js';

/** @import { Ack, Env, HubOptions, OutboxEntry, Position, Publication, PublicationState, PublishOptions } from './types.js' */
/** @import { Value } from './base.js' */
/** @import { Inner } from './room.js' */

const WINDOW = 64;
const RATE_LIMITED = 162;
const OWN_DOING = ['cancelled', 'aborted', 'left', 'closed'];
/** Requests that mean the same when they are asked twice, and that somebody asks again. */
const ASKED_AGAIN = ['subscribe', 'history'];
/** Acknowledged messages of a room whose receipts are watched. */
const WATCHED_MAX = 256;

/**
 * @typedef {object} Item a message of ours
 * @property {Omit<Publication, 'error'> & { error: HubError | null }} publication
 * @property {OutboxEntry} entry
 * @property {Value<PublicationState>} state
 * @property {PublishOptions} how
 * @property {Inner | undefined} room where it was made; it may be left, and joined anew, since
 * @property {'expired' | 'unconfirmed'} late what it is when its time is over: the first until it was sent
 * @property {unknown} [heard] somebody waits for its end
 * @property {(error: HubError | null, ack?: Ack, why?: unknown) => boolean} settle takes it out of the list; false: that was done before. `why`: what awaiting it throws instead of the error
 */

/** Takes the answer to a request of a `type`; null: the connection is lost. @typedef {((answer: any) => void) & { type?: string }} Answered */

/**
 * What it needs of its hub.
 * @typedef {object} Host
 * @property {Env} env
 * @property {HubOptions} options
 * @property {ReturnType<typeof import('./base.js').listeners>['on']} on
 * @property {ReturnType<typeof import('./connection.js').connection>} net
 * @property {Map<string, Answered>} answers
 * @property {(next?: Item[]) => Item[]} queue the list of messages, or a new one
 * @property {(entry: OutboxEntry, how: PublishOptions, room?: Inner) => Item} makeItem at the end of that list
 * @property {Map<string, Inner>} rooms by their keys
 * @property {boolean} naming whether names of conversations are being looked for, before anything is said in them
 * @property {any} welcome the last one
 * @property {(what: string) => (why: unknown) => void} log
 */

/**
 * How long to wait after temporary refusals: longer with each in a row. Those that come while it waits already are of one sort
 * with the first.
 * @param {Env} env
 */
function patience(env) {
  let refusals = 0;
  const self = {
    /** Nothing is asked before this moment. */
    until: 0,
    /** @param {HubError} why */
    refused(why) {
      const now = env.now();
      if (now >= self.until) refusals += 1;
      self.until = Math.max(self.until, now + againIn(refusals, why));
    },
    served() { if (env.now() >= self.until) refusals = 0; },
  };
  return self;
}

/** @param {Host} hub */
export function outboxOf(hub) {
  const { env, net, options } = hub;
  const { ttlMs = 300_000, store } = options.outbox || {};
  let window = WINDOW;
  /** When we were too fast. */
  let pace = patience(env);
  /** When a room was. @type {WeakMap<Inner, ReturnType<typeof patience>>} */
  let paces = new WeakMap();
  /** What was acknowledged last. @type {WeakMap<Inner, { ack: Position, state: Value<PublicationState> }[]>} */
  const watched = new WeakMap();
  const pumpTimer = timerOf(env);
  let warned = false;
  /** Run while a message is on the wire. @type {WeakMap<Item, ReturnType<typeof timerOf>>} */
  const unanswered = new WeakMap();
  const is = (/** @type {Item} */ { state }, /** @type {PublicationState} */ now) => state.get() === now;

  /** Whether something may be said there: to a user also before the conversation has a name. @param {Inner} room */
  const isOpen = ({ to, state }) => state.get() === 'joined' || to && state.get() === 'joining';

  /** @param {Inner} room */
  function paceOf(room) {
    const ofRoom = paces.get(room) ?? patience(env);
    paces.set(room, ofRoom);
    return ofRoom;
  }

  /** Sends what may be sent. */
  function pump() {
    if (net.state.get().status !== 'online') return;
    let free = Math.floor(window) - hub.queue().filter((item) => is(item, 'sent')).length;
    let next = Infinity;
    for (const item of hub.queue()) {
      if (free <= 0) break;
      const room = hub.rooms.get(keyOf(item.entry.frame));
      if (!is(item, 'queued') || !unanswered.has(item) || !room || !isOpen(room) || room.to && hub.naming) continue;
      const from = Math.max(paceOf(room).until, pace.until) - env.now();
      if (from > 0) next = Math.min(next, from);
      else if (send(item, room)) free -= 1;
    }
    if (next < Infinity) pumpTimer(next, pump);
    else pumpTimer();
  }

  /** @param {Item} item @param {Inner} room @returns {boolean} whether it is on the wire */
  function send(item, room) {
    const { entry: { id, frame, bytes }, how, state, settle } = item;
    const text = JSON.stringify({ ...frame, id, idempotencyKey: how.volatile ? undefined : id });
    const header = new TextEncoder().encode(text);
    const length = bytes ? header.length + bytes.length + 2 : header.length;
    const { maxMessageBytes: most } = hub.welcome;
    if (most > 0 && length > most) return !settle(new HubError('too_large', `${length} bytes, of at most ${most}`));
    if (bytes && !net.binary()) return !settle(new HubError('unsupported_frame'));
    if (!net.send(bytes ? joined(header, bytes) : text)) return false;
    unanswered.get(item)?.(UNANSWERED_MS, () => {
      requeue(item, passing('unconfirmed'));
      pump();
    });
    item.late = 'unconfirmed';
    state.set('sent');
    hub.answers.set(id, (answer) => {
      if (hub.queue().includes(item)) answered(item, room, answer);
      pump();
    });
    return true;
  }

  /** A binary message: the length of its header, the header, the bytes. @param {Uint8Array} header @param {Uint8Array} bytes */
  function joined(header, bytes) {
    const whole = new Uint8Array(header.length + bytes.length + 2);
    new DataView(whole.buffer).setUint16(0, header.length);
    whole.set(header, 2);
    whole.set(bytes, header.length + 2);
    return whole;
  }

  /** @param {Item} item @param {Inner} room @param {any} answer null: the connection is lost */
  function answered(item, room, answer) {
    if (answer && answer.type !== 'error') {
      pace.served();
      window = Math.min(window + 1 / window, WINDOW);
      item.settle(null, {
        id: String(answer.messageId ?? ''), room: String(answer.room ?? room.name), epoch: answer.epoch, offset: answer.offset,
        ts: Date.parse(answer.timestamp), duplicate: answer.duplicate === true, answer,
      });
      paceOf(room).served();
      // The server has a name for the conversation.
      if (room.to && answer.room) room.bind(answer.room);
      if (isPlace(answer)) watch(room, answer, item.state);
      return;
    }
    const error = errorOf(answer);
    if (error.code === RATE_LIMITED) slowDown(error);
    else if (answer && error.retryable) paceOf(room).refused(error);
    if (error.retryable) requeue(item, error);
    else item.settle(error);
  }

  /** Hears how far others have what we said. @param {Inner} room @param {Position} ack @param {Value<PublicationState>} state */
  function watch(room, ack, state) {
    const known = watched.get(room) ?? [];
    if (!watched.has(room)) {
      watched.set(room, known);
      room.room.on('receipt', ({ data: { userId, receipt, epoch, offset } }) => {
        if (userId === hub.welcome.userId || receipt !== 'delivered' && receipt !== 'seen') return;
        for (const one of known) {
          if (one.ack.epoch === epoch && one.ack.offset <= offset && one.state.get() !== 'seen') one.state.set(receipt);
        }
      });
    }
    if (known.push({ ack, state }) > WATCHED_MAX) known.shift();
  }

  /** It is not on the wire any more, and has no answer: it is sent again, or fails if it was now or never. @param {Item} item @param {HubError} why */
  function requeue(item, why) {
    if (!is(item, 'sent')) return;
    unanswered.get(item)?.();
    if (item.how.volatile) item.settle(why);
    else item.state.set('queued');
  }

  /** @param {HubError} error */
  function slowDown(error) {
    pace.refused(error);
    window = 1;
  }

  /** An error that answers nothing. @param {HubError} error */
  function complained(error) {
    const { code, reason, message, retryable, retryAfterMs } = error;
    // What comes too fast is not even read: nothing of it will be answered.
    if (code !== RATE_LIMITED) return;
    slowDown(error);
    for (const item of hub.queue()) requeue(item, error);
    for (const answered of [...hub.answers.values()]) {
      if (!ASKED_AGAIN.includes(answered.type ?? '')) continue;
      // Once; should an answer come all the same, it counts.
      answered.type = '';
      answered({ type: 'error', code, error: reason, message, temporary: retryable, retryAfter: retryAfterMs });
    }
    pump();
  }

  /** What has failed, and nobody waited for, is reported; unless the application ended it itself. @param {Item} item */
  function tell({ heard, publication: { error, frame } }) {
    if (!error || heard || OWN_DOING.includes(error.reason)) return;
    hub.log(`${frame.type} that nobody waits for`)(error);
    if (options.log || warned) return;
    warned = true;
    console.warn('outspoke: a message was not sent, and nobody waits for it; await publications, or give a `log`.', error);
  }

  /** Takes care of a message from here on, to its end. @param {Item} item @param {boolean} [kept] whether the store has it already */
  function add(item, kept = false) {
    const { entry, room, how: { timeoutMs = ttlMs, volatile }, publication, settle } = item;
    const now = volatile || options.outbox === false;
    const timer = timerOf(env);
    unanswered.set(item, timer);
    if (room?.room.error) settle(room.room.error);
    else if (now && net.state.get().status === 'closed') settle(new HubError('closed'));
    // Its own timer may be late: the machine slept, or a store has kept it.
    else if (entry.at + timeoutMs <= env.now()) settle(passing('expired'));
    if (hub.queue().includes(item) && !now && !kept) store?.put(entry).catch(hub.log('outbox store'));
    const over = () => {
      timer();
      tell(item);
      if (!volatile && publication.error?.reason !== 'closed') store?.remove(entry.id).catch(hub.log('outbox store'));
    };
    const { heard } = item;
    publication.then(over, over);
    // That was us.
    item.heard = heard;
    pump();
    if (now && is(item, 'queued')) settle(passing('offline'));
  }

  hub.on('error', complained);
  store?.load().then((kept) => {
    const known = new Set(hub.queue().map(({ entry }) => entry.id));
    const older = kept.filter(({ id }) => !known.has(id)).map((entry) => hub.makeItem(entry, {}));
    hub.queue([...older, ...hub.queue().filter((item) => !older.includes(item))]);
    for (const item of older) add(item, true);
  }, hub.log('outbox store'));
  for (const item of hub.queue()) add(item);

  return {
    add,
    pump,
    /** A new connection is as patient with us as with anybody. */
    lost() {
      pace = patience(env);
      paces = new WeakMap();
    },
  };
}
