/**
 * What people need to talk: who is typing, how far the others have read, commands, and messages as they are now.
 *
 * Stands on a room's public interface alone. Invariants: a timeline holds each message once, in the order of offsets, with
 * every edit, deletion and reaction applied, whether it came live, replayed or from history; nobody counts as typing for
 * longer than the server says.
 */
import { WORLD, off, valueOf } from './base.js';

/** @import { Env, Frame, Hub, HubError, PublishOptions, Publication, Readable, Room } from './types.js' */

/** @typedef {{ name: string, usage: string, summary: string, arguments: readonly { name: string, kind: string, optional: boolean }[] }} Command */
/** @typedef {{ userId: string, username: string }} Typist */
/** @typedef {{ delivered: number, seen: number }} Marks */
/**
 * A message as it is now.
 * @typedef {object} Line
 * @property {number} offset
 * @property {string} epoch
 * @property {string} id
 * @property {string} type
 * @property {any} data null once it is deleted
 * @property {{ userId: string, username: string } | null} from
 * @property {number} ts
 * @property {boolean} edited
 * @property {boolean} deleted
 * @property {readonly { reaction: string, users: readonly string[] }[]} reactions
 */

const TYPING_EVERY_MS = 3_000;
const DELIVERED_EVERY_MS = 250;
const LINES_MAX = 500;
const TYPISTS_MAX = 50;

/**
 * @param {Hub<any>} hub
 * @param {Room<any>} room
 * @param {{ deliver?: boolean, linesMax?: number, env?: Partial<Env> }} [options] `deliver`: say by itself what was received (default)
 */
