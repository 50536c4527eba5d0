import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ceiling } from '../../../crates/web/admin/chart.js';
import { placeOf, valueText } from '../../../crates/web/admin/config.js';
import { messageOf, stepsOf } from '../../../crates/web/admin/explain.js';
import { detailOf } from '../../../crates/web/admin/follow.js';
import { news, samples } from '../../../crates/web/admin/overview.js';
import { wordsOf } from '../../../crates/web/admin/rooms.js';
import { Events } from '../../../crates/web/admin/sse.js';
import { verdictOf } from '../../../crates/web/admin/users.js';

test('server-sent events are the same however the stream is cut', () => {
  const stream = 'event: joined\r\ndata: {"a":1}\r\n\r\n: a comment\ndata: one\ndata: two\n\nevent: empty\n\ndata:three\r\r';
  const wanted = [{ event: 'joined', data: '{"a":1}' }, { event: 'message', data: 'one\ntwo' }, { event: 'message', data: 'three' }];
  for (let size = 1; size <= stream.length; size += 1) {
    const events = new Events();
    const found = [];
    for (let at = 0; at < stream.length; at += size) found.push(...events.add(stream.slice(at, at + size)));
    assert.deepEqual([...found, ...events.add('\n')], wanted, `pieces of ${size}`);
  }
});

test('axes end at the next round figure', () => {
  assert.deepEqual([0, 0.3, 1, 1.2, 3, 7, 10, 11, 4_100, 60_000].map(ceiling), [1, 1, 1, 2, 5, 10, 10, 20, 5_000, 100_000]);
});

test('samples of an exposition are added up over their labels', () => {
  const text = '# TYPE outspoke_messages counter\noutspoke_messages_total{from="client"} 5\noutspoke_messages_total{from="application"} 7 1700000000\noutspoke_clients 3\n# EOF\n';
  assert.deepEqual([...samples(text)], [['outspoke_messages_total', 12], ['outspoke_clients', 3]]);
});

test('what happened to nodes is told in words', () => {
  const node = (name, more = {}) => ({ name, draining: false, silent: false, hearsUs: true, ...more });
  const before = new Map([['a', 'serving'], ['b', 'serving'], ['c', 'serving']]);
  assert.equal(news(before, [node('a'), node('b', { draining: true }), node('d')]), 'b is draining. d has come. c has gone.');
});

test('messages are named by place or id, and rooms may have an @ in their names', () => {
  assert.deepEqual(messageOf('lobby@42'), { room: 'lobby', offset: '42' });
  assert.deepEqual(messageOf('@ann@ben@7'), { room: '@ann@ben', offset: '7' });
  assert.deepEqual(messageOf('0192f0c1a2b34c5d8e9f001122334455'), { message: '0192f0c1a2b34c5d8e9f001122334455' });
  assert.deepEqual([messageOf('lobby'), messageOf('lobby@x'), messageOf('a b')], [null, null, null]);
});

test('an explanation is told step by step, and what is not known is not passed over', () => {
  const steps = stepsOf({
    summary: '', from: { userId: 'ben' }, published: { node: 'a', at: '2026-01-05T10:30:00.120Z', via: 'socket' }, stored: { durability: 'disk', tookMs: 1.42 }, bus: { kind: 'redis', told: false },
    nodes: [
      { node: 'a', answered: true, heard: { how: 'published', at: '2026-01-05T10:30:00.121Z' }, handedOut: [{ members: 12 }, { members: 1 }] },
      { node: 'b', answered: false },
    ],
    user: {
      userId: 'ana', receipts: { delivered: true, seen: false },
      connections: [
        { node: 'a', clientId: '0123456789', device: 'phone', outcome: 'written', at: '2026-01-05T10:30:00.122Z' },
        { node: 'a', clientId: 'abcdefghij', outcome: 'skipped', policy: 'drop_oldest' },
        { node: 'a', clientId: 'klmnopqrst', outcome: 'something_new' },
      ],
    },
    unknown: ['node b did not answer within 2 seconds'],
  });
  assert.deepEqual(steps.map(({ tone, text }) => `${tone}: ${text}`), [
    'good: Published by ben on a at 10:30:00.120, over a connection',
    'good: Stored (disk), which took 1.4 ms',
    'bad: Not given to the bus (redis): other nodes find it in the store',
    'good: a had it first at 10:30:00.121, and handed it to 13 members',
    'unknown: b did not answer',
    'good: Connection 01234567 (phone) on a: written to its socket (at 10:30:00.122)',
    'bad: Connection abcdefgh on a: left out, because the client reads too slowly (policy drop_oldest)',
    'unknown: Connection klmnopqr on a: something_new',
    'good: The client said that it has it',
    'unknown: node b did not answer within 2 seconds',
  ]);
});

test('what is not text is shown as it is', () => {
  assert.deepEqual([{ content: 'hello' }, { data: { a: 1 } }, { content: 'x', deleted: true }, {}].map(wordsOf), ['hello', '{"a":1}', '(deleted)', '']);
  assert.deepEqual(['', 'x', 5_000, true, ['a']].map(valueText), ['""', 'x', '5,000', 'true', '["a"]']);
  assert.deepEqual([{ layer: 'default' }, { layer: 'file', file: 'c.yaml', line: 3, column: 5 }, { layer: 'file', file: 'c.yaml', line: 0, column: 0 }, { layer: 'env', name: 'X' }].map(placeOf), ['default', 'c.yaml:3:5', 'c.yaml', 'variable X']);
  assert.deepEqual([
    { verdict: 'revoked', reconnect: false }, { verdict: 'barred', room: 'r' }, { verdict: 'permissions', permissions: { join: ['a', 'b'] } }, { verdict: 'permissions', permissions: {} },
  ].map(verdictOf), ['revoked', 'kept out of r', 'may only join: a, b', 'may only nothing']);
  assert.equal(detailOf({ number: 1, event: 'slow', at: '', clientId: 'x', queuedBytes: 7, policy: 'drop' }), 'queuedBytes 7, policy drop');
});
