/**
 * Builds the mini chat in every option and measures it in Chromium: `node measure.js --json FILE`.
 *
 * `--only a,b` takes some options, `--rounds N` that many rounds (5), `--reuse` what an earlier run has built; `--smoke` visits `vanilla` and `htmx` once, at full speed. With
 * `OUTSPOKE_BIN` the web chat of that program is visited in each round too; `--only chat` visits nothing else.
 * Rounds are interleaved and each begins with another option, so that a slow minute of the machine hits everybody.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { parseArgs } from 'node:util';
import { launch } from './lib/browser.js';
import { build, OPTIONS } from './lib/build.js';
import { startServer, visitPage } from './lib/page.js';
import { POLICIES } from './lib/policy.js';
import { startSite } from './lib/site.js';
import { pageTable, table } from './lib/table.js';
import { median, visit, works } from './lib/visit.js';

const { values: flags } = parseArgs({
  options: { only: { type: 'string' }, rounds: { type: 'string', default: '5' }, smoke: { type: 'boolean', default: false }, reuse: { type: 'boolean', default: false }, json: { type: 'string' } },
});
const names = flags.only?.split(',').filter((name) => name !== 'chat') ?? (flags.smoke ? ['vanilla', 'htmx'] : Object.keys(OPTIONS));
const rounds = flags.smoke ? 1 : Number(flags.rounds);
const say = (text) => process.stderr.write(`${text}\n`);

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** The option's own server, if it needs one; it ends with the returned function. */
async function startUpstream(option, policy) {
  if (!option.start) return { end: async () => {} };
  const port = await freePort();
  const env = { ...process.env, POLICY: policy ?? '', NEXT_TELEMETRY_DISABLED: '1' };
  const child = spawn(option.start.command, ['start', '--port', String(port), '--hostname', '127.0.0.1'], { cwd: option.start.folder, env });
  const upstream = `http://127.0.0.1:${port}`;
  for (let tries = 0; ; tries += 1) {
    try {
      await fetch(upstream);
      break;
    } catch (error) {
      if (tries > 300 || child.exitCode !== null) throw error;
      await new Promise((done) => { setTimeout(done, 100); });
    }
  }
  return { upstream, async end() { child.kill(); await once(child, 'exit'); } };
}

/** Serves an option under a policy for as long as `play` takes. */
async function onStage(option, policy, play) {
  const { upstream, end } = await startUpstream(option, policy);
  try {
    const site = await startSite({ ...option, upstream }, policy);
    try { return await play(site); } finally { await site.stop(); }
  } finally {
    await end();
  }
}

const results = {};
const ready = [];
for (const name of names) {
  say(`building ${name}`);
  const option = await build(name, flags);
  const { packages, installedBytes, buildSeconds, absent } = option;
  results[name] = { label: OPTIONS[name].label, packages, installedBytes, buildSeconds, absent, policies: {} };
  if (!absent) ready.push([name, option]);
}

let browser = await launch();
for (const [name, option] of ready) {
  // A policy under which nothing starts takes five seconds to tell.
  const tried = flags.smoke ? POLICIES.filter((policy) => ['trusted', 'strict'].includes(policy.name)) : POLICIES;
  for (const { name: policy, text } of tried) {
    const judged = await onStage(option, text, (site) => works(browser, site));
    results[name].policies[policy] = judged.works ? 'works' : judged.why;
    if (!judged.works) continue;
    Object.assign(option, { policy: text });
    results[name].policy = policy;
    break;
  }
  say(`${name}: ${JSON.stringify(results[name].policies)}`);
}
await browser.close();

const measured = ready.filter(([name]) => results[name].policy);
for (const [name] of measured) results[name].rounds = [];
const chat = [];
for (let round = 0; round < rounds; round += 1) {
  browser = await launch();
  for (let at = 0; at < measured.length; at += 1) {
    const [name, option] = measured[(at + round) % measured.length];
    const { violations, errors, ...figures } = await onStage(option, option.policy, (site) => visit(browser, site, { slow: !flags.smoke }));
    results[name].rounds.push(figures);
    say(`round ${round + 1}, ${name}: ${JSON.stringify(figures)}`);
  }
  if (process.env.OUTSPOKE_BIN && !flags.smoke) {
    const server = await startServer(process.env.OUTSPOKE_BIN);
    try { chat.push(await visitPage(browser, server)); } finally { await server.stop(); }
    say(`round ${round + 1}, web chat: ${JSON.stringify(chat.at(-1))}`);
  }
  await browser.close();
}
for (const [name] of measured) {
  const keys = Object.keys(results[name].rounds[0]);
  results[name].median = Object.fromEntries(keys.map((key) => [key, median(results[name].rounds.map((figures) => figures[key]))]));
}

if (flags.json) await writeFile(flags.json, `${JSON.stringify({ options: results, chat }, null, 2)}\n`);
console.log(table(results));
if (chat.length > 0) console.log(`\n${pageTable(chat)}`);
if (flags.smoke) {
  const passed = names.filter((name) => results[name].policy).length;
  console.log(`${passed} passed, ${names.length - passed} failed`);
  process.exitCode = passed === names.length ? 0 : 1;
}
