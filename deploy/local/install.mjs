// The bootstrap behind every npm script: from a bare clone to a build, with nothing but Node and npm.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const oldest = [20, 19];

function fail(message) {
  console.error(`install: ${message}`);
  process.exit(1);
}

function isInstalled() {
  const installed = join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(installed)) return false;
  return statSync(installed).mtimeMs >= statSync(join(root, 'package-lock.json')).mtimeMs;
}

function install() {
  console.error('install: fetching the packages of package-lock.json (once, about half a minute) …');
  const npm = process.env.npm_execpath;
  const command = npm === undefined ? ['npm'] : [process.execPath, npm];
  const run = spawnSync(command[0], [...command.slice(1), 'ci', '--no-audit', '--no-fund'], {
    cwd: root,
    stdio: ['ignore', 2, 2],
  });
  if (run.status !== 0)
    fail(
      '`npm ci` failed, see above. If it says that package.json and the lock file are not in sync, run `npm install --package-lock-only`. Otherwise check the network or the proxy: it needs the npm registry. Then try again.',
    );
}

function build() {
  const run = spawnSync(process.execPath, [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-b'], {
    cwd: root,
    stdio: ['ignore', 2, 2],
  });
  if (run.status !== 0) fail('`tsc -b` failed, see above: the sources do not compile.');
}

/** Two scripts started at once must not install over each other: making a folder is atomic. */
async function locked(work) {
  const lock = join(root, '.install-lock');
  for (let waited = 0; ; waited++) {
    try {
      mkdirSync(lock);
      break;
    } catch {
      if (waited === 0) console.error('install: another install is under way, waiting for it …');
      if (waited > 600) fail(`still locked after 5 minutes: if no other install runs, remove ${lock}`);
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
  const unlock = () => rmSync(lock, { recursive: true, force: true });
  process.on('exit', unlock);
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130));
  work();
}

const [major, minor] = process.versions.node.split('.').map(Number);
if (major < oldest[0] || (major === oldest[0] && minor < oldest[1]))
  fail(`Node ${process.versions.node} is too old: ${oldest.join('.')} or newer is needed.`);
await locked(() => {
  if (!isInstalled()) install();
  build();
});
