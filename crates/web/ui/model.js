/**
 * A room as its reader knows it: what was said, who is there, how far people have read.
 *
 * Filled by `chat.js`, shown by the views, free of any DOM and of any connection. Invariants: entries stand in the order of their
 * offsets, each message once; at most `ITEMS_MAX` of them and `PEOPLE_MAX` people; a row's object changes only when what it shows does.
 */
import { batch, computed, signal } from '../shared/reactive.js';

/** @import { Entry, Item, LogLine, Mark, MessageEntry, Person, Place, Reading } from './types.js' */

export const ITEMS_MAX = 500;
export const PEOPLE_MAX = 500;
export const LINES_MAX = 5_000;
/** Characters of a line that came in pieces. */
const LINE_MAX = 65_536;
const GROUP_MS = 5 * 60_000;
const PRESENCE_MERGED_MAX = 50;
/** @type {ReadonlySet<string>} */
const NOBODY = new Set();

/** @param {number} a @param {number} b */
export const sameDay = (a, b) => new Date(a).toDateString() === new Date(b).toDateString();

/** @param {Entry} entry */
const isMessage = (entry) => entry.kind === 'message';

export class Room {
  entries = signal(/** @type {readonly Entry[]} */ ([]));
  people = signal(/** @type {ReadonlyMap<string, Person>} */ (new Map()));
  members = signal(/** @type {number | null} */ (null));
  unread = signal(0);
  mentions = signal(0);
  joined = signal(false);
  topic = signal('');
  draft = signal('');
  /** The other one, where the room is a private conversation. */
  peer = signal('');
  /** Who is typing, until when. @type {import('../shared/reactive.js').Signal<ReadonlyMap<string, { name: string, until: number }>>} */
  typing = signal(new Map());
  /** What each user has. @type {import('../shared/reactive.js').Signal<ReadonlyMap<string, Reading>>} */
  readings = signal(new Map());
  /** The same as numbers, in large rooms. @type {import('../shared/reactive.js').Signal<{ offset: number, delivered: number, seen: number } | null>} */
  counts = signal(null);
  /** Whether there is something before the first message. `failed`: it could not be had. @type {import('../shared/reactive.js').Signal<'unknown' | 'more' | 'none' | 'loading' | 'failed'>} */
  older = signal('unknown');
  /** What is shown is not the end of the log: what comes is counted, not shown. */
  detached = signal(false);
  /** The last message that was read when the room was opened: the line stands below it. @type {import('../shared/reactive.js').Signal<number | null>} */
  line = signal(null);
  /** Up to where we have read, as the server knows it. */
  seen = 0;
  /** The last message that is dealt with. @type {Place | null} */
  place = null;
  /** Up to here it is repetition, not news. */
  knownUpTo = 0;
  /** Up to here it is counted in `unread`. */
  countedUpTo = 0;
  /** The oldest offset that was asked for or shown. */
  oldest = 0;
  /** Pages in a row that could not be had. */
  failures = 0;
  durability = '';
  #keys = 0;
  #era = 0;
  /** @type {WeakMap<Entry, { head: Item | null, more: Item | null }>} */
  #shown = new WeakMap();
  /** @type {Map<string, Item>} */
  #days = new Map();
  /** @type {Item | null} */
  #lineItem = null;

