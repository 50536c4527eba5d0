import assert from 'node:assert/strict';
import { test } from 'node:test';
import { batch, computed, effect, onEnd, scope, signal, untracked } from '../../../crates/web/shared/reactive.js';

test('effect runs at once and after each change of what it read', () => {
  const a = signal(1);
  const seen = [];
  effect(() => { seen.push(a.value); });
  a.value = 2;
  a.value = 2;
  assert.deepEqual(seen, [1, 2]);
});

test('effect over a diamond runs once per change and never sees a mixed state', () => {
  const a = signal(1);
  const double = computed(() => a.value * 2);
  const triple = computed(() => a.value * 3);
  const seen = [];
  effect(() => { seen.push(double.value + triple.value); });
  a.value = 2;
  assert.deepEqual(seen, [5, 10]);
});

test('effect on a computed value that stays the same does not run', () => {
  const a = signal(1);
  const odd = computed(() => a.value % 2 === 1);
  let runs = 0;
  effect(() => { odd.value; runs += 1; });
  a.value = 3;
  assert.equal(runs, 1);
  a.value = 4;
  assert.equal(runs, 2);
});

test('computed is lazy, cached and drops sources it no longer reads', () => {
  const which = signal(true);
  const a = signal('a');
  const b = signal('b');
  let runs = 0;
  const chosen = computed(() => { runs += 1; return which.value ? a.value : b.value; });
  assert.equal(runs, 0);
  assert.equal(chosen.value + chosen.value, 'aa');
  assert.equal(runs, 1);
  which.value = false;
  assert.equal(chosen.value, 'b');
  a.value = 'A';
  assert.equal(chosen.value, 'b');
  assert.equal(runs, 2);
});

test('batch runs effects once, at its end', () => {
  const a = signal(1);
  const b = signal(1);
  const seen = [];
  effect(() => { seen.push(a.value + b.value); });
  batch(() => { a.value = 2; b.value = 2; assert.deepEqual(seen, [2]); });
  assert.deepEqual(seen, [2, 4]);
});

test('effect that changes a signal settles in the same batch', () => {
  const a = signal(0);
  effect(() => { if (a.value < 3) a.value += 1; });
  const b = signal(0);
  effect(() => { if (a.value === 10) b.value = 1; });
  a.value = 10;
  assert.equal(b.value, 1);
});

test('disposed effects and the effects inside them are silent', () => {
  const a = signal(0);
  let inner = 0;
  let ended = 0;
  const end = effect(() => {
    effect(() => { a.value; inner += 1; });
    onEnd(() => { ended += 1; });
  });
  a.value = 1;
  assert.equal(inner, 2);
  end();
  a.value = 2;
  assert.deepEqual([inner, ended], [2, 1]);
  assert.equal(a.readers.size, 0);
});

test('effect that runs again ends what its last run made', () => {
  const outer = signal(0);
  const a = signal(0);
  let runs = 0;
  effect(() => { outer.value; effect(() => { a.value; runs += 1; }); });
  outer.value = 1;
  outer.value = 2;
  runs = 0;
  a.value = 1;
  assert.equal(runs, 1);
});

test('untracked reads and scopes leave no subscription behind', () => {
  const a = signal(0);
  let runs = 0;
  effect(() => { untracked(() => a.value); runs += 1; });
  a.value = 1;
  assert.equal(runs, 1);
  const end = scope(() => { effect(() => { a.value; runs += 1; }); });
  end();
  a.value = 2;
  assert.equal(runs, 2);
});

test('an effect that throws does not keep later changes from others', () => {
  const a = signal(0);
  const seen = [];
  effect(() => { if (a.value === 1) throw new Error('broken view'); });
  effect(() => { seen.push(a.value); });
  assert.throws(() => { a.value = 1; }, /broken view/);
  a.value = 2;
  assert.equal(seen.at(-1), 2);
});
