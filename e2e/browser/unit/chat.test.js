import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HubLink } from '../../../crates/web/ui/link.js';
import { CONTENT_MAX, Chat, OUTBOX_MAX, isCommand, lengthOf, nameProblem } from '../../../crates/web/ui/chat.js';
import { ITEMS_MAX, PEOPLE_MAX, Room, mentions } from '../../../crates/web/ui/model.js';
import { presenceText } from '../../../crates/web/ui/timeline.js';
import { completions, typingText } from '../../../crates/web/ui/composer.js';
import { FakeEnv } from '../lib/fake-env.js';

/** Storage that outlives a page. */
function storage() {
  const kept = new Map();
  return (key, value) => {
    if (value === undefined) return kept.get(key) ?? null;
    if (value === null) kept.delete(key);
    else kept.set(key, value);
    return value;
  };
}

function start({ memory = storage(), tab = storage() } = {}) {
  const env = new FakeEnv();
  const link = new HubLink(new URL('ws://hub/ws'), { device: 'device', env: env.hub });
  let ids = 0;
  const world = { clock: env, memory, tab, randomId: () => `key-${ids += 1}`, files: { hub: new URL('ws://hub/ws'), options: {} } };
  const chat = new Chat(link, { userId: 'me', name: 'Me' }, world);
  link.connect();
  return { env, link, chat, memory, tab };
}

function joined(place) {
  const world = start();
  enter(world.env, place);
  return world;
}

/** The server lets us in, and into the room. */
function enter(env, { epoch = 'e1', offset = 0, members = 1, room = 'lobby', ...more } = {}) {
  env.socket.welcome();
  into(env, room, { epoch, offset, members, head: offset, ...more });
}

function into(env, room, more) {
  const { id } = env.socket.of('subscribe').findLast((request) => request.room === room);
  env.socket.hear({ type: 'subscribed', id, room, epoch: 'e1', offset: 0, members: 1, head: 0, first: 1, durability: 'memory', ...more });
}

/** Lets what was answered be dealt with. */
async function settle() {
  for (let turn = 0; turn < 3; turn += 1) await new Promise((done) => { setImmediate(done); });
}

/** Answers the newest request of a type. */
async function answer(env, type, fields) {
  await settle();
  const request = env.socket.of(type).at(-1);
  env.socket.hear({ id: request.id, room: request.room, ...fields });
  return settle();
}

let ids = 0;
const message = (over) => ({
  type: 'chat', userId: 'ana', username: 'Ana', content: 'hi', timestamp: '2026-01-01T10:00:00.000Z',
  room: 'lobby', id: `m${ids += 1}`, epoch: 'e1', offset: 1, ...over,
});
const ackOf = (request, offset, messageId = `ack-${offset}`) => ({ type: 'ack', id: request.id, room: request.room ?? 'lobby', messageId, epoch: 'e1', offset, timestamp: '2026-01-01T10:00:00.000Z' });
const shown = (room) => room.items.peek().filter((item) => item.kind === 'message').map((item) => item.text);
const notes = (room) => room.items.peek().filter((item) => item.kind === 'note').map((item) => item.text);
const kinds = (room) => room.items.peek().map((item) => item.kind);
const outbox = (chat) => chat.unsent.peek().map((entry) => `${entry.text}:${entry.state}`);
const visible = (chat) => [...shown(chat.room), ...chat.unsent.peek().filter((entry) => !entry.copy).map((entry) => entry.text)];

test('what is written offline waits, and goes out in order when the room is joined', async () => {
  const { env, chat } = start();
  chat.say('one');
  chat.say('two');
  assert.deepEqual(outbox(chat), ['one:queued', 'two:queued']);
  env.socket.welcome();
  assert.deepEqual(env.socket.of('chat'), [], 'not before the room is joined');
  into(env, 'lobby');
  await settle();
  assert.deepEqual(env.socket.of('chat').map((request) => [request.content, request.room]), [['one', 'lobby'], ['two', 'lobby']]);
});

for (const order of [['chat', 'ack'], ['ack', 'chat']]) {
  test(`a message of ours is shown once when the ${order[0]} comes first`, async () => {
    const { env, chat } = joined();
    chat.say('hello');
    await settle();
    const [request] = env.socket.of('chat');
    const events = { chat: message({ userId: 'me', username: 'Me', content: 'hello', id: 'm-1' }), ack: ackOf(request, 1, 'm-1') };
    for (const event of order) {
      env.socket.hear(events[event]);
      await settle();
      assert.deepEqual(visible(chat), ['hello'], `after the ${event}`);
    }
    assert.deepEqual(outbox(chat), []);
  });
}

