/** What the client weighs, as a bundler would ship it. */
import assert from 'node:assert/strict';
import { gzipSync } from 'node:zlib';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const at = (name) => fileURLToPath(new URL(`../../../crates/web/sdk/${name}`, import.meta.url));

/** What is loaded when it is needed, with `import()`, is not part of what is loaded at once. */
const later = { name: 'later', setup: ({ onResolve }) => onResolve({ filter: /./ }, ({ kind, path }) => (kind === 'dynamic-import' ? { path, external: true } : undefined)) };

/** Bytes of a module and all that it loads at once, as one file, minified and compressed. */
async function weigh(name) {
  const { outputFiles: [file] } = await build({
    entryPoints: [at(name)], bundle: true, minify: true, format: 'esm', target: 'es2022', write: false,
    external: ['react', 'vue', 'ws'], plugins: [later], logLevel: 'error',
  });
  return gzipSync(file.contents, { level: 9 }).length;
}

test('the_core_is_within_its_budget', async () => {
  const core = await weigh('index.js');
  console.log(`# core: ${core} bytes`);
  assert.ok(core <= 6 * 1024, `${core} bytes`);
});

for (const [name, budget] of [['outbox.js', 3], ['session.js', 1.25], ['chat.js', 3], ['files.js', 4], ['outbox-idb.js', 1], ['worker.js', 2.5], ['react.js', 1], ['vue.js', 1], ['testing.js', 4.5]]) {
  test(`${name}_is_within_its_budget`, async () => {
    const bytes = await weigh(name);
    console.log(`# ${name}: ${bytes} bytes`);
    assert.ok(bytes <= budget * 1024, `${bytes} bytes`);
  });
}
