/** The real server in a process of its own, on a port of its own. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const BIN = resolve(process.env.OUTSPOKE_BIN ?? join(ROOT, 'target/release/outspoke'));
const READY_MS = 60_000;

/** A port nobody has at the moment. */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** Starts the server and waits until it says that it is well. @param {{ port?: number, env?: Record<string, string> }} [options] */
export async function startServer({ port, env = {} } = {}) {
  if (!existsSync(BIN)) throw new Error(`${BIN} is missing: run \`cargo build --release\`, or name the binary in OUTSPOKE_BIN`);
  const folder = await mkdtemp(join(tmpdir(), 'outspoke-e2e-'));
  const address = `127.0.0.1:${port ?? await freePort()}`;
  const child = spawn(BIN, ['serve'], {
    cwd: folder, stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env.PATH, HOME: folder, OUTSPOKE_SERVER__ADDR: address, ...env },
  });
  let log = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => { log = (log + text).slice(-20_000); });
  const ended = once(child, 'exit');
  const server = {
    url: `http://${address}/`, port: Number(address.split(':')[1]), log: () => log,
    /** Ends it as an operator does; resolves with the exit code. */
    async stop(signal = 'SIGTERM') {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal);
      await ended;
      await rm(folder, { recursive: true, force: true });
      return child.exitCode;
    },
  };
  const until = Date.now() + READY_MS;
  for (;;) {
    if (child.exitCode !== null) throw new Error(`the server ended with code ${child.exitCode}:\n${log}`);
    if (await isHealthy(server.url)) return server;
    if (Date.now() > until) {
      await server.stop('SIGKILL');
      throw new Error(`the server did not get ready within ${READY_MS} ms:\n${log}`);
    }
    await new Promise((done) => { setTimeout(done, 25); });
  }
}

async function isHealthy(url) {
  try {
    const answer = await fetch(new URL('health', url));
    return (await answer.json()).status === 'ok';
  } catch {
    return false;
  }
}
