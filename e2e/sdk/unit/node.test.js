/** What the client for Node tells of handshakes that were refused. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { test } from 'node:test';
import '../lib/peers.js';
import { becomes } from '../lib/wait.js';

const { createHub } = await import('../../../crates/web/sdk/node.js');

/** @param {number} status @param {string} text @param {(url: string) => Promise<void>} play */
async function refusing(status, text, play) {
  const server = createServer().listen(0, '127.0.0.1');
  server.on('upgrade', (_, socket) => socket.end(`HTTP/1.1 ${status} No\r\nConnection: close\r\nContent-Length: ${text.length}\r\n\r\n${text}`));
  await once(server, 'listening');
  await play(`ws://127.0.0.1:${server.address().port}/ws?userId=ann`);
  server.close();
}

test('a_token_that_is_refused_says_why', () => refusing(401, 'the token has expired', async (url) => {
  const hub = createHub(url, { token: 'old' });
  const { error } = await becomes(hub.state, ({ status }) => status === 'closed');
  assert.deepEqual([error.code, error.reason, error.message], [4504, 'unauthorized', 'the token has expired']);
}));

test('an_address_where_nothing_is_is_told_and_tried_again', () => refusing(404, 'not here', async (url) => {
  const told = [];
  const hub = createHub(url, { log: ({ text, detail }) => told.push(`${text}: ${detail.message}`) });
  const { cause } = await becomes(hub.state, ({ status }) => status === 'offline');
  assert.equal(cause, 'network');
  assert.deepEqual(told, [`socket: HTTP 404 at ${url.split('?')[0]}: not here`]);
  await hub.close();
}));
