/** Hubs against the real server, through a proxy that breaks on demand. */
import { after, before } from 'node:test';
import WebSocket from 'ws';
import { createHub } from '../../../crates/web/sdk/index.js';
import { startProxy } from '../../browser/lib/proxy.js';
import { startServer } from '../../browser/lib/server.js';

/** A server and a proxy for the file's tests. @param {Record<string, string>} [env] */
export function live(env) {
  const here = { server: null, proxy: null, hubs: [] };
  before(async () => {
    here.server = await startServer({ env });
    here.proxy = await startProxy(here.server.port);
  });
  after(async () => {
    for (const hub of here.hubs) await hub.close();
    await here.proxy?.stop();
    await here.server?.stop();
  });
  /** A hub for somebody. @param {string} userId */
  here.hub = (userId, options = {}, url = here.proxy.url) => {
    const address = new URL('ws', url);
    address.search = new URLSearchParams({ userId, username: userId });
    const hub = createHub(address, { ...options, env: { WebSocket, ...options.env } });
    here.hubs.push(hub);
    return hub;
  };
  return here;
}