test('an acknowledgement that overtakes others\' messages loses none of them', async () => {
  const { env, chat } = joined();
  chat.say('mine');
  await settle();
  env.socket.hear(ackOf(env.socket.of('chat')[0], 2, 'm-2'));
  await settle();
  env.socket.hear(message({ content: 'earlier', offset: 1 }));
  env.socket.hear(message({ content: 'mine', userId: 'me', id: 'm-2', offset: 2 }));
  assert.deepEqual(shown(chat.room), ['earlier', 'mine']);
  assert.deepEqual(outbox(chat), []);
});

test('what was on its way when the connection broke goes out again, under the key that it had', async () => {
  const { env, chat } = joined();
  chat.say('perhaps');
  await settle();
  const [first] = env.socket.of('chat');
  env.socket.end(1006);
  await settle();
  assert.deepEqual(outbox(chat), ['perhaps:queued']);
  env.advance(1_000);
  enter(env);
  await settle();
  const [second] = env.socket.of('chat');
  assert.equal(second.idempotencyKey, first.idempotencyKey);
  env.socket.hear({ ...ackOf(second, 1, 'm-1'), duplicate: true });
  env.socket.hear(message({ content: 'perhaps', userId: 'me', id: 'm-1', offset: 1 }));
  await settle();
  assert.deepEqual(visible(chat), ['perhaps']);
  assert.deepEqual(outbox(chat), []);
});

test('what is not confirmed survives a reload of the page, and so do drafts and rooms', async () => {
  const { chat, memory, tab } = start();
  chat.say('written in a tunnel');
  chat.open('builds');
  chat.room.draft.value = 'half a thought';
  const again = start({ memory, tab });
  assert.deepEqual(outbox(again.chat), ['written in a tunnel:queued']);
  assert.deepEqual([...again.chat.rooms.peek().keys()], ['lobby', 'builds']);
  assert.equal(again.chat.rooms.peek().get('builds').draft.peek(), 'half a thought');
  enter(again.env);
  await settle();
  assert.equal(again.env.socket.of('chat')[0].idempotencyKey, 'key-1');
});

test('a message that was not acknowledged for too long may have been sent, and is settled by its copy', async () => {
  const { env, chat } = joined();
  await settle();
  chat.say('pay Bob');
  await settle();
  env.socket.end(1006);
  await settle();
  for (let n = 0; n < 40; n += 1) {
    env.advance(10_000);
    await settle();
    if (env.socket.readyState === 0) env.socket.end(1006);
    await settle();
  }
  assert.deepEqual(outbox(chat), ['pay Bob:unconfirmed']);
  assert.match(chat.unsent.peek()[0].why, /may have been sent before/);
  env.advance(31_000);
  await settle();
  enter(env, { offset: 1, recovered: true });
  env.socket.hear(message({ userId: 'me', username: 'Me', content: 'pay Bob', offset: 1 }));
  await settle();
  assert.deepEqual(visible(chat), ['pay Bob']);
  assert.deepEqual(outbox(chat), []);
});

test('a refused message says why, stays, and can be tried again', async () => {
  const { env, chat } = joined();
  chat.say('no');
  await settle();
  env.socket.hear({ type: 'error', id: env.socket.of('chat')[0].id, code: 131, error: 'forbidden', message: 'you may not speak here', temporary: false });
  await settle();
  assert.deepEqual(outbox(chat), ['no:refused']);
  assert.equal(chat.unsent.peek()[0].why, 'You may not speak here.');
  assert.equal(chat.problem.peek(), 'You may not speak here.');
  chat.retry(chat.unsent.peek()[0].id);
  assert.equal(env.socket.of('chat').length, 2);
});

test('the outbox is bounded, and a full one refuses in words', () => {
  const { chat } = start();
  for (let n = 0; n < OUTBOX_MAX; n += 1) assert.equal(chat.say(`m${n}`), '');
  assert.match(chat.say('one more'), /Too many messages wait/);
  assert.equal(chat.unsent.peek().length, OUTBOX_MAX);
});

