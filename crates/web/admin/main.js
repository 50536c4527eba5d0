/**
 * The operators' page: who signs in sees what the key may, view by view.
 *
 * A view is loaded when it is opened. Its address is behind the `#`, so that it can be kept and sent; the key is in no address.
 */
import { may, me, ask, remembered, signIn, signOut, tenant, told } from './api.js';
import { clearNotice, paused, tell } from './desk.js';
import { byId, h } from '../shared/dom.js';
import { effect, scope, signal, untracked } from '../shared/reactive.js';

/** @import { Child } from '../shared/types.js' */
/** @import { Caller, Place } from './types.js' */

/**
 * A view: what it is called, what one needs for it, and its module; `aside`: it is come to from others.
 * @type {Record<string, { title: string, needs: string[], aside?: true, load: () => Promise<{ view: (of: string | null) => Child[] }> }>}
 */
const VIEWS = {
  overview: { title: 'Overview', needs: ['GET /nodes', 'GET /metrics'], load: () => import('./overview.js') },
  rooms: { title: 'Rooms', needs: ['GET /rooms', 'GET /rooms/{room}', 'GET /rooms/{room}/history', 'GET /rooms/{room}/presence'], load: () => import('./rooms.js') },
  users: { title: 'Users', needs: ['GET /users', 'GET /clients', 'GET /rulings'], load: () => import('./users.js') },
  tenants: { title: 'Tenants', needs: ['GET /tenants'], load: () => import('./tenants.js') },
  analytics: { title: 'Analytics', needs: ['GET /analytics'], load: () => import('./analytics.js') },
  explain: { title: 'Explain', needs: ['GET /explain'], load: () => import('./explain.js') },
  config: { title: 'Configuration', needs: ['GET /config', 'POST /reload'], load: () => import('./config.js') },
  log: { title: 'Log', needs: ['GET /log-level', 'GET /audit'], load: () => import('./log.js') },
  connection: { title: 'Connection', needs: ['GET /clients/{client}'], aside: true, load: () => import('./connection.js') },
};

const door = byId('door');
const desk = byId('desk');
const place = signal(/** @type {Place} */ ({ view: '', of: null }));

/** What may be opened. */
const offered = () => Object.entries(VIEWS).filter(([name, { needs }]) => needs.some(may) && (name !== 'tenants' || me.value?.server.tenants));

/** @returns {Place} */
function placeOfAddress() {
  const [view = '', of] = location.hash.slice(1).split('/', 2);
  try { return { view, of: of ? decodeURIComponent(of) : null }; } catch { return { view, of: null }; }
}

/** The door: asks for the key. */
function showDoor() {
  const form = byId('sign-in');
  const key = /** @type {HTMLInputElement} */ (byId('key'));
  const problem = byId('key-problem');
  /** @param {string} given @param {boolean} keep */
  const enter = async (given, keep) => {
    problem.textContent = '';
    key.removeAttribute('aria-invalid');
    tell('Signing in …');
    try {
      await signIn(given, keep);
      key.value = '';
    } catch (error) {
      tell('');
      problem.textContent = told(error);
      key.setAttribute('aria-invalid', 'true');
      key.focus();
    }
  };
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    void enter(key.value.trim(), /** @type {HTMLInputElement} */ (byId('keep')).checked);
  });
  const kept = remembered();
  if (kept !== null) void enter(kept, true);
}

/** What the caller may, in words. @param {Caller} caller */
function rights({ kind, permissions, operations }) {
  if (kind === 'application') return 'May do everything.';
  const words = Object.entries(permissions ?? {}).map(([action, patterns]) => `${action}: ${patterns.join(', ')}`);
  if (operations.includes('GET /rooms')) words.unshift('look at what operators look at');
  return words.length > 0 ? `May ${words.join('; ')}.` : 'May do nothing here.';
}

