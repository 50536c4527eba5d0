/** The client as an application uses it. It is compiled and never run: what must not compile says so. */
import { HubError, createHub } from '@outspoke/client';
import type { Ack, ConnState, Envelope, Position, Readable } from '@outspoke/client/types.js';

interface Sample { cpu: number; at: number }
interface Rooms {
  [room: `room:${string}`]: { chat: { content: string }; vote: { option: number } };
  'ops.metrics': { sample: Sample };
  blobs: { message: Uint8Array };
}

const hub = createHub<Rooms>('wss://hub.example/ws', {
  token: async ({ reason, signal }) => {
    const why: 'connect' | 'expiring' | 'rejected' = reason;
    return (await fetch(`/token?why=${why}`, { signal })).text();
  },
  reconnect: { baseMs: 500, capMs: 20_000, maxAttempts: 10 },
  outbox: { max: 100, overflow: 'drop-oldest' },
});

// Rooms by pattern and by name, each with its own events.
const lobby = hub.room('room:lobby');
const metrics = hub.room('ops.metrics', { recover: 'latest', last: 10 });
// @ts-expect-error there is no such room
hub.room('nope');
// @ts-expect-error nor is this one of the pattern
hub.room('chat:lobby');

lobby.on('chat', (message) => {
  const text: string = message.data.content;
  const offset: number | null = message.offset;
  // @ts-expect-error what is said is not a number
  const wrong: number = message.data.content;
  return [text, offset, wrong];
});
lobby.on('$gap', ({ from, to, missed, reason }) => {
  const places: [Position | null, Position] = [from, to];
  const count: number | null = missed;
  // @ts-expect-error there is no such reason
  if (reason === 'bored') return undefined;
  return [places, count];
});
// What the server tells is always there.
lobby.on('typing', ({ data }) => data.active && data.expiresAfter > 0);
// @ts-expect-error no room has such an event
lobby.on('shout', () => {});
// @ts-expect-error a room has the events of its own only
lobby.on('sample', () => {});
metrics.on('sample', ({ data }) => data.cpu * 2);

lobby.publish('vote', { option: 1 });
// @ts-expect-error an option is a number
lobby.publish('vote', { option: 'first' });
// @ts-expect-error something is missing
lobby.publish('chat', {});
// @ts-expect-error nobody publishes what only the server says
lobby.publish('typing', { active: true });
hub.room('blobs').publish('message', new Uint8Array(3));

async function waits(signal: AbortSignal) {
  await hub.ready({ signal, timeoutMs: 1_000 });
  const ack: Ack = await lobby.publish('chat', { content: 'hi' }, { signal, id: 'mine', volatile: false });
  // @ts-expect-error an acknowledgement cannot be changed
  ack.offset = 7;
  for await (const event of lobby) {
    // A union: the type tells what the data is.
    if (event.type === 'vote') event.data.option.toFixed();
    if (event.type === 'chat') event.data.content.trim();
    // @ts-expect-error not until the type is known
    event.data.option;
  }
  const { messages, more }: { messages: readonly unknown[]; more: boolean } = await lobby.history({ before: 10, limit: 5, signal });
  for await (const old of lobby.history({ after: 0 })) old.offset;
  for await (const event of metrics.events({ signal, buffer: 10, overflow: 'throw' })) event.room;
  const members = await lobby.presence.refresh({ signal });
  members.get('ann')?.devices[0]?.clientId.trim();
  return [messages, more];
}

const state: Readable<ConnState> = hub.state;
state.subscribe((now) => {
  if (now.status === 'offline') return now.retryAt ?? now.queued;
  // @ts-expect-error only who is offline waits
  return now.retryAt;
});
const publication = lobby.publish('chat', { content: 'x' });
publication.state.subscribe((now: 'queued' | 'sent' | 'acked' | 'delivered' | 'seen' | 'failed') => now);
// @ts-expect-error there is no such state
publication.state.subscribe((now: 'lost') => now);

{
  // Ends with the block.
  using off = lobby.on('chat', () => {});
  off();
}

const direct = hub.direct('bob');
direct.publish('chat', { content: 'psst' });
direct.on('chat', (message: Envelope<'chat', { content: string }>) => message.to);

const failure = new HubError('outbox_full');
const parts: [string, number, boolean, number | null] = [failure.reason, failure.code, failure.retryable, failure.retryAfterMs];
// @ts-expect-error an option that is not there
createHub('wss://hub.example/ws', { reconect: false });
// @ts-expect-error a token is text
createHub('wss://hub.example/ws', { token: () => 7 });

// Without a map of rooms every name will do.
createHub('/ws').room('anything').on('whatever', ({ data }) => data.anything);

export { parts, waits };
