/**
 * Shows a fresh token before the old one ends, over the connection that there is.
 *
 * Loaded by `session.js` where a credential has an end and a function makes new ones. Invariant: at most one `auth` waits
 * for its answer; two refusals in a row end the connection for good.
 */
import { errorOf, timerOf, told } from './base.js';

/** @import { Env, Frame, HubError, TokenRequest } from './types.js' */

const AGAIN_MS = 5_000;
const BEFORE_MS = 60_000;
const TIMER_MAX = 2 ** 31 - 1;

/**
 * @param {Env} env
 * @param {any} welcome
 * @param {number} heardAt when it came, by our clock
 * @param {AbortSignal} lost
 * @param {{ token(reason: TokenRequest['reason'], take: (token: string) => void, fail: () => void): void, ask(frame: Frame, answered: (answer: any) => void): void, end(error: HubError): void }} connection
 */
export function keepFresh(env, welcome, heardAt, lost, { token, ask, end }) {
  if (lost.aborted) return;
  /** The server's clock less ours. */
  const skew = Date.parse(welcome.timestamp) - heardAt;
  const timer = timerOf(env);
  /** @type {TokenRequest['reason']} */
  let reason = 'expiring';
  lost.addEventListener('abort', () => timer());

  /** @param {number} ms */
  const refreshIn = (ms) => { if (!lost.aborted) timer(Math.min(ms, TIMER_MAX), refresh); };
  const again = () => refreshIn(AGAIN_MS);
  const refresh = () => token(reason, (shown) => ask({ type: 'auth', token: shown }, heard), again);

  /** @param {any} frame */
  function expires(frame) {
    const left = Date.parse(frame.expires) - skew - env.now();
    if (left > 0) refreshIn(Math.max(left - BEFORE_MS, left / 2));
  }

  /** The answer to `auth`; null: it could not be asked. @param {any} answer */
  function heard(answer) {
    if (!answer) again();
    else if (answer.type !== 'error') {
      reason = 'expiring';
      expires(answer);
    } else if (answer.temporary) refreshIn(told(answer.retryAfter) ?? AGAIN_MS);
    else if (reason === 'rejected') end(errorOf(answer));
    else {
      reason = 'rejected';
      refresh();
    }
  }

  expires(welcome);
}
