import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, renameSync } from 'node:fs';

export interface GuardedProcess {
  readonly pid: number;
  /** How it ended, or null while it runs. */
  ending(): string | null;
  /** The end of its log, for an error message. */
  logTail(): string;
  /** Asks it to end, harder after `patienceMs`. Resolves when it has ended. */
  stop(patienceMs: number): Promise<void>;
}

/**
 * Starts a server that does not outlive us. It has a session of its own, so that Ctrl-C in a terminal does not take it
 * away from under a service that still drains. A watcher that holds our pipe ends it when we are gone, however we went.
 */
export async function startGuarded(options: {
  readonly command: string;
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly directory: string;
  /** Its output; the log of the start before is kept as `<logFile>.1`. */
  readonly logFile: string;
  readonly user?: { readonly uid: number; readonly gid: number } | undefined;
  /** Written to its standard input, for what must not be seen in the list of processes. */
  readonly input?: string;
  /** Asks for a clean end; the second one for a quick end. */
  readonly signals: readonly [NodeJS.Signals, NodeJS.Signals];
}): Promise<GuardedProcess> {
  try {
    renameSync(options.logFile, `${options.logFile}.1`);
  } catch {
    // The first start has no log yet.
  }
  // Exclusive, so that a link planted there by the server's user is not followed by a root.
  const log = openSync(options.logFile, 'wx', 0o600);
  const child = spawn(options.command, options.args, {
    cwd: options.directory,
    env: options.environment,
    detached: true,
    stdio: [options.input === undefined ? 'ignore' : 'pipe', log, log],
    ...options.user,
  });
  closeSync(log);
  let ending: string | null = null;
  const ended = new Promise<void>((resolve) => {
    child.once('exit', (code, signal) => {
      ending = signal === null ? `status ${code}` : signal;
      resolve();
    });
  });
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', reject);
  });
  // Without listeners a late fault of the pipe or the process would end us.
  child.on('error', () => {});
  child.stdin?.on('error', () => {});
  child.stdin?.end(options.input);
  const pid = child.pid as number;
  const [clean, quick] = options.signals;
  const watcher = watch(pid, clean);
  void ended.then(() => watcher.kill('SIGKILL'));
  child.unref();
  return {
    pid,
    ending: () => ending,
    logTail: () => readFileSync(options.logFile, 'utf8').trimEnd().slice(-2_000),
    async stop(patienceMs) {
      if (ending !== null) return;
      child.ref();
      child.kill(clean);
      const timer = setTimeout(() => child.kill(quick), patienceMs);
      await ended;
      clearTimeout(timer);
    },
  };
}

/** `read` returns when our end of the pipe closes, which the system does for us even after SIGKILL. */
function watch(pid: number, signal: NodeJS.Signals): ChildProcess {
  const script = 'read -r line; kill -s "$1" "$2" 2>/dev/null';
  const watcher = spawn('/bin/sh', ['-c', script, 'scaler-watch', signal.replace('SIG', ''), String(pid)], {
    cwd: '/',
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  watcher.on('error', () => {});
  watcher.stdin.on('error', () => {});
  watcher.unref();
  (watcher.stdin as unknown as { unref(): void }).unref();
  return watcher;
}
