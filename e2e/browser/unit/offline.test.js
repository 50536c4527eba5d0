/** The service worker keeps whatever the page may load, however late: without a network nothing else is to be had. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const WEB = fileURLToPath(new URL('../../../crates/web/', import.meta.url));
const source = (name) => readFileSync(join(WEB, name), 'utf8').replace(/\/\*[\s\S]*?\*\//gu, '');

/** A module and all that it loads, at once and later. */
function reach(name, found = new Set()) {
  if (found.has(name)) return found;
  found.add(name);
  for (const [, at, later] of source(name).matchAll(/from '(\.[^']+)'|import\('(\.[^']+)'\)/gu)) reach(normalize(join(dirname(name), at ?? later)), found);
  return found;
}

/** What the page names, because it loads it at once. */
function atOnce(name, found = new Set()) {
  if (found.has(name)) return found;
  found.add(name);
  for (const [, other] of source(name).matchAll(/from '(\.[^']+)'/gu)) atOnce(normalize(join(dirname(name), other)), found);
  return found;
}

test('the_service_worker_keeps_every_module_that_the_page_may_load', () => {
  const [, list] = /const LATER = \[([\s\S]*?)\];/u.exec(source('ui/sw.js'));
  const kept = new Set([...list.matchAll(/'([^']+\.js)'/gu)].map(([, name]) => normalize(join('ui', name))));
  const atStart = atOnce('ui/main.js');
  const late = [...reach('ui/main.js')].filter((name) => !atStart.has(name));
  assert.ok(late.length > 8, `${late}`);
  assert.deepEqual(late.filter((name) => !kept.has(name)), []);
});
