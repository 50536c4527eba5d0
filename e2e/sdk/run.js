/**
 * Runs the checks: `node run.js` all of them, `node run.js --unit` those that need no server.
 *
 * The last line says `N passed, N failed`; the exit code is 0 only without failures.
 */
import { readdirSync } from 'node:fs';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { fileURLToPath } from 'node:url';

const folders = process.argv.includes('--unit') ? ['unit'] : ['unit', 'server'];
const files = folders.flatMap((folder) => {
  const path = fileURLToPath(new URL(`./${folder}/`, import.meta.url));
  return readdirSync(path).filter((name) => name.endsWith('.test.js')).sort().map((name) => path + name);
});
let passed = 0;
let failed = 0;
const events = run({ files, concurrency: 2, timeout: 240_000 });
const isTest = ({ name, details }) => details.type !== 'suite' && !files.includes(name);
events.on('test:pass', (event) => { if (isTest(event)) passed += 1; });
events.on('test:fail', (event) => { if (isTest(event) || event.details.error) failed += 1; });
const report = events.compose(spec);
report.pipe(process.stdout);
report.on('end', () => {
  process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
  console.log(`${passed} passed, ${failed} failed`);
});
