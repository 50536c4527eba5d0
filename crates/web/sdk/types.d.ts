/** The public types of `@outspoke/client`. What they mean on the wire is docs/protocol/native.md; what every client does, docs/clients/specification.md. */

/** Ends a subscription: call it, or bind it with `using`. Calling it twice is harmless. */
export type Off = (() => void) & Disposable;

/** A value that changes. It is a Svelte store, and `get` with `subscribe` is what React's `useSyncExternalStore` takes. */
export interface Readable<T> {
  get(): T;
  /** Calls `run` with the present value at once, and with every later one. */
  subscribe(run: (value: T) => void): Off;
}

/** Where the connection stands. Exactly one of these holds. */
export type ConnState =
  | { readonly status: 'idle' }
  | { readonly status: 'connecting'; readonly attempt: number }
  | {
      readonly status: 'online';
      /** When the server said welcome, in the clock of `Env.now`. */
      readonly since: number;
      /** The last round trip measured, if one was. */
      readonly rttMs: number | null;
      /** The server's id for this connection. */
      readonly session: string;
      /** Whether an earlier connection of this hub came before it. */
      readonly resumed: boolean;
      /** The name of the server, if several act as one; else ''. */
      readonly node: string;
    }
  | {
      readonly status: 'offline';
      readonly cause: 'network' | 'watchdog' | 'server' | 'auth';
      /** How many waits there were in a row, this one included. */
      readonly attempt: number;
      /** When the next attempt begins; null while a socket is kept and asked whether it lives. */
      readonly retryAt: number | null;
      /** Messages of ours that wait for an acknowledgement. */
      readonly queued: number;
    }
  | { readonly status: 'closed'; readonly error: HubError | null };

/** A place in a room's log. Serialisable: keep it to go on after a page was loaded anew. */
export interface Position { readonly epoch: string; readonly offset: number }

export interface Author { readonly userId: string; readonly username: string }
export interface User extends Author { readonly openMode: boolean }

/** One event of a room. */
export interface Envelope<T extends string = string, D = unknown> {
  /** The message's id; '' for notices, which have none. */
  readonly id: string;
  readonly room: string;
  readonly type: T;
  readonly data: D;
  /** The place in the room's log; null for what has none. */
  readonly offset: number | null;
  readonly epoch: string | null;
  /** The server's time in milliseconds since 1970; NaN where it said none. */
  readonly ts: number;
  readonly from: Author | null;
  /** Whether it was said before we came (back): not to be announced as news. */
  readonly replayed: boolean;
  /** The user that a private message is for. */
  readonly to?: string;
  readonly edited?: string;
  readonly deleted?: string;
  readonly reactions?: readonly { readonly reaction: string; readonly users: readonly string[] }[];
}

/** What the server says of itself in every room: nobody publishes these. */
export interface Notices {
  join: { userId: string; username: string; clientId: string; timestamp: string; node?: string };
  leave: { userId: string; username: string; clientId: string; timestamp: string };
  typing: { userId: string; username: string; clientId: string; active: boolean; expiresAfter: number };
  presence_change: {
    userCount: number; members: number; joinedCount: number; leftCount: number;
    joined: readonly Author[]; left: readonly Author[];
  };
  receipt: { userId: string; receipt: 'delivered' | 'seen'; epoch: string; offset: number };
  receipt_counts: { epoch: string; offset: number; delivered: number; seen: number };
  system: { content: string };
  action: { content: string };
  topic: { topic: string };
  rename: { previousUsername: string };
  edit: { target: number; content?: string; data?: unknown };
  delete: { target: number };
  reaction: { target: number; reaction: string; removed: boolean };
}

/** Messages that will not come: those after `from`, up to and including `to`. */
export interface Gap {
  readonly from: Position | null;
  readonly to: Position;
  /** How many, where that is known. */
  readonly missed: number | null;
  /**
   * `expired`: not kept any more. `epoch`: the room's log began anew. `overflow`: we read too slowly.
   * `skipped`: the room was joined with `recover: 'latest'`. `lost`: the server skipped them and did not say so.
   */
  readonly reason: 'expired' | 'epoch' | 'overflow' | 'skipped' | 'lost';
}

export interface Ack extends Position {
  /** The server's id of the message; '' for a command that published none. */
  readonly id: string;
  readonly room: string;
  readonly ts: number;
  /** Whether the message had been accepted before, and this was its repetition. */
  readonly duplicate: boolean;
  /** The answer itself. For commands it is a `command_result`, `kicked`, ... */
  readonly answer: Frame;
}

