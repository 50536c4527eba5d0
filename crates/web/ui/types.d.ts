/** Shapes shared by the modules: what travels on the wire (docs/protocol/native.md) and what the views show. */
import type { Log } from './model.js';

export interface Place { epoch: string; offset: number }

export interface Welcome {
  type: 'welcome'; clientId: string; userId: string; username: string; timestamp: string;
  pingInterval: number; maxMessageBytes: number; openMode: boolean;
  node?: { name: string; prefer?: string; url?: string };
}
export interface Subscribed extends Place {
  type: 'subscribed'; id?: string; room: string; members: number; head: number; first: number; recovered?: boolean;
  durability: string; unread?: number; seen?: number; delivered?: number; topic?: string;
}
export interface Unsubscribed { type: 'unsubscribed'; id?: string; room: string; code?: number; error?: string; message?: string }
interface Said extends Partial<Place> {
  userId?: string; username?: string; timestamp: string; room?: string; id: string; to?: string;
  edited?: string; deleted?: string; reactions?: readonly Reaction[];
}
export interface TextEvent extends Said { type: 'chat' | 'action'; content: string }
/** What a program published: `message`, or a type of its own. */
export interface DataEvent extends Said { type: string; data?: unknown; base64?: string }
export interface TopicEvent extends Said { type: 'topic'; topic: string }
export interface RenameEvent extends Said { type: 'rename'; previousUsername: string }
export interface EditEvent extends Said { type: 'edit'; content?: string; data?: unknown; target: number }
export interface DeleteEvent extends Said { type: 'delete'; target: number }
export interface ReactionEvent extends Said { type: 'reaction'; reaction: string; target: number; removed: boolean }
export interface SystemEvent { type: 'system'; content: string; timestamp: string; room?: string; id?: string }
export interface PresenceEvent { type: 'join' | 'leave'; userId: string; username: string; timestamp: string; room?: string; clientId?: string }
export interface PresenceChange {
  type: 'presence_change'; room: string; userCount: number; members: number; joinedCount: number; leftCount: number;
  joined: readonly { userId: string; username: string }[]; left: readonly { userId: string; username: string }[];
}
export interface TypingEvent { type: 'typing'; room: string; userId: string; username: string; clientId: string; active: boolean; expiresAfter: number }
export interface ReceiptEvent { type: 'receipt'; room: string; userId: string; receipt: 'delivered' | 'seen'; epoch: string; offset: number }
export interface ReceiptCounts { type: 'receipt_counts'; room: string; epoch: string; offset: number; delivered: number; seen: number }
export interface Conversation extends Place { room: string; with: string; timestamp: string; unread: number; seen: number; delivered: number }
export interface Conversations { type: 'conversations'; id?: string; conversations: readonly Conversation[]; next?: string }
export interface Ack extends Place { type: 'ack'; id: string; room: string; messageId: string; timestamp: string; duplicate?: boolean }
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
export interface Refused {
  type: 'error'; id?: string; code: number; error: string; message: string; temporary: boolean; retryAfter?: number;
}
export interface Pong { type: 'pong'; id?: string }
export interface Gap extends Place { type: 'gap'; room: string; missed: number }
export interface GoingAway { type: 'going_away'; reconnectAfter: number }
/** Anything that came; `type` decides, and `chat.js` looks at what it knows. */
export interface ServerEvent { type: string; id?: string; [field: string]: any }

export interface ClientRequest { type: string; id?: string; [field: string]: unknown }

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
  /** Asks, and waits for the answer; rejects with the server's refusal, or with `CutOff`. */
  ask(type: string, fields?: Record<string, unknown>): Promise<any>;
  /** Says something that needs no answer, if there is a connection. */
  tell(type: string, fields?: Record<string, unknown>): void;
  /** The connection is in doubt: find out. */
  doubt(): void;
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
  /** How the server's files are reached: the addresses, and the credential where it is a header. */
  files: { address(path: string): string; headers(): Record<string, string> };
}

/** Storage of the browser, or of this page where the browser forbids it. */
export type Memory = (key: string, value?: string | null) => string | null;

export interface Socket {
  readonly readyState: number;
  readonly bufferedAmount: number;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  onerror: ((event: unknown) => void) | null;
  send(text: string): void;
  close(code?: number, reason?: string): void;
}

/** What the connection needs of the world; tests bring their own. */
export interface Env extends Clock {
  open(url: string): Socket;
  /** From 0 up to, not including, 1. */
  random(): number;
}

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
export interface LogLine { offset: number; stream: string; text: string; at: number }
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
  /** Waiting for a connection; on its way; acknowledged, its copy still to come; refused. */
  readonly state: 'queued' | 'sending' | 'sent' | 'refused';
  readonly why: string;
  /** The server's id for it, once it is acknowledged. */
  readonly messageId: string | null;
  /** The id of the room's copy, where that came before the acknowledgement: it is what to show. */
  readonly copy: string | null;
}

/** What `h()` takes for a child: a function is an effect. */
export type Plain = Node | string | number | null | undefined | false;
export type Child = Plain | (() => Plain) | readonly Child[];
type Attribute = string | number | boolean | null | undefined;
/** What `h()` takes for properties: the element's own, and the attributes that are no properties. */
export type Props<E> = { [K in keyof E]?: K extends `on${string}` ? E[K] : E[K] | (() => E[K]) }
  & { [K in `aria-${string}` | `data-${string}`]?: Attribute | (() => Attribute) }
  & { class?: string | (() => string); role?: string; for?: string; datetime?: string; list?: string };
