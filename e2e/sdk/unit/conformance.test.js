/** docs/clients/conformance: what every client must do. */
import { readFileSync, readdirSync } from 'node:fs';
import { describe, test } from 'node:test';
import { play } from '../lib/script.js';

const folder = new URL('../../../docs/clients/conformance/', import.meta.url);
for (const file of readdirSync(folder).filter((name) => name.endsWith('.json')).sort()) {
  describe(file, () => {
    for (const script of JSON.parse(readFileSync(new URL(file, folder), 'utf8')).cases) test(script.name, () => play(script));
  });
}
