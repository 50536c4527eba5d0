/** Uploads against a small tus server that fails on demand. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after, before, beforeEach, test } from 'node:test';
import { createFiles } from '../../../crates/web/sdk/files.js';
import { becomes } from '../lib/wait.js';

const here = { server: null, url: '', uploads: new Map(), patches: 0, fail: () => null, seen: [] };

before(async () => {
  here.server = createServer(async (request, response) => {
    const { method, headers } = request;
    const url = new URL(request.url, 'http://hub');
    const id = url.pathname.split('/')[2];
    const upload = here.uploads.get(id);
    here.seen.push({ method, headers, search: url.search });
    const answer = (status, more = {}, body = '') => response.writeHead(status, { 'Tus-Resumable': '1.0.0', ...more }).end(body);
    if (method === 'PATCH') here.patches += 1;
    const failure = here.fail(method);
    if (failure === 'cut') {
      // Half of it arrives, and then the connection is gone.
      const { socket } = request;
      if (method === 'PATCH') upload.bytes = Buffer.concat([upload.bytes, (await whole(request)).subarray(0, 10)]);
      return socket.destroy();
    }
    if (failure) return answer(failure.status, failure.headers, JSON.stringify({ error: failure.error, message: 'because' }));
    if (method === 'POST' && url.pathname.endsWith('/link')) return answer(200, {}, JSON.stringify({ url: `files/${id}/content?sig=1`, preview: null, expires: '2026-01-01T00:00:00Z' }));
    if (method === 'POST') {
      const name = `f${here.uploads.size + 1}`;
      here.uploads.set(name, { size: Number(headers['upload-length']), bytes: Buffer.alloc(0), metadata: headers['upload-metadata'] });
      return answer(201, { Location: `/files/${name}${url.search}` });
    }
    if (!upload) return answer(404, {}, '{"error":"not_found"}');
    if (method === 'HEAD') return answer(200, { 'Upload-Offset': upload.bytes.length, 'Upload-Length': upload.size });
    if (method === 'DELETE') { here.uploads.delete(id); return answer(204); }
    if (method === 'GET') return answer(200, {}, JSON.stringify({ id, size: upload.size }));
    const part = await whole(request);
    if (Number(headers['upload-offset']) !== upload.bytes.length) return answer(409, {}, '{"error":"wrong_offset"}');
    upload.bytes = Buffer.concat([upload.bytes, part]);
    return answer(204, { 'Upload-Offset': upload.bytes.length });
  }).listen(0, '127.0.0.1');
  await once(here.server, 'listening');
  here.url = `ws://127.0.0.1:${here.server.address().port}/ws?userId=ann&username=Ann&device=d`;
});
after(() => { here.server.closeAllConnections(); here.server.close(); });
beforeEach(() => Object.assign(here, { uploads: new Map(), patches: 0, fail: () => null, seen: [] }));

async function whole(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts);
}

const env = { random: () => 0 };
const content = new Uint8Array(10_000).map((_, at) => at % 251);
const hash = (bytes) => createHash('sha256').update(bytes).digest('hex');

test('an_upload_interrupted_ten_times_resumes_and_sends_nothing_twice', async () => {
  const files = createFiles(here.url, { env });
  let cuts = 0;
  here.fail = (method) => (method === 'PATCH' && here.patches % 2 === 1 && cuts < 10 ? (cuts += 1, 'cut') : null);
  const seen = [];
  const upload = files.upload(content, { name: 'größe.bin', room: 'r', type: 'image/png', partBytes: 500 });
  upload.state.subscribe(({ sent }) => seen.push(sent));
  const { id } = await upload;
  assert.equal(cuts, 10);
  assert.equal(hash(here.uploads.get(id).bytes), hash(content));
  assert.ok(seen.every((sent, at) => at === 0 || sent >= seen[at - 1]), 'progress only grows');
  assert.deepEqual(upload.state.get(), { status: 'done', sent: 10_000, size: 10_000 });
  const pairs = here.uploads.get(id).metadata.split(',').map((pair) => pair.split(' ')).map(([key, value]) => [key, Buffer.from(value, 'base64').toString()]);
  assert.deepEqual(pairs, [['filename', 'größe.bin'], ['filetype', 'image/png'], ['room', 'r']]);
  assert.equal(here.seen[0].search, '?userId=ann&username=Ann', 'who we are goes along, the rest does not');
});

test('pause_and_resume_go_on_where_it_stopped', async () => {
  const files = createFiles(here.url, { env });
  const upload = files.upload(content, { partBytes: 1_000 });
  await becomes(upload.state, ({ sent }) => sent >= 3_000);
  upload.pause();
  await becomes(upload.state, ({ status }) => status === 'paused');
  const { patches } = here;
  await new Promise((done) => { setImmediate(done); });
  assert.equal(here.patches, patches, 'nothing is sent while it waits');
  upload.resume();
  const { id } = await upload;
  assert.equal(hash(here.uploads.get(id).bytes), hash(content));
});

test('an_upload_goes_on_after_the_page_was_loaded_anew', async () => {
  const files = createFiles(here.url, { env });
  const leaving = new AbortController();
  const first = files.upload(content, { partBytes: 1_000, signal: leaving.signal });
  first.state.subscribe(({ sent }) => { if (sent >= 5_000) leaving.abort(new Error('the page goes')); });
  await assert.rejects(Promise.resolve(first), /the page goes/u);
  const { id } = await files.upload(content, { partBytes: 1_000, url: first.url });
  assert.equal(here.uploads.size, 1);
  assert.equal(hash(here.uploads.get(id).bytes), hash(content));
});

test('what_is_refused_for_good_is_not_tried_again', async () => {
  const files = createFiles(here.url, { env });
  here.fail = () => ({ status: 413, error: 'file_too_large' });
  const upload = files.upload(content);
  await assert.rejects(Promise.resolve(upload), { name: 'HubError', reason: 'file_too_large', code: 413, retryable: false });
  assert.equal(here.seen.length, 1);
  assert.equal(upload.state.get().status, 'failed');
});

test('a_server_that_stays_away_is_given_up', async () => {
  const files = createFiles(here.url, { env, attempts: 3 });
  here.fail = () => ({ status: 503, error: 'unavailable' });
  await assert.rejects(Promise.resolve(files.upload(content)), { reason: 'unavailable', retryable: true });
  assert.equal(here.seen.length, 4);
});

test('cancelling_takes_away_what_is_there', async () => {
  const files = createFiles(here.url, { env });
  const upload = files.upload(content, { partBytes: 100 });
  await becomes(upload.state, ({ sent }) => sent > 0);
  const failed = assert.rejects(Promise.resolve(upload), { reason: 'cancelled' });
  await upload.cancel();
  await failed;
  assert.equal(here.uploads.size, 0);
  assert.equal(upload.state.get().status, 'cancelled');
});

test('tokens_are_shown_and_links_are_whole', async () => {
  const files = createFiles(here.url, { env, token: async () => 'secret' });
  const { id } = await files.upload(new Blob(['hi']));
  assert.ok(here.seen.every(({ headers }) => headers.authorization === 'Bearer secret' && headers['tus-resumable'] === '1.0.0'));
  const { url, preview } = await files.link(id);
  assert.equal(url, new URL(`/files/${id}/content?sig=1`, here.url.replace('ws', 'http')).href);
  assert.equal(preview, null);
  assert.deepEqual(await files.info(id), { id, size: 2 });
  await files.remove(id);
  await assert.rejects(files.info(id), { reason: 'not_found', code: 404 });
});
