/**
 * Elements from data: `h()`, `list()`, `icon()`.
 *
 * Text only ever becomes text nodes and properties: there is no parser and no `innerHTML`, so nothing a
 * person types can become markup. A function in place of a property or child is an effect.
 */
import { effect, onEnd, scope, untracked } from './reactive.js';

/** @import { Child, Plain, Props } from './types.js' */

/**
 * Makes an element. `class`, `aria-*`, `data-*` and what the element has no property for are attributes.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Props<HTMLElementTagNameMap[K]> | null} [props]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, props, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else if (typeof value === 'function') effect(() => set(element, name, /** @type {() => unknown} */ (value)()));
    else set(element, name, value);
  }
  append(element, children);
  return element;
}

/** @param {HTMLElement} element @param {string} name @param {unknown} value */
function set(element, name, value) {
  if (name in element && !name.includes('-') && name !== 'role') Object.assign(element, { [name]: value });
  else if (value == null || (value === false && !name.startsWith('aria-'))) element.removeAttribute(name);
  else element.setAttribute(name, String(value));
}

/** @param {Node} parent @param {Child[]} children */
export function append(parent, children) {
  for (const child of children) {
    if (Array.isArray(child)) append(parent, child);
    else if (typeof child === 'function') append(parent, [reactiveChild(child)]);
    else if (child instanceof Node) parent.appendChild(child);
    else if (child != null && child !== false) parent.appendChild(document.createTextNode(String(child)));
  }
}

/** One node that is replaced when its function's value changes. @param {() => Plain} child */
function reactiveChild(child) {
  /** @type {Node} */
  let node = document.createTextNode('');
  effect(() => {
    const value = child();
    const next = value instanceof Node ? value : document.createTextNode(value == null || value === false ? '' : String(value));
    if (next === node) return;
    /** @type {ChildNode} */ (node).replaceWith?.(next);
    node = next;
  });
  return node;
}

/**
 * Keeps `parent`'s children equal to `items`, one element per key, moving and removing as little as possible.
 * @template T
 * @param {Element} parent
 * @param {() => readonly T[]} items
 * @param {(item: T) => string | number} key
 * @param {(item: T) => Element} render
 * @param {() => () => void} [around] runs before each change, and what it returns after it
 */
export function list(parent, items, key, render, around) {
  /** @type {Map<string | number, { item: T, element: Element, end: () => void }>} */
  let rows = new Map();
  effect(() => {
    const wanted = items();
    untracked(() => {
      const after = around?.();
      /** @type {typeof rows} */
      const next = new Map();
      for (const item of wanted) {
        const id = key(item);
        const old = rows.get(id);
        next.set(id, old && Object.is(old.item, item) ? old : row(item, render));
      }
      for (const [id, old] of rows) {
        if (next.get(id) === old) continue;
        old.end();
        old.element.remove();
      }
      rows = next;
      let at = parent.firstElementChild;
      for (const { element } of rows.values()) {
        if (element === at) at = at.nextElementSibling;
        else parent.insertBefore(element, at);
      }
      after?.();
    });
  });
  onEnd(() => { for (const old of rows.values()) old.end(); });
}

/** @template T @param {T} item @param {(item: T) => Element} render */
function row(item, render) {
  /** @type {Element | undefined} */
  let element;
  const end = scope(() => { element = render(item); });
  return { item, element: /** @type {Element} */ (/** @type {unknown} */ (element)), end };
}

/** A symbol of the sprite in `index.html`; decoration only. @param {string} name */
export function icon(name) {
  const space = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(space, 'svg');
  const use = document.createElementNS(space, 'use');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  use.setAttribute('href', `#icon-${name}`);
  svg.appendChild(use);
  return svg;
}

/** @template {HTMLElement} [T=HTMLElement] @param {string} id @returns {T} */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`index.html has no #${id}`);
  return /** @type {T} */ (element);
}

/** @param {number} bytes */
export function sizeText(bytes) {
  const units = ['bytes', 'KB', 'MB', 'GB'];
  let [size, unit] = [bytes, 0];
  while (size >= 1000 && unit < units.length - 1) [size, unit] = [size / 1000, unit + 1];
  return `${unit === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${units[unit]}`;
}