/** Everything around the views. @param {Caller} caller */
function frame(caller) {
  const views = offered();
  const here = h('div', { class: 'view' });
  const main = h('main', { id: 'view', class: 'column', tabIndex: -1 }, h('p', { id: 'notice', class: 'notice' }), here);
  const tenants = caller.server.tenants && caller.tenant === undefined ? tenantPicker() : null;
  desk.replaceChildren(
    h('a', { class: 'skip', href: '#view', onclick: (event) => { event.preventDefault(); main.focus(); } }, 'Skip to the view'),
    h('header', { class: 'top' },
      h('p', { class: 'brand' }, logo(), h('span', null, caller.server.name || 'Outspoke'), h('span', { class: 'fine' }, caller.server.version)),
      tenants,
      h('button', { type: 'button', class: 'button small', 'aria-pressed': () => String(paused.value), onclick: () => { paused.value = !paused.peek(); } }, 'Hold still'),
      h('details', { class: 'who' }, h('summary', null, caller.name), h('p', { class: 'fine' }, rights(caller))),
      h('button', { type: 'button', class: 'button small', onclick: () => signOut() }, 'Sign out')),
    h('nav', { class: 'views', 'aria-label': 'Views' }, h('ul', null, views.filter(([, { aside }]) => !aside).map(([name, { title }]) => h('li', null,
      h('a', { href: `#${name}`, 'aria-current': () => (place.value.view === name ? 'page' : null) }, title))))),
    main);
  if (views.length === 0) here.append(h('h1', { tabIndex: -1, class: 'title' }, 'Nothing to see'), h('p', null, 'This key may not look at anything here.'));
  route(here, views.map(([name]) => name));
}

function logo() {
  const space = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(space, 'svg');
  const use = document.createElementNS(space, 'use');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  use.setAttribute('href', '#icon-logo');
  svg.append(use);
  return svg;
}

/** Of which tenant is shown what is of tenants. */
function tenantPicker() {
  const select = h('select', { id: 'tenant', class: 'select', onchange: () => { tenant.value = select.value; } }, h('option', { value: '' }, 'without a name'));
  const fill = async () => {
    if (!may('GET /tenants')) return;
    const { tenants } = await ask('tenants?limit=1000', { everywhere: true });
    const names = /** @type {string[]} */ (tenants.map((/** @type {{ tenant: string }} */ one) => one.tenant)).filter((name) => name !== '');
    select.append(...names.map((name) => h('option', { value: name }, name)));
  };
  void fill().catch(() => { /* The view of tenants says what is wrong. */ });
  return h('p', { class: 'picker' }, h('label', { for: 'tenant' }, 'Tenant'), select);
}

/** Shows the view that the address names, and another one when it changes. @param {HTMLElement} here @param {string[]} names */
function route(here, names) {
  let end = () => {};
  let turn = 0;
  let first = true;
  effect(() => {
    const { view: wanted, of } = place.value;
    void tenant.value;
    untracked(async () => {
      const name = names.includes(wanted) ? wanted : names[0];
      if (name === undefined) return;
      if (name !== wanted) { place.value = { view: name, of: null }; return; }
      const mine = turn += 1;
      const { title, load } = /** @type {typeof VIEWS[string]} */ (VIEWS[name]);
      try {
        const { view } = await load();
        if (mine !== turn || !here.isConnected) return;
        end();
        clearNotice();
        end = scope(() => { here.replaceChildren(h('div', null, view(of))); });
        document.title = `${of ?? title} · Outspoke`;
        // Who came by the keyboard goes on from the new view, and hears its name.
        if (!first || document.activeElement === document.body) /** @type {HTMLElement | null} */ (here.querySelector('.title'))?.focus();
        first = false;
      } catch (error) {
        end();
        here.replaceChildren(h('p', { class: 'problem', role: 'alert' }, told(error)));
      }
    });
  });
  stop = () => { turn += 1; end(); };
}
let stop = () => {};

addEventListener('hashchange', () => { place.value = placeOfAddress(); });
place.value = placeOfAddress();

let leave = () => {};
effect(() => {
  const caller = me.value;
  untracked(() => {
    stop();
    leave();
    door.hidden = caller !== null;
    desk.hidden = caller === null;
    desk.replaceChildren();
    if (caller === null) {
      document.title = 'Operate · Outspoke';
      byId('key').focus();
      return;
    }
    leave = scope(() => frame(caller));
    tell(`Signed in as ${caller.name}.`);
  });
});
showDoor();
