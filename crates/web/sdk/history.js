/**
 * A room's history: page by page, all of it, and what was missed of it.
 *
 * Loaded by `room.js` with the first question, so that it costs nothing before.
 */
import { againIn, isPlace, listOf, waiting } from './base.js';
import { UNANSWERED_MS, envelopeOf, isMessageFrame } from './room.js';

/** @import { Call, Env, HistoryPage, Position } from './types.js' */
/** @import { Inner } from './room.js' */

/** @param {Inner} inner @param {object} query @param {Call} call @returns {Promise<any>} */
async function asked(inner, query, call) {
  await inner.room.ready(call);
  return inner.hub.request('history', { room: inner.name, ...query }, call);
}

/** @param {Inner} inner @param {any} [query] @returns {Promise<HistoryPage<any>>} */
export async function page(inner, { signal, timeoutMs, ...query } = {}) {
  const { messages, epoch, first, head, more } = await asked(inner, query, { signal, timeoutMs });
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

const RATE_LIMITED = 162;

/**
 * A page of what was missed. What came too fast was perhaps not even read, and has no answer: that is asked again.
 * @param {Env} env @param {Inner} inner @param {number} after @param {() => boolean} wanted
 */
async function missed(env, inner, after, wanted) {
  for (let refusals = 1; ; refusals += 1) {
    try {
      return await asked(inner, { after }, { timeoutMs: UNANSWERED_MS });
    } catch (failure) {
      const why = /** @type {import('./base.js').HubError} */ (failure);
      const pause = why.code === RATE_LIMITED ? againIn(refusals, why) : why.reason === 'timed_out' ? 0 : null;
      if (pause === null) throw why;
      await waiting(env, undefined, (done) => { env.setTimeout(() => done(undefined), pause); });
      if (!wanted()) throw why;
    }
  }
}

/**
 * Hands out what the log has after the room's place, up to `last`, page by page, as long as it is wanted.
 * @param {Env} env @param {Inner} inner @param {Position} last @param {(frame: any) => void} handOut @param {() => boolean} wanted
 */
export async function replay(env, inner, last, handOut, wanted) {
  const { room } = inner;
  for (;;) {
    const after = room.position?.offset ?? 0;
    const { epoch, messages, more } = await missed(env, inner, after, wanted);
    if (!wanted()) return;
    for (const frame of epoch === last.epoch ? listOf(messages) : []) {
      if (isMessageFrame(frame) && frame.epoch === epoch && frame.offset <= last.offset) handOut(frame);
    }
    const now = room.position?.offset ?? 0;
    if (!more || now === after || now >= last.offset) return;
  }
}
