/**
 * Gives private conversations the names that the server has for them.
 *
 * Loaded by `index.js` with the first conversation that is opened: what is said in one shows its name too, but
 * only this finds those in which nothing is said at present.
 */
import { listOf } from './base.js';

/** @import { Host, Inner } from './room.js' */

/**
 * @param {Host['ask']} ask
 * @param {() => Iterable<Inner>} rooms
 * @param {ReturnType<typeof import('./base.js').listeners>['on']} on
 */
export function naming(ask, rooms, on) {
  const nameless = () => [...rooms()].filter(({ name }) => !name);

  /** @param {unknown} conversations */
  function bind(conversations) {
    for (const { room, with: other } of listOf(conversations)) {
      if (typeof room === 'string') nameless().find(({ to }) => to === other)?.bind(room);
    }
  }

  /** Looks for the names of all that have none. @param {object} [from] */
  function find(from) {
    if (!nameless().length) return;
    ask({ type: 'conversations', ...from }, (page) => {
      if (page?.type !== 'conversations') return;
      bind(page.conversations);
      if (page.next !== undefined) return find({ after: page.next });
      // Nothing was said yet: there is nothing to wait for.
      for (const { state } of nameless()) if (state.get() === 'joining') state.set('joined');
    });
  }

  on('conversations', ({ data }) => bind(data.conversations));
  return { find };
}
