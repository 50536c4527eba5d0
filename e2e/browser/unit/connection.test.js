import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Connection, TIMES, backoff, decode, isTerminal } from '../../../crates/web/ui/connection.js';
import { FakeEnv } from '../lib/fake-env.js';

function start() {
  const env = new FakeEnv();
  const connection = new Connection(() => 'ws://hub/ws', env);
  const events = [];
  connection.onEvent = (event) => events.push(event);
  connection.connect();
  return { env, connection, events, status: () => connection.state.peek().status };
}

function online(pingInterval) {
  const world = start();
  world.env.socket.welcome(pingInterval);
  return world;
}

test('connection is online at the welcome, not when the socket opens', () => {
  const { env, status } = start();
  assert.equal(env.socket.url, 'ws://hub/ws');
  env.socket.readyState = 1;
  assert.equal(status(), 'connecting');
  env.socket.welcome();
  assert.equal(status(), 'online');
});

test('connect twice opens one socket', () => {
  const { env, connection } = start();
  connection.connect();
  assert.equal(env.sockets.length, 1);
});

test('no welcome within ten seconds gives the socket up', () => {
  const { env, connection, status } = start();
  const first = env.socket;
  env.advance(TIMES.connect);
  assert.equal(status(), 'offline');
  assert.equal(connection.state.peek().cause, 'unreachable');
  assert.notEqual(first.closedWith, null);
});

test('a browser that refuses to open a socket is an unreachable server, not an exception', () => {
  const env = new FakeEnv();
  env.open = () => { throw new DOMException('no', 'SecurityError'); };
  const connection = new Connection(() => 'ws://hub/ws', env);
  connection.connect();
  assert.equal(connection.state.peek().cause, 'unreachable');
});

test('waits are full jitter: spread evenly from zero to a bound that doubles up to the cap', () => {
  let seed = 42;
  const random = () => { seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0; return seed / 2 ** 32; };
  for (let attempt = 0; attempt < 12; attempt += 1) {
    const bound = Math.min(30_000, 1_000 * 2 ** attempt);
    const waits = Array.from({ length: 20_000 }, () => backoff(attempt, random));
    assert.ok(waits.every((wait) => wait >= 0 && wait < bound));
    for (let tenth = 0; tenth < 10; tenth += 1) {
      const share = waits.filter((wait) => Math.floor((wait / bound) * 10) === tenth).length / waits.length;
      assert.ok(Math.abs(share - 0.1) < 0.01, `attempt ${attempt}: ${share} of the waits in tenth ${tenth}`);
    }
  }
});

