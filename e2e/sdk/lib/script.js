/**
 * Plays the cases of docs/clients/conformance on the JavaScript client.
 *
 * The format is documented there. What a step expects is compared at once; a difference says case, step, expected and
 * actual.
 */
import assert from 'node:assert/strict';
import { createHub } from '../../../crates/web/sdk/index.js';
// Loaded by the client with the first question; here beforehand, so that it takes no time then.
import '../../../crates/web/sdk/direct.js';
import '../../../crates/web/sdk/events.js';
import '../../../crates/web/sdk/history.js';
import '../../../crates/web/sdk/outbox.js';
import '../../../crates/web/sdk/presence.js';
import '../../../crates/web/sdk/receipts.js';
import '../../../crates/web/sdk/refresh.js';
import '../../../crates/web/sdk/session.js';
import { fakeWorld, settled } from '../../../crates/web/sdk/testing.js';

const bytesOf = (base64) => Uint8Array.from(Buffer.from(base64, 'base64'));
const base64Of = (bytes) => Buffer.from(bytes).toString('base64');

export class Script {
  world = fakeWorld();
  rooms = new Map();
  events = [];
  publications = new Map();
  requests = new Map();
  tokens = [];
  names = new Map();

  constructor({ token, url = 'ws://hub.example/ws', ...options } = {}) {
    const list = Array.isArray(token) ? [...token] : null;
    const ask = ({ reason }) => {
      this.tokens.push(reason);
      const next = list.shift();
      if (typeof next !== 'string') throw new Error('no token to be had');
      return next;
    };
    this.hub = createHub(url, { ...options, token: list ? ask : token, env: this.world.env, autoConnect: false });
  }

  async step(step) {
    const [[verb, argument]] = Object.entries(step);
    if (verb === 'expect') return this.expect(argument);
    await this[verb](argument, step);
    await settled();
    return undefined;
  }

  connect() { this.hub.connect().catch(() => {}); }
  close() { this.hub.close(); }
  retryNow() { this.hub.retryNow(); }

  join(name, { options: { to, ...options } = {} }) {
    const room = to ? this.hub.direct(to, options) : this.hub.room(name, options);
    this.rooms.set(name, room);
    room.on('*', (event) => this.events.push(event));
    room.on('$gap', (gap) => this.events.push(gap));
  }

  leave(name) { this.rooms.get(name).leave(); }

  publish({ id, room, to, type, data, bytes, volatile }) {
    const goal = to ? this.hub.direct(to) : this.rooms.get(room) ?? this.hub.room(room);
    this.publications.set(id, goal.publish(type, bytes ? bytesOf(bytes) : data, { id, volatile }));
  }

  cancel(id) { this.publications.get(id).cancel(); }

  request({ as, type, fields }) {
    const state = { now: 'waiting' };
    this.requests.set(as, state);
    this.hub.request(type, fields).then((answer) => { state.now = { answer }; }, (error) => { state.now = { error: error.reason }; });
  }

  seen({ room, offset }) { this.rooms.get(room).seen(offset); }
  delivered({ room, offset }) { this.rooms.get(room).delivered(offset); }

  open(how) { this.world.socket.open(how.protocol ?? 'outspoke.v1.binary'); }
  refuse(how) { this.world.socket.refuse(how.status); }
  frame(frame) { this.world.socket.hear(JSON.parse(JSON.stringify(frame), (_, value) => this.names.get(value) ?? value)); }
  raw(text) { this.world.socket.hear(text); }

  binary({ header, payload }) {
    const head = Buffer.from(JSON.stringify(header));
    const length = Buffer.from([head.length >> 8, head.length & 255]);
    this.world.socket.hear(new Uint8Array(Buffer.concat([length, head, Buffer.from(payload, 'base64')])).buffer);
  }

