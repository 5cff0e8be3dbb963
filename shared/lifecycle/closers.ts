import { errorMessage } from '../errors.ts';
import type { Logger } from '../observability/logger.ts';

export interface Closers {
  /** Registers what undoes an `open`; run in reverse order. */
  add(name: string, close: () => Promise<unknown> | unknown): void;
  /** Runs every closer once, last opened first. Resolves within about `deadlineMs`, whatever hangs. */
  closeAll(deadlineMs: number): Promise<void>;
}

export function createClosers(logger?: Logger): Closers {
  const stack: { name: string; close: () => Promise<unknown> | unknown }[] = [];
  let closing: Promise<void> | undefined;
  async function run(deadlineMs: number): Promise<void> {
    const end = performance.now() + deadlineMs;
    for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
      const { name, close } = next;
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<'late'>((resolve) => {
        timer = setTimeout(() => resolve('late'), Math.max(50, end - performance.now()));
      });
      try {
        const outcome = await Promise.race([Promise.resolve(close()), late]);
        if (outcome === 'late') logger?.warn({ event: 'shutdown.late', name }, 'did not close in time');
      } catch (error) {
        logger?.warn({ event: 'shutdown.failed', name, detail: errorMessage(error) }, 'failed to close');
      } finally {
        clearTimeout(timer);
      }
    }
  }
  return {
    add: (name, close) => stack.push({ name, close }),
    closeAll: (deadlineMs) => {
      closing ??= run(deadlineMs);
      return closing;
    },
  };
}

/**
 * Calls `shutdown` on the first SIGINT or SIGTERM and exits with its status; a second signal ends the process at once.
 */
export function onSignals(shutdown: (signal: string) => Promise<void>): void {
  let stopping = false;
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      if (stopping) process.exit(130);
      stopping = true;
      shutdown(signal).then(
        () => process.exit(0),
        () => process.exit(1),
      );
    });
  }
}
