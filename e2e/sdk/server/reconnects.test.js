/** What is published arrives once, whatever happens to the connections. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { live } from '../lib/live.js';
import { becomes } from '../lib/wait.js';

const MESSAGES = 10_000;
const CUTS = 100;
/** Answers between one cut and the next, if the connection is back by then. */
const EVERY = 50;
/** Room for more messages, should answers come in such heaps that 10,000 are not enough for all the cuts. */
const AT_MOST = 19_000;
const here = live({
  OUTSPOKE_RATE__ENABLED: 'false', OUTSPOKE_ROOMS__DURABILITY: 'stored', OUTSPOKE_ROOMS__HISTORY_MESSAGES: '20000',
  OUTSPOKE_ROOMS__HISTORY_BYTES: '64MiB',
});

test('ten_thousand_messages_through_a_hundred_cuts_are_each_acknowledged_once_none_lost_none_doubled', async () => {
  const reconnect = { baseMs: 2, capMs: 20 };
  const writer = here.hub('writer', { reconnect });
  const reader = here.hub('reader', { reconnect });
  const heard = [];
  const gaps = [];
  const room = reader.room('log');
  room.on('message', ({ data, offset }) => heard.push([offset, data.n]));
  room.on('$gap', (gap) => gaps.push(gap));
  await room.ready();

  let sessions = 0;
  writer.state.subscribe(({ status }) => { if (status === 'online') sessions += 1; });
  const out = writer.room('log');
  const acks = new Map();
  const ends = [];
  let answered = 0;
  let duplicates = 0;
  let cuts = 0;
  let next = EVERY;
  let published = 0;
  for (; published < MESSAGES || (cuts < CUTS && published < AT_MOST); published += 1) {
    const n = published;
    const publication = out.publish('message', { n });
    ends.push(publication.then((ack) => {
      assert.ok(!acks.has(n), `${n} is acknowledged twice`);
      acks.set(n, ack.offset);
      answered += 1;
      if (ack.duplicate) duplicates += 1;
      // Each connection is cut once: a second cut before the next one is there would count for nothing.
      if (answered >= next && cuts < CUTS && sessions > cuts) {
        cuts += 1;
        next = answered + EVERY;
        here.proxy.cut();
        here.proxy.mend();
      }
    }));
    if (writer.outbox.get().length >= 500) await becomes(writer.outbox, ({ length }) => length < 300);
  }
  await Promise.all(ends);
  assert.deepEqual(writer.outbox.get(), []);
  await new Promise((done) => {
    room.on('message', ({ offset }) => { if (offset >= published) done(); });
    if (heard.length >= published) done();
  });

  assert.equal(cuts, CUTS);
  assert.ok(sessions > CUTS, `${sessions} connections`);
  assert.equal(acks.size, published);
  assert.equal(new Set(acks.values()).size, published);
  assert.deepEqual(gaps, []);
  assert.deepEqual(heard.map(([offset]) => offset), Array.from({ length: published }, (_, at) => at + 1));
  assert.deepEqual(heard.map(([, n]) => n), Array.from({ length: published }, (_, n) => n));
  assert.deepEqual(heard.map(([offset, n]) => acks.get(n) === offset).filter((same) => !same), []);
  console.log(`# ${published} messages, ${sessions} connections of the writer, ${duplicates} messages were accepted before they were sent again`);
});
