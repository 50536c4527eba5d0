import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Connection } from '../../../crates/web/ui/connection.js';
import { CONTENT_MAX, Chat, ITEMS_MAX, PEOPLE_MAX, lengthOf, nameProblem } from '../../../crates/web/ui/chat.js';
import { OUTBOX_MAX } from '../../../crates/web/ui/outbox.js';
import { presenceText } from '../../../crates/web/ui/timeline.js';
import { FakeEnv } from '../lib/fake-env.js';

function start() {
  const env = new FakeEnv();
  const connection = new Connection(() => 'ws://hub/ws', env);
  const chat = new Chat(connection, { userId: 'me', name: 'Me' }, () => 'session');
  connection.connect();
  return { env, connection, chat };
}

function joined(place) {
  const world = start();
  enter(world.env, place);
  return world;
}

function enter(env, { epoch = 'e1', offset = 0, members = 1, room = 'lobby' } = {}) {
  env.socket.welcome();
  env.socket.hear({ type: 'subscribed', room, epoch, offset, members });
}

let ids = 0;
const message = (over) => ({
  type: 'chat', userId: 'ana', username: 'Ana', content: 'hi', timestamp: '2026-01-01T10:00:00.000Z',
  room: 'lobby', id: `m${ids += 1}`, epoch: 'e1', offset: 1, ...over,
});
const shown = (room) => room.items.peek().filter((item) => item.kind === 'message').map((item) => item.text);
const notes = (room) => room.items.peek().filter((item) => item.kind === 'note').map((item) => item.text);
const outbox = (chat) => chat.outbox.entries.peek().map((entry) => `${entry.text}:${entry.state}`);

test('what is written offline waits, and goes out in order when the room is joined', () => {
  const { env, chat } = start();
  chat.say('one');
  chat.say('two');
  assert.deepEqual(outbox(chat), ['one:queued', 'two:queued']);
  env.socket.welcome();
  assert.deepEqual(env.socket.of('chat'), [], 'not before the room is joined');
  env.socket.hear({ type: 'subscribed', room: 'lobby', epoch: 'e1', offset: 0, members: 1 });
  assert.deepEqual(env.socket.of('chat').map((request) => [request.content, request.room]), [['one', 'lobby'], ['two', 'lobby']]);
});

for (const order of [['chat', 'ack'], ['ack', 'chat']]) {
  test(`a message of ours is shown once when the ${order[0]} comes first`, () => {
    const { env, chat } = joined();
    chat.say('hello');
    const { id } = env.socket.of('chat')[0];
    const events = {
      chat: message({ userId: 'me', username: 'Me', content: 'hello', id: 'm-1' }),
      ack: { type: 'ack', id, room: 'lobby', messageId: 'm-1', epoch: 'e1', offset: 1, timestamp: '2026-01-01T10:00:00.000Z' },
    };
    const visible = () => [...shown(chat.room), ...chat.outbox.entries.peek().filter((e) => !(e.state === 'sending' && e.messageId)).map((e) => e.text)];
    env.socket.hear(events[order[0]]);
    assert.deepEqual(visible(), ['hello']);
    env.socket.hear(events[order[1]]);
    assert.deepEqual(visible(), ['hello']);
    assert.deepEqual(outbox(chat), []);
  });
}

test('an acknowledgement that overtakes others\' messages loses none of them', () => {
  const { env, chat } = joined();
  chat.say('mine');
  env.socket.hear({ type: 'ack', id: env.socket.of('chat')[0].id, room: 'lobby', messageId: 'm-2', epoch: 'e1', offset: 2, timestamp: '2026-01-01T10:00:00.000Z' });
  env.socket.hear(message({ content: 'earlier', offset: 1 }));
  env.socket.hear(message({ content: 'mine', userId: 'me', id: 'm-2', offset: 2 }));
  assert.deepEqual(shown(chat.room), ['earlier', 'mine']);
  assert.deepEqual(outbox(chat), []);
});