test('failing tries wait longer and longer, up to the cap', () => {
  const { env, connection } = start();
  env.chance = 0.999;
  const waits = [];
  for (let n = 0; n < 8; n += 1) {
    env.socket.end();
    const { retryAt } = connection.state.peek();
    waits.push(Math.round((retryAt - env.now()) / 1000));
    env.advance(retryAt - env.now());
  }
  assert.deepEqual(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
  assert.equal(env.sockets.length, 9);
});

test('only a connection that held makes the next wait small again', () => {
  const { env, connection } = start();
  env.chance = 0.999;
  for (let n = 0; n < 3; n += 1) {
    env.socket.welcome();
    env.socket.end(1011);
    env.advance(connection.state.peek().retryAt - env.now());
  }
  env.socket.welcome();
  env.socket.end(1011);
  assert.equal(connection.state.peek().attempt, 4, 'a server that welcomes and drops is not hammered');
  env.advance(connection.state.peek().retryAt - env.now());
  env.socket.welcome();
  env.advance(TIMES.stable);
  env.socket.end(1011);
  assert.equal(connection.state.peek().attempt, 1);
});

test('close codes from 4500, and those for broken peers, are terminal; the others are not', () => {
  for (const code of [1000, 1002, 1007, 1009, 4500, 4501, 4999]) assert.equal(isTerminal(code), true, String(code));
  for (const code of [1001, 1005, 1006, 1011, 1012, 1013, 1015, 4000, 4001, 4002, 4499, 5000]) assert.equal(isTerminal(code), false, String(code));
});

test('a replaced connection stays away, whatever the browser says, until it is asked', () => {
  const { env, connection, status } = online();
  env.socket.end(4500, 'replaced');
  assert.deepEqual(connection.state.peek(), { status: 'closed', code: 4500, reason: 'replaced' });
  connection.networkLost();
  connection.networkFound();
  connection.wake();
  env.advance(3_600_000);
  assert.equal(env.sockets.length, 1);
  assert.equal(env.timers, 0);
  connection.connect();
  env.socket.welcome();
  assert.equal(status(), 'online');
});

test('silence for the ping interval is asked about, and an answer ends the doubt', () => {
  const { env, status } = online(54_000);
  env.advance(53_999);
  assert.equal(env.socket.of('ping').length, 0);
  env.advance(1);
  const [ping] = env.socket.of('ping');
  env.advance(5_000);
  env.socket.hear({ type: 'pong', id: ping.id });
  env.advance(50_000);
  assert.equal(status(), 'online');
  assert.equal(env.sockets.length, 1);
});

test('a server that does not answer is left at once, and its socket no longer listened to', () => {
  const { env, status, events } = online(54_000);
  const dead = env.socket;
  env.advance(54_000 + TIMES.grace);
  assert.notEqual(dead.closedWith, null);
  assert.equal(env.sockets.length, 2, 'no wait: a connection that held deserves a try at once');
  assert.equal(status(), 'connecting');
  const before = events.length;
  dead.hear({ type: 'chat' });
  dead.end(1006);
  assert.equal(events.length, before);
  assert.equal(status(), 'connecting');
});

test('anything heard counts as life', () => {
  const { env } = online(54_000);
  for (let n = 0; n < 10; n += 1) {
    env.advance(50_000);
    env.socket.hear({ type: 'system', content: 'hello' });
  }
  assert.equal(env.socket.of('ping').length, 0);
  env.advance(54_000);
  assert.equal(env.socket.of('ping').length, 1);
  env.advance(1);
  env.socket.hear({ type: 'system', content: 'no pong, but alive' });
  env.advance(TIMES.grace);
  assert.equal(env.sockets.length, 1);
});

test('a server that sends no pings is asked all the same', () => {
  const { env } = online(0);
  env.advance(TIMES.silence);
  assert.equal(env.socket.of('ping').length, 1);
});

test('a timer that runs late means sleep: the server is asked once more before it is given up', () => {
  const { env, status } = online(54_000);
  env.advance(54_000);
  env.sleep(3_600_000);
  assert.equal(env.sockets.length, 1);
  const pings = env.socket.of('ping');
  assert.equal(pings.length, 2);
  env.socket.hear({ type: 'pong', id: pings[1].id });
  assert.equal(status(), 'online');
});

test('after sleep without an answer the socket is dead within three seconds', () => {
  const { env } = online(54_000);
  env.advance(54_000);
  env.sleep(3_600_000);
  env.advance(TIMES.graceInDoubt);
  assert.equal(env.sockets.length, 2);
});

test('waking up asks a connection that was silent, and ends a wait', () => {
  const { env, connection } = online(54_000);
  env.advance(20_000);
  connection.wake();
  assert.equal(env.socket.of('ping').length, 1);
  env.socket.end(1006);
  connection.wake();
  assert.equal(env.sockets.length, 2);
});

test('offline is said at once, the socket is kept, and the answer after online restores it', () => {
  const { env, connection, status } = online();
  const socket = env.socket;
  connection.networkLost();
  assert.deepEqual(connection.state.peek(), { status: 'offline', cause: 'network', attempt: 0, retryAt: null });
  assert.equal(connection.send({ type: 'ping', id: 'x' }), false);
  assert.equal(socket.closedWith, null);
  env.advance(1_000);
  connection.networkFound();
  assert.equal(status(), 'offline', 'not before the server has answered');
  socket.hear({ type: 'pong', id: socket.of('ping').at(-1).id });
  assert.equal(status(), 'online');
  assert.equal(env.sockets.length, 1);
});

test('offline lasts through late messages and ends only by an answer to a new question', () => {
  const { env, connection, status } = online();
  connection.networkLost();
  env.socket.hear({ type: 'system', content: 'was on its way' });
  assert.equal(status(), 'offline');
  env.advance(TIMES.secondOpinion);
  env.socket.hear({ type: 'pong', id: env.socket.of('ping').at(-1).id });
  assert.equal(status(), 'online', 'the server on this very machine is there without a network');
});

test('a kept socket that does not answer after online is replaced within three seconds', () => {
  const { env, connection, status } = online();
  env.advance(TIMES.stable);
  connection.networkLost();
  env.advance(60_000);
  connection.networkFound();
  env.advance(TIMES.graceInDoubt);
  assert.equal(env.sockets.length, 2);
  assert.equal(status(), 'connecting');
});

test('a kept socket that closes meanwhile is retried at once when the network is back', () => {
  const { env, connection } = online();
  connection.networkLost();
  env.socket.end(1006);
  assert.equal(connection.state.peek().cause, 'network');
  connection.networkFound();
  assert.equal(env.sockets.length, 2);
});

test('offline while connecting or waiting is said, too', () => {
  const { env, connection } = start();
  connection.networkLost();
  assert.equal(connection.state.peek().cause, 'network');
  env.advance(500);
  assert.equal(env.sockets.length, 2, 'the browser may be wrong: tries go on');
});

test('a server that goes away says when to come back, and is obeyed', () => {
  const { env, connection } = online();
  env.chance = 0.5;
  env.socket.hear({ type: 'going_away', reconnectAfter: 4_000 });
  env.socket.end(1001);
  assert.equal(connection.state.peek().retryAt - env.now(), 4_500);
  env.advance(4_499);
  assert.equal(env.sockets.length, 1);
  env.advance(1);
  assert.equal(env.sockets.length, 2);
});

test('try now ends the wait', () => {
  const { env, connection, status } = start();
  env.socket.end();
  connection.connect();
  assert.equal(status(), 'connecting');
  assert.equal(env.sockets.length, 2);
  env.advance(5_000);
  assert.equal(env.sockets.length, 2, 'the old wait is over');
});

test('close leaves nothing behind', () => {
  const { env, connection, status } = online();
  connection.close();
  assert.equal(status(), 'idle');
  assert.equal(env.socket.closedWith, 1000);
  assert.equal(env.timers, 0);
});

test('send hands over only to an open socket with room in its buffer', () => {
  const { env, connection } = online();
  assert.equal(connection.send({ type: 'subscribe', id: '1', room: 'builds' }), true);
  assert.deepEqual(env.socket.sent, [{ type: 'subscribe', id: '1', room: 'builds' }]);
  env.socket.bufferedAmount = 2 ** 21;
  assert.equal(connection.send({ type: 'ping', id: '2' }), false);
  env.socket.bufferedAmount = 0;
  env.socket.readyState = 2;
  assert.equal(connection.send({ type: 'ping', id: '3' }), false);
});

test('doubt asks once and gives up after the grace', () => {
  const { env, connection } = online();
  connection.doubt();
  connection.doubt();
  assert.equal(env.socket.of('ping').length, 1);
  env.advance(TIMES.grace);
  assert.equal(env.sockets.length, 2);
  assert.equal(connection.state.peek().status, 'connecting');
});

test('frames that are no events are ignored', () => {
  for (const data of ['', 'x', '1', 'null', '[]', '{}', '{"type":1}', new ArrayBuffer(2)]) assert.equal(decode(data), null);
  assert.deepEqual(decode('{"type":"pong"}'), { type: 'pong' });
});
