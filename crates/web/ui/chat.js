/**
 * What the person can do and know: rooms, private conversations, what is on its way.
 *
 * Fed by a link (`link.js`), shown by the views, free of any DOM. Invariants: a message is shown once and sent once, however often
 * the connection breaks; what the server did not tell is never guessed, and what cannot be had any more is said.
 */
import { batch, computed, effect, signal, untracked } from '../shared/reactive.js';
import { PEOPLE_MAX, Room, mentions } from './model.js';

/** @import { CommandSpec, Conversations, HistoryPage, Link, MessageEntry, PresencePage, ServerEvent, Unsent, World } from './types.js' */

export const CONTENT_MAX = 1000;
export const NAME_MAX = 50;
export const OUTBOX_MAX = 100;
const PAGE = 50;
const RECEIPTS_PAGE = 100;
/** So long the server knows a message again that is sent a second time. */
const REMEMBERED_MS = 5 * 60_000;
/** So far our clock may be ahead of the server's. */
const SKEW_MS = 60_000;
const LOOK_FIRST = 'It may have been sent before: look before you try again.';
const RECEIPTS_MS = 400;
const TYPING_MS = 3_000;
/** Waits before a page of history is asked for again that was refused for a while. */
const AGAIN_MS = 1_000;
const AGAIN_MAX_MS = 30_000;
/** What is no message for people to read: amendments change others, the rest are lines. */
const NOT_SHOWN = new Set(['edit', 'delete', 'reaction', 'topic', 'rename', 'join', 'leave']);

/** Characters as the server counts them: code points, not UTF-16 units. @param {string} text */
export const lengthOf = (text) => [...text].length;

/** Why a name will not do, or '' when it will. The server refuses the same. @param {string} name */
export function nameProblem(name) {
  if (!name) return 'Please enter a name.';
  if (lengthOf(name) > NAME_MAX) return `A name has at most ${NAME_MAX} characters; this one has ${lengthOf(name)}.`;
  if (/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(name.replace(/\u200d/gu, ''))) return 'A name has no invisible characters.';
  return '';
}

/** Whether the text is for the server to obey, not for the room to read. @param {string} text */
export const isCommand = (text) => text.startsWith('/') && !text.startsWith('//');

export class Chat {
  /** The room the server puts everybody in. */
  home = signal('lobby');
  current = signal('lobby');
  rooms = signal(/** @type {ReadonlyMap<string, Room>} */ (new Map()));
  openMode = signal(false);
  /** Whether the server takes files: the page asks it once. */
  takesFiles = signal(false);
  node = signal(/** @type {string} */ (''));
  /** What the server refused and no message can show. */
  problem = signal('');
  /** Whether the person is looking at the newest messages; set by the views. */
  attending = signal(true);
  /** The message that is being edited. @type {import('../shared/reactive.js').Signal<MessageEntry | null>} */
  editing = signal(null);
  unsent = signal(/** @type {readonly Unsent[]} */ ([]));
  commands = signal(/** @type {readonly CommandSpec[]} */ ([]));
  /** For the announcer and for notifications. @type {(what: { room: string, name: string, text: string, mentioned: boolean, direct: boolean }) => void} */
  onHeard = () => {};
  /** How many messages came that were missed, once they are there. @type {(room: string, count: number) => void} */
  onCaughtUp = () => {};
  /** A text that was refused goes back to where it can be mended. @type {(room: string, text: string) => void} */
  onReturned = () => {};

  roomOf = computed(() => /** @type {Room} */ (this.rooms.value.get(this.current.value)));
  totals = computed(() => {
    let [unread, urgent] = [0, 0];
    for (const room of this.rooms.value.values()) {
      unread += room.unread.value;
      urgent += room.peer.value ? room.unread.value : room.mentions.value;
    }
    return { unread, urgent };
  });

  client = '';
  /** Messages of ours that the link has. @type {Map<string, import('../sdk/types.js').Publication>} */
  #sending = new Map();
  /** What is to be told: who has received something has not read it. @type {Map<string, { delivered: number, seen: number }>} */
  #receipts = new Map();
  #typedAt = -Infinity;
  /** When the connection came about. */
  #since = 0;

