/** Serves one option and talks to it; counts what it serves. Compressed in advance, so that only the network is slow. */
import { once } from 'node:events';
import { createServer, request as httpRequest } from 'node:http';
import { gzipSync } from 'node:zlib';
import { WebSocketServer } from 'ws';
import { COMMANDS, PEOPLE, row } from './script.js';

const TYPES = {
  html: 'text/html; charset=utf-8', js: 'text/javascript', css: 'text/css', wasm: 'application/wasm',
  json: 'application/json', txt: 'text/plain', svg: 'image/svg+xml', woff2: 'font/woff2', ico: 'image/x-icon',
};

/**
 * @typedef {object} Option
 * @property {Map<string, Buffer>} files
 * @property {(url: URL) => string | undefined} [render] pages that are made for each request
 * @property {Record<string, (message: any) => string>} [fragments] messages as HTML
 * @property {string} [upstream] where a server of the option's own is; it answers what is no connection
 */

/** @param {Option} option @param {string | null} policy */
export async function startSite(option, policy) {
  const packed = new Map([...option.files].map(([path, bytes]) => [path, gzipSync(bytes, { level: 9 })]));
  const counts = { requests: 0, bytes: 0, script: 0 };
  const count = (path, bytes) => {
    counts.requests += 1;
    counts.bytes += bytes;
    if (/\.(?:js|wasm)$/u.test(path)) counts.script += bytes;
  };
  const server = createServer((request, answer) => {
    const url = new URL(request.url, 'http://localhost');
    if (url.pathname === '/favicon.ico') return void answer.writeHead(204).end();
    if (option.upstream) return void forward(option.upstream, request, answer, count);
    if (policy) answer.setHeader('Content-Security-Policy', policy);
    const page = option.render?.(url);
    const path = url.pathname.endsWith('/') ? `${url.pathname}index.html` : url.pathname;
    const body = page === undefined ? packed.get(path) : gzipSync(page, { level: 9 });
    if (!body) return void answer.writeHead(404).end();
    count(path, body.length);
    answer.setHeader('Content-Type', page === undefined ? TYPES[path.split('.').pop()] ?? 'application/octet-stream' : TYPES.html);
    answer.setHeader('Content-Encoding', 'gzip');
    answer.setHeader('Content-Length', body.length);
    answer.end(body);
  });
  const sockets = new WebSocketServer({ noServer: true });
  server.on('upgrade', (request, socket, head) => sockets.handleUpgrade(request, socket, head, (client) => {
    client.on('message', (text) => {
      const message = JSON.parse(text);
      client.send(written(option, { type: 'messages', messages: [row(`own-${Date.now()}`, { text: message.text })] }));
    });
    // htmx asks for commands when it needs them.
    if (!option.fragments) client.send(written(option, { type: 'commands', commands: COMMANDS }));
    client.send(written(option, { type: 'people', people: PEOPLE }));
  }));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    counts,
    /** Sends a message to every page that is connected. */
    send(message) { for (const client of sockets.clients) client.send(written(option, message)); },
    async stop() {
      for (const client of sockets.clients) client.terminate();
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

function written(option, message) {
  return option.fragments ? option.fragments[message.type](message) : JSON.stringify(message);
}

function forward(upstream, request, answer, count) {
  const there = httpRequest(new URL(request.url, upstream), { method: request.method, headers: request.headers }, (reply) => {
    answer.writeHead(reply.statusCode, reply.headers);
    let bytes = 0;
    reply.on('data', (chunk) => { bytes += chunk.length; });
    reply.on('end', () => count(new URL(request.url, upstream).pathname, bytes));
    reply.pipe(answer);
  });
  there.on('error', () => answer.destroy());
  request.pipe(there);
}
