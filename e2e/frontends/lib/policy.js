/** The policies under which the options are tried: the server's own, from its source, and the same without Trusted Types. */
import { readFileSync } from 'node:fs';

const SOURCE = new URL('../../../crates/web/src/lib.rs', import.meta.url);

function ofTheServer() {
  const found = /"content-security-policy",\s*"(?<text>(?:[^"\\]|\\\n\s*)+)"/u.exec(readFileSync(SOURCE, 'utf8'));
  if (!found) throw new Error(`no policy found in ${SOURCE}`);
  return found.groups.text.replace(/\\\n\s*/gu, '');
}

/** What every page of the server is served with. */
export const TRUSTED = ofTheServer();

/** The same without its two directives about Trusted Types. */
export const STRICT = TRUSTED.split('; ').filter((directive) => !directive.includes('trusted-types')).join('; ');

function withWebAssembly(policy) {
  return policy.replace("script-src 'self'", "script-src 'self' 'wasm-unsafe-eval'");
}

/** From the strictest to none; an option is measured under the first that it works with. */
export const POLICIES = [
  { name: 'trusted', text: TRUSTED },
  // A library may bring a Trusted Types policy of its own, which lets its own templates through.
  { name: 'own', text: TRUSTED.replace('trusted-types outspoke', "trusted-types * 'allow-duplicates'") },
  { name: 'strict', text: STRICT },
  { name: 'wasm-trusted', text: withWebAssembly(TRUSTED) },
  { name: 'wasm', text: withWebAssembly(STRICT) },
  { name: 'none', text: null },
];
