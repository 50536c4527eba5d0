/** Debian's Chromium, started once more if a loaded machine loses it. */
import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';

const BROWSERS = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const ARGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage',
];

export async function launch() {
  const executablePath = BROWSERS.find((path) => path && existsSync(path));
  if (!executablePath) throw new Error('no Chromium: install it (Debian: apt-get install chromium), or name it in CHROMIUM');
  try {
    return await chromium.launch({ executablePath, args: ARGS });
  } catch {
    return chromium.launch({ executablePath, args: ARGS });
  }
}
