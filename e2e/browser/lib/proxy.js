/** A TCP proxy that breaks on demand: what a browser's own "offline" switch cannot do to an open socket. */
import { once } from 'node:events';
import { connect, createServer } from 'node:net';

/** @param {number} target the port to pass everything on to */
export async function startProxy(target) {
  const pairs = new Set();
  let refusing = false;
  const deaf = new Set();
  const server = createServer((near) => {
    if (refusing) return near.resetAndDestroy();
    const far = connect(target, '127.0.0.1');
    const pair = [near, far];
    pairs.add(pair);
    near.on('data', (bytes) => { if (!deaf.has(pair)) far.write(bytes); });
    far.on('data', (bytes) => { if (!deaf.has(pair)) near.write(bytes); });
    for (const [one, other] of [[near, far], [far, near]]) {
      one.on('error', () => {});
      one.on('close', () => {
        pairs.delete(pair);
        if (!deaf.has(pair)) other.destroy();
      });
    }
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    /** Ends every connection the hard way, and refuses new ones until `mend()`. */
    cut() {
      refusing = true;
      for (const [near, far] of pairs) {
        near.resetAndDestroy();
        far.destroy();
      }
    },
    /** Keeps the connections there are open and passes nothing on, as a network does that is silently gone. */
    swallow() { for (const pair of pairs) deaf.add(pair); },
    mend() { refusing = false; },
    async stop() {
      for (const [near, far] of [...pairs, ...deaf]) {
        near.destroy();
        far.destroy();
      }
      server.close();
      await once(server, 'close');
    },
  };
}