  /** @param {Link} link @param {{ userId: string, name: string }} me @param {World} world */
  constructor(link, me, world) {
    this.link = link;
    this.me = me;
    this.world = world;
    const home = this.home.value = this.current.value = world.memory('home') ?? 'lobby';
    this.rooms.value = new Map([[home, this.#room(home)]]);
    for (const name of list(world.memory('rooms'))) if (!this.rooms.peek().has(name)) this.#add(name);
    this.unsent.value = unsentFrom(world.tab('unsent'), world.clock.now());
    link.onEvent = (event) => this.#apply(event);
    effect(() => {
      const state = link.state.value;
      untracked(() => (state.status === 'online' ? this.#back(state.since) : this.#cutOff()));
    });
    for (const room of this.rooms.peek().values()) this.#enter(room);
    for (const { to } of this.unsent.peek()) if (to) this.#conversation(to, '');
    this.#sendAll();
    effect(() => {
      const room = this.roomOf.value;
      if (this.attending.value) untracked(() => this.#read(room));
    });
    effect(() => {
      const unsent = this.unsent.value.filter(({ state }) => state !== 'sent');
      world.tab('unsent', unsent.length > 0 ? JSON.stringify(unsent) : null);
    });
  }

  /** The room being looked at. @returns {Room} */
  get room() { return this.roomOf.value; }

  /** Looks at a room, and asks for a place in it first if need be. @param {string} name */
  open(name) {
    const known = this.rooms.peek().get(name);
    if (!known) {
      this.#enter(this.#add(name));
      this.#remember();
    }
    batch(() => {
      const left = this.rooms.peek().get(this.current.peek());
      if (left && left.name !== name) left.line.value = null;
      this.problem.value = '';
      this.editing.value = null;
      if (known && known.unread.peek() > 0) known.line.value = known.seen;
      this.current.value = name;
    });
    if (known?.joined.peek()) void this.#look(known);
  }

  /** Looks at the private conversation with somebody, whether there is one yet or not. @param {string} userId @param {string} name */
  openDirect(userId, name) {
    const room = this.#conversation(userId, name);
    this.open(room.name);
    return room.name;
  }

  /** Gives a place up. @param {string} name */
  leave(name) {
    if (name === this.home.peek()) return;
    this.link.leave(name, this.rooms.peek().get(name)?.peer.peek());
    this.#drop(name);
  }

  /** Takes a text to be said in the room looked at; '' or what is wrong with it. @param {string} text @param {Unsent['files']} [files] */
  say(text, files = []) {
    const content = text.replace(/^\n+|\s+$/gu, '');
    if (!content.trim() && files.length === 0) return 'There is nothing to send yet.';
    if (lengthOf(content) > CONTENT_MAX) return `A message has at most ${CONTENT_MAX} characters; this one has ${lengthOf(content)}.`;
    const { room } = this;
    if (files.length === 0 && isCommand(content)) {
      if (this.link.state.peek().status !== 'online') return 'A command needs a connection. Please wait for it.';
      void this.#command(room, content);
      return '';
    }
    const unsent = this.unsent.peek();
    if (unsent.length >= OUTBOX_MAX) return 'Too many messages wait to be sent. Please wait for the connection, or delete some.';
    /** @type {Unsent} */
    const entry = {
      id: this.world.randomId(20), room: room.name, to: room.peer.peek(), text: content, files, at: this.world.clock.now(),
      state: 'queued', why: '', sentAt: 0, messageId: null, copy: null,
    };
    batch(() => {
      this.unsent.value = [...unsent, entry];
      room.line.value = null;
      this.problem.value = '';
      this.#typedAt = -Infinity;
      if (room.detached.peek()) void this.latest(room);
    });
    this.#send(entry);
    return '';
  }

  /** @param {string} id */
  retry(id) {
    this.#change(id, { state: 'queued', why: '', sentAt: 0, messageId: null, copy: null });
    this.#sendAll();
  }

  /** @param {string} id */
  discard(id) {
    this.#sending.get(id)?.cancel();
    this.#sending.delete(id);
    this.unsent.value = this.unsent.peek().filter((entry) => entry.id !== id);
  }

  /** Gives a message another body; '' or what is wrong with it. @param {MessageEntry} message @param {string} text */
  edit(message, text) {
    const content = text.trim();
    if (!content) return 'A message says something. To take it back, delete it.';
    if (lengthOf(content) > CONTENT_MAX) return `A message has at most ${CONTENT_MAX} characters; this one has ${lengthOf(content)}.`;
    if (this.link.state.peek().status !== 'online') return 'An edit needs a connection. Please wait for it.';
    this.editing.value = null;
    if (content !== message.text) this.#do('edit', { room: this.room.name, offset: message.offset, content });
    return '';
  }

  /** @param {MessageEntry} message */
  remove(message) { this.#do('delete', { room: this.room.name, offset: message.offset }); }

  /** Adds our reaction, or takes it back. @param {MessageEntry} message @param {string} reaction */
  react(message, reaction) {
    const mine = message.reactions.some((known) => known.reaction === reaction && known.users.includes(this.me.userId));
    this.#do('react', { room: this.room.name, offset: message.offset, reaction, ...(mine && { remove: true }) });
  }

  /** Our newest message that can still be changed. */
  lastOwn() {
    const { room } = this;
    return /** @type {MessageEntry | undefined} */ (room.entries.peek().findLast((entry) => this.canEdit(entry)));
  }

  /** @param {import('./types.js').Entry} entry */
  canEdit(entry) {
    return entry.kind === 'message' && entry.mine && !entry.deleted && (entry.type === 'chat' || entry.type === 'action') && this.room.isCurrent(entry);
  }

  /** The person types, or has stopped. @param {boolean} active */
  type(active) {
    const now = this.world.clock.now();
    if (active ? now - this.#typedAt < TYPING_MS : this.#typedAt === -Infinity) return;
    this.#typedAt = active ? now : -Infinity;
    this.link.typing(this.room.name, this.room.peer.peek(), active);
  }

  /** A page of what was said before what is shown. @param {Room} room */
  async loadOlder(room) {
    const state = room.older.peek();
    if (state === 'none' || state === 'loading' || !room.joined.peek()) return;
    if (state === 'failed' && room.oldest === 0) return this.latest(room);
    room.older.value = 'loading';
    try {
      /** @type {HistoryPage} */
      const page = await this.link.ask('history', { room: room.name, limit: PAGE, ...(room.oldest > 0 && { before: room.oldest }) });
      batch(() => {
        const messages = this.#kept(room, page);
        room.prepend(messages, page.more);
      });
      room.failures = 0;
    } catch (refusal) {
      this.#failed(room, refusal);
    }
  }

  /** The newest page, in place of what is shown. @param {Room} room */
  async latest(room) {
    room.older.value = 'loading';
    try {
      /** @type {HistoryPage} */
      const page = await this.link.ask('history', { room: room.name, limit: PAGE });
      batch(() => {
        room.oldest = 0;
        room.knownUpTo = Math.max(room.knownUpTo, page.head);
        room.reset(this.#kept(room, page), page);
        this.#settle(room);
      });
      room.failures = 0;
    } catch (refusal) {
      this.#failed(room, refusal);
    }
  }

  /** A page could not be had: it is asked for again when the server says so, when we are back, or when somebody wants it. @param {Room} room @param {any} refusal */
  #failed(room, refusal) {
    room.older.value = 'failed';
    room.failures += 1;
    if (!refusal.retryAfterMs) return;
    const wait = Math.max(refusal.retryAfterMs, Math.min(AGAIN_MS * 2 ** (room.failures - 1), AGAIN_MAX_MS));
    this.world.clock.setTimeout(() => this.#loadAgain(room), wait);
  }

  /** @param {Room} room */
  #loadAgain(room) {
    if (room.older.peek() === 'failed' && this.link.state.peek().status === 'online') void this.loadOlder(room);
  }

  /** Which commands there are, for completion. */
  async askCommands() {
    try {
      const { data } = await this.link.ask('commands');
      if (Array.isArray(data)) this.commands.value = data;
    } catch { /* they are asked for again with the next connection */ }
  }

  /** The next room of the list, or the one before. @param {number} step */
  neighbour(step) {
    const names = [...this.rooms.peek().values()].filter(isListed).map(({ name }) => name);
    return names[(names.indexOf(this.current.peek()) + step + names.length) % names.length] ?? this.home.peek();
  }

  /** @param {string} name @returns {Room} */
  #room(name) {
    const room = new Room(name, this.me.userId);
    const key = `draft.${name}`;
    room.draft.value = this.world.memory(key) ?? '';
    let kept = room.draft.peek();
    effect(() => {
      const draft = room.draft.value;
      if (draft !== kept) this.world.memory(key, draft === '' ? null : draft);
      kept = draft;
    });
    return room;
  }

  /** @param {string} name */
  #add(name) {
    const room = this.#room(name);
    this.rooms.value = new Map(this.rooms.peek()).set(name, room);
    return room;
  }

  #remember() {
    const own = [...this.rooms.peek().keys()].filter((name) => name !== this.home.peek() && !name.startsWith('@'));
    this.world.memory('rooms', own.length > 0 ? JSON.stringify(own) : null);
  }

  /** @param {Room} room */
  #enter(room) { this.link.join(room.name, room.peer.peek() || undefined); }

  /** The private conversation with somebody; until the server has a name for it, it has one of ours. @param {string} userId @param {string} name */
  #conversation(userId, name) {
    let room = [...this.rooms.peek().values()].find((candidate) => candidate.peer.peek() === userId);
    if (!room) {
      room = this.#add(`@${userId}`);
      room.peer.value = userId;
      room.older.value = 'none';
      this.#enter(room);
    }
    const known = name || [...this.rooms.peek().values()].map((other) => other.people.peek().get(userId)?.name).find(Boolean) || '';
    room.person(userId, known, this.world.clock.now(), () => ({}));
    return room;
  }

  /** Who is there, and how far they have read. @param {Room} room */
  async #look(room) {
    const present = this.#present(room);
    try {
      /** @type {string | undefined} */
      let after;
      // No more of them than people are kept.
      for (let asked = 0; asked < PEOPLE_MAX; asked += RECEIPTS_PAGE) {
        const { users, next } = await this.link.ask('receipts', { room: room.name, limit: RECEIPTS_PAGE, ...(after !== undefined && { after }) });
        batch(() => { for (const { userId, delivered, seen } of users) room.read(userId, { delivered, seen }); });
        if (next === undefined || next === after) break;
        after = next;
      }
    } catch { /* the room keeps none */ }
    await present;
  }

  /** @param {Room} room */
  async #present(room) {
    try {
      /** @type {PresencePage} */
      const page = await this.link.ask('presence', { room: room.name, limit: 200 });
      const now = this.world.clock.now();
      batch(() => {
        room.allPeople(page.users.map((user) => ({
          userId: user.userId, name: user.username, here: user.online, devices: user.devices,
          clients: new Set(user.devices.map(({ clientId }) => clientId)), seenAt: timeOf(user.since, now),
        })));
        room.members.value = page.userCount;
      });
    } catch { /* nobody may ask in this room */ }
  }

  /** @param {string} name */
  #drop(name) {
    batch(() => {
      if (this.current.peek() === name) this.current.value = this.home.peek();
      const rooms = new Map(this.rooms.peek());
      rooms.get(name)?.draft.peek() || this.world.memory(`draft.${name}`, null);
      rooms.delete(name);
      this.rooms.value = rooms;
      this.unsent.value = this.unsent.peek().filter((entry) => entry.room !== name);
    });
    this.#remember();
  }

  /** The server's name for a room is another than the one we had. @param {Room} room @param {string} name */
  #rename(room, name) {
    const old = room.name;
    batch(() => {
      const there = this.rooms.peek().get(name);
      const kept = there ?? this.#room(name);
      if (room.peer.peek()) {
        kept.peer.value = room.peer.peek();
        kept.people.value = new Map([...room.people.peek(), ...kept.people.peek()]);
      }
      if (!kept.draft.peek()) kept.draft.value = room.draft.peek();
      room.draft.value = '';
      this.rooms.value = new Map([...this.rooms.peek()].filter(([key]) => !there || key !== name).map(([key, value]) => (key === old ? [name, kept] : [key, value])));
      this.unsent.value = this.unsent.peek().map((entry) => (entry.room === old ? { ...entry, room: name } : entry));
      if (this.current.peek() === old) this.current.value = name;
    });
    return /** @type {Room} */ (this.rooms.peek().get(name));
  }

