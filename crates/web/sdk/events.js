/**
 * Reading a room's events one after the other, with `for await`.
 *
 * Loaded by `room.js` with the first such reader; what is said until then waits in the reader's queue. Invariant: a reader
 * that is slower than what is said has at most `buffer` events waiting.
 */
import { HubError, whenAborted } from './base.js';

/** @import { EventOptions, Room } from './types.js' */

/**
 * @param {Room<any>} room
 * @param {any[]} early what was said meanwhile
 * @param {EventOptions} options
 * @returns {AsyncGenerator<any, void>}
 */
export function read(room, early, { signal, buffer = 1_024, overflow }) {
  /** @type {any[]} */
  const queue = [];
  let wake = () => {};
  /** @type {HubError | null} */
  let failure = null;
  let over = false;
  const end = () => {
    over = true;
    wake();
  };
  /** @param {any} event */
  const take = (event) => {
    if (over) return;
    if (queue.push(event) > buffer) {
      if (overflow === 'throw') failure = new HubError('overflow');
      queue.shift();
    }
    wake();
  };
  early.forEach(take);
  const ends = [
    room.on('*', take),
    room.state.subscribe((now) => { if (now === 'left') end(); }),
    whenAborted(signal, end),
  ];
  return (async function* reading() {
    try {
      for (;;) {
        if (failure) throw failure;
        if (queue.length) yield queue.shift();
        else if (over) return;
        else await new Promise((woken) => { wake = () => woken(undefined); });
      }
    } finally {
      for (const stop of ends) stop();
    }
  }());
}