export function chatOf(hub, room, { deliver = true, linesMax = LINES_MAX, ...options } = {}) {
  const env = { ...WORLD, ...options.env };
  const lines = valueOf(/** @type {readonly Line[]} */ ([]));
  const typing = valueOf(/** @type {readonly Typist[]} */ ([]));
  const marks = valueOf(/** @type {ReadonlyMap<string, Marks>} */ (new Map()));
  /** @type {Map<string, unknown>} */
  const typists = new Map();
  let lastStroke = -Infinity;
  /** @type {unknown} */
  let deliverTimer;
  let received = 0;
  const me = () => hub.user.get()?.userId;

  /** @param {any} event @returns {Line} */
  const lineOf = ({ offset, epoch, id, type, data, from, ts, edited, deleted, reactions = [] }) => (
    { offset, epoch, id, type, data: deleted ? null : data, from, ts, edited: Boolean(edited), deleted: Boolean(deleted), reactions });

  /** @param {readonly { reaction: string, users: readonly string[] }[]} all @param {string} reaction @param {string} user @param {boolean} removed */
  function reacted(all, reaction, user, removed) {
    const users = all.find((one) => one.reaction === reaction)?.users ?? [];
    const now = { reaction, users: removed ? users.filter((one) => one !== user) : [...new Set([...users, user])] };
    const others = all.some((one) => one.reaction === reaction) ? all.map((one) => (one.reaction === reaction ? now : one)) : [...all, now];
    return others.filter((one) => one.users.length > 0);
  }

  /** What a change makes of the line that it is about; null: it is no change. @param {any} event @param {Line} line @returns {Line | null} */
  function changed({ type, data, from }, line) {
    if (type === 'edit') return { ...line, data: 'content' in data ? { ...line.data, content: data.content } : data.data, edited: true };
    if (type === 'delete') return { ...line, data: null, deleted: true, reactions: [] };
    if (type === 'reaction') return { ...line, reactions: reacted(line.reactions, data.reaction, from?.userId ?? '', data.removed) };
    return null;
  }

  /** @param {any} event */
  function take(event) {
    const { offset, epoch, data, type, from } = event;
    if (offset === null) return;
    if (from) stopped(from.userId);
    const target = ['edit', 'delete', 'reaction'].includes(type) ? data?.target : undefined;
    if (target !== undefined) {
      lines.set(lines.get().map((line) => (line.offset === target && line.epoch === epoch ? changed(event, line) ?? line : line)));
    } else {
      const before = lines.get().at(-1);
      // Another log: what was said in the old one can be neither changed nor referred to any more.
      const kept = before && before.epoch !== epoch ? [] : lines.get();
      lines.set([...kept, lineOf(event)].slice(-linesMax));
    }
    if (deliver && from?.userId !== me()) {
      received = offset;
      deliverTimer ??= env.setTimeout(() => {
        deliverTimer = undefined;
        room.delivered(received);
      }, DELIVERED_EVERY_MS);
    }
  }

  /** @param {string} userId */
  function stopped(userId) {
    if (!typists.has(userId)) return;
    env.clearTimeout(typists.get(userId));
    typists.delete(userId);
    typing.set(typing.get().filter((one) => one.userId !== userId));
  }

  /** @param {any} event */
  function heardTyping({ data: { userId, username, active, expiresAfter } }) {
    if (userId === me() || typeof userId !== 'string') return;
    if (!active) return stopped(userId);
    if (!typists.has(userId) && typists.size >= TYPISTS_MAX) return;
    env.clearTimeout(typists.get(userId));
    if (!typists.has(userId)) typing.set([...typing.get(), { userId, username: String(username) }]);
    typists.set(userId, env.setTimeout(() => stopped(userId), Math.min(Math.max(Number(expiresAfter) || 0, 1_000), 60_000)));
  }

  /** @param {any} event */
  function heardReceipt({ data: { userId, receipt, offset } }) {
    const { delivered, seen } = marks.get().get(userId) ?? { delivered: 0, seen: 0 };
    const read = receipt === 'seen' ? Math.max(seen, offset) : seen;
    // Who has seen a message has received it.
    marks.set(new Map(marks.get()).set(userId, { delivered: Math.max(delivered, read, offset), seen: read }));
  }

  /** @type {(() => void)[]} */
  const offs = [
    room.on('*', take),
    room.on('typing', heardTyping),
    room.on('receipt', heardReceipt),
    room.on('leave', ({ data }) => stopped(data.userId)),
  ];

  /** @type {Promise<readonly Command[]> | undefined} */
  let commands;

  const self = {
    room,
    /** The newest messages, oldest first. @type {Readable<readonly Line[]>} */
    lines,
    /** Who else is typing. @type {Readable<readonly Typist[]>} */
    typing,
    /** How far everybody has received and read; ask with `loadMarks`, kept up to date by itself. @type {Readable<ReadonlyMap<string, Marks>>} */
    marks,
    /** @param {string} content @param {PublishOptions} [how] @returns {Publication} */
    say(content, how) {
      lastStroke = -Infinity;
      return room.publish('chat', { content }, how);
    },
    /** @param {number} offset @param {string} content @param {PublishOptions} [how] */
    edit: (offset, content, how) => room.submit({ type: 'edit', offset, content }, how),
    /** @param {number} offset @param {PublishOptions} [how] */
    remove: (offset, how) => room.submit({ type: 'delete', offset }, how),
    /** @param {number} offset @param {string} reaction @param {PublishOptions & { remove?: boolean }} [how] */
    react: (offset, reaction, { remove, ...how } = {}) => room.submit({ type: 'react', offset, reaction, ...(remove && { remove }) }, how),
    /** To be called with every key: says it now and then. */
    keystroke() {
      if (env.now() - lastStroke < TYPING_EVERY_MS) return;
      lastStroke = env.now();
      room.typing();
    },
    /** The text was cleared. */
    stopTyping() {
      if (lastStroke > -Infinity) room.typing(false);
      lastStroke = -Infinity;
    },
    /** Puts older messages before those there are. Resolves with whether there are more. @param {number} [limit] */
    async loadOlder(limit = 50) {
      const oldest = lines.get()[0];
      const { messages, more } = await room.history({ before: oldest?.offset, limit });
      // Changes are messages of the log, too; what they changed has them already.
      const older = messages.filter(({ type }) => !['edit', 'delete', 'reaction'].includes(type)).map(lineOf);
      const now = lines.get();
      lines.set([...older.filter(({ offset, epoch }) => !now.some((line) => line.offset === offset && line.epoch === epoch)), ...now]);
      return more;
    },
    /** How far everybody is. */
    async loadMarks() {
      /** @type {string | undefined} */
      let after;
      do {
        /** @type {any} */
        const page = await hub.request('receipts', { room: room.name, after });
        for (const { userId, delivered, seen } of Array.isArray(page.users) ? page.users : []) {
          const now = marks.get().get(userId);
          marks.set(new Map(marks.get()).set(userId, { delivered: Math.max(delivered, now?.delivered ?? 0), seen: Math.max(seen, now?.seen ?? 0) }));
        }
        after = page.next;
      } while (after !== undefined);
      return marks.get();
    },
    /** The commands there are; asked for once. @returns {Promise<readonly Command[]>} */
    commands() {
      commands ??= hub.request('commands').then((/** @type {any} */ { data }) => data);
      commands.catch(() => { commands = undefined; });
      return commands;
    },
    /** Which commands a text may become: those that begin as it does. @param {string} text */
    async complete(text) {
      const typed = /^\/(?!\/)(\S*)$/u.exec(text)?.[1];
      if (typed === undefined) return [];
      return (await self.commands()).filter(({ name }) => name.startsWith(typed.toLowerCase()));
    },
    end: off(() => {
      for (const ended of offs.splice(0)) ended();
      for (const timer of [deliverTimer, ...typists.values()]) env.clearTimeout(timer);
      typists.clear();
    }),
  };
  return self;
}
