/** A server, a browser and people in it; and what must hold in every test: no policy violation, no script error. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before } from 'node:test';
import { AxeBuilder } from '@axe-core/playwright';
import { chromium } from 'playwright-core';
import { startServer } from './server.js';

const BROWSERS = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage',
];

/** The browser, and how it is started. */
export function program() {
  const executablePath = BROWSERS.find((path) => path && existsSync(path));
  if (!executablePath) throw new Error('no Chromium: install it (Debian: apt-get install chromium), or name it in CHROMIUM');
  return { executablePath, args: FLAGS };
}

/** A browser of its own with a profile of its own. Loaded machines lose a browser at the start now and then: one more try. */
export async function launch() {
  const options = program();
  try {
    return await chromium.launch(options);
  } catch {
    return chromium.launch(options);
  }
}

/** Sets up a server and a browser for the file's tests. @param {{ server?: boolean, env?: Record<string, string> }} [options] */
export function world({ server: wanted = true, env = {} } = {}) {
  const here = { server: null, browser: null };
  before(async () => {
    [here.browser, here.server] = await Promise.all([launch(), wanted ? startServer({ env }) : null]);
  });
  after(async () => {
    await here.browser?.close();
    await here.server?.stop();
  });
  return here;
}

let scenes = 0;

/**
 * Runs `play` with a stage to bring people on, and checks afterwards what must hold always.
 * @param {{ browser: import('playwright-core').Browser, server: { url: string } }} here
 * @param {(stage: { visit: typeof visit, people: Person[], room: string }) => Promise<void>} play
 */
export function scene(here, play) {
  return async () => {
    const people = [];
    // A room of its own for every scene: rooms keep what was said in others.
    const room = `scene-${scenes += 1}`;
    const visit = async (options = {}) => {
      const person = await Person.arrive(here.browser, options.url ?? here.server.url, { path: `#${room}`, ...options });
      people.push(person);
      return person;
    };
    try {
      await play({ visit, people, room });
      for (const person of people) await person.mustBeSound();
    } finally {
      for (const person of people) await person.page.context().close();
    }
  };
}

export class Person {
  /** @param {import('playwright-core').Browser} browser @param {string} url */
  static async arrive(browser, url, { name, storage = {}, path = '', ...options } = {}) {
    const context = await browser.newContext({ viewport: { width: 1100, height: 720 }, ...options });
    await context.addInitScript((stored) => {
      window.violations = [];
      document.addEventListener('securitypolicyviolation', (event) => {
        window.violations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
      });
      for (const [key, value] of Object.entries(stored.local ?? {})) localStorage.setItem(key, value);
      for (const [key, value] of Object.entries(stored.session ?? {})) sessionStorage.setItem(key, value);
    }, storage);
    const person = new Person(await context.newPage(), name);
    await person.page.goto(url + path);
    if (name !== undefined) await person.join(name);
    return person;
  }

  constructor(page, name) {
    this.page = page;
    this.name = name;
    this.errors = [];
    page.on('pageerror', (error) => this.errors.push(error.stack));
    page.on('console', (message) => {
      if (message.type() === 'error' && /Content Security Policy|TrustedHTML|TrustedScript/u.test(message.text())) this.errors.push(message.text());
    });
    page.setDefaultTimeout(30_000);
  }

  async join(name) {
    await this.page.getByLabel('Your name').fill(name);
    await this.page.getByRole('button', { name: 'Join the chat' }).click();
    await this.online();
  }

  async online() { await this.page.locator('.chip.status.good').waitFor(); }

  get composer() { return this.page.locator('#message'); }
  get banner() { return this.page.locator('.banner'); }

  async say(text) {
    await this.composer.fill(text);
    await this.composer.press('Enter');
  }

  /** Waits for a confirmed message with exactly this text. @param {string} text */
  async sees(text) {
    await this.page.waitForFunction(
      (wanted) => [...document.querySelectorAll('.items:not(.pending) .message .text')].some((e) => e.textContent === wanted), text);
  }

  async seesLine(text) { await this.page.locator('.items .line', { hasText: text }).first().waitFor(); }

  /** The row of a message. @param {string} text */
  row(text) { return this.page.locator('.items:not(.pending) .message', { has: this.page.locator('.text', { hasText: text }) }).last(); }

  /** Does something with a message, from its toolbar. @param {string} text @param {string} action */
  async act(text, action) {
    await this.row(text).hover();
    await this.row(text).getByRole('button', { name: action, exact: true }).click();
  }

  /** The confirmed messages, in order. */
  async texts() { return this.page.locator('.items:not(.pending) .message .text').allTextContents(); }

  /** What is not confirmed: text and state. */
  async unsent() {
    return this.page.locator('.pending .unsent').evaluateAll((rows) => rows.map((row) => row.querySelector('.text').textContent));
  }

  async mustBeSound() {
    assert.deepEqual(this.errors, [], `errors in ${this.name}'s page`);
    assert.deepEqual(await this.page.evaluate(() => window.violations), [], `policy violations in ${this.name}'s page`);
  }

  /**
   * Every rule of axe, also those that are advice. The page holds still from here on: a message that is just fading in would be
   * judged by the colour of that instant.
   */
  async mustBeAccessible(view) {
    await this.page.emulateMedia({ reducedMotion: 'reduce' });
    const { violations } = await new AxeBuilder({ page: this.page }).analyze();
    const found = violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.target.join(' ')}: ${node.failureSummary}`));
    assert.deepEqual(found, [], `axe findings in the view "${view}"`);
  }
}
