/**
 * The client for Node before 22, which has no WebSocket of its own: with that of the package `ws`.
 *
 * It sees the answer to a handshake that was refused, as browsers do not: what the server says becomes the error's message.
 */
import WebSocket from 'ws';
import { HubError, createHub as create } from './index.js';

/** @import { AnyRooms, Hub, HubOptions } from './types.js' */

export { HubError };

const UNAUTHORIZED = 4504;
const BROKEN = 1006;
/** Characters of a refusal that are shown. */
const SHOWN_MAX = 500;

/** What an answer says, as far as it is worth reading. @param {import('node:http').IncomingMessage} response */
async function textOf(response) {
  let text = '';
  try {
    for await (const part of response.setEncoding('utf8')) {
      text += part;
      if (text.length > SHOWN_MAX) break;
    }
  } catch { /* it broke off */ }
  return text.slice(0, SHOWN_MAX).trim();
}

/** A socket that tells why it was refused. @param {(why: string) => void} tell called with what is no matter of tokens */
const socketOf = (tell) => class extends WebSocket {
  /** @param {string} url @param {string[]} protocols */
  constructor(url, protocols) {
    super(url, protocols);
    this.on('unexpected-response', async (_, response) => {
      const { statusCode: status = 0 } = response;
      const text = await textOf(response);
      const mine = status === 401 || status === 403;
      const { origin, pathname } = new URL(url);
      if (!mine) tell(`HTTP ${status} at ${origin}${pathname}${text && `: ${text}`}`);
      // Who listens lets go of the socket then.
      this.onclose?.(/** @type {any} */ ({ code: mine ? UNAUTHORIZED : BROKEN, reason: mine ? text || String(status) : '' }));
    });
  }
};

/**
 * @template [S=AnyRooms]
 * @param {string | URL} url
 * @param {HubOptions} [options]
 * @returns {Hub<S>}
 */
export function createHub(url, options = {}) {
  let warned = '';
  const tell = (/** @type {string} */ why) => {
    if (options.log) return options.log({ level: 'warn', text: 'socket', detail: new HubError('refused', why) });
    // Once, and not with every attempt.
    if (why !== warned) console.warn(`outspoke: ${why}`);
    warned = why;
  };
  return create(url, { ...options, env: { WebSocket: /** @type {any} */ (socketOf(tell)), ...options.env } });
}
