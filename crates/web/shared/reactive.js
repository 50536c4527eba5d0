/**
 * Values that tell who read them: `signal`, `computed`, `effect`.
 *
 * The names and meanings are those of Preact signals. An effect runs at once, and again after a batch in
 * which something it read really changed. Computed values are lazy and cached. Cleaning up is by scope:
 * what is created inside `scope()` or another effect ends with it.
 */

/** @typedef {{ refresh(): void, version: number, readers: Set<Reader> }} Source */
/** @typedef {{ stale(): void, sources: Map<Source, number> }} Reader */

/** @type {Reader | null} */
let reader = null;
/** @type {(() => void)[] | null} */
let owned = null;
/** @type {Set<Effect>} */
const pending = new Set();
let depth = 0;

/** @param {Source} source */
function track(source) {
  source.refresh();
  if (!reader) return;
  reader.sources.set(source, source.version);
  source.readers.add(reader);
}

/** @param {Reader} self @param {() => void} run */
function readingAs(self, run) {
  for (const source of self.sources.keys()) source.readers.delete(self);
  self.sources.clear();
  const outer = reader;
  reader = self;
  try { run(); } finally { reader = outer; }
}

/** @param {Reader} self */
function anySourceChanged(self) {
  for (const [source, seen] of self.sources) {
    source.refresh();
    if (source.version !== seen) return true;
  }
  return false;
}

/** @template T */
export class Signal {
  version = 0;
  /** @type {Set<Reader>} */
  readers = new Set();
  /** @param {T} initial */
  constructor(initial) { this.current = initial; }
  refresh() {}
  get value() { track(this); return this.current; }
  set value(next) {
    if (Object.is(next, this.current)) return;
    this.current = next;
    this.version += 1;
    batch(() => { for (const r of [...this.readers]) r.stale(); });
  }
  peek() { return this.current; }
}

/** @template T */
export class Computed {
  version = 0;
  dirty = true;
  /** @type {Set<Reader>} */
  readers = new Set();
  /** @type {Map<Source, number>} */
  sources = new Map();
  /** @type {T | undefined} */
  current = undefined;
  /** @param {() => T} compute */
  constructor(compute) { this.compute = compute; }
  stale() {
    if (this.dirty) return;
    this.dirty = true;
    for (const r of [...this.readers]) r.stale();
  }
  refresh() {
    if (!this.dirty) return;
    this.dirty = false;
    if (this.version > 0 && !anySourceChanged(this)) return;
    readingAs(this, () => {
      const next = this.compute();
      if (this.version === 0 || !Object.is(next, this.current)) this.version += 1;
      this.current = next;
    });
  }
  /** @returns {T} */
  get value() { track(this); return /** @type {T} */ (this.current); }
  /** @returns {T} */
  peek() { this.refresh(); return /** @type {T} */ (this.current); }
}

class Effect {
  /** @type {Map<Source, number>} */
  sources = new Map();
  ended = false;
  end = () => {};
  /** @param {() => void} body */
  constructor(body) { this.body = body; }
  stale() { pending.add(this); }
  run() {
    if (this.ended) return;
    this.end();
    readingAs(this, () => { this.end = scope(this.body); });
  }
  dispose() {
    this.ended = true;
    this.end();
    pending.delete(this);
    for (const source of this.sources.keys()) source.readers.delete(this);
  }
}

/** @template T @param {T} initial @returns {Signal<T>} */
export const signal = (initial) => new Signal(initial);

/** @template T @param {() => T} compute @returns {Computed<T>} */
export const computed = (compute) => new Computed(compute);

/** Runs `body` now and after every change of what it reads. @param {() => void} body @returns {() => void} */
export function effect(body) {
  const self = new Effect(body);
  self.run();
  const end = () => self.dispose();
  owned?.push(end);
  return end;
}

/** Delays effects until the outermost batch is over. @template T @param {() => T} run @returns {T} */
export function batch(run) {
  depth += 1;
  try { return run(); } finally {
    try { if (depth === 1) settle(); } finally { depth -= 1; }
  }
}

/** Runs what is pending until nothing is. One broken effect does not silence the others; its error goes to the caller. */
function settle() {
  /** @type {unknown[]} */
  const errors = [];
  for (const next of pending) {
    pending.delete(next);
    try { if (anySourceChanged(next)) next.run(); } catch (error) { errors.push(error); }
  }
  if (errors.length > 0) throw errors[0];
}

/** Runs `body` and returns what ends everything created in it. @param {() => void} body @returns {() => void} */
export function scope(body) {
  const outer = owned;
  /** @type {(() => void)[]} */
  const ends = [];
  owned = ends;
  try { body(); } finally { owned = outer; }
  return () => { for (const end of ends.splice(0)) end(); };
}

/** Registers `end` with the scope being built. @param {() => void} end */
export function onEnd(end) { owned?.push(end); }

/** Reads without subscribing. @template T @param {() => T} run @returns {T} */
export function untracked(run) {
  const outer = reader;
  reader = null;
  try { return run(); } finally { reader = outer; }
}
