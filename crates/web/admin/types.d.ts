/** Shapes shared by the modules: what the HTTP API says (crates/server/openapi.json), as far as the page shows it. */
import type { Child } from '../shared/types.js';

export interface Caller {
  name: string; kind: 'application' | 'limited' | 'user'; tenant?: string; permissions?: Record<string, readonly string[]>;
  operations: readonly string[]; server: { name: string; version: string; tenants: boolean };
}

export interface Node {
  id: string; name: string; version: string; url?: string; here: boolean; draining: boolean; connections: number; rooms: number;
  uptimeSeconds: number; silentSeconds: number; silent: boolean; lagMs: number; hearsUs: boolean;
}
export interface Bus {
  kind: string; connected: boolean; detail?: string; queuedBytes: number; sent: number; heard: number; unsent: number; missed: number;
  repeated: number; garbage: number; foreign: number; forged: number; stale: number;
}

export interface Room { room: string; members: number; class: string; durability: string; epoch?: string; first: number; head: number }
export interface Member { userId: string; username: string; online: boolean; since: string; devices: readonly { clientId: string; device?: string; node?: string }[] }
export interface Said {
  type: string; offset: number; timestamp: string; userId?: string; username?: string; content?: string; data?: unknown; deleted?: boolean;
  [field: string]: unknown;
}
export interface Connection {
  clientId: string; node: string; userId: string; username?: string; device?: string; anonymous: boolean; dialect: string; connectedSeconds: number;
  queuedBytes: number; oldestQueuedMs?: number; roundTripMs?: number; address?: string; slowed?: boolean; rooms?: readonly Place1[]; moreRooms?: number;
}
export interface Place1 { room: string; joined: number; offset?: number; head: number; behind?: number }
export interface User { userId: string; clients: number; nodes: readonly string[] }
export interface Ruling {
  ruling: string; token?: string; user?: string; device?: string; verdict: string; reconnect?: boolean; room?: string;
  permissions?: Record<string, readonly string[]>; issuedBefore: string; made: string; until: string;
}

export interface Tenant {
  tenant: string; known: boolean;
  quotas: { connectionsMax: number; roomsMax: number; messagesPerSecond: number; storedBytesMax: number };
  usage: { connections: number; rooms: number; storedBytes?: number };
}
export interface Origin { layer: 'default' | 'file' | 'env' | 'flag'; file?: string; line?: number; column?: number; name?: string }
export interface Setting { key: string; value: unknown; source: Origin; over: readonly Origin[]; default: unknown }
export interface Difference { key: string; old: string; new: string; source: string; counts: string }
export interface Reload { dryRun: boolean; changed: readonly Difference[]; waiting: readonly Difference[]; notes: readonly string[]; warnings: readonly string[] }
export interface Span { begin: string; messages: number; users?: number; usersExact?: boolean; rooms?: number; messagesPerMinuteMax?: number; connectionsMax?: number }

export interface LogLevel { directives: string; configured: string; secondsLeft?: number }
export interface Audited {
  number: number; node: string; at: string; who: string; from: string; tenant?: string; action: string; target?: string; details?: Record<string, unknown>; status: number; result: string; tookMs: number;
}
export interface Happening {
  number: number; event: string; at: string; node?: string; room?: string; userId?: string; clientId?: string; [field: string]: unknown;
}
/** A node that does not answer. */
export interface Silent { node: string; why: string }
export interface Covered { nodes: readonly string[]; silent: readonly Silent[] }
export interface Explained {
  summary: string; from?: { userId?: string };
  published?: { node: string; at: string; via: string };
  stored?: { durability: string; tookMs?: number };
  bus?: { kind: string; told: boolean };
  nodes?: readonly { node: string; answered: boolean; heard?: { how: string; at: string }; handedOut?: readonly { members: number }[] }[];
  user?: {
    userId: string; receipts?: { delivered: boolean; seen: boolean };
    connections: readonly { node: string; clientId: string; device?: string; outcome: string; at?: string; why?: string; policy?: string; queuedBytes?: number; code?: number; reason?: string }[];
  };
  unknown?: readonly string[];
}
export interface Step { tone: 'good' | 'wait' | 'bad' | 'unknown'; text: string }

/** A column of a table. The first one names the row. */
export interface Column<T> {
  head: string;
  /** What is in the cell, as text. */
  text: (row: T) => string;
  /** Instead of the text alone: what is made of it; called once for a row, `now()` says what it is at the moment. */
  make?: (now: () => T, text: () => string) => Child;
  /** What the column is sorted by; without it, it is not sortable. */
  order?: (row: T) => number | string;
  /** Figures stand at the end. */
  figure?: boolean;
}

/** Points of a chart, the oldest first; `null`: not known. */
export interface Series { name: string; points: readonly { at: number; value: number | null }[] }

export interface Place { view: string; of: string | null }
