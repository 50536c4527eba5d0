/**
 * What the person knows: rooms, what was said in them, who is about, what is on its way.
 *
 * Fed by `connection.js`, shown by the views, free of any DOM. Invariants: a message is shown once; a room
 * holds at most `ITEMS_MAX` items and `PEOPLE_MAX` people; what the server did not tell is never guessed,
 * and what was missed is said.
 */
import { batch, effect, signal } from './reactive.js';
import { Outbox } from './outbox.js';

/** @import { Ack, ChatEvent, Gap, Item, MessageItem, Person, Place, PresenceEvent, Refused, ServerEvent, Subscribed, SystemEvent } from './types.js' */
/** @import { Connection } from './connection.js' */

export const CONTENT_MAX = 1000;
export const NAME_MAX = 50;
export const ITEMS_MAX = 500;
export const PEOPLE_MAX = 200;
const GROUP_MS = 5 * 60_000;
const PRESENCE_MERGED_MAX = 50;
/** Unacknowledged messages on the wire; the rest waits its turn. */
const IN_FLIGHT_MAX = 16;
/** No acknowledgement for this long: ask whether the connection lives. */
const ACK_DOUBT_MS = 8_000;
/** No acknowledgement for this long though it does: say so. */
const ACK_LOST_MS = 30_000;
/** @type {ReadonlySet<string>} */
const NO_CLIENTS = new Set();

/** Characters as the server counts them: code points, not UTF-16 units. @param {string} text */
export const lengthOf = (text) => [...text].length;

/** Why a name will not do, or '' when it will. The server refuses the same. @param {string} name */
export function nameProblem(name) {
  if (!name) return 'Please enter a name.';
  if (lengthOf(name) > NAME_MAX) return `A name has at most ${NAME_MAX} characters; this one has ${lengthOf(name)}.`;
  if (/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(name.replace(/\u200d/gu, ''))) return 'A name has no invisible characters.';
  return '';
}

/** @param {number} a @param {number} b */
export const sameDay = (a, b) => new Date(a).toDateString() === new Date(b).toDateString();

export class Room {
  items = signal(/** @type {readonly Item[]} */ ([]));
  people = signal(/** @type {ReadonlyMap<string, Person>} */ (new Map()));
  members = signal(/** @type {number | null} */ (null));
  unread = signal(0);
  joined = signal(false);
  /** @type {Place | null} */
  place = null;
  draft = '';
  /** Our own user id: the one that is never forgotten. */
  self = '';
  #keys = 0;

  /** @param {string} name */
  constructor(name) { this.name = name; }

