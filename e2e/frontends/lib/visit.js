/** One visit of one option by a browser with nothing in its cache. */
import { PEOPLE, row, rows } from './script.js';
import { install } from './probe.js';

const ROWS = 1000;
const REPEATS = 5;
/** A phone of the middle class on a slow 4G network, as Chromium's tools have it. */
const SLOW = { cpu: 4, latencyMs: 150, kilobits: 1600 };

/** @param {import('playwright-core').Browser} browser @param {Awaited<ReturnType<import('./site.js').startSite>>} site */
export async function visit(browser, site, { slow = true, patienceMs = 20_000 } = {}) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 720 } });
  try {
    const page = await context.newPage();
    const errors = [];
    page.on('pageerror', (error) => errors.push(error.message));
    await page.addInitScript(install, { people: PEOPLE.length });
    if (slow) await slowDown(context, page);
    Object.assign(site.counts, { requests: 0, bytes: 0, script: 0 });
    await page.goto(site.url);
    await page.waitForFunction(() => window.probe.usable > 0, null, { timeout: patienceMs });
    await page.waitForLoadState('networkidle');
    const figures = { ...site.counts, ...await paints(page) };
    const cpu = await cpuOf(context, page);
    const before = await cpu();
    figures.thousand = await timed(page, site, { type: 'messages', messages: rows(ROWS) }, ROWS);
    const between = await cpu();
    const single = [];
    for (let at = 0; at < REPEATS; at += 1) {
      single.push(await timed(page, site, { type: 'messages', messages: [row(`one-${at}`)] }, ROWS + at + 1));
    }
    const tick = [];
    const afterwards = await cpu();
    for (let at = 0; at < REPEATS; at += 1) tick.push(await timed(page, site, { type: 'receipt', id: `one-${at}`, state: 'seen' }));
    Object.assign(figures, {
      thousandCpu: between - before, singleCpu: (afterwards - between) / REPEATS, tickCpu: (await cpu() - afterwards) / REPEATS,
    });
    const escaped = await page.locator('#log b', { hasText: 'really' }).count() === 0;
    if (!escaped) throw new Error('a message became markup');
    const violations = [...new Set(await page.evaluate(() => window.probe.violations))];
    return { ...figures, single: median(single), tick: median(tick), violations, errors };
  } finally {
    await context.close();
  }
}

/** Whether the option works under a policy at all: it starts, shows rows and ticks, and nothing was blocked. */
export async function works(browser, site) {
  try {
    const { violations, errors } = await visit(browser, site, { slow: false, patienceMs: 5000 });
    return { works: violations.length === 0 && errors.length === 0, why: [...violations, ...errors] };
  } catch (error) {
    return { works: false, why: [error.message.split('\n')[0]] };
  }
}

/** How to ask for the milliseconds of processor time that the page's main thread has had: what other work on the machine changes least. */
async function cpuOf(context, page) {
  const devtools = await context.newCDPSession(page);
  await devtools.send('Performance.enable', { timeDomain: 'threadTicks' });
  return async () => {
    const { metrics } = await devtools.send('Performance.getMetrics');
    return metrics.find(({ name }) => name === 'TaskDuration').value * 1000;
  };
}

export async function slowDown(context, page) {
  const devtools = await context.newCDPSession(page);
  await devtools.send('Network.enable');
  const bytesPerSecond = SLOW.kilobits * 1000 / 8;
  await devtools.send('Network.emulateNetworkConditions', {
    offline: false, latency: SLOW.latencyMs, downloadThroughput: bytesPerSecond, uploadThroughput: bytesPerSecond,
  });
  await devtools.send('Emulation.setCPUThrottlingRate', { rate: SLOW.cpu });
}

const paints = (page) => page.evaluate(() => ({
  fcp: performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null,
  usable: window.probe.usable,
}));

/** Milliseconds from a message's arrival to the paint of what it changes: `count` rows, or a tick. */
async function timed(page, site, message, count) {
  const wanted = count ? { count } : { id: message.id, state: message.state };
  await page.evaluate(({ count: many, id, state }) => {
    const is = many
      ? () => document.querySelectorAll('#log > li').length >= many
      : () => document.querySelector(`#log [data-id="${id}"] .tick`).textContent === state;
    window.probe.watch(is);
  }, wanted);
  site.send(message);
  return page.evaluate(() => window.probe.done);
}

/** @param {number[]} values */
export function median(values) {
  const sorted = values.filter((value) => value != null).sort((a, b) => a - b);
  if (sorted.length === 0) return null;
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