export type PublicationState = 'queued' | 'sent' | 'acked' | 'delivered' | 'seen' | 'failed';

/** A message of ours on its way. Awaiting it gives the acknowledgement, or throws a {@link HubError}. Not awaiting it is fine. */
export interface Publication extends PromiseLike<Ack> {
  /** Known at once, for showing the message before it is confirmed. It is also its idempotency key. */
  readonly id: string;
  /** When it was made, in the clock of `Env.now`. */
  readonly at: number;
  /** What is sent, without ids and bytes. */
  readonly frame: Frame;
  readonly state: Readable<PublicationState>;
  /** Why it failed. */
  readonly error: HubError | null;
  /** Takes it back. False: it was sent already. */
  cancel(): boolean;
}

/** For everything that waits. */
export interface Call {
  /** Ends the waiting with the signal's reason. */
  signal?: AbortSignal | undefined;
  timeoutMs?: number | undefined;
}

/** A frame as it is on the wire. */
export interface Frame { readonly type: string; readonly [field: string]: unknown }

export interface TokenRequest {
  /**
   * `connect`: for a new connection. `expiring`: the one in use ends soon. `rejected`: the last one was not accepted; if this
   * one is not either, the hub is closed.
   */
  readonly reason: 'connect' | 'expiring' | 'rejected';
  /** Aborted when nobody waits for the token any more. */
  readonly signal: AbortSignal;
}

export interface HubOptions {
  /** The credential, or where to get one. A function is asked for every connection, and before a credential ends. */
  token?: string | ((why: TokenRequest) => string | Promise<string>) | undefined;
  /** How it is shown: as a subprotocol (default), or as the first message, where the server allows that. */
  tokenBy?: 'subprotocol' | 'message' | undefined;
  /** Which of the user's devices or tabs this is. Random if left out: keep one of your own if a reloaded page shall replace itself. */
  device?: string | undefined;
  /** Default: true. */
  autoConnect?: boolean | undefined;
  /** The wait before attempt n is random in [0, min(capMs, baseMs * 2^n)). Defaults: 1,000, 30,000, no limit, 60,000. */
  reconnect?: { baseMs?: number; capMs?: number; maxAttempts?: number; stableMs?: number } | false | undefined;
  /** `graceMs`: how long an answer may take when nothing was heard (10,000). `probeMs`: when there is reason for doubt (2,000). */
  watchdog?: { graceMs?: number; probeMs?: number } | false | undefined;
  /** Defaults: 1,024 messages, 5 minutes, `reject`, memory only. */
  outbox?: { max?: number; ttlMs?: number; overflow?: 'reject' | 'drop-oldest'; store?: OutboxStore } | false | undefined;
  env?: Partial<Env> | undefined;
  log?: ((event: LogEvent) => void) | undefined;
}

/** `text` says what it is about, in a word or two, and `detail` why. */
export interface LogEvent { readonly level: 'debug' | 'warn' | 'error'; readonly text: string; readonly detail?: unknown }

/** A message as an {@link OutboxStore} keeps it: structured-cloneable. */
export interface OutboxEntry {
  readonly id: string;
  readonly at: number;
  readonly frame: Frame;
  /** Bytes, if it is a binary message. */
  readonly bytes?: Uint8Array;
}
/** Keeps what was not acknowledged over the end of the page. One hub at a time may use one store: give each user and tab its own. */
export interface OutboxStore {
  load(): Promise<readonly OutboxEntry[]>;
  put(entry: OutboxEntry): Promise<void>;
  remove(id: string): Promise<void>;
}

/** What the hub uses of a WebSocket. */
export interface SocketLike {
  readonly readyState: number;
  readonly protocol: string;
  readonly bufferedAmount: number;
  binaryType: string;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(data: string | Uint8Array<ArrayBuffer>): void;
  close(code?: number, reason?: string): void;
}

/** What the hub needs of the world. Tests, and runtimes without these things, bring their own. */
export interface Env {
  WebSocket: new (url: string, protocols: string[]) => SocketLike;
  /** Milliseconds, of a clock that goes on while the machine sleeps. */
  now(): number;
  /** From 0 up to, not including, 1. Used for the waits only. */
  random(): number;
  setTimeout(run: () => void, ms: number): unknown;
  clearTimeout(timer: any): void;
  /** Text that nobody else will ever make, at most 32 bytes of it. */
  unique(): string;
  /** Reports what the system knows of the network, and that we are looked at again. Returns how to stop. */
  watch(hear: { online(): void; offline(): void; wake(): void }): () => void;
}

