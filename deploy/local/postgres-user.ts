import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, chownSync, existsSync, mkdirSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

/** Whom PostgreSQL runs as; undefined means as ourselves. */
export type ServerUser = { readonly uid: number; readonly gid: number } | undefined;

export interface ServerHome {
  readonly user: ServerUser;
  /** Where the cluster, its password and its log are. */
  readonly folder: string;
}

/**
 * PostgreSQL refuses to run as root: then it runs as whoever owns the cluster, as the user "postgres" if there is one,
 * or as "nobody". When that user cannot get into `dataDir` (a checkout below /root), the cluster lives elsewhere.
 */
export function serverHome(dataDir: string, log: (line: string) => void): ServerHome {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  if (process.getuid?.() !== 0) return { user: undefined, folder: dataDir };
  const user = ownerOf(dataDir) ?? lookUp('postgres') ?? lookUp('nobody');
  if (user === undefined) {
    throw new Error(
      'PostgreSQL may not run as root, and there is neither a user "postgres" nor "nobody" to run it as',
    );
  }
  if (isUsable(dataDir, user)) return { user, folder: dataDir };
  openParent(dataDir);
  if (isUsable(dataDir, user)) return { user, folder: dataDir };
  const name = createHash('sha256').update(dataDir).digest('hex').slice(0, 12);
  for (const base of ['/var/lib', '/var/tmp']) {
    const folder = join(base, `scaler-postgres-${name}`);
    try {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      // In a folder that everybody may write to, the name may have been taken by somebody else.
      const owner = statSync(folder).uid;
      if ((owner !== 0 && owner !== user.uid) || !isUsable(folder, user)) continue;
      log(`PostgreSQL may not run as root, and its user cannot enter ${dataDir}: its data is in ${folder}`);
      return { user, folder };
    } catch {
      // A system that is read-only there: try the next one.
    }
  }
  throw new Error(
    `PostgreSQL may not run as root, and its user can neither enter ${dataDir} nor a folder below /var: move the checkout out of the closed folder or run as an ordinary user`,
  );
}

/** The owner of an existing cluster, unless that is root. */
function ownerOf(folder: string): ServerUser {
  const cluster = join(folder, 'cluster');
  if (!existsSync(cluster)) return undefined;
  const { uid, gid } = statSync(cluster);
  return uid === 0 ? undefined : { uid, gid };
}

function lookUp(name: string): ServerUser {
  try {
    const id = (flag: string) =>
      Number(execFileSync('id', [flag, name], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }));
    return { uid: id('-u'), gid: id('-g') };
  } catch {
    return undefined;
  }
}

/** Gives the folder to the user and asks the system, which knows of more than mode bits, whether that is enough. */
function isUsable(folder: string, user: ServerUser & object): boolean {
  try {
    chownSync(folder, user.uid, user.gid);
  } catch {
    return false;
  }
  const test = spawnSync('/bin/sh', ['-c', 'cd "$1" && test -w .', 'sh', folder], {
    ...user,
    cwd: '/',
    stdio: 'ignore',
  });
  return test.status === 0;
}

/** The folder above is ours too (.data, or a test's temporary one): others may pass through it, not list it. */
function openParent(folder: string): void {
  const parent = dirname(folder);
  const { uid, mode } = statSync(parent);
  if (uid === 0 && parent !== homedir()) chmodSync(parent, (mode & 0o7777) | 0o011);
}
