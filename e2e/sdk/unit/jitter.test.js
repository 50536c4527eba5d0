/** The waits: full jitter, and nothing else. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createHub } from '../../../crates/web/sdk/index.js';
import { fakeWorld } from '../../../crates/web/sdk/testing.js';

const CLIENTS = 1_000;
const LIMITS = [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000];

/** A generator that gives the same numbers in every run (Mulberry32). */
function numbers(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The waits of clients that never get through. */
function waits() {
  const random = numbers(20260101);
  const all = LIMITS.map(() => []);
  for (let client = 0; client < CLIENTS; client += 1) {
    const world = fakeWorld();
    /** @type {(() => void) | null} */
    let due = null;
    const env = { ...world.env, random, setTimeout: (run) => { due = run; return 1; }, clearTimeout: () => { due = null; } };
    const hub = createHub('ws://hub.example/ws', { env });
    for (const ofAttempt of all) {
      world.socket.refuse();
      ofAttempt.push(hub.state.get().retryAt - world.now);
      due();
    }
  }
  return all;
}

test('waits_are_uniform_between_nothing_and_the_limit_of_their_attempt', () => {
  for (const [attempt, all] of waits().entries()) {
    const limit = LIMITS[attempt];
    assert.ok(all.every((wait) => wait >= 0 && wait < limit), `attempt ${attempt}`);
    // Kolmogorov and Smirnov: the largest distance of the two distributions; 1.95/sqrt(n) is passed by 1 of 1,000 samples.
    const sorted = all.map((wait) => wait / limit).sort((a, b) => a - b);
    const distance = Math.max(...sorted.map((value, at) => Math.max(Math.abs(value - at / CLIENTS), Math.abs(value - (at + 1) / CLIENTS))));
    assert.ok(distance < 1.95 / Math.sqrt(CLIENTS), `attempt ${attempt}: ${distance}`);
  }
});

test('a_fleet_cut_off_together_comes_back_spread_out', () => {
  const [first] = waits();
  const perTenth = Array.from({ length: 10 }, (_, tenth) => first.filter((wait) => Math.floor(wait / 100) === tenth).length);
  assert.ok(Math.max(...perTenth) < CLIENTS / 10 * 1.5 && Math.min(...perTenth) > CLIENTS / 10 * 0.5, String(perTenth));
});

test('the_waits_of_one_client_do_not_follow_from_each_other', () => {
  const [first, second] = waits();
  const mean = (list) => list.reduce((sum, value) => sum + value, 0) / list.length;
  const [a, b] = [mean(first), mean(second)];
  const covariance = mean(first.map((value, at) => (value - a) * (second[at] - b)));
  const correlation = covariance / Math.sqrt(mean(first.map((v) => (v - a) ** 2)) * mean(second.map((v) => (v - b) ** 2)));
  assert.ok(Math.abs(correlation) < 0.12, String(correlation));
});
