/** Two servers that act as one, and who is connected to which. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { freePort, startServer } from '../lib/server.js';
import { scene, world } from '../lib/world.js';

const here = world({ server: false });

/** A Redis of its own, which is gone with what it kept. @param {(url: string) => Promise<void>} play */
async function withRedis(play) {
  const folder = await mkdtemp(join(tmpdir(), 'outspoke-redis-'));
  const port = await freePort();
  const redis = spawn(process.env.REDIS_SERVER ?? 'redis-server', ['--port', `${port}`, '--bind', '127.0.0.1', '--save', '', '--dir', folder], { stdio: ['ignore', 'pipe', 'ignore'] });
  const ended = once(redis, 'exit');
  try {
    for await (const text of redis.stdout.setEncoding('utf8').iterator({ destroyOnReturn: false })) if (text.includes('Ready to accept connections')) break;
    redis.stdout.resume();
    await play(`redis://127.0.0.1:${port}`);
  } finally {
    redis.kill();
    await ended;
    await rm(folder, { recursive: true, force: true });
  }
}

test('who is where names the server of each person, on all servers, as they come', () => withRedis(async (url) => {
  const env = (name) => ({
    OUTSPOKE_CLUSTER__ENABLED: 'true', OUTSPOKE_CLUSTER__BUS: 'redis', OUTSPOKE_CLUSTER__REDIS__URL: url, OUTSPOKE_CLUSTER__NAME: name,
    OUTSPOKE_CLUSTER__SECRET: 'the-secret-of-the-servers-0123456789', OUTSPOKE_STORE__BACKEND: 'redis', OUTSPOKE_STORE__REDIS__URL: url,
  });
  const [one, two] = await Promise.all([startServer({ env: env('hub-1') }), startServer({ env: env('hub-2') })]);
  try {
    await scene({ ...here, server: one }, async ({ visit }) => {
      const ana = await visit({ name: 'Ana' });
      const ben = await visit({ name: 'Ben', url: two.url });
      await ana.seesLine('Ben');
      const rows = async (person) => {
        await person.page.getByRole('button', { name: 'Who is where' }).click();
        const table = person.page.getByRole('table', { name: /^People in this room/u });
        const texts = await table.locator('tbody tr').evaluateAll((all) => all.map((row) => [...row.cells].slice(0, 2).map((cell) => cell.textContent)));
        await person.mustBeAccessible('who is where, on two servers');
        await person.page.keyboard.press('Escape');
        return texts;
      };
      // Of whom came later, and of whom was there already.
      assert.deepEqual(await rows(ana), [['Anayou', 'hub-1 (yours)'], ['Ben', 'hub-2']]);
      assert.deepEqual(await rows(ben), [['Benyou', 'hub-2 (yours)'], ['Ana', 'hub-1']]);
    })();
  } finally {
    await Promise.all([one.stop(), two.stop()]);
  }
}));
