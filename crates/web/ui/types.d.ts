/** Shapes shared by the modules: what travels on the wire (docs/protocol/native.md) and what the views show. */
import type { Log } from './model.js';
import type { Publication } from '../sdk/types.js';

export interface Place { epoch: string; offset: number }

export interface Conversation extends Place { room: string; with: string; timestamp: string; unread: number; seen: number; delivered: number }
export interface Conversations { type: 'conversations'; id?: string; conversations: readonly Conversation[]; next?: string }
export interface HistoryPage { type: 'history'; id?: string; room: string; epoch: string; first: number; head: number; more: boolean; messages: readonly ServerEvent[] }
export interface PresencePage {
  type: 'presence'; id?: string; room: string; userCount: number; members: number; next?: string;
  users: readonly { userId: string; username: string; online: boolean; since: string; devices: readonly Device[]; info?: unknown }[];
}
export interface Device { clientId: string; device?: string; since: string; node?: string }
export interface ReceiptsPage { type: 'receipts'; id?: string; room: string; epoch: string; users: readonly ({ userId: string } & Reading)[]; next?: string }
export interface CommandSpec {
  name: string; usage: string; summary: string;
  arguments: readonly { name: string; kind: 'room' | 'user' | 'command' | 'word' | 'text'; optional: boolean }[];
}
/** Anything that came; `type` decides, and `chat.js` looks at what it knows. */
export interface ServerEvent { type: string; id?: string; [field: string]: any }

/** Why there is no connection: the browser has no network, nothing was heard, the server closed it, or it cannot be reached. */
export type Cause = 'network' | 'silence' | 'server' | 'unreachable';
export type ConnectionState =
  | { status: 'idle' }
  | { status: 'connecting'; attempt: number }
  | { status: 'online'; since: number }
  | { status: 'offline'; cause: Cause; attempt: number; retryAt: number | null }
  | { status: 'closed'; code: number; reason: string };

/** What `chat.js` needs of a connection. */
export interface Link {
  readonly state: { readonly value: ConnectionState; peek(): ConnectionState };
  onEvent: (event: ServerEvent) => void;
  /** Asks, and waits for the answer; rejects with the server's refusal, or with an error whose `code` is 0 or missing when it was cut off. */
  ask(type: string, fields?: Record<string, unknown>): Promise<any>;
  join(room: string, peer?: string): void;
  leave(room: string, peer?: string): void;
  send(entry: Unsent): Publication | null;
  typing(room: string, peer: string, active: boolean): void;
  mark(room: string, peer: string, kind: 'delivered' | 'seen', upTo: number): void;
  connect(): void;
  close(): void;
}

export interface Clock { now(): number; setTimeout(run: () => void, ms: number): unknown; clearTimeout(timer: unknown): void }

/** What `chat.js` needs of the page around it. */
export interface World {
  clock: Clock; memory: Memory;
  /** Gone with the tab. */
  tab: Memory;
  randomId(length: number): string;
  /** How the server's files are reached: as the hub is. */
  files: { hub: URL; options: { token?: string } };
}

/** Storage of the browser, or of this page where the browser forbids it. */
export type Memory = (key: string, value?: string | null) => string | null;

/** Somebody who is there, or was while we were; `clients`: the connections we know of. */
export interface Person { userId: string; name: string; here: boolean; clients: ReadonlySet<string>; devices: readonly Device[]; seenAt: number }

export interface Reaction { reaction: string; users: readonly string[] }
export interface Reading { delivered: number; seen: number }
export interface Mark { state: 'sent' | 'delivered' | 'seen'; count: number }

export interface Attachment { id: string; name: string; type: string; size: number; width?: number; height?: number; alt?: string; preview: boolean }

/** A message, in its present state. `order` is its place among the entries. */
export interface MessageEntry {
  kind: 'message'; key: string; order: number; offset: number; at: number; type: string;
  userId: string; name: string; mine: boolean; text: string; data: string | null; files: readonly Attachment[];
  edited: number; deleted: boolean; reactions: readonly Reaction[]; mentioned: boolean;
}
export interface PresenceEntry { kind: 'presence'; key: string; order: number; at: number; events: readonly { name: string; joined: boolean }[] }
export interface NoteEntry { kind: 'note'; key: string; order: number; at: number; text: string; tone: 'system' | 'gap' | 'own' }
export interface ProcessEntry { kind: 'process'; key: string; order: number; at: number; id: string; log: Log }
export type Entry = MessageEntry | PresenceEntry | NoteEntry | ProcessEntry;
export interface LogLine { offset: number; stream: string; text: string; partial?: boolean; at: number }
export interface ProcessStatus { status: string; exitCode: number | null; signal: string | null }

export type MessageItem = MessageEntry & { head: boolean };
export interface DayItem { kind: 'day'; key: string; at: number }
export interface UnreadItem { kind: 'unread'; key: string; at: number }
export type Item = MessageItem | PresenceEntry | NoteEntry | ProcessEntry | DayItem | UnreadItem;

/** A message of ours that the room has not shown us yet. */
export interface Unsent {
  /** Also its idempotency key: however often it is sent, it is said once. */
  readonly id: string;
  readonly room: string;
  /** The other one, in a private conversation; else ''. */
  readonly to: string;
  readonly text: string; readonly at: number;
  readonly files: readonly { id: string; alt: string; name: string }[];
  /** Waiting for a connection; on its way; acknowledged, its copy still to come; refused; perhaps sent, and never acknowledged. */
  readonly state: 'queued' | 'sending' | 'sent' | 'refused' | 'unconfirmed';
  readonly why: string;
  /** When it was last on the wire; 0: never. */
  readonly sentAt: number;
  /** The server's id for it, once it is acknowledged. */
  readonly messageId: string | null;
  /** The id of the room's copy, where that came before the acknowledgement: it is what to show. */
  readonly copy: string | null;
}

export type { Child, Plain, Props } from '../shared/types.js';
