/** The sub-modules, on the fake hub that applications test with. */
import 'fake-indexeddb/auto';
import '../lib/peers.js';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import React from 'react';
import renderer, { act } from 'react-test-renderer';
import { effectScope } from 'vue';
import { chatOf } from '../../../crates/web/sdk/chat.js';
import { createHub } from '../../../crates/web/sdk/index.js';
import { idbOutbox } from '../../../crates/web/sdk/outbox-idb.js';
import '../../../crates/web/sdk/events.js';
import '../../../crates/web/sdk/history.js';
import '../../../crates/web/sdk/outbox.js';
import '../../../crates/web/sdk/presence.js';
import '../../../crates/web/sdk/receipts.js';
import '../../../crates/web/sdk/session.js';
import { fakeHub, fakeWorld, settled } from '../../../crates/web/sdk/testing.js';
import { multiplexer, sharedSocket } from '../../../crates/web/sdk/worker.js';

const react = await import('../../../crates/web/sdk/react.js');
const vue = await import('../../../crates/web/sdk/vue.js');

globalThis.IS_REACT_ACT_ENVIRONMENT = true;

async function setUp(options) {
  const world = fakeWorld();
  const server = fakeHub(world);
  const hub = createHub('ws://hub.example/ws', { ...options, env: world.env });
  await settled();
  return { world, server, hub };
}

test('fake_hub_publishes_recovers_and_forgets', async () => {
  const { world, server, hub } = await setUp();
  const room = hub.room('r');
  const heard = [];
  const gaps = [];
  room.on('message', ({ data, replayed }) => heard.push([data, replayed]));
  room.on('$gap', ({ reason }) => gaps.push(reason));
  await room.ready();
  assert.equal((await room.publish('message', 1)).offset, 1);
  server.cut();
  await settled();
  assert.equal(hub.state.get().status, 'offline');
  server.say('r', 2);
  const queued = room.publish('message', 3);
  server.mend();
  await world.advance(1_000);
  assert.equal((await queued).offset, 3);
  assert.deepEqual(heard, [[1, false], [2, true], [3, false]]);
  server.forget('r');
  server.cut();
  server.mend();
  await world.advance(2_000);
  assert.deepEqual(gaps, ['epoch']);
  assert.deepEqual((await room.history()).messages, []);
  server.refuse('publish', { code: 131, error: 'forbidden', message: 'no', temporary: false });
  await assert.rejects(Promise.resolve(room.publish('message', 4)), { reason: 'forbidden', code: 131 });
});

test('timeline_shows_messages_as_they_are_now', async () => {
  const { world, server, hub } = await setUp();
  for (const text of ['one', 'two', 'three']) server.say('r', text, { event: 'chat' });
  const room = hub.room('r', { last: 1 });
  const chat = chatOf(hub, room, { env: world.env });
  await settled();
  await chat.say('mine');
  await chat.edit(4, 'mine, better');
  await chat.react(3, '👍');
  await chat.react(3, '👍');
  const shown = () => chat.lines.get().map(({ offset, data, edited, deleted, reactions }) => [offset, data?.content ?? null, edited, deleted, reactions.map(({ reaction, users }) => `${reaction}${users}`).join()]);
  assert.deepEqual(shown(), [[3, 'three', false, false, '👍me'], [4, 'mine, better', true, false, '']]);
  assert.equal(await chat.loadOlder(1), true);
  assert.equal(await chat.loadOlder(5), false);
  await chat.remove(4);
  await chat.react(3, '👍', { remove: true });
  assert.deepEqual(shown(), [[1, 'one', false, false, ''], [2, 'two', false, false, ''], [3, 'three', false, false, ''], [4, null, true, true, '']]);
});

test('typing_is_said_now_and_then_and_forgotten_in_time', async () => {
  const { world, server, hub } = await setUp();
  const room = hub.room('r');
  await room.ready();
  const chat = chatOf(hub, room, { env: world.env });
  const sent = () => world.socket.sent.splice(0).map((text) => JSON.parse(text)).filter(({ type }) => type === 'typing').map(({ active }) => active);
  sent();
  chat.keystroke();
  chat.keystroke();
  await world.advance(3_000);
  chat.keystroke();
  chat.stopTyping();
  chat.stopTyping();
  assert.deepEqual(sent(), [true, true, false]);
  const typing = (userId, active) => server.tell('r', { type: 'typing', room: 'r', userId, username: userId, clientId: 'c', active, expiresAfter: 6_000 });
  const names = () => chat.typing.get().map(({ userId }) => userId);
  typing('ann', true);
  typing('bob', true);
  typing('cyd', true);
  typing('me', true);
  assert.deepEqual(names(), ['ann', 'bob', 'cyd']);
  typing('bob', false);
  server.say('r', 'done', { event: 'chat', userId: 'cyd' });
  assert.deepEqual(names(), ['ann']);
  await world.advance(6_000);
  assert.deepEqual(names(), []);
});

