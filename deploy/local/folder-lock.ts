import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';

/** A server whose owner was killed a moment ago is on its way out: longer than that it is in use. */
const patienceMs = 2_000;

/**
 * Refuses a folder that a living server holds. Forgets the pid file of a dead one: after a restart of the machine its
 * number may belong to another program, which PostgreSQL itself would take for the old server.
 * @param mark a part of the server's command line.
 * @throws Error naming the process.
 */
export async function failIfLocked(pidFile: string, mark: string, folder: string): Promise<void> {
  const end = performance.now() + patienceMs;
  for (;;) {
    const pid = pidIn(pidFile);
    if (pid === null) return;
    if (!commandOf(pid).includes(mark)) {
      rmSync(pidFile, { force: true });
      return;
    }
    if (performance.now() > end) {
      throw new Error(
        `process ${pid} already uses ${folder}: stop the service that started it, or choose another data folder`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function pidIn(pidFile: string): number | null {
  if (!existsSync(pidFile)) return null;
  const pid = Number.parseInt(readFileSync(pidFile, 'utf8'), 10);
  return Number.isSafeInteger(pid) && pid > 0 ? pid : 0;
}

/** The command line of a process, or '' when there is none. */
function commandOf(pid: number): string {
  try {
    if (process.platform === 'linux') return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
    return execFileSync('ps', ['-o', 'command=', '-p', String(pid)], { encoding: 'utf8' });
  } catch {
    return '';
  }
}