  /** @param {Item extends infer I ? I extends Item ? Omit<I, 'key'> : never : never} item */
  add(item) {
    const items = this.items.peek();
    const last = items.at(-1);
    /** @type {Item[]} */
    const added = [];
    if (!last || !sameDay(last.at, item.at)) added.push({ kind: 'day', key: this.#key(), at: item.at });
    added.push(/** @type {Item} */ ({ ...item, key: this.#key() }));
    this.items.value = trimmed([...items, ...added]);
  }

  /** @param {Omit<MessageItem, 'kind' | 'key' | 'head'>} message @param {boolean} unseen */
  addMessage(message, unseen) {
    if (unseen && this.unread.peek() === 0) this.markUnread(message.at);
    const last = this.items.peek().at(-1);
    const follows = last?.kind === 'message' && last.userId === message.userId && last.name === message.name
      && message.at - last.at < GROUP_MS && sameDay(last.at, message.at);
    this.add({ ...message, kind: 'message', head: !follows });
    if (unseen) this.unread.value += 1;
  }

  /** @param {string} name @param {boolean} joined @param {number} at */
  addPresence(name, joined, at) {
    const items = this.items.peek();
    const last = items.at(-1);
    if (last?.kind === 'presence' && at - last.at < GROUP_MS && sameDay(last.at, at) && last.events.length < PRESENCE_MERGED_MAX) {
      const merged = { ...last, key: this.#key(), events: [...last.events, { name, joined }] };
      this.items.value = [...items.slice(0, -1), merged];
    } else this.add({ kind: 'presence', at, events: [{ name, joined }] });
  }

  /** Puts the "New messages" line below what was seen; there is one at most. @param {number} at */
  markUnread(at) {
    this.clearMark();
    const items = this.items.peek();
    if (items.some((item) => item.kind === 'message')) this.items.value = [...items, { kind: 'unread', key: this.#key(), at }];
  }

  clearMark() {
    const items = this.items.peek();
    if (items.some((item) => item.kind === 'unread')) this.items.value = items.filter((item) => item.kind !== 'unread');
  }

  /** @param {string} userId @param {string} name @param {number} at @param {(person: Person) => Partial<Person>} change */
  person(userId, name, at, change) {
    const people = new Map(this.people.peek());
    const known = people.get(userId) ?? { userId, name, here: true, clients: NO_CLIENTS, seenAt: at };
    people.set(userId, { ...known, name: name || known.name, seenAt: at, ...change(known) });
    if (people.size > PEOPLE_MAX) {
      const oldest = [...people.values()].filter((p) => p.userId !== this.self).sort((a, b) => Number(a.here) - Number(b.here) || a.seenAt - b.seenAt)[0];
      if (oldest) people.delete(oldest.userId);
    }
    this.people.value = people;
  }

  /** Nobody told us who left meanwhile. */
  forgetWhoIsHere() {
    this.people.value = new Map([...this.people.peek()].map(([id, p]) => [id, { ...p, here: false, clients: NO_CLIENTS }]));
  }

  #key() {
    this.#keys += 1;
    return `i${this.#keys}`;
  }
}

/** Drops the oldest, in one go now and then, up to where a group starts. @param {Item[]} items */
function trimmed(items) {
  if (items.length <= ITEMS_MAX) return items;
  let from = Math.ceil(ITEMS_MAX / 10);
  while (from < items.length - 1) {
    const item = items[from];
    if (item?.kind !== 'message' || item.head) break;
    from += 1;
  }
  return items.slice(from);
}

export class Chat {
  /** The room the server puts everybody in. */
  home = signal('lobby');
  current = signal('lobby');
  rooms = signal(/** @type {ReadonlyMap<string, Room>} */ (new Map([['lobby', new Room('lobby')]])));
  openMode = signal(false);
  /** What the server refused and no message can show. */
  problem = signal('');
  /** Whether the person is looking at the newest messages; set by the views. */
  attending = signal(true);
  outbox = new Outbox();
  /** For the announcer. @type {(what: { room: string, name: string, text: string }) => void} */
  onHeard = () => {};

  #requests = 0;
  /** @type {Map<string, { room: string, text: string }>} */
  #roomRequests = new Map();
  /** @type {unknown} */
  #ackTimer = null;

  /** @param {Connection} connection @param {{ userId: string, name: string }} me @param {(length: number) => string} randomId */
  constructor(connection, me, randomId) {
    this.connection = connection;
    this.me = me;
    this.session = randomId(12);
    this.client = '';
    connection.onEvent = (event) => batch(() => this.#apply(event));
    effect(() => {
      const state = connection.state.value;
      if (state.status === 'online') this.#pump();
      else if (state.status !== 'offline' || state.retryAt !== null) this.#cutOff();
    });
    effect(() => {
      if (this.attending.value) this.room.unread.value = 0;
    });
  }

  /** The room being looked at. */
  get room() {
    return /** @type {Room} */ (this.rooms.value.get(this.current.value));
  }

  /** Looks at a room, and asks for a place in it first if need be. @param {string} name */
  open(name) {
    if (!this.rooms.peek().has(name)) {
      this.rooms.value = new Map(this.rooms.peek()).set(name, new Room(name));
      this.#requestRoom('subscribe', name);
    }
    batch(() => {
      const left = this.rooms.peek().get(this.current.peek());
      if (left && left.name !== name) left.clearMark();
      this.problem.value = '';
      this.current.value = name;
    });
  }

  /** Gives a place up. @param {string} name */
  leave(name) {
    if (name === this.home.peek()) return;
    this.#requestRoom('unsubscribe', name);
    this.#dropRoom(name);
  }

  /** Takes a text to be said in the room looked at; '' or what is wrong with it. @param {string} text */
  say(text) {
    const content = text.replace(/^\n+|\s+$/gu, '');
    if (!content.trim()) return 'There is nothing to send yet.';
    if (lengthOf(content) > CONTENT_MAX) return `A message has at most ${CONTENT_MAX} characters; this one has ${lengthOf(content)}.`;
    const room = this.room;
    if (!this.outbox.add(this.#id(), room.name, content, this.connection.env.now())) {
      return 'Too many messages wait to be sent. Please wait for the connection, or delete some.';
    }
    batch(() => {
      room.clearMark();
      this.problem.value = '';
      this.#pump();
    });
    return '';
  }

  /** @param {string} id */
  retry(id) {
    this.outbox.retry(id);
    this.#pump();
  }

  #author() {
    return { userId: this.me.userId, name: this.me.name, mine: true };
  }

  #id() {
    this.#requests += 1;
    return `${this.session}-${this.#requests}`;
  }

  #pump() {
    let inFlight = this.outbox.entries.peek().filter((entry) => entry.state === 'sending').length;
    for (const entry of this.outbox.entries.peek()) {
      if (entry.state !== 'queued' || !this.rooms.peek().get(entry.room)?.joined.peek()) continue;
      if (inFlight >= IN_FLIGHT_MAX) break;
      if (!this.connection.send({ type: 'chat', id: entry.id, room: entry.room, content: entry.text })) break;
      this.outbox.change(entry.id, { state: 'sending', at: this.connection.env.now() });
      inFlight += 1;
    }
    if (inFlight > 0 && this.#ackTimer === null) this.#awaitAck();
  }

  #awaitAck() {
    this.#ackTimer = this.connection.env.setTimeout(() => {
      this.#ackTimer = null;
      const now = this.connection.env.now();
      const sending = this.outbox.entries.peek().filter((entry) => entry.state === 'sending');
      if (sending.some((entry) => now - entry.at >= ACK_DOUBT_MS)) this.connection.doubt();
      for (const entry of sending) {
        if (now - entry.at >= ACK_LOST_MS) this.outbox.change(entry.id, { state: 'unsure', why: 'The server did not confirm it.' });
      }
      if (sending.length > 0) this.#awaitAck();
    }, ACK_DOUBT_MS / 2);
  }

  #cutOff() {
    batch(() => {
      for (const { room, text, at } of this.outbox.cutOff()) {
        this.rooms.peek().get(room)?.addMessage({ ...this.#author(), text, at }, false);
      }
      for (const room of this.rooms.peek().values()) room.joined.value = false;
    });
  }

  /** @param {'subscribe' | 'unsubscribe'} type @param {string} room */
  #requestRoom(type, room) {
    const id = this.#id();
    if (type === 'subscribe') this.#roomRequests.set(id, { room, text: type });
    this.connection.send({ type, id, room });
  }

  /** @param {string} name */
  #dropRoom(name) {
    batch(() => {
      if (this.current.peek() === name) this.current.value = this.home.peek();
      const rooms = new Map(this.rooms.peek());
      rooms.delete(name);
      this.rooms.value = rooms;
      for (const entry of this.outbox.entries.peek()) if (entry.room === name) this.outbox.remove(entry.id);
    });
  }

  /** @param {ServerEvent} event */
  #apply(event) {
    switch (event.type) {
      case 'welcome': {
        this.#cutOff();
        this.openMode.value = event.openMode === true;
        this.me = { userId: event.userId, name: event.username };
        this.client = event.clientId;
        this.#roomRequests.clear();
        for (const name of this.rooms.peek().keys()) if (name !== this.home.peek()) this.#requestRoom('subscribe', name);
        break;
      }
      case 'subscribed': return this.#subscribed(event);
      case 'chat': return this.#chat(event);
      case 'join':
      case 'leave': return this.#presence(event);
      case 'system': return this.#system(event);
      case 'ack': return this.#acknowledged(event);
      case 'gap': return this.#gap(event);
      case 'error': return this.#refused(event);
    }
  }

  /** @param {Subscribed} event */
  #subscribed(event) {
    if (event.id === undefined && event.room !== this.home.peek()) this.#rename(event.room);
    if (event.id !== undefined) this.#roomRequests.delete(event.id);
    const room = this.rooms.peek().get(event.room);
    if (!room) return;
    const before = room.place;
    room.place = { epoch: event.epoch, offset: event.offset };
    room.members.value = event.members;
    room.forgetWhoIsHere();
    room.self = this.me.userId;
    if (before && before.epoch !== event.epoch) this.#note(room, 'The server started afresh. Messages sent while you were disconnected are not shown.', 'gap');
    else if (before && before.offset < event.offset) this.#note(room, missedText(event.offset - before.offset, 'while you were disconnected'), 'gap');
    room.person(this.me.userId, this.me.name, this.connection.env.now(), () => ({ here: true, clients: new Set([this.client]) }));
    room.joined.value = true;
    this.#pump();
  }

  /** The server's home room has another name than we thought. @param {string} name */
  #rename(name) {
    const rooms = new Map(this.rooms.peek());
    const old = this.home.peek();
    rooms.delete(old);
    this.rooms.value = new Map([[name, rooms.get(name) ?? new Room(name)], ...rooms]);
    if (this.current.peek() === old) this.current.value = name;
    this.home.value = name;
  }