test('what waited longer than the library keeps it waits on, if it was never on the wire', async () => {
  const { env, chat } = start();
  chat.say('patience');
  env.advance(6 * 60_000);
  await settle();
  assert.deepEqual(outbox(chat), ['patience:queued']);
  while (chat.link.state.peek().status !== 'connecting') env.advance(500);
  enter(env);
  await settle();
  assert.deepEqual(env.socket.of('chat').map(({ content }) => content), ['patience']);
});

test('after a reload, what may have been sent too long ago is not sent again without asking', () => {
  const tab = storage();
  tab('unsent', JSON.stringify([{ id: 'k', room: 'lobby', to: '', text: 'long ago', files: [], at: 1, state: 'sending', why: '', sentAt: 1 }]));
  const { chat } = start({ tab });
  assert.deepEqual(outbox(chat), ['long ago:unconfirmed']);
  assert.match(chat.unsent.peek()[0].why, /may have been sent before/);
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

test('a gap is said where it is', () => {
  const { env, chat } = joined();
  env.socket.hear({ type: 'gap', room: 'lobby', missed: 1, epoch: 'e1', offset: 1 });
  assert.deepEqual(notes(chat.room), ['1 message was sent while you were disconnected and is not shown.']);
});

test('messages of one person within five minutes share a head; days get a line', () => {
  const { env, chat } = joined();
  let offset = 0;
  const at = (timestamp, over) => env.socket.hear(message({ timestamp, offset: offset += 1, ...over }));
  at('2026-01-01T10:00:00Z');
  at('2026-01-01T10:04:59Z');
  at('2026-01-01T10:05:30Z', { userId: 'ben', username: 'Ben' });
  at('2026-01-01T10:05:40Z');
  at('2026-01-01T10:11:00Z');
  at('2026-01-05T10:11:01Z');
  const rows = chat.room.items.peek().map((item) => (item.kind === 'message' ? `${item.name}${item.head ? '*' : ''}` : item.kind));
  assert.deepEqual(rows, ['day', 'Ana*', 'Ana', 'Ben*', 'Ana*', 'Ana*', 'day', 'Ana*']);
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

test('who is there is asked for, and joins, leaves and crowds keep it right', async () => {
  const { env, chat } = joined();
  await answer(env, 'presence', { type: 'presence', userCount: 2, members: 3, users: [
    { userId: 'ana', username: 'Ana', online: true, since: '2026-01-01T10:00:00.000Z', devices: [{ clientId: 'c1', since: '2026-01-01T10:00:00.000Z' }, { clientId: 'c2', since: '2026-01-01T10:00:00.000Z' }] },
    { userId: 'me', username: 'Me', online: true, since: '2026-01-01T10:00:00.000Z', devices: [{ clientId: 'client-1', since: '2026-01-01T10:00:00.000Z' }] },
  ] });
  const ana = () => chat.room.people.peek().get('ana');
  assert.equal(chat.room.members.peek(), 2);
  assert.deepEqual([ana().here, ana().clients.size], [true, 2]);
  const announce = (type) => env.socket.hear({ type, userId: 'ana', username: 'Ana', timestamp: '2026-01-01T10:00:00Z', room: 'lobby', clientId: 'c1' });
  announce('leave');
  assert.deepEqual([ana().here, chat.room.members.peek()], [false, 1]);
  announce('join');
  announce('join');
  assert.deepEqual([ana().here, chat.room.members.peek()], [true, 2]);
  env.socket.hear({ type: 'presence_change', room: 'lobby', userCount: 5000, members: 6000, joinedCount: 1, leftCount: 1, joined: [{ userId: 'eve', username: 'Eve' }], left: [{ userId: 'ana', username: 'Ana' }] });
  assert.deepEqual([ana().here, chat.room.people.peek().get('eve').here, chat.room.members.peek()], [false, true, 5000]);
});

test('items and people are bounded', () => {
  const { env, chat } = joined();
  for (let n = 1; n <= ITEMS_MAX + 200; n += 1) {
    env.socket.hear(message({ userId: `u${n}`, username: `U${n}`, content: `m${n}`, offset: n }));
  }
  const items = chat.room.items.peek();
  assert.ok(chat.room.entries.peek().length <= ITEMS_MAX);
  assert.equal(items.at(-1).text, `m${ITEMS_MAX + 200}`);
  assert.equal(items[1].head, true, 'what is left starts with a head');
  assert.ok(chat.room.people.peek().size <= PEOPLE_MAX);
  assert.ok(chat.room.people.peek().has('me'));
  assert.equal(chat.room.older.peek(), 'more', 'what was dropped can be had again');
});

test('rooms are gone into again after each reconnect, from where we were, and a refused one is gone, with the reason', async () => {
  const { env, chat } = joined();
  chat.open('builds');
  into(env, 'builds', { epoch: 'b1', offset: 7, head: 7, first: 8 });
  env.socket.end(1006);
  env.advance(1_000);
  enter(env);
  const again = env.socket.of('subscribe').find(({ room }) => room === 'builds');
  assert.deepEqual([again.epoch, again.offset], ['b1', 7]);
  env.socket.hear({ type: 'error', id: again.id, code: 131, error: 'forbidden', message: 'this room is not for you', temporary: false });
  await settle();
  assert.equal(chat.rooms.peek().has('builds'), false);
  assert.equal(chat.current.peek(), 'lobby');
  assert.equal(chat.problem.peek(), '#builds: This room is not for you.');
});

test('a hub that is closed takes no room away, neither ours nor everybody\'s', async () => {
  const { env, chat, memory } = joined();
  chat.open('builds');
  into(env, 'builds');
  chat.link.close();
  await settle();
  assert.deepEqual([...chat.rooms.peek().keys()], ['lobby', 'builds']);
  assert.equal(memory('rooms'), '["builds"]');
  assert.equal(chat.problem.peek(), '');
});

test('the room that the server puts newcomers into is everybody\'s, whatever its name, and is remembered', async () => {
  const { env, chat, memory } = start();
  env.socket.welcome();
  env.socket.hear({ type: 'subscribed', room: 'foyer', epoch: 'e1', offset: 0, members: 1, head: 0, first: 1, durability: 'memory' });
  assert.equal(chat.current.peek(), 'foyer');
  assert.deepEqual([...chat.rooms.peek().keys()], ['foyer']);
  into(env, 'foyer');
  chat.say('hi');
  await settle();
  assert.equal(env.socket.of('chat')[0].room, 'foyer');
  assert.equal(start({ memory }).chat.current.peek(), 'foyer');
});

test('unread counts what was not looked at, below one line, and not our own', () => {
  const { env, chat } = joined();
  env.socket.hear(message({ offset: 1, content: 'seen' }));
  chat.attending.value = false;
  env.socket.hear(message({ offset: 2 }));
  env.socket.hear(message({ offset: 3, content: 'psst, @me!' }));
  env.socket.hear(message({ offset: 4, userId: 'me' }));
  assert.deepEqual([chat.room.unread.peek(), chat.room.mentions.peek()], [2, 1]);
  assert.deepEqual(kinds(chat.room), ['day', 'message', 'unread', 'message', 'message', 'message']);
  chat.attending.value = true;
  assert.equal(chat.room.unread.peek(), 0);
  assert.equal(kinds(chat.room)[2], 'unread', 'the line stays where it was');
});

test('the unread line stands where reading ended the last time, when a room is opened', async () => {
  const { env, chat } = joined({ offset: 3, unread: 1, seen: 2 });
  await answer(env, 'history', { type: 'history', epoch: 'e1', first: 1, head: 3, more: false, messages: [message({ offset: 1 }), message({ offset: 2 }), message({ offset: 3 })] });
  assert.deepEqual(kinds(chat.room), ['day', 'message', 'message', 'unread', 'message']);
});

test('history: the newest page at first, older ones on demand, each message once and in order', async () => {
  const { env, chat } = joined({ offset: 4 });
  const page = (from, to, more) => answer(env, 'history', { type: 'history', epoch: 'e1', first: 1, head: 4, more, messages: Array.from({ length: to - from + 1 }, (_, n) => message({ id: `h${from + n}`, offset: from + n, content: `m${from + n}` })) });
  await page(3, 4, true);
  assert.deepEqual(shown(chat.room), ['m3', 'm4']);
  env.socket.hear(message({ offset: 5, content: 'm5' }));
  void chat.loadOlder(chat.room);
  void chat.loadOlder(chat.room);
  await settle();
  assert.equal(env.socket.of('history').length, 2, 'one question at a time');
  assert.equal(env.socket.of('history')[1].before, 3);
  await page(1, 3, false);
  assert.deepEqual(shown(chat.room), ['m1', 'm2', 'm3', 'm4', 'm5']);
  assert.equal(chat.room.older.peek(), 'none');
});

test('rows have keys of their own, also where those who came are shown in one', () => {
  const room = new Room('lobby', 'me');
  const said = (offset) => room.addMessage({ kind: 'message', key: `m${offset}`, order: 0, offset, at: offset, type: 'chat', userId: 'ana', name: 'Ana', text: 'hi' });
  room.addPresence('Ben', true, 1);
  room.addPresence('Cid', true, 1);
  said(1);
  room.addPresence('Dot', true, 1);
  room.addPresence('Eve', true, 1);
  room.note('The server talks', 'system', 1);
  const keys = room.items.peek().map(({ key }) => key);
  assert.equal(new Set(keys).size, keys.length, keys.join());
});

const SLOWER = { type: 'error', code: 162, error: 'rate_limited', message: 'too many reads', temporary: true, retryAfter: 1000 };

test('history that is refused for a while is asked for again when that is over, and more slowly each time', async () => {
  const { env, chat } = joined({ offset: 4 });
  await answer(env, 'history', SLOWER);
  assert.equal(chat.room.older.peek(), 'failed');
  for (let n = 0; n < 20; n += 1) {
    env.advance(100);
    const asked = env.socket.of('history').length;
    await answer(env, 'history', SLOWER);
    assert.ok(asked <= 2, `${asked} requests`);
  }
  env.advance(1_000);
  await answer(env, 'history', { type: 'history', epoch: 'e1', first: 1, head: 4, more: false, messages: [message({ id: 'h4', offset: 4, content: 'm4' })] });
  assert.deepEqual(shown(chat.room), ['m4']);
  assert.equal(chat.room.older.peek(), 'none');
  assert.equal(env.socket.of('history').length, 3);
});

test('history that was cut off is asked for again when we are back, and when somebody wants it', async () => {
  const { env, chat } = joined({ offset: 4 });
  await settle();
  env.socket.end(1006);
  await settle();
  assert.equal(chat.room.older.peek(), 'failed');
  void chat.loadOlder(chat.room);
  await settle();
  assert.equal(chat.room.older.peek(), 'failed', 'not while we are away');
  env.advance(31_000);
  await settle();
  enter(env, { offset: 4, recovered: true });
  await answer(env, 'history', { type: 'error', code: 190, error: 'busy', message: 'not now', temporary: true });
  assert.equal(chat.room.older.peek(), 'failed');
  env.advance(60_000);
  await settle();
  assert.equal(env.socket.of('history').length, 1, 'nobody has said when');
  void chat.loadOlder(chat.room);
  await answer(env, 'history', { type: 'history', epoch: 'e1', first: 1, head: 4, more: false, messages: [message({ id: 'h4', offset: 4, content: 'm4' })] });
  assert.deepEqual(shown(chat.room), ['m4']);
});

test('who reads far back lets go of the end, and comes back to it with the newest page', async () => {
  const { env, chat } = joined({ offset: 1000 });
  const page = (from, to) => answer(env, 'history', { type: 'history', epoch: 'e1', first: 1, head: 1000, more: true, messages: Array.from({ length: to - from + 1 }, (_, n) => message({ id: `h${from + n}`, userId: `u${n}`, offset: from + n, content: `m${from + n}` })) });
  await page(951, 1000);
  for (let from = 901; from > 401; from -= 50) {
    void chat.loadOlder(chat.room);
    await page(from, from + 49);
  }
  assert.equal(chat.room.detached.peek(), true);
  assert.equal(chat.room.entries.peek().length, ITEMS_MAX);
  env.socket.hear(message({ offset: 1001, content: 'news' }));
  assert.ok(!shown(chat.room).includes('news'));
  assert.equal(chat.room.unread.peek(), 1);
  void chat.latest(chat.room);
  await page(952, 1001);
  assert.equal(chat.room.detached.peek(), false);
  assert.equal(shown(chat.room).at(-1), 'm1001');
});

test('what was missed and does not come by itself is fetched, and what cannot be had is said', async () => {
  const { env, chat } = joined({ offset: 2 });
  await answer(env, 'history', { type: 'history', epoch: 'e1', first: 1, head: 2, more: false, messages: [] });
  env.socket.end(1006);
  env.advance(1_000);
  const caught = [];
  chat.onCaughtUp = (room, count) => caught.push([room, count]);
  enter(env, { offset: 9, first: 6, recovered: false });
  await answer(env, 'history', { type: 'history', epoch: 'e1', first: 6, head: 9, more: false, messages: [6, 7, 8, 9].map((offset) => message({ offset, content: `m${offset}` })) });
  assert.deepEqual(notes(chat.room), ['3 messages were sent while you were disconnected and are not shown.']);
  assert.deepEqual(shown(chat.room), ['m6', 'm7', 'm8', 'm9']);
  assert.deepEqual(caught, [['lobby', 7]]);
});

test('what was recovered is shown and not announced as news', () => {
  const { env, chat } = joined({ offset: 2 });
  env.socket.end(1006);
  env.advance(1_000);
  const heard = [];
  chat.onHeard = ({ text }) => heard.push(text);
  enter(env, { offset: 2, head: 3, recovered: true });
  env.socket.hear(message({ offset: 3, content: 'missed' }));
  env.socket.hear(message({ offset: 4, content: 'new' }));
  assert.deepEqual(shown(chat.room), ['missed', 'new']);
  assert.deepEqual(heard, ['new']);
});

test('a new epoch is said, and old offsets change nothing of the new ones', () => {
  const { env, chat } = joined({ offset: 0 });
  env.socket.hear(message({ offset: 1, content: 'old' }));
  env.socket.end(1001);
  env.advance(5_000);
  enter(env, { epoch: 'e2', offset: 0, recovered: false });
  assert.match(notes(chat.room)[0], /started afresh/);
  env.socket.hear(message({ epoch: 'e2', offset: 1, content: 'new' }));
  env.socket.hear({ ...message({ epoch: 'e2', offset: 2 }), type: 'edit', target: 1, content: 'newer' });
  assert.deepEqual(shown(chat.room), ['old', 'newer']);
});

test('edits, deletions and reactions change the message that they are about, and nothing else', async () => {
  const { env, chat } = joined();
  env.socket.hear(message({ offset: 1, content: 'Helo' }));
  env.socket.hear(message({ offset: 2, content: 'other' }));
  const other = chat.room.items.peek()[2];
  const change = (offset, fields) => env.socket.hear({ ...message({ offset }), content: undefined, target: 1, ...fields });
  change(3, { type: 'edit', content: 'Hello' });
  change(4, { type: 'reaction', reaction: '👍', removed: false });
  change(5, { type: 'reaction', reaction: '👍', removed: false, userId: 'me' });
  change(6, { type: 'reaction', reaction: '👍', removed: true });
  const first = () => chat.room.messageAt(1);
  assert.equal(first().text, 'Hello');
  assert.ok(first().edited > 0);
  assert.deepEqual(first().reactions, [{ reaction: '👍', users: ['me'] }]);
  assert.equal(chat.room.items.peek()[2], other, 'a row that did not change is the same object');
  change(7, { type: 'delete' });
  assert.deepEqual([first().deleted, first().text, first().reactions], [true, '', []]);
  chat.react(first(), '🎉');
  await settle();
  assert.deepEqual(env.socket.of('react').map(({ offset, reaction, remove }) => [offset, reaction, remove]), [[1, '🎉', undefined]]);
});

test('marks: sent, delivered, seen by so many, and never our own reading', async () => {
  const { env, chat } = joined({ members: 3 });
  env.socket.hear(message({ userId: 'me', offset: 1 }));
  const mark = () => { const { state, count } = chat.room.mark(1); return `${state} ${count}`; };
  assert.equal(mark(), 'sent 0');
  const receipt = (userId, kind, offset = 1) => env.socket.hear({ type: 'receipt', room: 'lobby', userId, receipt: kind, epoch: 'e1', offset });
  receipt('me', 'seen');
  assert.equal(mark(), 'sent 0');
  receipt('ana', 'delivered');
  assert.equal(mark(), 'delivered 1');
  receipt('ana', 'seen');
  receipt('ben', 'seen', 5);
  assert.equal(mark(), 'seen 2');
  assert.deepEqual(chat.room.seenBy(1), ['ana', 'ben']);
  env.socket.hear({ type: 'receipt_counts', room: 'lobby', epoch: 'e1', offset: 9, delivered: 900, seen: 700 });
  assert.equal(mark(), 'seen 700');
});

test('seen is told while somebody looks, delivered otherwise, and neither with every message', async () => {
  const { env, chat } = joined({ unread: 0, seen: 0, delivered: 0 });
  const told = () => env.socket.sent.filter(({ type }) => type === 'seen' || type === 'delivered').map(({ type, offset }) => `${type} ${offset}`);
  env.socket.hear(message({ offset: 1 }));
  env.socket.hear(message({ offset: 2 }));
  env.advance(1_000);
  await settle();
  assert.deepEqual(told(), ['seen 2']);
  chat.attending.value = false;
  env.socket.hear(message({ offset: 3 }));
  env.advance(1_000);
  await settle();
  assert.deepEqual(told(), ['seen 2', 'delivered 3']);
  chat.attending.value = true;
  // What comes in the same moment, and is not looked at any more, is not called seen.
  chat.attending.value = false;
  env.socket.hear(message({ offset: 4 }));
  env.advance(1_000);
  await settle();
  assert.deepEqual(told(), ['seen 2', 'delivered 3', 'seen 3', 'delivered 4']);
});

test('private conversations: listed with what is unread, begun by writing, and named by the server', async () => {
  const { env, chat } = joined();
  await settle();
  for (const request of env.socket.of('conversations')) {
    env.socket.hear({ id: request.id, type: 'conversations', conversations: [{ room: '@ana~me', with: 'ana', epoch: 'p', offset: 5, timestamp: '', unread: 2, seen: 3, delivered: 5 }] });
  }
  await settle();
  const ana = chat.rooms.peek().get('@ana~me');
  assert.deepEqual([ana.peer.peek(), ana.unread.peek()], ['ana', 2]);
  assert.equal(chat.openDirect('ana', 'Ana'), '@ana~me');
  assert.equal(chat.room.title, 'Ana');
  chat.openDirect('ben', 'Ben');
  env.socket.hear({ id: env.socket.of('conversations').at(-1).id, type: 'conversations', conversations: [] });
  chat.say('psst');
  await settle();
  const [request] = env.socket.of('direct');
  assert.deepEqual([request.to, request.content, request.room], ['ben', 'psst', undefined]);
  env.socket.hear(ackOf({ id: request.id, room: '@ben~me' }, 1, 'd1'));
  await settle();
  env.socket.hear({ type: 'subscribed', room: '@ben~me', epoch: 'e1', offset: 0, head: 1, first: 1, members: 1, durability: 'stored', recovered: true });
  env.socket.hear(message({ room: '@ben~me', userId: 'me', content: 'psst', id: 'd1', to: 'ben', offset: 1 }));
  await settle();
  assert.equal(chat.current.peek(), '@ben~me');
  assert.deepEqual(visible(chat), ['psst']);
  assert.equal(chat.room.title, 'Ben');
});

test('somebody who writes in private for the first time is in the list, with what is unread', async () => {
  const { env, chat } = joined();
  const heard = [];
  chat.onHeard = ({ name, text, direct }) => heard.push([name, text, direct]);
  env.socket.hear({ type: 'subscribed', room: '@eve~me', epoch: 'p', offset: 0, head: 1, first: 1, members: 2, durability: 'stored', recovered: true, unread: 1, seen: 0 });
  env.socket.hear(message({ room: '@eve~me', userId: 'eve', username: 'Eve', to: 'me', epoch: 'p', offset: 1 }));
  assert.deepEqual(heard, [['Eve', 'hi', true]]);
  const room = chat.rooms.peek().get('@eve~me');
  assert.deepEqual([room.peer.peek(), room.title, room.unread.peek()], ['eve', 'Eve', 1]);
});

test('commands go to the server as they are typed; what they answer is shown, and a refused one comes back', async () => {
  const { env, chat } = joined();
  assert.deepEqual(['/me waves', '//etc', 'a/b'].map(isCommand), [true, false, false]);
  const returned = [];
  chat.onReturned = (room, text) => returned.push([room, text]);
  chat.say('/who');
  await answer(env, 'chat', { type: 'command_result', data: { text: '2 users: Ana, Me' } });
  assert.deepEqual(notes(chat.room), ['2 users: Ana, Me']);
  chat.say('/dance');
  await answer(env, 'chat', { type: 'error', code: 144, error: 'unknown_command', message: 'there is no command /dance', temporary: false });
  assert.equal(chat.problem.peek(), 'There is no command /dance.');
  assert.deepEqual(returned, [['lobby', '/dance']]);
  chat.say('/join builds');
  await settle();
  env.socket.hear({ type: 'subscribed', id: env.socket.of('chat').at(-1).id, room: 'builds', epoch: 'b', offset: 0, head: 0, first: 1, members: 1, durability: 'memory' });
  await settle();
  assert.equal(chat.current.peek(), 'builds');
});

test('typing is told every few seconds and taken back; others are shown until it expires', () => {
  const { env, chat } = joined();
  const told = () => env.socket.of('typing').map(({ active }) => active ?? true);
  chat.type(true);
  chat.type(true);
  assert.deepEqual(told(), [true]);
  env.advance(3_000);
  chat.type(true);
  chat.type(false);
  chat.type(false);
  assert.deepEqual(told(), [true, true, false]);
  const types = (userId, active) => env.socket.hear({ type: 'typing', room: 'lobby', userId, username: userId, clientId: 'c', active, expiresAfter: 6_000 });
  types('me', true);
  types('ana', true);
  types('ben', true);
  assert.deepEqual([...chat.room.typing.peek().keys()], ['ana', 'ben']);
  types('ben', false);
  env.advance(6_100);
  assert.equal(chat.room.typing.peek().size, 0);
  assert.deepEqual([[], ['Ana'], ['Ana', 'Ben'], ['A', 'B', 'C', 'D']].map(typingText), ['', 'Ana is typing', 'Ana and Ben are typing', 'Several people are typing']);
});

test('completion: commands from the server\'s list, their arguments, and people after an @', async () => {
  const { env, chat } = joined();
  await answer(env, 'commands', { type: 'commands', data: [
    { name: 'me', usage: '/me TEXT', summary: 'says what you do', arguments: [{ name: 'text', kind: 'text', optional: false }] },
    { name: 'msg', usage: '/msg USER TEXT', summary: 'private', arguments: [{ name: 'user', kind: 'user', optional: false }, { name: 'text', kind: 'text', optional: false }] },
    { name: 'join', usage: '/join ROOM', summary: 'goes', arguments: [{ name: 'room', kind: 'room', optional: false }] },
  ] });
  env.socket.hear(message({ offset: 1, userId: 'ann lee', username: 'Ann Lee' }));
  const texts = (typed) => completions(chat, typed).map(({ text, from }) => typed.slice(0, from) + text);
  assert.deepEqual(texts('/'), ['/me ', '/msg ', '/join ']);
  assert.deepEqual(texts('/m'), ['/me ', '/msg ']);
  assert.deepEqual(texts('/msg an'), ['/msg "ann lee" ']);
  assert.deepEqual(texts('/join l'), ['/join lobby']);
  assert.deepEqual(texts('hello @an'), ['hello @Ann Lee ']);
  assert.deepEqual(texts('mail@an'), []);
  assert.deepEqual(texts('//'), []);
});

test('a mention is the name as a word of its own', () => {
  assert.ok(mentions('hello @Ana!', ['Ana']));
  assert.ok(mentions('@ana', ['Ana']));
  assert.ok(!mentions('@anabel', ['Ana']));
  assert.ok(!mentions('mail@ana', ['Ana']));
  assert.ok(!mentions('nothing', ['']));
});

test('output of a process is one card with its lines in order and its status', () => {
  const { env, chat } = joined();
  const output = (offset, line) => env.socket.hear(message({ type: 'process_output', content: undefined, offset, data: { processId: 'build', stream: 'stdout', line } }));
  output(1, 'one');
  output(2, 'two');
  env.socket.hear(message({ type: 'process_status', content: undefined, offset: 3, data: { processId: 'build', status: 'exited', exitCode: 0, signal: null } }));
  assert.deepEqual(kinds(chat.room), ['day', 'process']);
  const { log } = chat.room.items.peek()[1];
  assert.deepEqual(log.lines.map(({ text }) => text), ['one', 'two']);
  assert.deepEqual(log.status.peek(), { status: 'exited', exitCode: 0, signal: null });
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
