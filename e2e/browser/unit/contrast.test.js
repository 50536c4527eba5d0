import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

const read = (name) => readFileSync(new URL(`../../../crates/web/${name}`, import.meta.url), 'utf8');
const css = read('shared/base.css') + read('ui/style.css');
const tokens = new Map();
for (const [, name, light, dark] of css.matchAll(/--([\w-]+): light-dark\((#[0-9a-f]{3,6}), (#[0-9a-f]{3,6})\)/giu)) tokens.set(name, { light, dark });

function luminance(hex) {
  const full = hex.length === 4 ? [...hex.slice(1)].map((c) => c + c).join('') : hex.slice(1);
  const [r, g, b] = [0, 2, 4].map((at) => {
    const part = parseInt(full.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** WCAG 2.2, "contrast ratio". */
function ratio(a, b) {
  const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (high + 0.05) / (low + 0.05);
}

const surfaces = ['canvas', 'raised', 'sunken'];
const pairs = [
  ...surfaces.flatMap((surface) => [['ink', surface, 4.5], ['ink-soft', surface, 4.5], ['accent', surface, 4.5], ['danger', surface, 4.5], ['warn', surface, 4.5], ['edge', surface, 3], ['good', surface, 3], ['fresh', surface, 4.5]]),
  ['on-accent', 'accent', 4.5], ['ink', 'accent-soft', 4.5], ['ink-soft', 'accent-soft', 4.5], ['accent', 'accent-soft', 4.5],
  ['warn', 'warn-soft', 4.5], ['danger', 'danger-soft', 4.5], ['on-danger', 'danger', 4.5], ['on-fresh', 'fresh', 4.5],
  ['ink', 'hover', 4.5], ['ink-soft', 'hover', 4.5], ['accent', 'hover', 4.5], ['ink', 'mention', 4.5], ['ink-soft', 'mention', 4.5], ['warn', 'mention', 4.5],
  ['accent', 'mention', 4.5], ['ink', 'found', 4.5], ['fresh', 'sunken', 3], ['term', 'ink', 4.5],
  ...Array.from({ length: 8 }, (_, n) => [`ansi-${n}`, 'term', 4.5]),
];

for (const theme of ['light', 'dark']) {
  for (const [text, surface, least] of pairs) {
    test(`${text} on ${surface} has a contrast of at least ${least} in the ${theme} theme`, () => {
      const [a, b] = [tokens.get(text), tokens.get(surface)];
      assert.ok(a && b, `${text} or ${surface} is no light-dark() token`);
      const found = ratio(a[theme], b[theme]);
      assert.ok(found >= least, found.toFixed(2));
    });
  }
}

test('initials on every avatar have a contrast of at least 4.5', () => {
  const hues = [...css.matchAll(/\.hue-\d \{ --dark: (#\w+); --light: (#\w+); \}/gu)];
  assert.equal(hues.length, 8);
  for (const [rule, dark, light] of hues) {
    assert.ok(ratio('#ffffff', dark) >= 4.5, rule);
    assert.ok(ratio('#10201b', light) >= 4.5, rule);
  }
});
