/** The client and the real server: what one says, the other understands. */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import { chatOf } from '../../../crates/web/sdk/chat.js';
import { live } from '../lib/live.js';
import { becomes } from '../lib/wait.js';

const open = live({ OUTSPOKE_ROOMS__RECEIPTS: 'true', OUTSPOKE_ROOMS__HISTORY_MESSAGES: '1000' });
const SECRET = 'a secret of more than thirty-two bytes, for these tests alone';
const closed = live({ OUTSPOKE_AUTH__JWT__SECRET: SECRET, OUTSPOKE_AUTH__FIRST_MESSAGE: 'true' });
const fast = { reconnect: { baseMs: 2, capMs: 50 } };

const next = (room, type) => new Promise((done) => { const off = room.on(type, (event) => { off(); done(event); }); });

test('publications_are_acknowledged_delivered_and_seen', async () => {
  const [ann, bob] = [open.hub('ann'), open.hub('bob')];
  const [hers, his] = [ann.room('talk'), bob.room('talk')];
  await Promise.all([hers.ready(), his.ready()]);
  const heard = next(his, 'chat');
  const publication = hers.publish('chat', { content: 'Lunch?' });
  const states = [];
  publication.state.subscribe((state) => states.push(state));
  const { offset, duplicate } = await publication;
  assert.deepEqual([offset, duplicate, (await heard).data.content, (await heard).from], [1, false, 'Lunch?', { userId: 'ann', username: 'ann' }]);
  his.delivered(1);
  await becomes(publication.state, (state) => state === 'delivered');
  his.seen(1);
  await becomes(publication.state, (state) => state === 'seen');
  // The first message of a hub may have to wait for what sends it.
  assert.deepEqual(states.filter((state) => state !== 'queued'), ['sent', 'acked', 'delivered', 'seen']);
  assert.equal((await hers.publish('chat', { content: 'Lunch?' }, { id: publication.id })).duplicate, true);
});

test('events_of_ones_own_and_bytes_arrive_as_they_were_sent', async () => {
  const [ann, bob] = [open.hub('ann'), open.hub('bob')];
  const [hers, his] = [ann.room('data'), bob.room('data')];
  await Promise.all([hers.ready(), his.ready()]);
  const bytes = new Uint8Array(3_000).map((_, at) => at % 256);
  const heard = Promise.all([next(his, 'build:done'), next(his, 'blob'), next(his, 'message')]);
  hers.publish('build:done', { ok: true });
  hers.publish('blob', bytes);
  hers.publish('message', null);
  const [done, blob, message] = await heard;
  assert.deepEqual([done.data, message.data], [{ ok: true }, null]);
  assert.deepEqual(blob.data, bytes);
  const { messages } = await his.history();
  assert.deepEqual(messages.map(({ type }) => type), ['build:done', 'blob', 'message']);
  assert.deepEqual(messages[1].data, bytes);
  await assert.rejects(Promise.resolve(hers.publish('blob', new Uint8Array(100_000))), { reason: 'too_large' });
});

test('private_messages_reach_a_conversation_that_was_opened_by_its_user', async () => {
  const [ann, bob] = [open.hub('ann'), open.hub('bob')];
  await Promise.all([ann.ready(), bob.ready()]);
  const unopened = new Promise((done) => { bob.on('direct', ({ data }) => done(data)); });
  const [toBob] = [ann.direct('bob')];
  const own = next(toBob, 'chat');
  await toBob.publish('chat', { content: 'psst' });
  assert.equal((await unopened).content, 'psst');
  assert.equal((await own).to, 'bob');
  const toAnn = bob.direct('ann');
  await toAnn.ready();
  assert.equal(toAnn.name, toBob.name);
  const reply = next(toBob, 'message');
  await toAnn.publish('message', { n: 1 });
  assert.deepEqual([(await reply).data, (await reply).offset], [{ n: 1 }, 2]);
  assert.deepEqual((await toAnn.history()).messages.map(({ data }) => data.content ?? data.n), ['psst', 1]);
});

test('who_is_there_is_known_and_kept_up_to_date', async () => {
  const [ann, bob] = [open.hub('ann'), open.hub('bob')];
  const room = ann.room('party');
  const here = (wanted) => becomes(room.presence, (members) => [...members.keys()].join() === wanted);
  await room.ready();
  await here('ann');
  const his = bob.room('party');
  await here('ann,bob');
  await his.leave();
  await here('ann');
});

