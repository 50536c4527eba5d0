/**
 * A room's history: page by page, all of it, and what was missed of it.
 *
 * Loaded by `room.js` with the first question, so that it costs nothing before.
 */
import { isPlace, listOf } from './base.js';
import { envelopeOf, isMessageFrame } from './room.js';

/** @import { HistoryPage, Position } from './types.js' */
/** @import { Inner } from './room.js' */

/** @param {Inner} inner @param {any} [query] @returns {Promise<HistoryPage<any>>} */
export async function page(inner, { signal, timeoutMs, ...query } = {}) {
  const { messages, epoch, first, head, more } = await inner.request('history', query, { signal, timeoutMs });
  const whole = listOf(messages).filter((frame) => isMessageFrame(frame) && isPlace(frame));
  return { messages: whole.map((frame) => envelopeOf(frame, true)), epoch, first, head, more };
}

/** All messages after `after`, oldest first, or else before `before`, newest first. @param {Inner} inner @param {any} [query] */
export async function* pages(inner, { before, after, ...rest } = {}) {
  const forward = after !== undefined;
  for (;;) {
    const { messages, more } = await page(inner, { ...rest, ...(forward ? { after } : { before }) });
    const ordered = forward ? messages : [...messages].reverse();
    yield* ordered;
    if (!more || !ordered.length) return;
    before = after = ordered.at(-1)?.offset;
  }
}

/**
 * Hands out what the log has after the room's place, up to `last`, page by page, as long as it is wanted.
 * @param {Inner} inner @param {Position} last @param {(frame: any) => void} handOut @param {() => boolean} wanted
 */
export async function replay(inner, last, handOut, wanted) {
  const { room } = inner;
  for (;;) {
    const after = room.position?.offset ?? 0;
    const { epoch, messages, more } = await inner.request('history', { after });
    if (!wanted()) return;
    for (const frame of epoch === last.epoch ? listOf(messages) : []) {
      if (isMessageFrame(frame) && frame.epoch === epoch && frame.offset <= last.offset) handOut(frame);
    }
    const now = room.position?.offset ?? 0;
    if (!more || now === after || now >= last.offset) return;
  }
}
