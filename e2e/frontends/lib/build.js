/** Makes each option ready to be served, outside of the source tree, and says what that took. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdir, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const HERE = fileURLToPath(new URL('../', import.meta.url));
const ROOT = resolve(HERE, '../..');
const WORK = resolve(process.env.FRONTENDS_WORK ?? join(ROOT, 'target/frontends'));

/** @type {Record<string, { label: string, build: (folder: string) => Promise<object> }>} */
export const OPTIONS = {
  vanilla: { label: 'Vanilla ES modules, the web chat\'s own `h()` and signals', build: vanilla },
  preact: { label: 'Preact with signals', build: vite },
  lit: { label: 'Lit', build: vite },
  solid: { label: 'Solid', build: vite },
  svelte: { label: 'Svelte', build: vite },
  react: { label: 'React', build: vite },
  'next-export': { label: 'Next.js, static export', build: (folder) => next(folder, 'export') },
  'next-server': { label: 'Next.js, `next start`', build: (folder) => next(folder, 'server') },
  htmx: { label: 'htmx with templates on the server', build: htmx },
  leptos: { label: 'Leptos (WebAssembly)', build: leptos },
};

let reusing = false;

/**
 * Everything about an option but its timings; `absent` says why it could not be built. With `reuse` what an earlier run has
 * built is served again, and the costs of building are those of that run.
 */
export async function build(name, { reuse = false } = {}) {
  const source = join(HERE, 'options', name.replace(/-(?:export|server)$/u, ''));
  const folder = join(WORK, name);
  const costs = `${folder}.json`;
  reusing = reuse && existsSync(costs);
  if (reusing) return { ...await OPTIONS[name].build(folder), ...JSON.parse(await readFile(costs, 'utf8')) };
  await rm(folder, { recursive: true, force: true });
  await mkdir(WORK, { recursive: true });
  await cp(source, folder, { recursive: true, filter: (path) => !/node_modules|\/target/u.test(path) });
  await cp(join(HERE, 'options/shared'), join(WORK, 'shared'), { recursive: true });
  const option = { packages: 0, installedBytes: 0, buildSeconds: 0, ...await OPTIONS[name].build(folder) };
  const { packages, installedBytes, buildSeconds } = option;
  if (!option.absent) await writeFile(costs, JSON.stringify({ packages, installedBytes, buildSeconds }));
  return option;
}

/** The modules that the web chat itself is made with, as they are served: unminified. */
async function vanilla(folder) {
  const files = await below(folder);
  files.set('/style.css', await readFile(join(HERE, 'options/shared/style.css')));
  files.set('/wire.js', await readFile(join(HERE, 'options/shared/wire.js')));
  for (const name of ['reactive.js', 'dom.js']) files.set(`/${name}`, await readFile(join(ROOT, 'crates/web/shared', name)));
  return { files };
}

async function vite(folder) {
  const installed = await install(folder);
  const buildSeconds = await seconds('npx', ['--no-install', 'vite', 'build', '--logLevel', 'warn'], folder);
  return { ...installed, buildSeconds, files: await below(join(folder, 'dist')) };
}

async function next(folder, mode) {
  // Next.js takes no modules from outside of its own folder.
  await cp(join(WORK, 'shared/style.css'), join(folder, 'style.css'));
  await cp(join(WORK, 'shared/wire.js'), join(folder, 'app/wire.js'));
  const chat = await readFile(join(HERE, 'options/react/src/chat.jsx'), 'utf8');
  await writeFile(join(folder, 'app/chat.jsx'), `'use client';\n\n${chat.replace('../../shared/wire.js', './wire.js')}`);
  if (mode === 'export') await rm(join(folder, 'proxy.js'), { force: true });
  const installed = await install(folder);
  const env = { MODE: mode, NEXT_TELEMETRY_DISABLED: '1' };
  const buildSeconds = await seconds('npx', ['--no-install', 'next', 'build'], folder, env);
  if (mode === 'export') return { ...installed, buildSeconds, files: await below(join(folder, 'out')) };
  return { ...installed, buildSeconds, files: new Map(), start: { folder, command: join(folder, 'node_modules/.bin/next') } };
}