test('what was on its way when the connection broke is unsure, and is sent again only by hand', () => {
  const { env, chat } = joined();
  chat.say('perhaps');
  env.socket.end(1006);
  assert.deepEqual(outbox(chat), ['perhaps:unsure']);
  env.advance(1_000);
  enter(env);
  assert.deepEqual(env.socket.of('chat'), []);
  chat.retry(chat.outbox.entries.peek()[0].id);
  assert.equal(env.socket.of('chat')[0].content, 'perhaps');
});

test('a broken connection after the room\'s copy or the acknowledgement leaves no doubt', () => {
  const { env, chat } = joined();
  chat.say('copied');
  chat.say('acknowledged');
  const [, second] = env.socket.of('chat');
  env.socket.hear(message({ userId: 'me', content: 'copied', id: 'm-1', offset: 1 }));
  env.socket.hear({ type: 'ack', id: second.id, room: 'lobby', messageId: 'm-2', epoch: 'e1', offset: 2, timestamp: '2026-01-01T10:00:00.000Z' });
  env.socket.end(1006);
  assert.deepEqual(outbox(chat), []);
  assert.deepEqual(shown(chat.room), ['copied', 'acknowledged']);
});

test('a kept socket keeps what is on its way', () => {
  const { env, connection, chat } = joined();
  chat.say('on its way');
  connection.networkLost();
  assert.deepEqual(outbox(chat), ['on its way:sending']);
  chat.say('later');
  assert.deepEqual(outbox(chat), ['on its way:sending', 'later:queued']);
  env.socket.hear(message({ userId: 'me', content: 'on its way', id: 'm-1' }));
  assert.deepEqual(shown(chat.room), ['on its way']);
});

test('a refused message says why, stays, and can be tried again', () => {
  const { env, chat } = joined();
  chat.say('no');
  env.socket.hear({ type: 'error', id: env.socket.of('chat')[0].id, code: 150, error: 'unavailable', message: 'the server is stopping', temporary: true, retryAfter: 2_500 });
  assert.deepEqual(outbox(chat), ['no:refused']);
  assert.equal(chat.outbox.entries.peek()[0].why, 'The server is stopping. Try again in 3 s.');
  assert.equal(chat.problem.peek(), 'The server is stopping. Try again in 3 s.');
  chat.retry(chat.outbox.entries.peek()[0].id);
  assert.equal(env.socket.of('chat').length, 2);
});

test('a message nobody confirms is doubted, then called unsure', () => {
  const { env, chat } = joined();
  chat.say('hello?');
  env.advance(9_000);
  const [ping] = env.socket.of('ping');
  assert.ok(ping, 'asks whether the server is there');
  env.socket.hear({ type: 'pong', id: ping.id });
  for (let n = 0; n < 6; n += 1) {
    env.advance(5_000);
    for (const { id } of env.socket.of('ping')) env.socket.hear({ type: 'pong', id });
  }
  assert.deepEqual(outbox(chat), ['hello?:unsure']);
});

test('the outbox is bounded, and a full one refuses in words', () => {
  const { chat } = start();
  for (let n = 0; n < OUTBOX_MAX; n += 1) assert.equal(chat.say(`m${n}`), '');
  assert.match(chat.say('one more'), /Too many messages wait/);
  assert.equal(chat.outbox.entries.peek().length, OUTBOX_MAX);
});

test('at most sixteen messages are on the wire at once; each answer lets the next go', () => {
  const { env, chat } = joined();
  for (let n = 0; n < 20; n += 1) chat.say(`m${n}`);
  assert.equal(env.socket.of('chat').length, 16);
  env.socket.hear({ type: 'ack', id: env.socket.of('chat')[0].id, room: 'lobby', messageId: 'x', epoch: 'e1', offset: 1, timestamp: '2026-01-01T10:00:00.000Z' });
  assert.equal(env.socket.of('chat').length, 17);
});

test('content is counted in characters as the server counts, and bounded before it is sent', () => {
  const { chat } = joined();
  assert.equal(lengthOf('a🦜é'), 3);
  assert.equal(chat.say('🦜'.repeat(CONTENT_MAX)), '');
  assert.match(chat.say('a'.repeat(CONTENT_MAX + 1)), /at most 1000 characters; this one has 1001/);
  assert.match(chat.say(' \n '), /nothing to send/);
});