  /** @param {ChatEvent} event */
  #chat(event) {
    const room = this.rooms.peek().get(event.room ?? this.home.peek());
    if (!room || !this.#isNew(room, event)) return;
    const at = timeOf(event.timestamp, this.connection.env.now());
    const mine = event.userId === this.me.userId;
    if (mine) this.outbox.echoed(room.name, event.content, event.id);
    const seen = mine || (room.name === this.current.peek() && this.attending.peek());
    room.addMessage({ userId: event.userId, name: event.username, text: event.content, at, mine }, !seen);
    room.person(event.userId, event.username, at, () => ({ here: true }));
    if (!mine) this.onHeard({ room: room.name, name: event.username, text: event.content });
  }

  /** Offsets only grow: an old one is a message we have. @param {Room} room @param {ChatEvent} event */
  #isNew(room, { epoch, offset }) {
    if (epoch === undefined || offset === undefined) return true;
    if (room.place?.epoch === epoch && offset <= room.place.offset) return false;
    room.place = { epoch, offset };
    return true;
  }

  /** @param {PresenceEvent} event */
  #presence(event) {
    const room = this.rooms.peek().get(event.room ?? this.home.peek());
    if (!room) return;
    const at = timeOf(event.timestamp, this.connection.env.now());
    const joined = event.type === 'join';
    const mine = event.userId === this.me.userId;
    if (event.clientId === this.client) return;
    if (room.members.peek() !== null) room.members.value = Math.max(1, (room.members.peek() ?? 0) + (joined ? 1 : -1));
    room.person(event.userId, event.username, at, (person) => {
      const clients = new Set(person.clients);
      if (joined) clients.add(event.clientId ?? '');
      else clients.delete(event.clientId ?? '');
      return { clients, here: clients.size > 0 };
    });
    if (!mine) room.addPresence(event.username, joined, at);
  }

  /** @param {SystemEvent} event */
  #system(event) {
    const at = timeOf(event.timestamp, this.connection.env.now());
    for (const room of this.rooms.peek().values()) {
      if (event.room === undefined || event.room === room.name) room.add({ kind: 'note', at, text: event.content, tone: 'system' });
    }
    this.onHeard({ room: event.room ?? '', name: 'The server', text: event.content });
  }

  /** @param {Ack} event */
  #acknowledged(event) {
    if (!this.outbox.find(event.id)) return;
    this.outbox.acknowledged(event.id, event.messageId);
    this.#pump();
  }

  /** @param {Gap} event */
  #gap(event) {
    const room = this.rooms.peek().get(event.room);
    if (!room) return;
    room.place = { epoch: event.epoch, offset: event.offset };
    if (event.missed === 0) this.#note(room, 'What is kept of this room was lost. Its history begins anew.', 'gap');
    else this.#note(room, missedText(event.missed, 'without reaching this page'), 'gap');
  }

  /** @param {Refused} event */
  #refused(event) {
    const wait = event.retryAfter ? ` Try again in ${Math.ceil(event.retryAfter / 1000)} s.` : '';
    const text = sentence(event.message || event.error) + wait;
    if (event.id !== undefined && this.outbox.find(event.id)) {
      this.outbox.change(event.id, { state: 'refused', why: text, messageId: null });
      this.#pump();
    }
    const asked = event.id === undefined ? undefined : this.#roomRequests.get(event.id);
    if (asked) this.#dropRoom(asked.room);
    this.problem.value = asked ? `#${asked.room}: ${text}` : text;
  }

  /** @param {Room} room @param {string} text @param {'system' | 'gap'} tone */
  #note(room, text, tone) {
    room.add({ kind: 'note', at: this.connection.env.now(), text, tone });
  }
}

/** @param {number} count @param {string} why */
function missedText(count, why) {
  return count === 1 ? `1 message was sent ${why} and is not shown.` : `${count} messages were sent ${why} and are not shown.`;
}

/** @param {string} text */
function sentence(text) {
  const start = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/u.test(start) ? start : `${start}.`;
}

/** @param {string} timestamp @param {number} otherwise */
function timeOf(timestamp, otherwise) {
  const at = Date.parse(timestamp);
  return Number.isNaN(at) ? otherwise : at;
}
