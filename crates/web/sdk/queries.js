/**
 * What a room is asked for now and then: its history, and who is there.
 *
 * Loaded by `room.js` with the first such question, so that it costs nothing before. Invariant: the presence that is
 * shown is that of the present connection; it is asked for anew after every return.
 */
import { isPlace } from './base.js';
import { envelopeOf, isMessageFrame } from './room.js';

/** @import { Call, HistoryPage, Member } from './types.js' */
/** @import { Value } from './base.js' */
/** @import { Inner } from './room.js' */

/** What should be a list of objects, from somebody who may send anything. @param {unknown} list @returns {any[]} */
const listOf = (list) => (Array.isArray(list) ? list.filter((one) => typeof one === 'object' && one) : []);

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
 * Keeps who is there up to date. Returns how to ask anew.
 * @param {Inner} inner
 * @param {Value<ReadonlyMap<string, Member>>} members
 * @param {Value<{ users: number, members: number }>} counts
 */
export function watchPresence(inner, members, counts) {
  /** @param {Call} [call] */
  async function refresh(call) {
    const now = new Map();
    let after;
    do {
      const { users, userCount, members: clients, next } = await inner.request('presence', { after }, call);
      for (const user of listOf(users)) now.set(user.userId, user);
      counts.set({ users: userCount, members: clients });
      // One that leads nowhere would lead there for ever.
      if (next === after) break;
      after = next;
    } while (after !== undefined);
    members.set(now);
    return now;
  }

  /** @param {unknown} come @param {unknown} gone */
  function change(come, gone) {
    const now = new Map(members.get());
    for (const { userId } of listOf(gone)) now.delete(userId);
    for (const { userId, username, clientId, timestamp = '' } of listOf(come)) {
      now.set(userId, { userId, username, online: true, since: timestamp, devices: clientId ? [{ clientId, since: timestamp }] : [] });
    }
    members.set(now);
  }

  /** @param {number} more */
  const count = (more) => {
    const { users, members: clients } = counts.get();
    counts.set({ users: users + more, members: clients + more });
  };
  const { room } = inner;
  room.on('join', ({ data }) => { change([data], []); count(1); });
  room.on('leave', ({ data }) => { change([], [data]); count(-1); });
  room.on('presence_change', ({ data }) => {
    change(data.joined, data.left);
    counts.set({ users: data.userCount, members: data.members });
  });
  inner.state.subscribe((now) => { if (now === 'joined') refresh().catch(() => {}); });
  return refresh;
}
