import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { withDeadline } from '../../../worker/resilience/deadline.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;
const never = () => new Promise<never>(() => {});

describe('a deadline', () => {
  it('lets work that is done in time through, with what it answers or throws', async () => {
    const parent = new AbortController();
    expect(await withDeadline(parent.signal, 1_000, async () => 7)).toBe(7);
    await expect(
      withDeadline(parent.signal, 1_000, async () => {
        throw new Error('as it was');
      }),
    ).rejects.toThrow('as it was');
  });

  it('aborts the work, and ends although the work takes no notice', async () => {
    let seen: AbortSignal | undefined;
    const call = withDeadline(new AbortController().signal, 20, (signal) => {
      seen = signal;
      return never();
    });
    await expect(call).rejects.toMatchObject({ name: 'TimeoutError', message: 'no answer within 20 ms' });
    expect(seen?.aborted).toBe(true);
  });

  it('ends with its parent, for the reason the parent has', async () => {
    const parent = new AbortController();
    const call = withDeadline(parent.signal, 60_000, never);
    parent.abort(new Error('shutting down'));
    await expect(call).rejects.toThrow('shutting down');
  });

  it('does not begin under a parent that has ended', async () => {
    let begun = false;
    const call = withDeadline(AbortSignal.abort(), 60_000, async () => {
      begun = true;
    });
    await expect(call).rejects.toMatchObject({ name: 'AbortError' });
    expect(begun).toBe(false);
  });

  it('outlives the garbage collector', async () => {
    const parent = new AbortController();
    const aborted = Array.from({ length: 20 }, () =>
      withDeadline(parent.signal, 120, (signal) => {
        return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
      }).catch((error: Error) => error.name),
    );
    const collecting = setInterval(collectGarbage, 10);
    const ended = await Promise.race([
      Promise.all(aborted),
      new Promise((resolve) => setTimeout(resolve, 2_000, 'some never ended')),
    ]);
    clearInterval(collecting);
    expect(ended).toEqual(Array(20).fill('TimeoutError'));
  });

  it('lets many calls share a parent without a warning of a leak', async () => {
    const warnings: Error[] = [];
    const note = (warning: Error) => warnings.push(warning);
    process.on('warning', note);
    const parent = new AbortController();
    const calls = Array.from({ length: 50 }, () => withDeadline(parent.signal, 60_000, never));
    // Warnings are told in the next tick.
    await new Promise(setImmediate);
    parent.abort(new Error('enough'));
    await Promise.allSettled(calls);
    process.off('warning', note);
    expect(warnings).toEqual([]);
  });

  it('leaves nothing on a parent that lives as long as the process', async () => {
    const parent = new AbortController();
    let listeners = 0;
    const { addEventListener, removeEventListener } = parent.signal;
    parent.signal.addEventListener = (...given: Parameters<typeof addEventListener>) => {
      listeners++;
      addEventListener.apply(parent.signal, given);
    };
    parent.signal.removeEventListener = (...given: Parameters<typeof removeEventListener>) => {
      listeners--;
      removeEventListener.apply(parent.signal, given);
    };
    for (let index = 0; index < 5; index++) await withDeadline(parent.signal, 1_000, async () => index);
    expect(listeners).toBe(0);
  });
});