  /** @param {string} type @param {Record<string, unknown>} fields */
  #do(type, fields) {
    this.problem.value = '';
    this.link.ask(type, fields).catch((refusal) => {
      this.problem.value = isRefused(refusal) ? reasonOf(refusal) : 'The connection broke. Please try again.';
    });
  }

  /** @param {Room} room @param {string} text */
  async #command(room, text) {
    this.problem.value = '';
    try {
      const answer = await this.link.ask('chat', { room: room.name, content: text });
      if (answer.type === 'command_result') room.note(String(answer.data?.text ?? 'Done.'), 'own', this.world.clock.now());
      else if (answer.type === 'subscribed') this.open(answer.room);
      else if (answer.type === 'unsubscribed') this.leave(answer.room);
      else if (answer.type === 'kicked') room.note(`${answer.userId} was taken out of the room.`, 'own', this.world.clock.now());
    } catch (refusal) {
      this.problem.value = isRefused(refusal) ? reasonOf(refusal) : 'The connection broke before the command was obeyed.';
      this.onReturned(room.name, text);
    }
  }

  /** @param {string} id @param {Partial<Unsent>} change */
  #change(id, change) {
    this.unsent.value = this.unsent.peek().map((entry) => (entry.id === id ? { ...entry, ...change } : entry));
  }

  #sendAll() {
    for (const entry of this.unsent.peek()) if (entry.state === 'queued' && !this.#sending.has(entry.id)) this.#send(entry);
  }

  /** @param {Unsent} entry */
  #send(entry) {
    const publication = this.link.send(entry);
    // The room is not there yet: it is sent when it is.
    if (!publication) return;
    const { id } = entry;
    this.#sending.set(id, publication);
    const watching = publication.state.subscribe((state) => {
      if (state === 'sent') this.#change(id, { state: 'sending', sentAt: this.world.clock.now() });
      else if (state === 'queued') this.#change(id, { state: 'queued' });
    });
    publication.then((ack) => {
      watching();
      this.#sending.delete(id);
      batch(() => this.#acknowledged(id, { ...ack, type: 'ack', messageId: ack.id }));
    }, (error) => {
      watching();
      this.#sending.delete(id);
      if (!this.unsent.peek().some((known) => known.id === id) || error.reason === 'closed') return;
      // It was never on the wire, however long that lasted: it may wait on.
      if (error.reason === 'expired') return this.#send(entry);
      if (error.reason === 'unconfirmed') return this.#unconfirmed(id);
      this.#change(id, { state: 'refused', why: reasonOf(error), messageId: null, copy: null });
      this.problem.value = reasonOf(error);
    });
  }

  /** It may have arrived: only the room's copy can tell, now or when it comes. @param {string} id */
  #unconfirmed(id) {
    if (this.unsent.peek().find((entry) => entry.id === id)?.copy) this.discard(id);
    else this.#change(id, { state: 'unconfirmed', why: LOOK_FIRST });
  }

  /** @param {string} id @param {ServerEvent} ack */
  #acknowledged(id, ack) {
    const entry = this.unsent.peek().find((candidate) => candidate.id === id);
    if (!entry) return;
    const room = this.rooms.peek().get(entry.room);
    if (room?.isPrivate && ack.room !== entry.room) this.#rename(room, ack.room);
    const shown = this.rooms.peek().get(ack.room)?.messageAt(ack.offset);
    if (shown || entry.copy === ack.messageId) this.discard(id);
    else this.#change(id, { state: 'sent', messageId: ack.messageId, copy: null });
  }

  /** The room's copy of one of our messages came, before or after its acknowledgement, or instead of it. @param {string} room @param {MessageEntry} message */
  #echoed(room, { text, key: messageId, at }) {
    const entries = this.unsent.peek();
    const acknowledged = entries.find((e) => e.state === 'sent' && e.messageId === messageId);
    if (acknowledged) return this.discard(acknowledged.id);
    const mine = entries.find((e) => e.state !== 'refused' && e.state !== 'sent' && !e.copy && e.room === room && e.text === text
      && (e.state !== 'unconfirmed' || at > e.at - SKEW_MS));
    if (mine?.state === 'unconfirmed') this.discard(mine.id);
    else if (mine) this.#change(mine.id, { copy: messageId });
  }

  /** The connection is lost, or in doubt. */
  #cutOff() {
    batch(() => {
      for (const room of this.rooms.peek().values()) {
        room.typing.value = new Map();
        if (room.older.peek() === 'loading') room.older.value = 'failed';
      }
    });
  }

  /** We are online. Over a new connection, rooms are entered first. @param {number} since */
  #back(since) {
    if (since === this.#since) for (const room of this.rooms.peek().values()) this.#loadAgain(room);
    this.#since = since;
  }

  /** Whether somebody reads what comes into the room. @param {Room} room */
  #looksAt(room) { return room.name === this.current.peek() && this.attending.peek() && !room.detached.peek(); }

  /** @param {Room} room */
  #read(room) {
    if (!room) return;
    batch(() => {
      room.unread.value = 0;
      room.mentions.value = 0;
    });
    const offset = room.place?.offset ?? 0;
    if (room.joined.peek() && offset > room.seen) this.#receipt(room, 'seen', offset);
  }

  /** Tells how far we are, not with every message. @param {Room} room @param {'delivered' | 'seen'} kind @param {number} offset */
  #receipt(room, kind, offset) {
    const idle = this.#receipts.size === 0;
    if (kind === 'seen') room.seen = Math.max(room.seen, offset);
    this.#receipts.set(room.name, { delivered: 0, seen: 0, ...this.#receipts.get(room.name), [kind]: offset });
    if (!idle) return;
    this.world.clock.setTimeout(() => {
      for (const [name, { delivered, seen }] of this.#receipts) {
        const peer = this.rooms.peek().get(name)?.peer.peek() ?? '';
        if (seen > 0) this.link.mark(name, peer, 'seen', seen);
        if (delivered > seen) this.link.mark(name, peer, 'delivered', delivered);
      }
      this.#receipts.clear();
    }, RECEIPTS_MS);
  }

  /** @param {ServerEvent} event */
  #apply(event) {
    switch (event.type) {
      case 'welcome': return this.#welcome(event);
      case 'placed': return this.#placed(event.room);
      case 'subscribed': return this.#subscribed(event);
      case 'conversations': return this.#conversations(/** @type {any} */ (event));
      case 'direct': return this.#firstDirect(event['message']);
      case 'system': return this.#system(event);
      case 'error': return void (this.problem.value = reasonOf(/** @type {any} */ (event)));
    }
    const room = this.#roomOf(event);
    if (!room) return;
    switch (event.type) {
      case 'join':
      case 'leave': return this.#cameOrWent(room, event);
      case 'presence_change': return this.#crowd(room, event);
      case 'typing': return this.#typing(room, event);
      case 'receipt':
        if (event.epoch === room.place?.epoch) room.read(event.userId, { [event.receipt]: event.offset });
        if (event.userId === this.me.userId && event.receipt === 'seen') this.#readElsewhere(room, event.offset);
        return;
      case 'receipt_counts': return void (room.counts.value = { offset: event.offset, delivered: event.delivered, seen: event.seen });
      case 'gap': return this.#gap(room, event);
      case 'joined': return void (room.joined.value = true);
      case 'left': return this.#left(room, event['error']);
    }
    if (typeof event.offset === 'number' && event.timestamp !== undefined) this.#said(room, event);
  }

  /** The room that something is about, under the name that it has now. @param {ServerEvent} event @returns {Room | undefined} */
  #roomOf({ room: name, peer }) {
    if (!peer) return this.rooms.peek().get(name);
    const room = [...this.rooms.peek().values()].find((candidate) => candidate.peer.peek() === peer);
    return room && room.name !== name && name !== '' ? this.#rename(room, name) : room;
  }

  /** @param {ServerEvent} event */
  #welcome(event) {
    this.openMode.value = event.openMode === true;
    this.node.value = event.node ?? '';
    this.me = { userId: event.userId, name: event.username };
    this.client = event.clientId;
    for (const room of this.rooms.peek().values()) room.self = event.userId;
    void this.askCommands();
    void this.#askConversations();
  }

  /** The server put us into a room: the one that it has for everybody, or one that an application chose. @param {string} name */
  #placed(name) {
    if (name.startsWith('@')) return void this.#askConversations();
    const home = /** @type {Room} */ (this.rooms.peek().get(this.home.peek()));
    if (this.world.memory('home') === null) {
      this.world.memory('home', name);
      if (name === home.name) return;
      this.link.leave(home.name);
      this.#enter(this.#rename(home, name));
      this.home.value = name;
    } else if (!this.rooms.peek().has(name)) this.#enter(this.#add(name));
  }

  /** Somebody writes to us in private for the first time. @param {ServerEvent} message */
  #firstDirect(message) {
    const peer = message.userId === this.me.userId ? message['to'] : message.userId;
    const room = this.#conversation(peer, message.userId === peer ? message.username : '');
    this.#said(room.name === message.room ? room : this.#rename(room, message.room), { ...message, replayed: false });
  }

  async #askConversations() {
    try {
      let after;
      for (let pages = 0; pages < 5; pages += 1) {
        /** @type {Conversations} */
        const page = await this.link.ask('conversations', after === undefined ? {} : { after });
        batch(() => this.#conversations(page));
        if (page.next === undefined) return;
        after = page.next;
      }
    } catch { /* there are none for who has no name */ }
  }

  /** @param {Conversations} event */
  #conversations({ conversations }) {
    for (const { room: name, with: peer, unread, seen } of conversations) {
      const known = this.#conversation(peer, '');
      const room = known.name === name ? known : this.#rename(known, name);
      if (room.joined.peek()) continue;
      room.unread.value = unread;
      room.seen = seen;
    }
  }

  /** @param {ServerEvent} event */
  #subscribed(event) {
    const room = this.#roomOf(event);
    if (!room) return;
    const before = room.place;
    room.self = this.me.userId;
    room.joined.value = true;
    room.durability = event.durability;
    room.topic.value = event.topic ?? '';
    room.members.value ??= event.members;
    if (typeof event.seen === 'number') room.seen = event.seen;
    this.#unreadOf(room, event);
    room.person(this.me.userId, this.me.name, this.world.clock.now(), (person) => ({ here: true, clients: new Set([...person.clients, this.client]) }));
    if (before && before.epoch === event.epoch) {
      if (event.head > before.offset) this.onCaughtUp(room.name, event.head - before.offset);
      this.#loadAgain(room);
    } else if (!before) {
      room.place = { epoch: event.epoch, offset: event.offset };
      if (event.head >= event.first) void this.latest(room);
      else room.older.value = 'none';
    }
    if (this.current.peek() === room.name) void this.#look(room);
    this.#sendAll();
  }

  /** @param {Room} room @param {ServerEvent} event */
  #unreadOf(room, event) {
    const unread = Number(event.unread) || 0;
    const here = this.current.peek() === room.name;
    room.countedUpTo = typeof event.unread === 'number' ? event.head : 0;
    if (here && unread > 0 && room.seen > 0 && room.line.peek() === null) room.line.value = room.seen;
    // Who comes for the first time has missed nothing.
    room.unread.value = this.#looksAt(room) ? 0 : room.seen > 0 || room.name.startsWith('@') ? unread : 0;
  }

  /** Kept messages as entries; what they say of others is applied already. @param {Room} room @param {HistoryPage} page */
  #kept(room, page) {
    /** @type {MessageEntry[]} */
    const messages = [];
    for (const event of page.messages) {
      if (typeof event.offset === 'number') room.oldest = room.oldest > 0 ? Math.min(room.oldest, event.offset) : event.offset;
      if (NOT_SHOWN.has(event.type) || this.#process(room, event)) continue;
      const entry = this.#entryOf(room, event);
      if (entry.mine) this.#echoed(room.name, entry);
      messages.push(entry);
    }
    return messages;
  }

  /** The newest messages are there: they are delivered, and perhaps seen. @param {Room} room */
  #settle(room) {
    const offset = room.place?.offset ?? 0;
    if (this.#looksAt(room)) this.#read(room);
    else if (offset > 0) this.#receipt(room, 'delivered', offset);
  }

  /** We may not be there, or not any more. @param {Room} room @param {{ code: number, reason: string, message: string } | null} error */
  #left(room, error) {
    room.joined.value = false;
    // Our own going, or the end of everything, is no news about the room.
    if (!error || error.reason === 'left' || error.reason === 'closed' || !this.rooms.peek().has(room.name)) return;
    this.problem.value = error.message && error.message !== error.reason ? `#${room.title}: ${sentence(error.message)}` : `You were taken out of #${room.title}.`;
    // Nobody is without a room: the one for everybody stays, and says what is wrong.
    if (room.name !== this.home.peek()) this.#drop(room.name);
  }

  /** @param {Room} room @param {ServerEvent} event */
  #said(room, event) {
    if (room.place && room.place.epoch === event.epoch && event.offset <= room.place.offset) return;
    if (room.place && room.place.epoch !== event.epoch) room.newEra();
    room.place = { epoch: event.epoch, offset: event.offset };
    const at = timeOf(event.timestamp, this.world.clock.now());
    const mine = event.userId === this.me.userId;
    room.type(event.userId ?? '', '', 0);
    switch (event.type) {
      case 'edit': return this.#amended(room, event, () => ({ text: event.content ?? '', data: dataOf(event), edited: at }));
      case 'delete': return this.#amended(room, event, () => ({ text: '', data: null, files: [], deleted: true, reactions: [] }));
      case 'reaction': return this.#amended(room, event, ({ reactions }) => ({ reactions: reacted(reactions, event) }));
      case 'topic':
        room.topic.value = event.topic;
        this.#settle(room);
        return room.note(event.topic ? `${event.username} set the topic: ${event.topic}` : `${event.username} took the topic away.`, 'system', at);
      case 'rename':
        room.person(event.userId, event.username, at, () => ({}));
        this.#settle(room);
        return room.note(`${event.previousUsername} is now ${event.username}.`, 'system', at);
    }
    if (this.#process(room, event)) return this.#settle(room);
    const entry = this.#entryOf(room, event);
    if (mine) this.#echoed(room.name, entry);
    if (event.userId) room.person(event.userId, event.username ?? '', at, () => ({ here: true }));
    this.#count(room, entry);
    room.addMessage(entry);
    this.#settle(room);
    const news = event['replayed'] !== true;
    if (!mine && news) {
      const text = entry.files.length > 0 ? `${entry.text} (${entry.files.map(({ name }) => name).join(', ')})`.trim() : entry.text;
      this.onHeard({ room: room.name, name: entry.name, text, mentioned: entry.mentioned, direct: room.isPrivate });
    }
  }

  /** Counts what is not looked at, and draws the line below what was. @param {Room} room @param {MessageEntry} entry */
  #count(room, entry) {
    if (entry.mine || this.#looksAt(room)) return;
    if (room.name === this.current.peek() && room.unread.peek() === 0) room.line.value = entry.offset - 1;
    if (entry.offset > room.countedUpTo) room.unread.value += 1;
    if (entry.mentioned) room.mentions.value += 1;
  }

  /** @param {Room} room @param {ServerEvent} event @param {(message: MessageEntry) => Partial<MessageEntry>} change */
  #amended(room, event, change) {
    room.amend(event.target, change);
    this.#settle(room);
  }

  /** @param {Room} room @param {ServerEvent} event @returns {MessageEntry} */
  #entryOf(room, event) {
    const mine = event.userId !== undefined && event.userId === this.me.userId;
    const files = event.type === 'file' && Array.isArray(event.data?.files) ? event.data.files : [];
    const text = String(event.type === 'file' ? event.data?.content ?? '' : event.content ?? '');
    const known = room.people.peek().get(event.userId ?? '');
    return {
      kind: 'message', key: event.id ?? `o${event.offset}`, order: 0, offset: event.offset, at: timeOf(event.timestamp, this.world.clock.now()), type: event.type,
      userId: event.userId ?? '', name: event.username || known?.name || event.userId || 'The application', mine, text, files,
      data: event.type === 'file' ? null : dataOf(event), edited: event.edited ? timeOf(event.edited, 0) : 0, deleted: event.deleted !== undefined,
      reactions: event.reactions ?? [], mentioned: !mine && mentions(text, [this.me.name, this.me.userId]),
    };
  }

  /** Output of a process belongs into its card. @param {Room} room @param {ServerEvent} event */
  #process(room, event) {
    if ((event.type !== 'process_output' && event.type !== 'process_status') || typeof event.data?.processId !== 'string') return false;
    const at = timeOf(event.timestamp, this.world.clock.now());
    const { data } = event;
    const log = room.process(data.processId, at, event.offset);
    if (event.type === 'process_output') log.add({ offset: event.offset, stream: String(data.stream), text: String(data.line ?? ''), partial: data.partial === true, at });
    else {
      log.tell(event.offset ?? 0, { status: String(data.status), exitCode: data.exitCode ?? null, signal: data.signal ?? null });
      if (typeof data.title === 'string' && data.title) log.title.value = data.title.slice(0, 200);
    }
    return true;
  }

  /** Read on another device. @param {Room} room @param {number} offset */
  #readElsewhere(room, offset) {
    room.seen = Math.max(room.seen, offset);
    if (offset >= (room.place?.offset ?? 0)) {
      room.unread.value = 0;
      room.mentions.value = 0;
    }
  }

  /** @param {Room} room @param {ServerEvent} event */
  #cameOrWent(room, event) {
    const at = timeOf(event.timestamp, this.world.clock.now());
    const joined = event.type === 'join';
    if (event.userId === this.me.userId) return;
    const was = room.people.peek().get(event.userId)?.here === true;
    if (room.members.peek() !== null && was !== joined) room.members.value = Math.max(1, (room.members.peek() ?? 0) + (joined ? 1 : -1));
    room.person(event.userId, event.username, at, () => ({
      here: joined, clients: new Set(joined ? [event.clientId ?? ''] : []),
      devices: joined && event.clientId ? [{ clientId: event.clientId, node: event.node, since: event.timestamp ?? '' }] : [],
    }));
    if (!joined) room.type(event.userId, '', 0);
    room.addPresence(event.username, joined, at);
  }

  /** @param {Room} room @param {ServerEvent} event */
  #crowd(room, event) {
    const now = this.world.clock.now();
    room.members.value = event.userCount;
    for (const { userId, username } of event.joined ?? []) room.person(userId, username, now, () => ({ here: true }));
    for (const { userId, username } of event.left ?? []) if (userId !== this.me.userId) room.person(userId, username, now, () => ({ here: false }));
  }

  /** @param {Room} room @param {ServerEvent} event */
  #typing(room, event) {
    if (event.userId === this.me.userId) return;
    const now = this.world.clock.now();
    room.type(event.userId, event.username || event.userId, event.active ? now + event.expiresAfter : 0);
    if (event.active) this.world.clock.setTimeout(() => room.stopTyping(this.world.clock.now()), event.expiresAfter + 50);
  }

  /** @param {ServerEvent} event */
  #system(event) {
    const at = timeOf(event.timestamp, this.world.clock.now());
    for (const room of this.rooms.peek().values()) {
      if (event.room === undefined || event.room === room.name) room.note(event.content, 'system', at);
    }
    this.onHeard({ room: event.room ?? '', name: 'The server', text: event.content, mentioned: false, direct: false });
  }

  /** @param {Room} room @param {ServerEvent} event */
  #gap(room, event) {
    const now = this.world.clock.now();
    if (event.reason === 'epoch') {
      room.newEra();
      room.note('The server started afresh. What it did not keep is not shown.', 'gap', now);
    } else if (event.missed > 0) room.note(missedText(event.missed, 'while you were disconnected'), 'gap', now);
    room.place = { epoch: event.epoch, offset: event.offset };
  }
}