/** https://standardschema.dev: what zod, valibot and others implement. */
export interface StandardSchema<O = unknown> {
  readonly '~standard': {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => { readonly value: O; readonly issues?: undefined } | { readonly issues: readonly unknown[] } | Promise<unknown>;
  };
}

export interface JoinOptions<Ev> {
  /**
   * What to do about messages missed while away. `replay` (default): get them, and report as a `$gap` what cannot be had.
   * `latest`: go on with what is new, and report the rest as a `$gap`. `none`: go on, and say nothing.
   */
  recover?: 'replay' | 'latest' | 'none' | undefined;
  /** Where we were: go on from there. */
  since?: Position | undefined;
  /** Begin with so many of the newest messages. */
  last?: number | undefined;
  /** A token for this room alone. */
  token?: string | (() => string | Promise<string>) | undefined;
  /** Checks what comes; what does not pass is logged and dropped. Only schemas that answer at once. */
  schema?: { readonly [E in keyof Ev]?: StandardSchema<Ev[E]> } | undefined;
  /** Leaves the room. */
  signal?: AbortSignal | undefined;
}

export type AnyEnvelope<Ev> = { [E in keyof Ev & string]: Envelope<E, Ev[E]> }[keyof Ev & string];

export interface Device {
  readonly clientId: string;
  readonly device?: string;
  /** The name of the server that it is connected to, if several act as one. */
  readonly node?: string;
  readonly since: string;
}
/** Somebody in a room. */
export interface Member extends Author {
  /** False: expected back. */
  readonly online: boolean;
  readonly since: string;
  readonly devices: readonly Device[];
  readonly info?: unknown;
}
export interface Presence extends Readable<ReadonlyMap<string, Member>> {
  /** How many users and connections there are, named or not. */
  readonly counts: Readable<{ readonly users: number; readonly members: number }>;
  /** Asks anew. */
  refresh(o?: Call): Promise<ReadonlyMap<string, Member>>;
}

export interface HistoryQuery extends Call { before?: number | undefined; after?: number | undefined; limit?: number | undefined }
export interface HistoryPage<M> {
  readonly messages: readonly M[];
  readonly epoch: string;
  /** The offset of the oldest message kept, and of the newest there is. */
  readonly first: number;
  readonly head: number;
  /** Whether there are more in that direction. */
  readonly more: boolean;
}
/** Await it for one page; iterate it for all messages in its direction, fetched page by page. */
export interface History<M> extends PromiseLike<HistoryPage<M>>, AsyncIterable<M> {}

/** What `subscribed` said of the room. */
export interface RoomInfo {
  readonly durability: string;
  readonly members: number;
  readonly head: number;
  readonly first: number;
  readonly topic: string;
  /** Messages of others that we have not read; null where the room keeps no receipts. */
  readonly unread: number | null;
  readonly seen: number | null;
  readonly delivered: number | null;
}

export interface PublishOptions extends Call {
  /** The idempotency key, 1 to 64 bytes; made up if left out. */
  id?: string | undefined;
  /** Now or never: not kept, not sent again. */
  volatile?: boolean | undefined;
}
export interface EventOptions { signal?: AbortSignal | undefined; buffer?: number | undefined; overflow?: 'drop-oldest' | 'throw' | undefined }

