import { readdirSync, readFileSync } from 'node:fs';

/** Clock ticks a second, as Linux reports them to programs everywhere. */
const ticksPerSecond = 100;

/**
 * CPU time that processes and their children have used, in microseconds.
 * @returns null where there is no /proc.
 */
export function cpuMicroseconds(pids: readonly number[]): number | null {
  try {
    const wanted = new Set(pids);
    let ticks = 0;
    for (const name of readdirSync('/proc')) {
      if (!/^\d+$/.test(name)) continue;
      const fields = statOf(name);
      if (fields === null) continue;
      const [parent, user, system] = [Number(fields[1]), Number(fields[11]), Number(fields[12])];
      if (wanted.has(Number(name)) || wanted.has(parent)) ticks += user + system;
      // Of children that have ended: a connection to PostgreSQL is one.
      if (wanted.has(Number(name))) ticks += Number(fields[13]) + Number(fields[14]);
    }
    return (ticks / ticksPerSecond) * 1_000_000;
  } catch {
    return null;
  }
}

/** The fields after the program's name, which may hold anything. */
function statOf(pid: string): string[] | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return null;
  }
}
