/** A hub in a world of its own, and the frames that a server sends it. */
import { createHub } from '../../../crates/web/sdk/index.js';
import '../../../crates/web/sdk/direct.js';
import '../../../crates/web/sdk/events.js';
import '../../../crates/web/sdk/history.js';
import '../../../crates/web/sdk/outbox.js';
import '../../../crates/web/sdk/presence.js';
import '../../../crates/web/sdk/receipts.js';
import '../../../crates/web/sdk/refresh.js';
import '../../../crates/web/sdk/session.js';
import { fakeWorld, settled } from '../../../crates/web/sdk/testing.js';

export const AT = '2026-01-01T00:00:00.000Z';

/** @param {object} [options] */
export function setUp(options = {}) {
  const world = fakeWorld();
  const hub = createHub('ws://hub.example/ws', { ...options, env: { ...world.env, ...options.env } });
  const here = {
    world,
    hub,
    hear: async (frame) => {
      world.socket.hear(frame);
      await settled();
    },
    /** What the client has sent since the last call. */
    sent: () => world.socket.sent.splice(0).map((data) => JSON.parse(data)),
    async welcome(more) {
      world.socket.open();
      await here.hear({ type: 'welcome', clientId: 'c1', userId: 'me', username: 'Me', timestamp: AT, pingInterval: 0, maxMessageBytes: 8192, openMode: true, ...more });
    },
    /** Joins a room as a server lets it. */
    async join(name, options, more) {
      const room = hub.room(name, options);
      await settled();
      await here.admit(name, more);
      return room;
    },
    async admit(name, more) {
      const { id } = here.sent().find(({ type, room }) => type === 'subscribe' && room === name);
      await here.hear({ type: 'subscribed', id, room: name, epoch: 'e1', offset: 0, members: 1, head: 0, first: 1, durability: 'stored', ...more });
    },
    say: (offset, more) => here.hear({ type: 'chat', userId: 'ann', username: 'Ann', content: `m${offset}`, timestamp: AT, room: 'r', id: `i${offset}`, epoch: 'e1', offset, ...more }),
  };
  return here;
}
