/** The client in React: values that render anew when they change, and rooms that are left with their component. */
import { useEffect, useState, useSyncExternalStore } from 'react';

/** @import { AnyEnvelope, ConnState, Hub, JoinOptions, Member, Notices, Readable, Room } from './types.js' */

/** @template T @param {Readable<T>} readable @returns {T} */
export const useReadable = (readable) => useSyncExternalStore((changed) => readable.subscribe(changed), readable.get, readable.get);

/** @param {Hub<any>} hub @returns {ConnState} */
export const useConnection = (hub) => useReadable(hub.state);

/**
 * The room of this name while the component is there. Components that name the same room share it: it is left with the last.
 * @template S
 * @template {keyof S & string} K
 * @param {Hub<S>} hub
 * @param {K} name
 * @param {JoinOptions<S[K]>} [options] counts when the room is joined
 * @returns {{ room: Room<S[K]> | null, state: 'joining' | 'joined' | 'left' }}
 */
export function useRoom(hub, name, options) {
  const [room, setRoom] = useState(/** @type {Room<S[K]> | null} */ (null));
  const [state, setState] = useState(/** @type {'joining' | 'joined' | 'left'} */ ('joining'));
  useEffect(() => {
    const joined = hub.room(name, options);
    held.set(joined, (held.get(joined) ?? 0) + 1);
    setRoom(() => joined);
    const off = joined.state.subscribe(setState);
    return () => {
      off();
      held.set(joined, (held.get(joined) ?? 1) - 1);
      // Not at once: React, in development, takes every component away and back.
      queueMicrotask(() => { if (held.get(joined) === 0) joined.leave(); });
    };
  }, [hub, name]);
  return { room, state };
}
/** How many components have a room. @type {WeakMap<Room<any>, number>} */
const held = new WeakMap();

/**
 * The newest events of a room, of one type or all.
 * @template Ev
 * @param {Room<Ev> | null} room
 * @param {{ type?: keyof Ev & string, limit?: number }} [options]
 * @returns {readonly AnyEnvelope<Ev & Notices>[]}
 */
export function useEvents(room, { type, limit = 100 } = {}) {
  const [events, setEvents] = useState(/** @type {readonly any[]} */ ([]));
  useEffect(() => {
    setEvents([]);
    return room?.on(/** @type {'*'} */ (type ?? '*'), (event) => setEvents((before) => [...before, event].slice(-limit)));
  }, [room, type, limit]);
  return /** @type {any} */ (events);
}

/** @type {ReadonlyMap<string, any>} */
const NOBODY = new Map();

/** Who is there. @template P @param {Room<P> | null} room @returns {ReadonlyMap<string, Member>} */
export const usePresence = (room) => useSyncExternalStore(
  (changed) => room?.presence.subscribe(changed) ?? (() => {}), () => room?.presence.get() ?? NOBODY, () => NOBODY);