test('names: empty, too long and invisible characters are refused in words', () => {
  assert.equal(nameProblem('Ana-María O\'Neil 🦜'), '');
  assert.equal(nameProblem('n'.repeat(50)), '');
  assert.notEqual(nameProblem(''), '');
  assert.match(nameProblem('n'.repeat(51)), /at most 50/);
  assert.match(nameProblem('evil\u202egnp'), /invisible/);
  assert.match(nameProblem('a\u0000b'), /invisible/);
});

test('a message with an offset already seen is not shown again', () => {
  const { env, chat } = joined();
  env.socket.hear(message({ content: 'one', offset: 1 }));
  env.socket.hear(message({ content: 'one', offset: 1 }));
  env.socket.hear(message({ content: 'two', offset: 2 }));
  assert.deepEqual(shown(chat.room), ['one', 'two']);
});

test('what was missed while away is said, with its number', () => {
  const { env, chat } = joined();
  env.socket.hear(message({ offset: 1 }));
  env.socket.end(1006);
  env.advance(1_000);
  enter(env, { offset: 4 });
  assert.deepEqual(notes(chat.room), ['3 messages were sent while you were disconnected and are not shown.']);
});

test('nothing missed is nothing said, and a new epoch is said without a number', () => {
  const { env, chat } = joined({ offset: 7 });
  env.socket.end(1006);
  env.advance(1_000);
  enter(env, { offset: 7 });
  assert.deepEqual(notes(chat.room), []);
  env.socket.end(1001);
  env.advance(5_000);
  enter(env, { epoch: 'e2', offset: 0 });
  assert.match(notes(chat.room)[0], /started afresh/);
  env.socket.hear(message({ epoch: 'e2', offset: 1 }));
  assert.deepEqual(shown(chat.room), ['hi']);
});

test('a gap is said where it is', () => {
  const { env, chat } = joined();
  env.socket.hear({ type: 'gap', room: 'lobby', missed: 1, epoch: 'e1', offset: 1 });
  assert.deepEqual(notes(chat.room), ['1 message was sent without reaching this page and is not shown.']);
});

test('messages of one person within five minutes share a head; days get a line', () => {
  const { env, chat } = joined();
  const at = (timestamp, over) => env.socket.hear(message({ timestamp, offset: (ids += 1) + 100, ...over }));
  at('2026-01-01T10:00:00Z');
  at('2026-01-01T10:04:59Z');
  at('2026-01-01T10:05:30Z', { userId: 'ben', username: 'Ben' });
  at('2026-01-01T10:05:40Z');
  at('2026-01-01T10:11:00Z');
  at('2026-01-05T10:11:01Z');
  const kinds = chat.room.items.peek().map((item) => (item.kind === 'message' ? `${item.name}${item.head ? '*' : ''}` : item.kind));
  assert.deepEqual(kinds, ['day', 'Ana*', 'Ana', 'Ben*', 'Ana*', 'Ana*', 'day', 'Ana*']);
});

test('comings and goings in a row are one line', () => {
  const { env, chat } = joined();
  const announce = (type, name) => env.socket.hear({ type, userId: name, username: name, timestamp: '2026-01-01T10:00:00Z', room: 'lobby', clientId: `c-${name}` });
  for (const name of ['Ana', 'Ben', 'Chi', 'Dan', 'Eve', 'Fay']) announce('join', name);
  announce('leave', 'Ana');
  const [, line] = chat.room.items.peek();
  assert.equal(chat.room.items.peek().length, 2);
  assert.equal(presenceText(line), 'Ana, Ben, Chi, Dan and 2 more joined · Ana left');
});

test('people: a user with two connections leaves with the last one; members are counted', () => {
  const { env, chat } = joined({ members: 2 });
  const announce = (type, clientId) => env.socket.hear({ type, userId: 'ana', username: 'Ana', timestamp: '2026-01-01T10:00:00Z', room: 'lobby', clientId });
  announce('join', 'c1');
  announce('join', 'c2');
  assert.equal(chat.room.members.peek(), 4);
  announce('leave', 'c1');
  assert.equal(chat.room.people.peek().get('ana').here, true);
  announce('leave', 'c2');
  assert.equal(chat.room.people.peek().get('ana').here, false);
  assert.equal(chat.room.members.peek(), 2);
  env.socket.hear({ type: 'join', userId: 'me', username: 'Me', timestamp: '2026-01-01T10:00:00Z', room: 'lobby', clientId: 'client-1' });
  assert.equal(chat.room.members.peek(), 2, 'our own coming is already counted');
});