test('what_was_received_is_said_once_for_many', async () => {
  const { world, server, hub } = await setUp();
  const room = hub.room('r');
  await room.ready();
  const chat = chatOf(hub, room, { env: world.env });
  world.socket.sent.length = 0;
  for (let n = 0; n < 5; n += 1) server.say('r', `${n}`, { event: 'chat' });
  await world.advance(250);
  // The first receipt loads what keeps them.
  while (!world.socket.sent.length) await settled();
  assert.deepEqual(world.socket.sent.map((text) => JSON.parse(text)), [{ type: 'delivered', room: 'r', offset: 5 }]);
  server.tell('r', { type: 'receipt', room: 'r', userId: 'ann', receipt: 'seen', epoch: 'epoch-1', offset: 4 });
  assert.deepEqual(chat.marks.get().get('ann'), { delivered: 4, seen: 4 });
  chat.end();
});

test('commands_are_asked_for_once_and_completed', async () => {
  const { world, hub } = await setUp();
  const room = hub.room('r');
  await room.ready();
  const chat = chatOf(hub, room, { env: world.env });
  assert.deepEqual(await chat.complete('no command'), []);
  assert.deepEqual(await chat.complete('//shrug'), []);
  assert.deepEqual(await chat.complete('/me'), []);
  await chat.complete('/m');
  assert.equal(world.socket.sent.filter((text) => JSON.parse(text).type === 'commands').length, 1);
});

test('indexed_db_keeps_the_outbox_in_its_order', async () => {
  const store = idbOutbox('ann');
  const entry = (id) => ({ id, at: 1, frame: { type: 'chat', room: 'r', content: id }, bytes: new Uint8Array([1, 2]) });
  for (const id of ['z', 'a', 'm', 'a']) await store.put(entry(id));
  assert.deepEqual((await store.load()).map(({ id }) => id), ['z', 'a', 'm']);
  await store.remove('a');
  await store.remove('nobody');
  assert.deepEqual((await idbOutbox('ann').load()).map(({ id, bytes }) => [id, bytes.length]), [['z', 2], ['m', 2]]);
  assert.deepEqual(await idbOutbox('bob').load(), []);
  await store.clear();
  assert.deepEqual(await store.load(), []);
});

/** Two ends of a channel; what is posted at one arrives at the other. */
function channel() {
  const ends = [{ onmessage: null }, { onmessage: null }];
  for (const [at, end] of ends.entries()) end.postMessage = (data) => queueMicrotask(() => ends[1 - at].onmessage?.({ data: structuredClone(data) }));
  return ends;
}

test('tabs_share_one_socket_and_hear_only_their_rooms', async () => {
  const world = fakeWorld();
  const server = fakeHub(world);
  const shared = multiplexer({ WebSocket: world.env.WebSocket });
  const tab = () => {
    const [near, far] = channel();
    shared.connect(far);
    const hub = createHub('ws://hub.example/ws', { env: { ...world.env, unique: () => `tab${Math.random()}-`, watch: () => () => {}, WebSocket: sharedSocket({ port: near }) } });
    const heard = [];
    const join = (name, options) => {
      const room = hub.room(name, options);
      room.on('message', ({ room: from, data }) => heard.push(`${from}:${data}`));
      return room;
    };
    return { hub, heard, join };
  };
  const [one, two] = [tab(), tab()];
  const first = one.join('a');
  await settled();
  await settled();
  await first.ready();
  assert.equal((await first.publish('message', 1)).offset, 1);
  const second = two.join('a', { since: { epoch: server.log('a')[0].epoch, offset: 0 } });
  two.join('b');
  await settled();
  server.say('a', 2);
  server.say('b', 3);
  await settled();
  assert.equal(world.sockets.length, 1);
  assert.deepEqual(one.heard, ['a:1', 'a:2']);
  assert.deepEqual(two.heard.sort(), ['a:1', 'a:2', 'b:3']);
  assert.equal((await second.publish('blob', new Uint8Array([7]))).offset, 3);

  await first.leave();
  server.say('a', 4);
  await settled();
  assert.equal(one.heard.length, 2, 'a tab that left hears no more');
  assert.ok(two.heard.includes('a:4'), 'the other one does');

  // The socket is lost: both come back, over one.
  server.cut();
  server.mend();
  await settled();
  await settled();
  server.say('a', 5);
  await world.advance(2_000);
  assert.equal(world.sockets.length, 2);
  assert.ok(two.heard.includes('a:5'));

  await one.hub.close();
  await settled();
  assert.equal(world.socket.closedWith, null);
  await two.hub.close();
  await settled();
  assert.equal(world.socket.closedWith, 1000, 'the last tab takes the socket with it');
});

