/** What the client weighs, as a bundler would ship it. */
import assert from 'node:assert/strict';
import { gzipSync } from 'node:zlib';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const at = (name) => fileURLToPath(new URL(`../../../crates/web/sdk/${name}`, import.meta.url));

/** Bytes of a module and all that it loads at once, minified and compressed. */
async function weigh(name, external = []) {
  const { outputFiles } = await build({
    entryPoints: [at(name)], bundle: true, minify: true, splitting: true, format: 'esm', target: 'es2022', write: false,
    outdir: '/out', external: ['react', 'vue', 'ws', ...external], logLevel: 'error',
  });
  return gzipSync(outputFiles.find(({ path }) => path.endsWith(`/${name}`)).contents, { level: 9 }).length;
}

test('the_core_is_within_its_budget', async () => {
  const core = await weigh('index.js', ['./queries.js', './refresh.js']);
  const whole = await weigh('index.js');
  console.log(`# core: ${core} bytes`);
  assert.ok(core <= 8.25 * 1024, `${core} bytes`);
  assert.ok(whole <= core, 'the rest is split off');
});

for (const [name, budget] of [['chat.js', 3], ['files.js', 4], ['outbox-idb.js', 1], ['worker.js', 2.5], ['react.js', 1], ['vue.js', 1], ['testing.js', 4.5]]) {
  test(`${name}_is_within_its_budget`, async () => {
    const bytes = await weigh(name);
    console.log(`# ${name}: ${bytes} bytes`);
    assert.ok(bytes <= budget * 1024, `${bytes} bytes`);
  });
}
