/** The figures as a table for people. */
import { median } from './visit.js';

const kilobytes = (bytes) => (bytes / 1000).toFixed(1);
const megabytes = (bytes) => (bytes === 0 ? '0' : (bytes / 1e6).toFixed(0));
const whole = (value) => (value == null ? '-' : value.toFixed(0));
const tenth = (value) => (value == null ? '-' : value.toFixed(1));

const both = (wall, cpu) => `${whole(wall)} (${cpu < 100 ? tenth(cpu) : whole(cpu)})`;

function policies({ policy }) {
  if (!policy) return ['no', 'no'];
  const strict = ['trusted', 'own', 'strict'].includes(policy);
  const exception = policy.startsWith('wasm') ? "with `'wasm-unsafe-eval'`" : 'no';
  return [strict ? 'yes' : exception, { trusted: 'yes', 'wasm-trusted': 'yes', own: 'a policy of its own' }[policy] ?? 'no'];
}

/** @param {Record<string, any>} results */
export function table(results) {
  const heads = ['option', 'kB gz, first load', 'of it script', 'requests', 'FCP ms', 'usable ms', '+1,000 rows ms (CPU)', '+1 row at 1,000 ms (CPU)', 'tick ms (CPU)',
    'strict CSP', 'Trusted Types', 'packages', 'installed MB', 'build s'];
  const rows = Object.values(results).map((result) => {
    const { label, absent, packages, installedBytes, buildSeconds, median: m } = result;
    if (!m) return [label, absent ?? 'does not start', ...Array(heads.length - 2).fill('-')];
    return [label, kilobytes(m.bytes), kilobytes(m.script), m.requests, whole(m.fcp), whole(m.usable), both(m.thousand, m.thousandCpu), both(m.single, m.singleCpu), both(m.tick, m.tickCpu),
      ...policies(result), packages, megabytes(installedBytes), tenth(buildSeconds)];
  });
  const lines = [heads, heads.map((_, at) => (at === 0 ? '---' : '---:')), ...rows];
  return lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

/** The web chat's own figures: medians, with the lowest and highest in brackets. @param {Record<string, number>[]} rounds */
export function pageTable(rounds) {
  const names = {
    bodies: 'first load, bytes of bodies as they travel', bytes: 'the same with headers', requests: 'requests', fcp: 'first contentful paint, ms', usable: 'scripts have run, ms',
    single: 'a message of somebody else to the screen, 500 in the room, ms',
  };
  const lines = Object.entries(names).map(([key, label]) => {
    const values = rounds.map((round) => round[key]).sort((a, b) => a - b);
    const [middle, low, high] = [median(values), values[0], values.at(-1)].map(whole);
    return `| ${label} | ${middle} (${low} - ${high}) |`;
  });
  return ['| | median (range) |', '| --- | ---: |', ...lines].join('\n');
}