test('react_shows_what_is_now_and_leaves_with_the_last_component', async () => {
  const { server, hub } = await setUp();
  const shown = [];
  function View() {
    const connection = react.useConnection(hub);
    const { room, state } = react.useRoom(hub, 'r');
    const events = react.useEvents(room, { type: 'message', limit: 2 });
    const people = react.usePresence(room);
    shown.push(`${connection.status} ${state} ${events.map(({ data }) => data)} ${[...people.keys()]}`);
    return null;
  }
  let tree;
  await act(async () => {
    tree = renderer.create(React.createElement(React.StrictMode, null, React.createElement(View), React.createElement(View)));
    await settled();
  });
  await act(async () => {
    for (const data of [1, 2, 3]) server.say('r', data);
    await hub.room('r').presence.refresh();
  });
  assert.equal(shown.at(-1), 'online joined 2,3 me');
  const room = hub.room('r');
  await act(async () => { tree.unmount(); });
  await settled();
  assert.equal(room.state.get(), 'left');
});

test('vue_shows_what_is_now_and_leaves_with_the_last_scope', async () => {
  const { server, hub } = await setUp();
  const scopes = [effectScope(), effectScope()];
  const [view] = scopes.map((scope) => scope.run(() => {
    const room = vue.useRoom(hub, 'r');
    return { room, state: vue.useReadable(room.state), connection: vue.useConnection(hub), events: vue.useEvents(room, { limit: 2 }), people: vue.usePresence(room) };
  }));
  await settled();
  for (const data of [1, 2, 3]) server.say('r', data);
  await view.room.presence.refresh();
  assert.deepEqual([view.connection.value.status, view.state.value, view.events.value.map(({ data }) => data), [...view.people.value.keys()]], ['online', 'joined', [2, 3], ['me']]);
  scopes[0].stop();
  await settled();
  assert.equal(view.room.state.get(), 'joined');
  scopes[1].stop();
  await settled();
  assert.equal(view.room.state.get(), 'left');
});

test('a_tab_that_goes_takes_no_room_from_one_that_enters_it', async () => {
  const sent = [];
  let socket;
  class Line {
    readyState = 1;
    protocol = 'outspoke.v1';
    constructor() { socket = this; }
    send(text) { sent.push(JSON.parse(text)); }
    close() {}
  }
  const hub = multiplexer({ WebSocket: Line });
  const tab = () => {
    const port = { heard: [], onmessage: null, postMessage({ data }) { if (data) this.heard.push(JSON.parse(data)); } };
    hub.connect(port);
    const say = (data) => port.onmessage({ data });
    say({ open: 'ws://hub.example/ws', protocols: [] });
    return { heard: port.heard, close: () => say({ close: true }), send: (frame) => say({ send: JSON.stringify(frame) }) };
  };
  const hear = (frame) => socket.onmessage({ data: JSON.stringify(frame) });
  const enter = (who) => {
    who.send({ type: 'subscribe', id: '1', room: 'r' });
    return sent.at(-1).id;
  };
  const leaving = () => sent.filter(({ type }) => type === 'unsubscribe').length;
  const [a, b, c] = [tab(), tab(), tab()];
  hear({ type: 'subscribed', id: enter(a), room: 'r' });
  let asked = enter(b);
  a.send({ type: 'unsubscribe', id: '2', room: 'r' });
  assert.equal(leaving(), 0, 'left while another enters');
  hear({ type: 'subscribed', id: asked, room: 'r' });
  asked = enter(c);
  b.close();
  assert.equal(leaving(), 0, 'closed while another enters');
  c.close();
  assert.equal(leaving(), 0, 'not in yet');
  const last = tab();
  assert.equal(a.heard.at(-1).type, 'unsubscribed');
  hear({ type: 'subscribed', id: asked, room: 'r' });
  assert.equal(leaving(), 1, 'nobody wants what was entered');
  assert.deepEqual([...a.heard, ...last.heard].filter(({ type }) => type === 'subscribed').length, 1, 'only its own answer');
});
