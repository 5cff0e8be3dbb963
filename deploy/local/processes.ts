import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from '../../shared/project-root.ts';

export interface ServiceProcess {
  readonly name: string;
  readonly child: ChildProcess;
  /** Resolves when the process has ended. */
  readonly ended: Promise<number | null>;
  /** SIGTERM, and SIGKILL after `graceMs`. */
  stop(graceMs?: number): Promise<void>;
}

/** Starts one of our programs from dist/ as a process of its own, its log in a file. */
export function startProcess(options: {
  readonly name: string;
  /** Below dist/, e.g. `api/main.js`. */
  readonly program: string;
  readonly args?: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly logFile: string;
}): ServiceProcess {
  const log = createWriteStream(options.logFile, { flags: 'a' });
  const child = spawn(
    process.execPath,
    [join(projectRoot(), 'dist', options.program), ...(options.args ?? [])],
    {
      env: { ...process.env, ...options.environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  child.stdout?.pipe(log, { end: false });
  child.stderr?.pipe(log, { end: false });
  const ended = new Promise<number | null>((resolve) => {
    child.once('exit', (code) => resolve(code));
    child.once('error', () => resolve(1));
  });
  return {
    name: options.name,
    child,
    ended,
    async stop(graceMs = 25_000) {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), graceMs);
      await ended;
      clearTimeout(timer);
    },
  };
}

/**
 * Waits until the API answers `GET /ready` (or another path) with 200. @throws Error naming the log when it ends or
 * does not get there.
 */
export async function waitUntilReady(
  baseUrl: string,
  api: ServiceProcess,
  logFile: string,
  timeoutMs: number,
  path = '/ready',
): Promise<void> {
  const end = performance.now() + timeoutMs;
  while (performance.now() < end) {
    if (api.child.exitCode !== null)
      throw new Error(`The API ended at once with status ${api.child.exitCode}: see ${logFile}`);
    try {
      const response = await fetch(baseUrl + path, { signal: AbortSignal.timeout(2_000) });
      if (response.status === 200) return;
    } catch {
      // Not listening yet.
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`The API was not ready within ${Math.round(timeoutMs / 1_000)} s: see ${logFile}`);
}