test('after a reconnect nobody is claimed to be here who was not heard from', () => {
  const { env, chat } = joined();
  env.socket.hear(message({}));
  assert.equal(chat.room.people.peek().get('ana').here, true);
  env.socket.end(1006);
  env.advance(1_000);
  enter(env, { offset: 1 });
  assert.equal(chat.room.people.peek().get('ana').here, false);
  assert.equal(chat.room.people.peek().get('me').here, true);
});

test('items and people are bounded', () => {
  const { env, chat } = joined();
  for (let n = 1; n <= ITEMS_MAX + 200; n += 1) {
    env.socket.hear(message({ userId: `u${n}`, username: `U${n}`, content: `m${n}`, offset: n }));
  }
  const items = chat.room.items.peek();
  assert.ok(items.length <= ITEMS_MAX);
  assert.equal(items.at(-1).text, `m${ITEMS_MAX + 200}`);
  assert.equal(items[0].head, true, 'what is left starts with a head');
  assert.equal(chat.room.people.peek().size, PEOPLE_MAX);
  assert.ok(chat.room.people.peek().has('me'));
});

test('rooms are asked for again after each reconnect, and a refused one is gone, with the reason', () => {
  const { env, chat } = joined();
  chat.open('builds');
  const [request] = env.socket.of('subscribe');
  assert.equal(request.room, 'builds');
  env.socket.hear({ type: 'subscribed', id: request.id, room: 'builds', epoch: 'b1', offset: 0, members: 1 });
  env.socket.end(1006);
  env.advance(1_000);
  enter(env);
  const [again] = env.socket.of('subscribe');
  assert.equal(again.room, 'builds');
  env.socket.hear({ type: 'error', id: again.id, code: 124, error: 'room_full', message: 'the room is full', temporary: true });
  assert.equal(chat.rooms.peek().has('builds'), false);
  assert.equal(chat.current.peek(), 'lobby');
  assert.equal(chat.problem.peek(), '#builds: The room is full.');
});

test('the server\'s own name for the home room is taken over', () => {
  const { env, chat } = start();
  enter(env, { room: 'foyer' });
  assert.equal(chat.current.peek(), 'foyer');
  assert.deepEqual([...chat.rooms.peek().keys()], ['foyer']);
  chat.say('hi');
  assert.equal(env.socket.of('chat')[0].room, 'foyer');
});

test('unread counts what was not looked at, below one line, and not our own', () => {
  const { env, chat } = joined();
  env.socket.hear(message({ offset: 1, content: 'seen' }));
  chat.attending.value = false;
  env.socket.hear(message({ offset: 2 }));
  env.socket.hear(message({ offset: 3 }));
  env.socket.hear(message({ offset: 4, userId: 'me' }));
  assert.equal(chat.room.unread.peek(), 2);
  const kinds = chat.room.items.peek().map((item) => item.kind);
  assert.deepEqual(kinds, ['day', 'message', 'unread', 'message', 'message', 'message']);
  chat.attending.value = true;
  assert.equal(chat.room.unread.peek(), 0);
});

test('what is heard is told to the announcer, our own words are not', () => {
  const { env, chat } = joined();
  const heard = [];
  chat.onHeard = ({ name, text }) => heard.push(`${name}: ${text}`);
  env.socket.hear(message({ offset: 1 }));
  env.socket.hear(message({ offset: 2, userId: 'me' }));
  env.socket.hear({ type: 'system', content: 'maintenance at noon', timestamp: '2026-01-01T10:00:00Z' });
  assert.deepEqual(heard, ['Ana: hi', 'The server: maintenance at noon']);
  assert.deepEqual(notes(chat.room), ['maintenance at noon']);
});