  items = computed(() => this.#laidOut(this.entries.value, this.line.value));
  levels = computed(() => levelsOf(this.readings.value, this.self));

  /** @param {string} name @param {string} [self] our own user id */
  constructor(name, self = '') {
    this.name = name;
    this.self = self;
  }

  /** What people call it. */
  get title() {
    const peer = this.peer.value;
    return peer ? this.people.value.get(peer)?.name || peer : this.name;
  }

  get isPrivate() { return this.peer.value !== ''; }

  /** Messages that were kept, or that came just now; what is there already takes their present state. @param {MessageEntry[]} messages */
  merge(messages) {
    const known = this.entries.peek();
    const byKey = new Map(known.map((entry, index) => [entry.key, index]));
    /** @type {Entry[]} */
    const next = [...known];
    let sorted = true;
    for (const message of messages) {
      const entry = { ...message, order: this.#orderOf(message) };
      const index = byKey.get(entry.key);
      if (index !== undefined) next[index] = entry;
      else {
        if (next.length > 0 && /** @type {Entry} */ (next.at(-1)).order > entry.order) sorted = false;
        byKey.set(entry.key, next.length);
        next.push(entry);
      }
    }
    if (!sorted) next.sort((a, b) => a.order - b.order);
    return next;
  }

  /** Something was said. @param {MessageEntry} message */
  addMessage(message) {
    if (this.detached.peek()) return;
    this.#show(this.merge([message]));
  }

  /** A page of what was said before. The newest go where it would be too much: the reader is elsewhere. @param {MessageEntry[]} messages @param {boolean} more */
  prepend(messages, more) {
    batch(() => {
      const entries = this.merge(messages);
      if (entries.length > ITEMS_MAX) {
        entries.length = ITEMS_MAX;
        this.detached.value = true;
      }
      this.entries.value = entries;
      this.older.value = more ? 'more' : 'none';
    });
  }

  /** The end of the log, in place of what is shown; what came after that page was made stays. @param {MessageEntry[]} messages @param {{ head: number, more: boolean }} page */
  reset(messages, { head, more }) {
    batch(() => {
      const kept = this.entries.peek().filter((entry) => entry.order > this.#era + head || (entry.kind === 'process' && entry.order >= this.#era + this.oldest));
      this.entries.value = [];
      this.entries.value = [...this.merge(messages), ...kept].sort((a, b) => a.order - b.order);
      this.older.value = more ? 'more' : 'none';
      this.detached.value = false;
    });
  }

  /** A line of the server's or of ours, where the log stands now. @param {string} text @param {'system' | 'gap' | 'own'} tone @param {number} at */
  note(text, tone, at) {
    this.#append({ kind: 'note', text, tone, at, key: this.#key(), order: this.#now() });
  }

  /** @param {string} name @param {boolean} joined @param {number} at */
  addPresence(name, joined, at) {
    const entries = this.entries.peek();
    const last = entries.at(-1);
    if (last?.kind === 'presence' && at - last.at < GROUP_MS && sameDay(last.at, at) && last.events.length < PRESENCE_MERGED_MAX) {
      this.entries.value = [...entries.slice(0, -1), { ...last, key: this.#key(), events: [...last.events, { name, joined }] }];
    } else this.#append({ kind: 'presence', at, events: [{ name, joined }], key: this.#key(), order: this.#now() });
  }

  /** The card of a process: its output and what became of it are one entry. @param {string} id @param {number} at @param {number} offset @returns {Log} */
  process(id, at, offset) {
    const key = `process-${id}`;
    const known = this.entries.peek().find((entry) => entry.key === key);
    if (known?.kind === 'process') return known.log;
    const log = new Log();
    this.#append({ kind: 'process', key, id, at, order: offset > 0 ? this.#era + offset : this.#now(), log });
    return log;
  }

  /** The message at `offset` is not what it was. @param {number} offset @param {(message: MessageEntry) => Partial<MessageEntry>} change */
  amend(offset, change) {
    const order = this.#era + offset;
    this.entries.value = this.entries.peek().map((entry) =>
      (entry.kind === 'message' && entry.order === order ? { ...entry, ...change(entry) } : entry));
  }

  /** @param {number} offset */
  messageAt(offset) {
    const order = this.#era + offset;
    return /** @type {MessageEntry | undefined} */ (this.entries.peek().find((entry) => entry.order === order && isMessage(entry)));
  }

  /** The log began anew: offsets say something else from now on. */
  newEra() {
    this.#era += 2 ** 32;
    this.place = null;
    this.oldest = 0;
    this.knownUpTo = 0;
    this.countedUpTo = 0;
    this.seen = 0;
    this.readings.value = new Map();
    this.counts.value = null;
    this.older.value = 'none';
  }

  /** Whether what stands in an entry can still be changed. @param {MessageEntry} message */
  isCurrent(message) { return message.offset > 0 && message.order === this.#era + message.offset; }

  /** What the room knows of one of our messages. @param {number} offset @returns {Mark} */
  mark(offset) {
    const { seen, delivered } = this.levels.value;
    const counts = this.counts.value;
    let seenBy = countFrom(seen, offset);
    let deliveredTo = countFrom(delivered, offset);
    if (counts && counts.offset >= offset) {
      seenBy = Math.max(seenBy, counts.seen);
      deliveredTo = Math.max(deliveredTo, counts.delivered);
    }
    if (seenBy > 0) return { state: 'seen', count: seenBy };
    return deliveredTo > 0 ? { state: 'delivered', count: deliveredTo } : { state: 'sent', count: 0 };
  }

  /** Names of those who have seen it. @param {number} offset */
  seenBy(offset) {
    const people = this.people.peek();
    return [...this.readings.peek()].filter(([user, { seen }]) => user !== this.self && seen >= offset)
      .map(([user]) => people.get(user)?.name || user);
  }

  /** @param {string} userId @param {Partial<Reading>} change */
  read(userId, change) {
    const readings = new Map(this.readings.peek());
    const was = readings.get(userId) ?? { delivered: 0, seen: 0 };
    const seen = Math.max(was.seen, change.seen ?? 0);
    const delivered = Math.max(was.delivered, change.delivered ?? 0, seen);
    if (seen === was.seen && delivered === was.delivered) return;
    this.readings.value = readings.set(userId, { delivered, seen });
  }

  /** @param {string} userId @param {string} name @param {number} until 0: not any more */
  type(userId, name, until) {
    const typing = new Map(this.typing.peek());
    if (until > 0) typing.set(userId, { name, until });
    else if (!typing.delete(userId)) return;
    this.typing.value = typing;
  }

  /** @param {number} now */
  stopTyping(now) {
    const left = [...this.typing.peek()].filter(([, { until }]) => until > now);
    if (left.length !== this.typing.peek().size) this.typing.value = new Map(left);
  }

  /** @param {string} userId @param {string} name @param {number} at @param {(person: Person) => Partial<Person>} change */
  person(userId, name, at, change) {
    const people = new Map(this.people.peek());
    const known = people.get(userId) ?? { userId, name: '', here: false, clients: NOBODY, devices: [], seenAt: at };
    people.set(userId, { ...known, name: name || known.name || userId, seenAt: at, ...change(known) });
    if (people.size > PEOPLE_MAX) {
      const oldest = [...people.values()].filter((p) => p.userId !== this.self).sort((a, b) => Number(a.here) - Number(b.here) || a.seenAt - b.seenAt)[0];
      if (oldest) people.delete(oldest.userId);
    }
    this.people.value = people;
  }

  /** Who is there, as the server lists them; whom it does not name is not there. @param {Person[]} present */
  allPeople(present) {
    /** @type {Map<string, Person>} */
    const people = new Map();
    for (const [id, person] of this.people.peek()) people.set(id, { ...person, here: false, clients: NOBODY, devices: [] });
    for (const person of present) people.set(person.userId, { ...person, name: person.name || people.get(person.userId)?.name || person.userId });
    this.people.value = people;
  }

  /** @param {Entry} entry */
  #append(entry) {
    if (this.detached.peek() && entry.kind !== 'note') return;
    const entries = [...this.entries.peek(), entry];
    if (entries.length > 1 && /** @type {Entry} */ (entries.at(-2)).order > entry.order) entries.sort((a, b) => a.order - b.order);
    this.#show(entries);
  }

  /** @param {Entry[]} entries */
  #show(entries) {
    const kept = trimmed(entries);
    if (kept.length < entries.length) {
      this.older.value = 'more';
      const first = kept.find(isMessage);
      if (first) this.oldest = first.order - this.#era;
    }
    this.entries.value = kept;
  }

  /** @param {MessageEntry} message */
  #orderOf(message) {
    return message.offset > 0 ? this.#era + message.offset : message.order || this.#now();
  }

  #now() {
    return Math.max(this.entries.peek().at(-1)?.order ?? 0, this.#era + (this.place?.offset ?? 0)) + 1e-3;
  }

  /** For what has no id of its own; never the same twice. */
  #key() {
    this.#keys += 1;
    return `e${this.#keys}`;
  }

  /** Days, groups and the unread line around what was said. @param {readonly Entry[]} entries @param {number | null} line */
  #laidOut(entries, line) {
    /** @type {Item[]} */
    const items = [];
    /** @type {Entry | null} */
    let last = null;
    const lineAt = line === null ? Infinity : this.#era + line;
    let readSeen = this.older.peek() === 'none';
    let drawn = line === null;
    for (const entry of entries) {
      if (!last || !sameDay(last.at, entry.at)) items.push(this.#day(entry.at));
      if (isMessage(entry) && entry.order <= lineAt) readSeen = true;
      const breaks = !drawn && readSeen && last !== null && entry.order > lineAt && entry.kind === 'message' && entry.userId !== this.self;
      if (breaks) {
        items.push(this.#lineItem ??= { kind: 'unread', key: 'unread', at: entry.at });
        drawn = true;
      }
      items.push(this.#item(entry, breaks ? null : last));
      last = entry;
    }
    return items;
  }

  /** @param {number} at @returns {Item} */
  #day(at) {
    const key = `day-${new Date(at).toDateString()}`;
    let day = this.#days.get(key);
    if (!day) this.#days.set(key, day = { kind: 'day', key, at });
    return day;
  }

  /** @param {Entry} entry @param {Entry | null} last @returns {Item} */
  #item(entry, last) {
    if (entry.kind !== 'message') return entry;
    const follows = last?.kind === 'message' && last.userId === entry.userId && last.name === entry.name
      && entry.type !== 'action' && last.type !== 'action' && entry.at - last.at < GROUP_MS && sameDay(last.at, entry.at);
    const shown = this.#shown.get(entry) ?? { head: null, more: null };
    this.#shown.set(entry, shown);
    return follows ? shown.more ??= { ...entry, head: false } : shown.head ??= { ...entry, head: true };
  }
}

/** What a process has said, and how it ended. */
export class Log {
  /** @type {LogLine[]} */
  lines = [];
  /** Changes with the lines. */
  version = signal(0);
  status = signal(/** @type {import('./types.js').ProcessStatus | null} */ (null));
  /** What runs, in words, if somebody said so. */
  title = signal('');
  #told = -1;
  /** Lines that were too many to keep. */
  dropped = 0;

  /** Takes what was said last, also when older messages are loaded later. @param {number} offset @param {import('./types.js').ProcessStatus} status */
  tell(offset, status) {
    if (offset <= this.#told) return;
    this.#told = offset;
    this.status.value = status;
  }

  /** @param {LogLine} line */
  add(line) {
    let at = this.lines.length;
    while (at > 0 && /** @type {LogLine} */ (this.lines[at - 1]).offset > line.offset) at -= 1;
    if (line.offset > 0 && this.lines[at - 1]?.offset === line.offset) return;
    const before = this.lines[at - 1];
    const goesOn = before?.partial && before.stream === line.stream && before.text.length < LINE_MAX;
    if (at === this.lines.length && goesOn) this.lines[at - 1] = { ...line, text: before.text + line.text };
    else if (at === this.lines.length) this.lines.push(line);
    else this.lines.splice(at, 0, line);
    if (this.lines.length > LINES_MAX) this.dropped += this.lines.splice(0, LINES_MAX / 10).length;
    this.version.value += 1;
  }
}

/** Drops the oldest, in one go now and then, up to where somebody else begins. @param {Entry[]} entries */
function trimmed(entries) {
  if (entries.length <= ITEMS_MAX) return entries;
  let from = Math.ceil(ITEMS_MAX / 10);
  while (from < entries.length - 1) {
    const [before, entry] = [entries[from - 1], entries[from]];
    if (entry?.kind !== 'message' || before?.kind !== 'message' || before.userId !== entry.userId) break;
    from += 1;
  }
  return entries.slice(from);
}

/** How far the others are, in ascending order. @param {ReadonlyMap<string, Reading>} readings @param {string} self */
function levelsOf(readings, self) {
  const others = [...readings].filter(([user]) => user !== self).map(([, reading]) => reading);
  const ascending = (/** @type {number[]} */ offsets) => offsets.sort((a, b) => a - b);
  return { seen: ascending(others.map(({ seen }) => seen)), delivered: ascending(others.map(({ delivered }) => delivered)) };
}

/** How many are at `offset` or beyond. @param {number[]} ascending @param {number} offset */
function countFrom(ascending, offset) {
  let [low, high] = [0, ascending.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (/** @type {number} */ (ascending[middle]) < offset) low = middle + 1;
    else high = middle;
  }
  return ascending.length - low;
}

/** Whether a text speaks to somebody: `@name` as a word of its own. @param {string} text @param {readonly string[]} names */
export function mentions(text, names) {
  const said = text.toLocaleLowerCase();
  return names.some((name) => {
    const wanted = `@${name.toLocaleLowerCase()}`;
    if (name === '') return false;
    for (let at = said.indexOf(wanted); at >= 0; at = said.indexOf(wanted, at + 1)) {
      if (!/[\p{L}\p{N}_]/u.test((said[at - 1] ?? '') + (said[at + wanted.length] ?? ''))) return true;
    }
    return false;
  });
}