/** Whether a room stands in the list: a conversation does once it is known with whom. @param {Room} room */
export const isListed = (room) => !room.name.startsWith('@') || room.peer.value !== '';

/** Whether it is the server that said no. @param {unknown} refusal @returns {refusal is { code: number, message: string }} */
const isRefused = (refusal) => typeof refusal === 'object' && refusal !== null && 'code' in refusal && typeof refusal.code === 'number' && refusal.code > 0;

/** @param {{ message?: string, retryAfterMs?: number | null }} refusal */
function reasonOf({ message, retryAfterMs }) {
  const wait = retryAfterMs ? ` Try again in ${Math.ceil(retryAfterMs / 1000)} s.` : '';
  return sentence(message || 'the server refused it') + wait;
}

/** @param {readonly import('./types.js').Reaction[]} reactions @param {ServerEvent} event */
function reacted(reactions, { reaction, userId, removed }) {
  const others = (reactions.find((known) => known.reaction === reaction)?.users ?? []).filter((user) => user !== userId);
  const users = removed ? others : [...others, userId];
  if (!reactions.some((known) => known.reaction === reaction)) return users.length > 0 ? [...reactions, { reaction, users }] : reactions;
  return reactions.map((known) => (known.reaction === reaction ? { reaction, users } : known)).filter((known) => known.users.length > 0);
}

