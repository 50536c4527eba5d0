/**
 * What was written here and is not confirmed by the server yet.
 *
 * `chat.js` fills it, hands entries to the connection and reports what became of them; the timeline shows
 * it below the confirmed messages. Invariants: at most `OUTBOX_MAX` entries; entries keep the order in
 * which they were written; an entry leaves only when the room's copy is known to exist, or by its author's hand.
 */
import { signal } from './reactive.js';

/** @import { Unsent } from './types.js' */

export const OUTBOX_MAX = 100;

export class Outbox {
  entries = signal(/** @type {readonly Unsent[]} */ ([]));

  /** False: full, the text stays where it is. @param {string} id @param {string} room @param {string} text @param {number} at */
  add(id, room, text, at) {
    const entries = this.entries.peek();
    if (entries.length >= OUTBOX_MAX) return false;
    this.entries.value = [...entries, { id, room, text, at, state: 'queued', why: '', messageId: null }];
    return true;
  }

  /** @param {string} id */
  find(id) { return this.entries.peek().find((entry) => entry.id === id); }

  /** @param {string} id @param {Partial<Unsent>} change */
  change(id, change) {
    this.entries.value = this.entries.peek().map((entry) => (entry.id === id ? { ...entry, ...change } : entry));
  }

  /** @param {string} id */
  remove(id) { this.entries.value = this.entries.peek().filter((entry) => entry.id !== id); }

  /** The room's copy of one of our messages came, before or after its acknowledgement. @param {string} room @param {string} text @param {string} messageId */
  echoed(room, text, messageId) {
    const entries = this.entries.peek();
    const acknowledged = entries.find((e) => e.state === 'sent' && e.messageId === messageId);
    if (acknowledged) return this.remove(acknowledged.id);
    const mine = entries.find((e) => e.state === 'sending' && !e.messageId && e.room === room && e.text === text);
    if (mine) this.change(mine.id, { messageId });
  }

  /** The server has it. It stays in sight until the room's copy comes. @param {string} id @param {string} messageId */
  acknowledged(id, messageId) {
    if (this.find(id)?.messageId === messageId) this.remove(id);
    else this.change(id, { state: 'sent', messageId });
  }

  /**
   * The socket is lost. What was on its way may or may not have arrived, and only its author can judge.
   * Returns what the server has and the room's copy did not reach us.
   */
  cutOff() {
    const entries = this.entries.peek();
    this.entries.value = entries
      .filter((e) => !(e.state === 'sent' || (e.state === 'sending' && e.messageId)))
      .map((e) => (e.state === 'sending' ? { ...e, state: 'unsure', why: '' } : e));
    return entries.filter((e) => e.state === 'sent');
  }

  /** @param {string} id */
  retry(id) { this.change(id, { state: 'queued', why: '', messageId: null }); }
}
