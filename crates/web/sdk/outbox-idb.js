/**
 * An outbox that survives the end of the page, in IndexedDB.
 *
 * One hub at a time may use a name: give each user, and each tab that writes, its own.
 */

/** @import { OutboxEntry, OutboxStore } from './types.js' */

const ENTRIES = 'entries';

/** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
const done = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

/**
 * @param {string} name such as `outbox-` and the user's id
 * @param {{ indexedDB?: IDBFactory }} [env]
 * @returns {OutboxStore & { clear(): Promise<void> }}
 */
export function idbOutbox(name, { indexedDB = globalThis.indexedDB } = {}) {
  /** @type {Promise<IDBDatabase> | undefined} */
  let opened;
  const open = () => opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(`outspoke-${name}`, 1);
    request.onupgradeneeded = () => { request.result.createObjectStore(ENTRIES, { autoIncrement: true }).createIndex('id', 'id', { unique: true }); };
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      const database = request.result;
      // Another tab wants to change or delete it: it may, and we open it anew when we need it.
      database.onversionchange = () => { database.close(); opened = undefined; };
      resolve(database);
    };
  });
  /** @param {IDBTransactionMode} mode */
  const entries = async (mode) => (await open()).transaction(ENTRIES, mode).objectStore(ENTRIES);
  return {
    /** In the order in which they were made: the keys count. */
    load: async () => /** @type {Promise<OutboxEntry[]>} */ (done((await entries('readonly')).getAll())),
    async put(entry) {
      const store = await entries('readwrite');
      if (await done(store.index('id').getKey(entry.id)) === undefined) await done(store.add(entry));
    },
    async remove(id) {
      const store = await entries('readwrite');
      const key = await done(store.index('id').getKey(id));
      if (key !== undefined) await done(store.delete(key));
    },
    async clear() {
      await done((await entries('readwrite')).clear());
    },
  };
}