/** What a program published, as text to look at; `null` for what people said. @param {ServerEvent} event */
function dataOf(event) {
  if (event['bytes'] !== undefined) return `${event['bytes']} bytes`;
  if (typeof event['base64'] === 'string') return `${Math.floor(event['base64'].length * 3 / 4)} bytes`;
  return event.data === undefined ? null : JSON.stringify(event.data, null, 2);
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

/** @param {string | undefined} timestamp @param {number} otherwise */
function timeOf(timestamp, otherwise) {
  const at = Date.parse(timestamp ?? '');
  return Number.isNaN(at) ? otherwise : at;
}

/** @param {string | null} text @returns {string[]} */
function list(text) {
  try {
    const names = JSON.parse(text ?? '[]');
    return Array.isArray(names) ? names.filter((name) => typeof name === 'string' && name !== '' && !name.startsWith('@')) : [];
  } catch {
    return [];
  }
}

/** What was not confirmed when the page was left goes out again, under the same key, as long as the server knows that. @param {string | null} text @param {number} now @returns {Unsent[]} */
function unsentFrom(text, now) {
  try {
    return JSON.parse(text ?? '[]').map((/** @type {Unsent} */ entry) => {
      const unsure = entry.sentAt > 0 && now - entry.sentAt > REMEMBERED_MS;
      const kept = { ...entry, messageId: null, copy: null };
      if (entry.state === 'refused') return kept;
      return unsure || entry.state === 'unconfirmed' ? { ...kept, state: 'unconfirmed', why: LOOK_FIRST } : { ...kept, state: 'queued' };
    });
  } catch {
    return [];
  }
}