async function htmx(folder) {
  const installed = await install(folder);
  const { commandList, composer, fragments, page } = await import(join(folder, 'templates.js'));
  const { COMMANDS } = await import('./script.js');
  const dist = join(folder, 'node_modules/htmx.org/dist');
  const files = new Map([
    ['/style.css', await readFile(join(WORK, 'shared/style.css'))],
    ['/app.js', await readFile(join(folder, 'app.js'))],
    ['/htmx.js', await readFile(join(dist, 'htmx.min.js'))],
    ['/hx-ws.js', await readFile(join(dist, 'ext/hx-ws.min.js'))],
  ]);
  const pages = {
    '/': page,
    '/commands': (url) => commandList(COMMANDS, url.searchParams.get('text') ?? ''),
    '/composer': (url) => composer(url.searchParams.get('text') ?? '', false),
  };
  return { ...installed, files, fragments, render: (url) => pages[url.pathname]?.(url) };
}

async function leptos(folder) {
  const lock = await readFile(join(folder, 'Cargo.lock'), 'utf8');
  const crates = lock.split('[[package]]').length - 2;
  const target = join(WORK, 'leptos-target');
  const env = { CARGO_TARGET_DIR: target, CARGO_INCREMENTAL: '0' };
  const bindgen = process.env.WASM_BINDGEN ?? 'wasm-bindgen';
  let buildSeconds;
  try {
    buildSeconds = await seconds('cargo', ['build', '--release', '--locked', '--target', 'wasm32-unknown-unknown'], folder, env);
    await run(bindgen, ['--target', 'web', '--no-typescript', '--out-name', 'chat', '--out-dir', folder,
      join(target, 'wasm32-unknown-unknown/release/outspoke-frontends-leptos.wasm')]);
  } catch (error) {
    return { packages: crates, absent: `needs the target wasm32-unknown-unknown and wasm-bindgen: ${error.message.split('\n')[0]}` };
  }
  const wasm = join(folder, 'chat_bg.wasm');
  const optimizer = process.env.WASM_OPT;
  if (optimizer) await run(optimizer, ['-Oz', '--all-features', wasm, '-o', wasm]);
  const files = new Map([['/style.css', await readFile(join(WORK, 'shared/style.css'))]]);
  for (const name of ['index.html', 'boot.js', 'chat.js', 'chat_bg.wasm']) files.set(`/${name}`, await readFile(join(folder, name)));
  return { packages: crates, installedBytes: 0, buildSeconds, files, optimized: Boolean(optimizer) };
}

/** Installs what the lock file says; its packages and their size. */
async function install(folder) {
  if (reusing) return {};
  const lock = JSON.parse(await readFile(join(folder, 'package-lock.json'), 'utf8'));
  await run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: folder });
  return { packages: Object.keys(lock.packages).length - 1, installedBytes: await size(join(folder, 'node_modules')) };
}

async function seconds(program, args, cwd, env = {}) {
  if (reusing) return 0;
  const begun = performance.now();
  await run(program, args, { cwd, env: { ...process.env, ...env }, maxBuffer: 1 << 26 });
  return (performance.now() - begun) / 1000;
}

async function size(folder) {
  if (!existsSync(folder)) return 0;
  let sum = 0;
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true })) {
    if (entry.isFile()) sum += (await stat(join(entry.parentPath ?? entry.path, entry.name))).size;
  }
  return sum;
}

/** Every file below a folder, by its path in an address. */
async function below(folder) {
  const files = new Map();
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath ?? entry.path, entry.name);
    files.set(`/${relative(folder, path)}`, await readFile(path));
  }
  return files;
}
