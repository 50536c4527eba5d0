/** The client for Node before 22, which has no WebSocket of its own: with that of the package `ws`. */
import WebSocket from 'ws';
import { HubError, createHub as create } from './index.js';

/** @import { AnyRooms, Hub, HubOptions } from './types.js' */

export { HubError };

/**
 * @template [S=AnyRooms]
 * @param {string | URL} url
 * @param {HubOptions} [options]
 * @returns {Hub<S>}
 */
export const createHub = (url, options = {}) => create(url, { ...options, env: { WebSocket: /** @type {any} */ (WebSocket), ...options.env } });
