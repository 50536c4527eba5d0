/** A world for the client library in which time stands still until a test moves it. */
// What the library loads when it is needed is here from the start, so that it takes no time that a test would have to wait for.
import '../../../crates/web/sdk/direct.js';
import '../../../crates/web/sdk/history.js';
import '../../../crates/web/sdk/outbox.js';
import '../../../crates/web/sdk/presence.js';
import '../../../crates/web/sdk/receipts.js';
import '../../../crates/web/sdk/session.js';

export class FakeSocket {
  readyState = 0;
  protocol = 'outspoke.v1';
  binaryType = '';
  onopen = null;
  bufferedAmount = 0;
  sent = [];
  closedWith = null;
  onmessage = null;
  onclose = null;
  onerror = null;

  constructor(url) { this.url = url; }

  send(text) { this.sent.push(JSON.parse(text)); }

  close(code) {
    this.readyState = 2;
    this.closedWith = code ?? 1005;
  }

  /** The server speaks. */
  hear(event) { this.onmessage?.({ data: JSON.stringify(event) }); }

  welcome(pingInterval = 54_000) {
    this.readyState = 1;
    this.hear({
      type: 'welcome', clientId: 'client-1', userId: 'me', username: 'Me', timestamp: '2026-01-01T00:00:00.000Z',
      pingInterval, maxMessageBytes: 8192, openMode: true,
    });
  }

  /** The connection ends, as the browser says it. */
  end(code = 1006, reason = '') {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  of(type) { return this.sent.filter((request) => request.type === type); }
}

export class FakeEnv {
  sockets = [];
  chance = 0.5;
  #now = 1_000_000;
  #timers = new Map();
  #ids = 0;

  /** What the client library is told of this world. */
  get hub() {
    const { sockets } = this;
    return {
      WebSocket: class extends FakeSocket {
        constructor(url) {
          super(url);
          sockets.push(this);
        }
      },
      now: () => this.#now,
      random: () => this.chance,
      setTimeout: (run, ms) => this.setTimeout(run, ms),
      clearTimeout: (id) => this.clearTimeout(id),
      unique: () => 'session',
      watch: () => () => {},
    };
  }

  now() { return this.#now; }

  setTimeout(run, ms) {
    this.#ids += 1;
    this.#timers.set(this.#ids, { at: this.#now + ms, run });
    return this.#ids;
  }

  clearTimeout(id) { this.#timers.delete(id); }

  get timers() { return this.#timers.size; }
  get socket() { return this.sockets.at(-1); }

  /** Lets time pass; every timer runs at its own moment. */
  advance(ms) {
    const end = this.#now + ms;
    for (;;) {
      const next = [...this.#timers].sort((a, b) => a[1].at - b[1].at)[0];
      if (!next || next[1].at > end) break;
      this.#timers.delete(next[0]);
      this.#now = Math.max(this.#now, next[1].at);
      next[1].run();
    }
    this.#now = end;
  }

  /** The machine sleeps: time passes and no timer runs, until all that are due run late. */
  sleep(ms) {
    this.#now += ms;
    for (const [id, timer] of [...this.#timers]) {
      if (timer.at > this.#now || !this.#timers.has(id)) continue;
      this.#timers.delete(id);
      timer.run();
    }
  }
}
