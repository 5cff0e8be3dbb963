import { setMaxListeners } from 'node:events';

/**
 * Runs `work` with a signal that is aborted after `limitMs` or with `parent`, and ends then, even when `work` does not.
 * Not AbortSignal.any: on Node 20 a signal made of others may be collected as garbage before it fires, and the call it
 * was to end then hangs for ever; a timer keeps this one alive.
 * @throws the signal's reason when it was aborted first: a TimeoutError, or the parent's.
 */
export async function withDeadline<T>(
  parent: AbortSignal,
  limitMs: number,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const stop = (): void => controller.abort(parent.reason);
  if (parent.aborted) stop();
  const timer = setTimeout(
    () => controller.abort(new DOMException(`no answer within ${limitMs} ms`, 'TimeoutError')),
    limitMs,
  );
  // A worker's shutdown is the parent of every call under way: many listeners are right, and each is removed below.
  setMaxListeners(0, parent);
  parent.addEventListener('abort', stop, { once: true });
  try {
    return await new Promise<T>((resolve, reject) => {
      const { signal } = controller;
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      if (signal.aborted) reject(signal.reason);
      else work(signal).then(resolve, reject);
    });
  } finally {
    clearTimeout(timer);
    parent.removeEventListener('abort', stop);
  }
}
