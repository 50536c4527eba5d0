/**
 * Who is in a room, kept up to date.
 *
 * Loaded by `room.js` when somebody asks first, so that it costs nothing before. Invariant: the presence that is shown is
 * that of the present connection; it is asked for anew after every return.
 */
import { listOf } from './base.js';

/** @import { Call, Member } from './types.js' */
/** @import { Value } from './base.js' */
/** @import { Inner } from './room.js' */

/** How to ask anew, for each room whose presence is kept. @type {WeakMap<Inner, (call?: Call) => Promise<ReadonlyMap<string, Member>>>} */
const watched = new WeakMap();

/**
 * Keeps who is there up to date. Returns how to ask anew.
 * @param {Inner} inner
 * @param {Value<ReadonlyMap<string, Member>>} members
 * @param {Value<{ users: number, members: number }>} counts
 */
export function presenceOf(inner, members, counts) {
  const refresh = watched.get(inner) ?? watch(inner, members, counts);
  watched.set(inner, refresh);
  return refresh;
}

/** @type {(...[inner, members, counts]: Parameters<typeof presenceOf>) => (call?: Call) => Promise<ReadonlyMap<string, Member>>} */
function watch(inner, members, counts) {
  /** @param {Call} [call] */
  async function refresh(call) {
    const now = new Map();
    let after;
    do {
      await inner.room.ready(call);
      const { users, userCount, members: clients, next } = await inner.hub.request('presence', { room: inner.name, after }, call);
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
    for (const { userId, username, clientId, node, timestamp = '' } of listOf(come)) {
      now.set(userId, { userId, username, online: true, since: timestamp, devices: clientId ? [{ clientId, ...(node && { node }), since: timestamp }] : [] });
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