test('what_is_missed_is_replayed_and_what_is_lost_is_said', async () => {
  const [ann, bob] = [open.hub('ann', fast), open.hub('bob', {}, open.server.url)];
  const [hers, his] = [ann.room('news'), bob.room('news')];
  await Promise.all([hers.ready(), his.ready()]);
  const heard = [];
  hers.on('*', ({ type, offset, replayed }) => { if (type === 'message') heard.push([offset, replayed]); });
  const gaps = [];
  hers.on('$gap', (gap) => gaps.push(gap));
  const first = next(hers, 'message');
  await his.publish('message', 1);
  await first;
  open.proxy.cut();
  await becomes(ann.state, ({ status }) => status === 'offline');
  await his.publish('message', 2);
  await his.publish('message', 3);
  open.proxy.mend();
  await becomes(hers.state, (state) => state === 'joined');
  while (heard.length < 3) await next(hers, '*');
  assert.deepEqual(heard, [[1, false], [2, true], [3, true]]);
  assert.deepEqual(gaps, []);
  const back = [];
  for await (const { offset } of hers.history({ limit: 2 })) back.push(offset);
  assert.deepEqual(back, [3, 2, 1]);
});

test('a_socket_that_is_silently_dead_is_found_and_replaced', async () => {
  const world = {};
  const ann = open.hub('ann', { ...fast, watchdog: { probeMs: 300 }, env: { watch: (hear) => { Object.assign(world, hear); return () => {}; } } });
  const room = ann.room('quiet');
  await room.ready();
  open.proxy.swallow();
  const { session } = ann.state.get();
  world.offline();
  assert.equal(ann.state.get().status, 'offline', 'it is said at once');
  const publication = room.publish('message', 'kept');
  world.online();
  await publication;
  assert.notEqual(ann.state.get().session, session);
});

test('more_than_is_allowed_is_slowed_down_and_not_lost', async () => {
  const ann = open.hub('ann');
  const room = ann.room('flood');
  await room.ready();
  const acks = await Promise.all(Array.from({ length: 400 }, (_, n) => room.publish('message', n)));
  assert.equal(new Set(acks.map(({ offset }) => offset)).size, 400);
  assert.equal(ann.state.get().resumed, false, 'nobody was closed for it');
});

test('chat_completes_commands_edits_and_reacts', async () => {
  const ann = open.hub('ann');
  const room = ann.room('chatter');
  await room.ready();
  const chat = chatOf(ann, room);
  assert.deepEqual((await chat.complete('/sh')).map(({ name }) => name), ['shrug']);
  await chat.say('Helo');
  await chat.edit(1, 'Hello');
  await chat.react(1, '👍');
  assert.equal((await chat.say('/who')).answer.type, 'command_result');
  await becomes(chat.lines, ([line]) => line?.data.content === 'Hello' && line.reactions.length === 1);
  chat.end();
});

/** A token as an application makes it (RFC 7515, HS256). */
function tokenFor(seconds) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${part({ alg: 'HS256' })}.${part({ sub: 'ann', name: 'Ann', exp: Math.floor(Date.now() / 1_000) + seconds })}`;
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`;
}

test('a_token_is_refreshed_in_band_and_the_socket_stays', async () => {
  const reasons = [];
  const ann = closed.hub('nobody', { token: ({ reason }) => { reasons.push(reason); return tokenFor(reasons.length === 1 ? 4 : 3_600); } });
  await ann.ready();
  assert.equal(ann.user.get().userId, 'ann');
  const { session } = ann.state.get();
  while (reasons.length < 2) await new Promise((done) => { setTimeout(done, 50); });
  const room = ann.room('r');
  await room.publish('message', 1);
  assert.deepEqual(reasons, ['connect', 'expiring']);
  assert.equal(ann.state.get().session, session);
});

for (const tokenBy of ['subprotocol', 'message']) {
  test(`a_token_rejected_twice_closes_the_hub_when_shown_by_${tokenBy}`, async () => {
    const reasons = [];
    const ann = closed.hub('nobody', { ...fast, tokenBy, token: ({ reason }) => { reasons.push(reason); return 'not.a.token'; } });
    await assert.rejects(ann.ready(), { reason: 'unauthorized' });
    assert.deepEqual(reasons, ['connect', 'rejected']);
  });
}