/** A room: what is said in it, and how to say something. */
export interface Room<Ev> extends AsyncDisposable, AsyncIterable<AnyEnvelope<Ev & Notices>> {
  /** '' for a private conversation that the server has not named yet. */
  readonly name: string;
  readonly state: Readable<'joining' | 'joined' | 'left'>;
  /** Why we are out. */
  readonly error: HubError | null;
  readonly info: Readable<RoomInfo | null>;
  /** The last message that was handed out. */
  readonly position: Position | null;
  /** Waits until we are in; throws why not. */
  ready(o?: Call): Promise<void>;
  on(type: '$gap', run: (gap: Gap) => void, o?: { signal?: AbortSignal | undefined }): Off;
  on(type: '*', run: (event: AnyEnvelope<Ev & Notices>) => void, o?: { signal?: AbortSignal | undefined }): Off;
  on<E extends keyof (Ev & Notices) & string>(type: E, run: (event: Envelope<E, (Ev & Notices)[E]>) => void, o?: { signal?: AbortSignal | undefined }): Off;
  /** All events from now on; a reader that is slower than `buffer` (1,024) loses the oldest, or is thrown a {@link HubError}. */
  events(o?: EventOptions): AsyncIterableIterator<AnyEnvelope<Ev & Notices>>;
  /** `chat` is text for people, `message` any data, and every other name an event of your own. Bytes go as bytes. */
  publish<E extends keyof Ev & string>(type: E, data: Ev[E], o?: PublishOptions): Publication;
  /** Sends a request of the wire about this room, through the outbox: `edit`, `delete`, `react`, ... */
  submit(frame: Frame, o?: PublishOptions): Publication;
  history(q?: HistoryQuery): History<AnyEnvelope<Ev & Notices>>;
  readonly presence: Presence;
  /** Says that we are typing, or no longer. Not kept; the server passes one on per second. */
  typing(active?: boolean): void;
  /** Says how far our devices have received, and we have read. Said again after a reconnect. */
  delivered(upTo: number): void;
  seen(upTo: number): void;
  leave(o?: Call): Promise<void>;
}

/** What is said in private. */
export interface DirectEvents { chat: { content: string }; message: unknown; [event: string]: unknown }

/** What belongs to no room of ours; `data` is the frame as it is on the wire. */
export interface HubEvent<D = unknown> { readonly type: string; readonly data: Frame & D }
/** Types that are not here, an application's, come as well. */
export interface HubEvents {
  /** The server talks to everybody. */
  system: HubEvent<{ readonly content: string }>;
  /** A private message of a conversation that nobody has opened with `direct()`. */
  direct: HubEvent<{ readonly room: string; readonly userId: string; readonly to: string }>;
  /** Conversations with something unread. */
  conversations: HubEvent<{ readonly conversations: readonly Conversation[] }>;
  /** The server put us into a room that nobody has opened with `room()`. */
  subscribed: HubEvent<{ readonly room: string }>;
  /** The server sends us away; we shall come back, to `url` first where it names one. */
  going_away: HubEvent<{ readonly reconnectAfter: number; readonly url?: string }>;
  /** An error that answers nothing. */
  error: HubError;
}
export interface Conversation extends Position {
  readonly room: string; readonly with: string; readonly timestamp: string;
  readonly unread: number; readonly seen: number; readonly delivered: number;
}

/** Rooms and what is said in them, where nobody has said so. */
export interface AnyRooms { [room: string]: { chat: { content: string }; message: any; [event: string]: any } }

/** One lasting connection, over many sockets. */
export interface Hub<S = AnyRooms> extends AsyncDisposable {
  readonly state: Readable<ConnState>;
  readonly user: Readable<User | null>;
  /** Messages of ours that wait for an acknowledgement, oldest first. */
  readonly outbox: Readable<readonly Publication[]>;
  /** Begins to connect, whatever came before, and waits until we are online. */
  connect(o?: Call): Promise<void>;
  /** Waits until we are online; throws when the hub is closed. */
  ready(o?: Call): Promise<void>;
  /** Ends a wait between two attempts. */
  retryNow(): void;
  /** Closes for good. With `timeoutMs` it first waits so long for the outbox to empty. */
  close(o?: Call): Promise<void>;
  room<K extends keyof S & string>(name: K, o?: JoinOptions<S[K]>): Room<S[K]>;
  /** The conversation with a user. */
  direct(userId: string, o?: JoinOptions<DirectEvents>): Room<DirectEvents>;
  on<E extends keyof HubEvents>(type: E, run: (event: HubEvents[E]) => void, o?: { signal?: AbortSignal | undefined }): Off;
  /** Sends a request and waits for the frame that answers it. Not repeated after a cut: it fails with `connection_lost`. */
  request<R extends Frame = Frame>(type: string, fields?: object, o?: Call): Promise<R>;
}

export declare function createHub<S = AnyRooms>(url: string | URL, o?: HubOptions): Hub<S>;

/** What went wrong. `reason` is the name of an error of docs/protocol/codes.md, of a close code, or one of the client's own. */
export declare class HubError extends Error {
  constructor(reason: string, message?: string, code?: number, retryable?: boolean, retryAfterMs?: number | null);
  /** The number of the error or close code; 0 for the client's own. */
  readonly code: number;
  readonly reason: string;
  /** Whether the same may succeed later, unchanged. */
  readonly retryable: boolean;
  /** How long the server says to wait. */
  readonly retryAfterMs: number | null;
}
