/** What the core does without the modules that it loads later: here each comes with the second request for it, as over a bad line. */
import assert from 'node:assert/strict';
import { register } from 'node:module';
import { test } from 'node:test';
import { createHub } from '../../../crates/web/sdk/index.js';
import { fakeHub, fakeWorld, settled } from '../../../crates/web/sdk/testing.js';

register(`data:text/javascript,${encodeURIComponent(`
  const asked = new Set();
  export const resolve = (name, context, next) => {
    const cut = /sdk.(index|connection|room)[.]js$/.test(context.parentURL) && ['./outbox.js', './session.js', './history.js'].includes(name) && !asked.has(name);
    asked.add(name);
    if (cut) throw new Error('the line is bad');
    return next(name, context);
  };
`)}`);

/** Lets something happen that takes the time of a module's way here. */
async function until(condition) {
  for (let turn = 0; turn < 1_000 && !condition(); turn += 1) await settled();
  assert.ok(condition());
}

test('what_is_said_before_the_outbox_has_come_waits_for_it', async () => {
  const world = fakeWorld();
  const server = fakeHub(world);
  const problems = [];
  const hub = createHub('ws://hub.example/ws', { env: world.env, autoConnect: false, log: ({ text }) => problems.push(text) });
  const room = hub.room('r');
  const [first, second] = [1, 2].map((data) => room.publish('message', data));
  assert.deepEqual([first.state.get(), hub.outbox.get()], ['queued', [first, second]]);
  assert.equal(second.cancel(), true);
  await assert.rejects(Promise.resolve(second), { reason: 'cancelled' });
  assert.deepEqual([second.state.get(), second.error.reason, hub.outbox.get()], ['failed', 'cancelled', [first]]);
  hub.connect();
  await until(() => problems.includes('outbox'));
  assert.deepEqual(first.state.get(), 'queued');
  const volatile = room.publish('message', 2, { volatile: true });
  await until(() => first.state.get() === 'acked');
  assert.deepEqual([(await first).offset, (await volatile).offset], [1, 2]);
  assert.deepEqual(server.log('r').map(({ data }) => data), [1, 2]);

  // What looks after the session has not come either: the socket is given up when the system says so.
  assert.ok(problems.includes('session'));
  world.network.offline();
  assert.equal(hub.state.get().status, 'offline');
  const [third, fourth] = [3, 4].map((data) => room.publish('message', data));
  assert.equal(fourth.cancel(), true);
  world.network.online();
  await until(() => third.state.get() === 'acked');
  assert.deepEqual(server.log('r').map(({ data }) => data), [1, 2, 3]);
  await hub.close();
});

test('close_ends_what_waits_for_the_outbox', async () => {
  const world = fakeWorld();
  const hub = createHub('ws://hub.example/ws', { env: world.env, autoConnect: false });
  const publication = hub.room('r').publish('message', 1);
  await hub.close();
  await assert.rejects(Promise.resolve(publication), { reason: 'closed' });
});
