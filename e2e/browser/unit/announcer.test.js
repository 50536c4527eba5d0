import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Announcer, summary } from '../../../crates/web/ui/announcer.js';
import { FakeEnv } from '../lib/fake-env.js';

function start() {
  const env = new FakeEnv();
  const spoken = [];
  return { env, spoken, announcer: new Announcer((text) => spoken.push(text), env) };
}

test('one message is spoken at once, the following of the same second as one sentence', () => {
  const { env, spoken, announcer } = start();
  announcer.message({ name: 'Ana', text: 'hi' });
  env.advance(0);
  for (let n = 1; n <= 3; n += 1) announcer.message({ name: 'Ben', text: `m${n}` });
  assert.deepEqual(spoken, ['Ana: hi']);
  env.advance(1_000);
  assert.deepEqual(spoken, ['Ana: hi', '3 new messages, the last from Ben: m3']);
});

test('a flood is spoken at most once a second', () => {
  const { env, spoken, announcer } = start();
  for (let n = 0; n < 100; n += 1) {
    announcer.message({ name: 'Bot', text: String(n) });
    env.advance(50);
  }
  assert.ok(spoken.length <= 6, `${spoken.length} times in five seconds`);
});

test('long texts are cut when spoken', () => {
  assert.ok(summary([{ name: 'Ana', text: 'x'.repeat(1000) }]).length < 250);
});