  drop({ code, reason, socket }) { (socket ? this.world.sockets[socket - 1] : this.world.socket).end(code, reason); }
  async advance(ms) { await this.world.advance(ms); }
  random(numbers) { this.world.random.splice(0, Infinity, ...numbers); }
  network(now) { this.world.network[now](); }
  wake() { this.world.wake(); }

  expect(expected) {
    for (const [field, wanted] of Object.entries(expected)) this.match(this[`now_${field}`](wanted), wanted, field);
  }

  now_state() {
    const state = this.hub.state.get();
    return { ...state, retryIn: typeof state.retryAt === 'number' ? state.retryAt - this.world.now : null };
  }
  now_error() { return this.hub.state.get().error?.reason ?? null; }
  now_sockets() { return this.world.sockets.length; }
  now_url() { return Object.fromEntries(this.world.socket.url.searchParams); }
  now_at() { return `${this.world.socket.url.host}${this.world.socket.url.pathname}`; }
  now_protocols() { return this.world.socket.protocols; }
  now_closed() { return this.world.socket.closedWith !== null; }
  now_frames() {
    return this.world.sockets.flatMap((socket) => socket.sent.splice(0)).map((data) => {
      if (typeof data === 'string') return JSON.parse(data);
      const end = data[0] * 256 + data[1] + 2;
      return { $binary: JSON.parse(new TextDecoder().decode(data.subarray(2, end))), payload: base64Of(data.subarray(end)) };
    });
  }
  now_events() {
    return this.events.splice(0).map((event) => (event.data instanceof Uint8Array ? { ...event, data: { $bytes: base64Of(event.data) } } : event));
  }
  now_rooms(wanted) { return Object.fromEntries(Object.keys(wanted).map((name) => [name, this.rooms.get(name)?.state.get()])); }
  now_position(wanted) { return Object.fromEntries(Object.keys(wanted).map((name) => [name, this.rooms.get(name)?.position])); }
  now_publications(wanted) {
    return Object.fromEntries(Object.entries(wanted).map(([id, now]) => {
      const publication = this.publications.get(id);
      const state = publication.state.get();
      if (typeof now === 'string') return [id, state];
      return [id, { state, error: publication.error?.reason, ack: now.ack && this.acks.get(id) }];
    }));
  }
  now_requests(wanted) { return Object.fromEntries(Object.keys(wanted).map((as) => [as, this.requests.get(as).now])); }
  now_tokens() { return this.tokens.splice(0); }

  match(actual, wanted, path) {
    if (typeof wanted === 'string' && wanted.startsWith('$')) {
      if (!this.names.has(wanted)) {
        assert.notEqual(actual, undefined, `${path}: nothing to bind ${wanted} to`);
        this.names.set(wanted, actual);
      }
      return assert.deepEqual(actual, this.names.get(wanted), path);
    }
    if (wanted === null || typeof wanted !== 'object') return assert.deepEqual(actual, wanted, path);
    if (wanted.$absent) return assert.equal(actual, undefined, path);
    const show = () => `${path}: ${JSON.stringify(actual)} instead of ${JSON.stringify(wanted)}`;
    assert.ok(actual !== null && typeof actual === 'object', show());
    if (Array.isArray(wanted)) assert.equal(actual.length, wanted.length, show());
    for (const [key, value] of Object.entries(wanted)) this.match(actual[key], value, `${path}.${key}`);
    return undefined;
  }

  /** Acknowledgements, as they come. */
  acks = new Map();
  watchAcks() {
    for (const [id, publication] of this.publications) publication.then((ack) => this.acks.set(id, ack), () => {});
  }
}

export async function play({ options, steps }) {
  const script = new Script(options);
  for (const [at, step] of steps.entries()) {
    try {
      script.watchAcks();
      await settled();
      await script.step(step);
    } catch (error) {
      error.message = `step ${at + 1}, ${JSON.stringify(step)}:\n${error.message}`;
      throw error;
    }
  }
  script.hub.close();
}
