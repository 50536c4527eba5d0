/** What the conformance suite cannot say in JSON: signals, iteration, stores, values. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HubError, createHub } from '../../../crates/web/sdk/index.js';
import { settled } from '../../../crates/web/sdk/testing.js';
import { AT, setUp } from '../lib/hub.js';

test('a_signal_ends_every_wait_with_its_reason', async () => {
  const { hub, world, welcome, join, sent } = setUp();
  const reason = new Error('enough');
  const aborted = () => {
    const controller = new AbortController();
    queueMicrotask(() => controller.abort(reason));
    return { signal: controller.signal };
  };
  await assert.rejects(hub.ready(aborted()), reason);
  await assert.rejects(hub.connect(aborted()), reason);
  await assert.rejects(hub.request('commands', {}, aborted()), reason);
  await assert.rejects(hub.room('r').ready(aborted()), reason);
  await welcome();
  const room = await join('q');
  await assert.rejects(hub.request('commands', {}, aborted()), reason);
  await assert.rejects(Promise.resolve(room.history(aborted())), reason);
  await assert.rejects(room.presence.refresh(aborted()), reason);
  sent();
  await assert.rejects(Promise.resolve(hub.room('r').publish('chat', { content: 'x' }, aborted())), reason);
  assert.equal(hub.outbox.get().length, 0);
  await assert.rejects(hub.ready({ signal: AbortSignal.abort(reason), timeoutMs: 5 }).then(() => hub.room('r').ready({ signal: AbortSignal.abort(reason) })), reason);
  assert.equal(world.sockets.length, 1);
});

test('a_timeout_ends_a_wait_and_says_so', async () => {
  const { hub, world } = setUp();
  const waits = assert.rejects(hub.ready({ timeoutMs: 500 }), { name: 'HubError', reason: 'timed_out', retryable: true });
  await world.advance(500);
  await waits;
});

test('a_signal_ends_listeners_and_leaves_rooms', async () => {
  const { hub, welcome, join, say, sent } = setUp();
  await welcome();
  const listening = new AbortController();
  const staying = new AbortController();
  const room = await join('r', { signal: staying.signal });
  const heard = [];
  room.on('chat', ({ offset }) => heard.push(offset), { signal: listening.signal });
  await say(1);
  listening.abort();
  await say(2);
  assert.deepEqual(heard, [1]);
  staying.abort();
  assert.equal(room.state.get(), 'left');
  await settled();
  assert.deepEqual(sent().map(({ type, room: name }) => [type, name]), [['unsubscribe', 'r']]);
  assert.equal(hub.room('r').state.get(), 'joining');
});

test('off_can_be_called_twice_and_disposed_of', async () => {
  const { welcome, join, say } = setUp();
  await welcome();
  const room = await join('r');
  const heard = [];
  const off = room.on('chat', ({ offset }) => heard.push(offset));
  await say(1);
  off();
  off();
  room.on('*', ({ offset }) => heard.push(-offset))[Symbol.dispose ?? Symbol.for('Symbol.dispose')]();
  await say(2);
  assert.deepEqual(heard, [1]);
});

test('iteration_gives_events_in_order_and_ends_when_the_room_is_left', async () => {
  const { welcome, join, say } = setUp();
  await welcome();
  const room = await join('r');
  const heard = [];
  const reading = (async () => { for await (const { offset } of room) heard.push(offset); })();
  await say(1);
  await say(2);
  room.leave();
  await reading;
  assert.deepEqual(heard, [1, 2]);
});

test('a_slow_reader_loses_the_oldest_or_is_told', async () => {
  const { welcome, join, say } = setUp();
  await welcome();
  const room = await join('r');
  const ending = new AbortController();
  const lossy = room.events({ buffer: 2, signal: ending.signal });
  const strict = room.events({ buffer: 2, overflow: 'throw' });
  for (const offset of [1, 2, 3]) await say(offset);
  ending.abort();
  const kept = [];
  for await (const { offset } of lossy) kept.push(offset);
  assert.deepEqual(kept, [2, 3]);
  await assert.rejects(strict.next(), { reason: 'overflow' });
});

test('history_is_a_page_and_all_pages', async () => {
  const { welcome, join, hear, sent } = setUp();
  await welcome();
  const room = await join('r');
  const message = (offset) => ({ type: 'chat', userId: 'ann', username: 'Ann', content: `m${offset}`, timestamp: AT, room: 'r', id: `i${offset}`, epoch: 'e1', offset });
  const answer = async (messages, more) => {
    await settled();
    const request = sent().find(({ type }) => type === 'history');
    await hear({ type: 'history', id: request.id, room: 'r', epoch: 'e1', first: 1, head: 4, more, messages: messages.map(message) });
    return request;
  };
  const page = room.history({ before: 4, limit: 2 }).then((got) => got);
  assert.equal((await answer([2, 3], true)).before, 4);
  assert.deepEqual((await page).messages.map(({ offset, replayed, data }) => [offset, replayed, data.content]), [[2, true, 'm2'], [3, true, 'm3']]);

  const back = [];
  const reading = (async () => { for await (const { offset } of room.history()) back.push(offset); })();
  await answer([3, 4], true);
  assert.equal((await answer([1, 2], false)).before, 3);
  await reading;
  assert.deepEqual(back, [4, 3, 2, 1]);

  const forth = [];
  const onwards = (async () => { for await (const { offset } of room.history({ after: 1 })) forth.push(offset); })();
  await answer([2, 3], true);
  assert.equal((await answer([4], false)).after, 3);
  await onwards;
  assert.deepEqual(forth, [2, 3, 4]);
});

test('presence_is_fetched_in_pages_and_kept_up_to_date', async () => {
  const { world, welcome, join, hear, sent, admit } = setUp();
  await welcome();
  const room = await join('r');
  const seen = [];
  room.presence.subscribe((members) => seen.push([...members.keys()].join()));
  await settled();
  const user = (userId) => ({ userId, username: userId, online: true, since: AT, devices: [] });
  let [request] = sent();
  await hear({ type: 'presence', id: request.id, room: 'r', userCount: 2, members: 3, users: [user('ann')], next: 'ann' });
  [request] = sent();
  assert.equal(request.after, 'ann');
  await hear({ type: 'presence', id: request.id, room: 'r', userCount: 2, members: 3, users: [user('bob')] });
  await hear({ type: 'join', userId: 'cyd', username: 'Cyd', timestamp: AT, room: 'r', clientId: 'c3' });
  await hear({ type: 'leave', userId: 'ann', username: 'Ann', timestamp: AT, room: 'r', clientId: 'c1' });
  await hear({ type: 'presence_change', room: 'r', userCount: 5, members: 7, joinedCount: 1, leftCount: 1, joined: [{ userId: 'dan', username: 'Dan' }], left: [{ userId: 'bob', username: 'Bob' }] });
  assert.deepEqual(seen, ['', 'ann,bob', 'ann,bob,cyd', 'bob,cyd', 'cyd,dan']);
  assert.deepEqual(room.presence.counts.get(), { users: 5, members: 7 });

  world.socket.end();
  await world.advance(1_000);
  await welcome();
  await admit('r', { recovered: true });
  assert.deepEqual(sent().map(({ type }) => type), ['presence'], 'it is asked anew after a return');
});

test('a_listener_that_throws_stops_nobody', async () => {
  const { welcome, join, say } = setUp();
  const uncaught = [];
  const listeners = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  process.on('uncaughtException', (error) => uncaught.push(error.message));
  await welcome();
  const room = await join('r');
  const heard = [];
  room.on('chat', () => { throw new Error('mine'); });
  room.on('chat', ({ offset }) => heard.push(offset));
  await say(1);
  process.removeAllListeners('uncaughtException');
  for (const listener of listeners) process.on('uncaughtException', listener);
  assert.deepEqual(heard, [1]);
  assert.deepEqual(uncaught, ['mine']);
});

test('schemas_check_and_change_what_comes', async () => {
  const problems = [];
  const { welcome, join, hear } = setUp({ log: ({ text }) => problems.push(text) });
  await welcome();
  const number = { '~standard': { version: 1, vendor: 'test', validate: (value) => (typeof value === 'number' ? { value: value * 2 } : { issues: [{ message: 'no number' }] }) } };
  const room = await join('r', { schema: { tick: number } });
  const heard = [];
  room.on('tick', ({ data }) => heard.push(data));
  const tick = (offset, data) => hear({ type: 'tick', room: 'r', data, timestamp: AT, id: `i${offset}`, epoch: 'e1', offset });
  await tick(1, 21);
  await tick(2, 'x');
  await tick(3, 4);
  assert.deepEqual(heard, [42, 8]);
  assert.equal(problems.length, 1);
  assert.deepEqual(room.position, { epoch: 'e1', offset: 3 });
});

test('a_store_keeps_the_outbox_over_the_end_of_the_page', async () => {
  const kept = new Map();
  const store = { load: async () => [...kept.values()], put: async (entry) => { kept.set(entry.id, structuredClone(entry)); }, remove: async (id) => { kept.delete(id); } };
  const before = setUp({ outbox: { store } });
  before.hub.room('r').publish('chat', { content: 'written' }, { id: 'k1' });
  before.hub.room('r').publish('chat', { content: 'now or never' }, { volatile: true });
  await settled();
  await before.hub.close();
  assert.deepEqual([...kept.keys()], ['k1']);

  const after = setUp({ outbox: { store } });
  await after.welcome();
  await after.join('r');
  assert.deepEqual(after.sent().map(({ type, idempotencyKey, content }) => [type, idempotencyKey, content]), [['chat', 'k1', 'written']]);
  assert.equal(after.hub.outbox.get()[0].id, 'k1');
  await after.hear({ type: 'ack', id: 'k1', room: 'r', messageId: 'i1', epoch: 'e1', offset: 1, timestamp: AT });
  assert.equal(kept.size, 0);
});

test('a_machine_that_slept_asks_before_it_gives_up', async () => {
  const { hub, world, welcome, hear, sent } = setUp();
  await welcome();
  await world.advance(30_000);
  assert.equal(sent().at(-1).type, 'ping');
  await world.sleep(3_600_000);
  const ping = sent().at(-1);
  assert.equal(ping.type, 'ping', 'the timer came late: it is asked once more');
  assert.equal(hub.state.get().status, 'online');
  await hear({ type: 'pong', id: ping.id });
  assert.equal(world.sockets.length, 1);
});

test('close_with_a_timeout_waits_for_the_outbox', async () => {
  const { hub, world, welcome, join, hear } = setUp();
  await welcome();
  const room = await join('r');
  const publication = room.publish('chat', { content: 'last words' }, { id: 'k1' });
  const closed = hub.close({ timeoutMs: 5_000 });
  await settled();
  assert.equal(hub.state.get().status, 'online');
  await hear({ type: 'ack', id: 'k1', room: 'r', messageId: 'i1', epoch: 'e1', offset: 1, timestamp: AT });
  await closed;
  assert.equal(hub.state.get().status, 'closed');
  assert.equal((await publication).offset, 1);
  assert.equal(world.timers, 0, 'nothing is left behind');
  await assert.rejects(hub.ready(), { reason: 'closed' });
});

test('addresses_may_be_relative_to_http', () => {
  const { world } = setUp();
  assert.equal(world.socket.url.protocol, 'ws:');
  const other = setUp();
  createHub('https://hub.example/t/acme/ws?userId=ann&join=lobby&device=phone', { env: other.world.env });
  const { protocol, pathname, searchParams } = other.world.socket.url;
  assert.deepEqual([protocol, pathname, searchParams.get('join'), searchParams.get('device')], ['wss:', '/t/acme/ws', 'lobby', 'phone']);
});

test('without_a_websocket_the_cure_is_said', () => {
  assert.throws(() => createHub('ws://hub.example', { env: { WebSocket: undefined } }), /client\/node/u);
  assert.ok(new HubError('x') instanceof Error);
});

test('leaving_and_joining_again_at_once_ends_inside', async () => {
  const { hub, welcome, join, sent } = setUp();
  await welcome();
  const room = await join('r');
  room.leave();
  const again = hub.room('r');
  await settled();
  assert.deepEqual(sent().map(({ type }) => type), ['unsubscribe', 'subscribe']);
  assert.notEqual(again, room);
});

test('a_handle_of_a_room_that_was_left_does_not_leave_the_next_one', async () => {
  for (const again of ['leave', 'signal']) {
    const { hub, welcome, join, hear, sent, say } = setUp();
    await welcome();
    const staying = new AbortController();
    const room = await join('r', { signal: staying.signal });
    void room.leave();
    const next = hub.room('r');
    const heard = [];
    next.on('chat', ({ offset }) => heard.push(offset));
    await settled();
    const [, { id }] = sent();
    await hear({ type: 'subscribed', id, room: 'r', epoch: 'e1', offset: 0, members: 1, head: 0, first: 1, durability: 'stored' });
    if (again === 'leave') await room.leave();
    else staying.abort();
    await settled();
    assert.deepEqual(sent(), [], again);
    await say(1);
    assert.deepEqual(heard, [1], again);
  }
});

test('a_room_and_what_it_missed_are_asked_for_again_without_an_answer', async () => {
  const { hub, world, welcome, hear, sent } = setUp();
  await welcome();
  const room = hub.room('r', { since: { epoch: 'e1', offset: 3 } });
  const heard = [];
  room.on('*', ({ offset }) => heard.push(offset));
  await settled();
  const [first] = sent();
  await world.advance(19_999);
  assert.deepEqual(sent(), []);
  await world.advance(1);
  const [{ type, offset, id }] = sent();
  assert.deepEqual([type, offset], ['subscribe', 3]);
  const answer = { type: 'subscribed', room: 'r', epoch: 'e1', offset: 4, members: 1, head: 4, first: 1, durability: 'stored', recovered: false };
  await hear({ ...answer, id });
  assert.equal(sent()[0].type, 'history');
  await hear({ ...answer, id: first.id });
  assert.deepEqual(sent(), [], 'the answer to what was asked first changes nothing');
  await world.advance(20_000);
  const [history] = sent();
  assert.deepEqual([history.type, history.after], ['history', 3]);
  const message = { type: 'chat', userId: 'ann', username: 'Ann', content: 'm4', timestamp: AT, room: 'r', id: 'i4', epoch: 'e1', offset: 4 };
  await hear({ type: 'history', id: history.id, room: 'r', epoch: 'e1', first: 1, head: 4, more: false, messages: [message] });
  assert.deepEqual(heard, [4]);
  await world.advance(60_000);
  assert.deepEqual(sent().filter((frame) => frame.type !== 'ping'), []);
});

test('what_was_ignored_for_its_rate_counts_when_it_is_answered_all_the_same', async () => {
  const { hub, world, welcome, hear, sent } = setUp();
  await welcome();
  const room = hub.room('r');
  await settled();
  const [{ id }] = sent();
  const slower = { type: 'error', code: 162, error: 'rate_limited', message: 'slower', temporary: true, retryAfter: 1_500 };
  await hear(slower);
  await hear({ type: 'subscribed', id, room: 'r', epoch: 'e1', offset: 0, members: 1, head: 0, first: 1, durability: 'stored' });
  assert.equal(room.state.get(), 'joined');
  const page = room.history().then(() => assert.fail('a page'), (error) => error);
  await settled();
  assert.equal(sent().at(-1).type, 'history');
  await hear(slower);
  const { reason, retryable, retryAfterMs } = await page;
  assert.deepEqual([reason, retryable, retryAfterMs], ['rate_limited', true, 1_500], 'the application asks again itself');
  await world.advance(5_000);
  assert.deepEqual(sent(), []);
});

test('a_room_that_was_left_before_the_answer_stays_left', async () => {
  const { hub, welcome, hear, sent } = setUp();
  await welcome();
  const room = hub.room('r');
  await settled();
  const [{ id }] = sent();
  void room.leave();
  await hear({ type: 'subscribed', id, room: 'r', epoch: 'e1', offset: 0, members: 1, head: 0, first: 1, durability: 'stored' });
  assert.equal(room.state.get(), 'left');
});

test('messages_have_their_limits_before_the_first_welcome_too', async () => {
  const { hub, world } = setUp({ outbox: { max: 3 } });
  const room = hub.room('r');
  const reason = new Error('mine');
  const giving = new AbortController();
  const aborted = room.publish('chat', { content: 'a' }, { signal: giving.signal });
  const late = room.publish('chat', { content: 'b' }, { timeoutMs: 500 });
  const third = room.publish('chat', { content: 'c' });
  await assert.rejects(Promise.resolve(room.publish('chat', { content: 'd' })), { reason: 'outbox_full' });
  giving.abort(reason);
  assert.equal(aborted.state.get(), 'failed');
  assert.equal(aborted.error.reason, 'aborted');
  await assert.rejects(Promise.resolve(aborted), reason);
  await assert.rejects(Promise.resolve(room.publish('chat', { content: 'e' }, { signal: giving.signal })), reason);
  await world.advance(499);
  assert.equal(late.state.get(), 'queued');
  await world.advance(1);
  await assert.rejects(Promise.resolve(late), { reason: 'expired' });
  assert.deepEqual(hub.outbox.get().map(({ id }) => id), [third.id]);
  await world.advance(300_000);
  assert.equal(third.state.get(), 'failed');

  const roomy = setUp().hub.room('r');
  for (let n = 0; n < 1_024; n += 1) roomy.publish('chat', { content: 'x' });
  assert.equal(roomy.publish('chat', { content: 'x' }).error.reason, 'outbox_full');
});

test('the_oldest_makes_room_before_the_first_welcome_too', async () => {
  const { hub } = setUp({ outbox: { max: 2, overflow: 'drop-oldest' } });
  const [a, b, c] = ['a', 'b', 'c'].map((content) => hub.room('r').publish('chat', { content }));
  await assert.rejects(Promise.resolve(a), { reason: 'outbox_full' });
  assert.deepEqual([b, c].map(({ state }) => state.get()), ['queued', 'queued']);
});

test('what_a_store_has_kept_too_long_is_not_sent', async () => {
  const kept = new Map([['k1', { id: 'k1', at: 600_000, frame: { type: 'chat', room: 'r', content: 'old' } }]]);
  const store = { load: async () => [...kept.values()], put: async (entry) => { kept.set(entry.id, entry); }, remove: async (id) => { kept.delete(id); } };
  const { hub, welcome, join, sent } = setUp({ outbox: { store } });
  await welcome();
  await join('r');
  assert.deepEqual(sent(), []);
  assert.deepEqual(hub.outbox.get(), []);
  assert.equal(kept.size, 0);
});

test('a_message_that_fails_unheard_is_reported', async () => {
  const told = [];
  const { welcome, join, hear, sent } = setUp({ log: ({ text, detail }) => told.push(`${text}: ${detail.reason}`) });
  await welcome();
  const room = await join('r');
  const refuse = async () => {
    const [{ id }] = sent();
    await hear({ type: 'error', id, code: 131, error: 'forbidden', message: 'because', temporary: false });
  };
  room.publish('chat', { content: 'unheard' });
  await refuse();
  assert.deepEqual(told, ['chat that nobody waits for: forbidden']);
  room.publish('chat', { content: 'heard' }).then(() => {}, () => {});
  await refuse();
  room.publish('chat', { content: 'taken back' }, { signal: AbortSignal.abort() });
  await settled();
  assert.equal(told.length, 1);
});

test('a_message_that_fails_unheard_is_warned_of_once_without_a_log', async (t) => {
  const warn = t.mock.method(console, 'warn', () => {});
  const { welcome, join } = setUp();
  await welcome({ maxMessageBytes: 10 });
  const room = await join('r');
  room.publish('chat', { content: 'too large' });
  room.publish('chat', { content: 'too large' });
  await settled();
  assert.equal(warn.mock.callCount(), 1);
});

test('a_room_without_a_name_is_a_mistake', () => {
  const { hub } = setUp();
  for (const name of ['', undefined, null]) {
    assert.throws(() => hub.room(name), TypeError);
    assert.throws(() => hub.direct(name), TypeError);
  }
});

test('a_room_opened_while_the_hub_comes_online_is_subscribed_to_once', async () => {
  const { hub, welcome, sent } = setUp();
  hub.state.subscribe(({ status }) => { if (status === 'online') hub.room('r'); });
  await welcome();
  assert.deepEqual(sent().map(({ type }) => type), ['subscribe']);
});

test('a_room_opened_while_the_socket_is_in_doubt_is_joined_once_it_is_not', async () => {
  const { hub, world, welcome, hear, sent } = setUp();
  await welcome();
  world.network.offline();
  hub.room('r');
  await settled();
  assert.deepEqual(sent(), []);
  world.network.online();
  const [{ type, id }] = sent();
  assert.equal(type, 'ping');
  await hear({ type: 'pong', id });
  assert.deepEqual(sent().map((frame) => [frame.type, frame.room]), [['subscribe', 'r']]);
});

test('a_conversation_without_a_word_is_ready', async () => {
  const { hub, welcome, hear, sent } = setUp();
  await welcome();
  const direct = hub.direct('bob');
  await settled();
  const [{ type, id }] = sent();
  assert.equal(type, 'conversations');
  await hear({ type: 'conversations', id, conversations: [] });
  await direct.ready();
  assert.equal(direct.name, '');
});

test('close_ends_iterations_and_waits', async () => {
  const { hub, welcome, join } = setUp();
  await welcome();
  const room = await join('r');
  const reading = (async () => { for await (const event of room) assert.fail(event.type); })();
  const waits = assert.rejects(hub.room('other').ready(), { reason: 'closed' });
  await hub.close();
  await reading;
  await waits;
  assert.equal(room.state.get(), 'left');
});
