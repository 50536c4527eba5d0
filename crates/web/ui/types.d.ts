/** Shapes shared by the modules: what travels on the wire (docs/protocol/native.md) and what the views show. */

export interface Place { epoch: string; offset: number }

export interface Welcome {
  type: 'welcome'; clientId: string; userId: string; username: string; timestamp: string;
  pingInterval: number; maxMessageBytes: number; openMode: boolean;
  node?: { name: string; prefer?: string; url?: string };
}
export interface Subscribed extends Place { type: 'subscribed'; id?: string; room: string; members: number }
export interface Unsubscribed { type: 'unsubscribed'; id?: string; room: string }
export interface ChatEvent extends Partial<Place> {
  type: 'chat'; userId: string; username: string; content: string; timestamp: string; room?: string; id: string;
}
export interface SystemEvent { type: 'system'; content: string; timestamp: string; room?: string; id?: string }
export interface PresenceEvent { type: 'join' | 'leave'; userId: string; username: string; timestamp: string; room?: string; clientId?: string }
export interface Ack extends Place { type: 'ack'; id: string; room: string; messageId: string; timestamp: string; duplicate?: boolean }
export interface Refused {
  type: 'error'; id?: string; code: number; error: string; message: string; temporary: boolean; retryAfter?: number;
}
export interface Pong { type: 'pong'; id?: string }
export interface Gap extends Place { type: 'gap'; room: string; missed: number }
export interface GoingAway { type: 'going_away'; reconnectAfter: number }
export type ServerEvent =
  | Welcome | Subscribed | Unsubscribed | ChatEvent | SystemEvent | PresenceEvent | Ack | Refused | Pong | Gap | GoingAway;

export type ClientRequest =
  | { type: 'chat'; id: string; room: string; content: string }
  | { type: 'subscribe' | 'unsubscribe'; id: string; room: string }
  | { type: 'ping'; id: string };

/** Why there is no connection: the browser has no network, nothing was heard, the server closed it, or it cannot be reached. */
export type Cause = 'network' | 'silence' | 'server' | 'unreachable';
export type ConnectionState =
  | { status: 'idle' }
  | { status: 'connecting'; attempt: number }
  | { status: 'online'; since: number }
  | { status: 'offline'; cause: Cause; attempt: number; retryAt: number | null }
  | { status: 'closed'; code: number; reason: string };

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
export interface Env {
  open(url: string): Socket;
  /** Milliseconds, of a clock that goes on while the machine sleeps. */
  now(): number;
  /** From 0 up to, not including, 1. */
  random(): number;
  setTimeout(run: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
}

/** Somebody who came, left or spoke while we were there; `clients`: the connections we saw them come with. */
export interface Person { userId: string; name: string; here: boolean; clients: ReadonlySet<string>; seenAt: number }

export interface MessageItem {
  kind: 'message'; key: string; userId: string; name: string; text: string; at: number; mine: boolean; head: boolean;
}
export interface PresenceItem { kind: 'presence'; key: string; at: number; events: readonly { name: string; joined: boolean }[] }
export interface NoteItem { kind: 'note'; key: string; at: number; text: string; tone: 'system' | 'gap' }
export interface DayItem { kind: 'day'; key: string; at: number }
export interface UnreadItem { kind: 'unread'; key: string; at: number }
export type Item = MessageItem | PresenceItem | NoteItem | DayItem | UnreadItem;

/** A message of ours that the server has not confirmed. */
export interface Unsent {
  readonly id: string; readonly room: string; readonly text: string; readonly at: number;
  /** Waiting for a connection; on its way; acknowledged, its copy still to come; cut off on its way, so perhaps delivered; refused. */
  readonly state: 'queued' | 'sending' | 'sent' | 'unsure' | 'refused';
  readonly why: string;
  /** The server's id for it. Known while still `sending`: the room's copy came first, and is what to show. */
  readonly messageId: string | null;
}

/** What `h()` takes for a child: a function is an effect. */
export type Plain = Node | string | number | null | undefined | false;
export type Child = Plain | (() => Plain) | readonly Child[];
type Attribute = string | number | boolean | null | undefined;
/** What `h()` takes for properties: the element's own, and the attributes that are no properties. */
export type Props<E> = { [K in keyof E]?: K extends `on${string}` ? E[K] : E[K] | (() => E[K]) }
  & { [K in `aria-${string}` | `data-${string}`]?: Attribute | (() => Attribute) }
  & { class?: string | (() => string); role?: string; for?: string; datetime?: string };
