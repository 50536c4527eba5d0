/** Uploads to the real server, through a proxy that cuts them. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { createFiles } from '../../../crates/web/sdk/files.js';
import { live } from '../lib/live.js';

const here = live({});

test('a_file_cut_off_ten_times_arrives_whole_is_sent_to_a_room_and_can_be_had_by_its_link', async () => {
  const ann = here.hub('ann');
  const files = createFiles(new URL('ws?userId=ann&username=ann', here.proxy.url), { env: { random: () => 0 } });
  const content = new Uint8Array(randomBytes(2_000_000));
  let cuts = 0;
  const upload = files.upload(content, { name: '../größe "1".bin', room: 'lobby', partBytes: 100_000 });
  upload.state.subscribe(({ sent, status }) => {
    if (status !== 'uploading' || sent < (cuts + 1) * 150_000 || cuts === 10) return;
    cuts += 1;
    here.proxy.cut();
    here.proxy.mend();
  });
  const { id } = await upload;
  assert.equal(cuts, 10);
  const info = await files.info(id);
  assert.equal(info.size, content.length);
  assert.equal(info.sha256, createHash('sha256').update(content).digest('hex'));

  const room = ann.room('lobby');
  await room.ready();
  const heard = new Promise((done) => { room.on('file', ({ data }) => done(data)); });
  await room.publish('file', { content: 'Look', files: [{ id, alt: 'noise' }] });
  const { files: [sent] } = await heard;
  assert.deepEqual([sent.id, sent.size, sent.sha256, sent.alt], [id, info.size, info.sha256, 'noise']);

  const { url } = await files.link(id);
  const got = new Uint8Array(await (await fetch(url)).arrayBuffer());
  assert.deepEqual(Buffer.from(got), Buffer.from(content));
  await assert.rejects(createFiles(new URL('ws?userId=mallory&username=m', here.proxy.url)).remove(id), { code: 404 });
  await files.remove(id);
  await assert.rejects(files.info(id), { reason: 'not_found' });
});

test('an_upload_that_is_too_large_is_refused_before_anything_is_sent', async () => {
  const files = createFiles(new URL('ws?userId=ann&username=ann', here.proxy.url));
  const upload = files.upload({ size: 2 ** 40, slice: () => { throw new Error('nothing is to be sent'); }, type: '', __proto__: Blob.prototype });
  await assert.rejects(Promise.resolve(upload), { reason: 'file_too_large', code: 413 });
});
