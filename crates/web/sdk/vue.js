/** The client in Vue: values as refs, and rooms that are left with their scope. */
import { onScopeDispose, shallowRef } from 'vue';

/** @import { ShallowRef } from 'vue' */
/** @import { AnyEnvelope, ConnState, Hub, JoinOptions, Member, Notices, Readable, Room } from './types.js' */

/** @template T @param {Readable<T>} readable @returns {Readonly<ShallowRef<T>>} */
export function useReadable(readable) {
  const value = shallowRef(readable.get());
  onScopeDispose(readable.subscribe((now) => { value.value = now; }));
  return value;
}

/** @param {Hub<any>} hub @returns {Readonly<ShallowRef<ConnState>>} */
export const useConnection = (hub) => useReadable(hub.state);

/** How many scopes have a room. @type {WeakMap<Room<any>, number>} */
const held = new WeakMap();

/**
 * A room that is left when the last scope that named it ends.
 * @template S
 * @template {keyof S & string} K
 * @param {Hub<S>} hub
 * @param {K} name
 * @param {JoinOptions<S[K]>} [options]
 * @returns {Room<S[K]>}
 */
export function useRoom(hub, name, options) {
  const room = hub.room(name, options);
  held.set(room, (held.get(room) ?? 0) + 1);
  onScopeDispose(() => {
    held.set(room, (held.get(room) ?? 1) - 1);
    queueMicrotask(() => { if (held.get(room) === 0) room.leave(); });
  });
  return room;
}

/**
 * The newest events of a room, of one type or all.
 * @template Ev
 * @param {Room<Ev>} room
 * @param {{ type?: keyof Ev & string, limit?: number }} [options]
 * @returns {Readonly<ShallowRef<readonly AnyEnvelope<Ev & Notices>[]>>}
 */
export function useEvents(room, { type, limit = 100 } = {}) {
  const events = shallowRef(/** @type {readonly any[]} */ ([]));
  onScopeDispose(room.on(/** @type {'*'} */ (type ?? '*'), (event) => { events.value = [...events.value, event].slice(-limit); }));
  return /** @type {any} */ (events);
}

/** Who is there. @template P @param {Room<P>} room @returns {Readonly<ShallowRef<ReadonlyMap<string, Member>>>} */
export const usePresence = (room) => useReadable(room.presence);
