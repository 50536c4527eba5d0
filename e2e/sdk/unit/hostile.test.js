/** Whatever a server, or somebody in its place, sends: the client does not throw, and goes on. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chatOf } from '../../../crates/web/sdk/chat.js';
import { settled } from '../../../crates/web/sdk/testing.js';
import { AT, setUp } from '../lib/hub.js';

const TYPES = ['welcome', 'subscribed', 'unsubscribed', 'ack', 'error', 'history', 'presence', 'pong', 'conversations', 'receipts', 'commands', 'chat',
  'message', 'action', 'system', 'join', 'leave', 'topic', 'rename', 'edit', 'delete', 'reaction', 'typing', 'presence_change', 'receipt',
  'receipt_counts', 'gap', 'going_away', 'authenticated', 'kicked', 'constructor', '__proto__', 'toString', '$gap', '*', '$left'];
const FIELDS = ['id', 'room', 'userId', 'username', 'content', 'timestamp', 'epoch', 'offset', 'to', 'data', 'base64', 'target', 'reaction', 'removed', 'code',
  'error', 'message', 'temporary', 'retryAfter', 'head', 'first', 'recovered', 'more', 'messages', 'users', 'next', 'conversations', 'joined', 'left',
  'receipt', 'missed', 'reconnectAfter', 'expires', 'pingInterval', 'maxMessageBytes', 'active', 'expiresAfter', 'clientId', 'node', 'edited', 'deleted',
  'reactions', 'unread', 'seen', 'delivered', 'members', 'userCount', '__proto__'];

/** Mulberry32: the same frames in every run. */
function generator(seed) {
  let state = seed;
  const random = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const one = (list) => list[Math.floor(random() * list.length)];
  const value = (depth = 0) => {
    const simple = [null, true, false, 0, -1, 1.5, 1e300, 2 ** 53, '', 'r', 'e1', 'me', 'ann', '@ann~me', AT, 'not a date', '<img src=x onerror=alert(1)>', '\u202e', 5, 6, 7];
    const pick = random();
    if (depth > 2 || pick < 0.75) return one(simple);
    if (pick < 0.85) return Array.from({ length: Math.floor(random() * 4) }, () => value(depth + 1));
    return frame(depth + 1);
  };
  const frame = (depth = 0) => Object.fromEntries([['type', random() < 0.95 ? one(TYPES) : value(depth)], ...Array.from({ length: Math.floor(random() * 10) }, () => [one(FIELDS), value(depth)])]);
  return { random, one, frame };
}

for (const seed of [1, 2, 3]) {
  test(`three_thousand_hostile_frames_of_seed_${seed}_break_nothing`, async () => {
    const uncaught = [];
    const listeners = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.on('uncaughtException', (error) => uncaught.push(error));
    const rejections = process.listeners('unhandledRejection');
    process.removeAllListeners('unhandledRejection');
    process.on('unhandledRejection', (error) => uncaught.push(error));

    const { hub, world, welcome, join, hear } = setUp();
    await welcome();
    const room = await join('r');
    const chat = chatOf(hub, room, { env: world.env });
    room.presence.subscribe(() => {});
    hub.direct('ann').on('*', () => {});
    const { random, one, frame } = generator(seed);
    const open = new Set();
    for (let n = 0; n < 3_000; n += 1) {
      const wild = frame();
      // Now and then it is an answer to what we asked, or about our room.
      if (random() < 0.1) {
        for (const text of world.socket.sent.splice(0)) open.add(JSON.parse(text).id);
        wild.id = one([...open]) ?? 'nothing';
      }
      if (random() < 0.5) wild.room = 'r';
      // That would end the room, and the test with it.
      if (wild.type === 'unsubscribed') continue;
      if (random() < 0.02) room.publish('chat', { content: 'x' }).then(() => {}, () => {});
      if (random() < 0.01) hub.request('commands').catch(() => {});
      if (random() < 0.01) chat.loadOlder().catch(() => {});
      world.socket.hear(JSON.stringify(wild));
      if (n % 100 === 0) await settled();
    }
    await settled();
    assert.equal(room.state.get(), 'joined');
    // It is alive: another connection, and what was said there is heard.
    world.socket.end(1006);
    hub.retryNow();
    await settled();
    await welcome();
    const stacks = uncaught.map((error) => error.stack);
    assert.deepEqual(stacks, []);
    assert.equal(hub.state.get().status, 'online');
    const fresh = await join('fresh');
    const heard = [];
    fresh.on('chat', ({ data }) => heard.push(data.content));
    await hear({ type: 'chat', userId: 'ann', username: 'Ann', content: 'still here', timestamp: AT, room: 'fresh', id: 'i1', epoch: 'e1', offset: 1 });
    assert.deepEqual(heard, ['still here']);

    process.removeAllListeners('uncaughtException');
    for (const listener of listeners) process.on('uncaughtException', listener);
    process.removeAllListeners('unhandledRejection');
    for (const listener of rejections) process.on('unhandledRejection', listener);
    assert.deepEqual(uncaught.map((error) => error.stack), []);
  });
}
