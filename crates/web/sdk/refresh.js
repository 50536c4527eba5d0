/**
 * Shows a fresh token before the old one ends, over the connection that there is.
 *
 * Loaded by `connection.js` where a credential has an end and a function makes new ones. Invariant: at most one `auth` waits
 * for its answer; two refusals in a row end the connection for good.
 */
import { errorOf, told } from './base.js';

/** @import { Env, HubError, TokenRequest } from './types.js' */

const AGAIN_MS = 5_000;
const BEFORE_MS = 60_000;
const TIMER_MAX = 2 ** 31 - 1;

/**
 * @param {Env} env
 * @param {any} welcome
 * @param {number} heardAt when it came, by our clock
 * @param {{ ask(reason: TokenRequest['reason'], take: (token: string) => void, fail: () => void): void, write(frame: object): boolean, end(error: HubError): void }} connection
 */
export function keepFresh(env, welcome, heardAt, { ask, write, end }) {
  /** The server's clock less ours. */
  const skew = Date.parse(welcome.timestamp) - heardAt;
  /** @type {TokenRequest['reason']} */
  let reason = 'expiring';
  let asked = 0;
  let id = '';
  /** @type {unknown} */
  let timer;

  /** @param {number} ms */
  function refreshIn(ms) {
    env.clearTimeout(timer);
    timer = env.setTimeout(refresh, Math.min(ms, TIMER_MAX));
  }

  function refresh() {
    const again = () => refreshIn(AGAIN_MS);
    ask(reason, (token) => {
      asked += 1;
      id = `a${asked}`;
      if (!write({ type: 'auth', id, token })) again();
    }, again);
  }

  /** @param {any} frame */
  function expires(frame) {
    const left = Date.parse(frame.expires) - skew - env.now();
    if (left > 0) refreshIn(Math.max(left - BEFORE_MS, left / 2));
  }

  expires(welcome);
  return {
    /** @param {any} frame */
    hear(frame) {
      if (!id || frame.id !== id) return;
      id = '';
      if (frame.type !== 'error') {
        reason = 'expiring';
        expires(frame);
      } else if (frame.temporary) refreshIn(told(frame.retryAfter) ?? AGAIN_MS);
      else if (reason === 'rejected') end(errorOf(frame));
      else {
        reason = 'rejected';
        refresh();
      }
    },
    stop: () => env.clearTimeout(timer),
  };
}
