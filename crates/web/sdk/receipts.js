/**
 * Our receipts: how far we have received and read a room.
 *
 * Loaded by `room.js` with the first of them. Those of others are heard by `outbox.js`. Invariant: what we said of an epoch is said again after
 * every return, if the server does not know it.
 */

/** @import { Host, Inner } from './room.js' */

const KINDS = /** @type {const} */ (['delivered', 'seen']);

/** One for each room. @type {WeakMap<Inner, ReturnType<typeof receipts>>} */
const kept = new WeakMap();

/** @param {Host} hub @param {Inner} inner */
export function receiptsOf(hub, inner) {
  const known = kept.get(inner) ?? receipts(hub, inner);
  kept.set(inner, known);
  return known;
}

/** @param {Host} hub @param {Inner} inner */
function receipts(hub, inner) {
  const { room } = inner;
  let marks = { epoch: '', delivered: 0, seen: 0 };

  /** Those of the present epoch. */
  function current() {
    const epoch = room.position?.epoch ?? '';
    if (marks.epoch !== epoch) marks = { epoch, delivered: 0, seen: 0 };
    return marks;
  }

  /** @param {'delivered' | 'seen'} kind */
  function say(kind) {
    if (room.info.get()?.unread !== null && inner.state.get() === 'joined') hub.tell({ type: kind, room: inner.name, offset: marks[kind] });
  }

  inner.state.subscribe((now) => {
    if (now !== 'joined') return;
    for (const kind of KINDS) if (current()[kind] > (room.info.get()?.[kind] ?? Infinity)) say(kind);
  });

  /** @param {'delivered' | 'seen'} kind @param {number} upTo */
  function mark(kind, upTo) {
    if (upTo <= current()[kind]) return;
    marks[kind] = upTo;
    say(kind);
  }

  return {
    delivered: (/** @type {number} */ upTo) => mark('delivered', upTo),
    seen: (/** @type {number} */ upTo) => mark('seen', upTo),
  };
}
