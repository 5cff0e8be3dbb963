import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ProviderError, type ProviderFault } from '../../worker/providers/provider-error.ts';
import type {
  CapacityState,
  ProviderTarget,
  ScalingProvider,
} from '../../worker/providers/scaling-provider.ts';
import type { TransportEffect } from '../simulators/core/fault-script.ts';

/** Short, so that a law about a silent cloud takes no longer than this. Real ms. */
export const testLimits = { readMs: 400, writeMs: 500, manyMs: 900 } as const;
/** How much later than its limit a call may end on a busy machine. */
const slackMs = 1_500;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** One cloud with a provider on it. Every object starts at 3, with room from 1 to 9. */
export interface ContractRig {
  readonly provider: ScalingProvider;
  readonly target: ProviderTarget;
  /** The same name in another region or cluster, at 5. */
  readonly elsewhere: ProviderTarget;
  readonly missing: ProviderTarget;
  /** How this cloud words what both have. */
  readonly answers: Readonly<Record<'conflict' | 'denied' | 'unauthenticated' | 'rejected', TransportEffect>>;
  /** Makes another object, in the place of `target`. */
  add(name: string, instances: number): ProviderTarget;
  /** The next `count` requests of that kind meet this fate; `target`'s place only. */
  onNext(kind: 'read' | 'write', effect: TransportEffect, count?: number): void;
  /** What the cloud really has. */
  size(target: ProviderTarget): number | undefined;
  /** Requests that reached the cloud since the rig began. */
  requests(kind: 'read' | 'write'): number;
  /** Changes of capacity that were made by a request of ours. */
  applied(): readonly (number | null)[];
  somebodyElse(change: {
    readonly size?: number;
    readonly recreate?: boolean;
    readonly remove?: boolean;
  }): void | Promise<void>;
  openSockets(): number;
  close(): Promise<void>;
}

/**
 * What the cloud does, what fault that is, how to make it do so, whether the cloud made the change although the caller saw a failure, and
 * whether the answer never comes, so that the provider's own limit has to end the call.
 */
type Law = [
  what: string,
  fault: ProviderFault,
  effect: TransportEffect | keyof ContractRig['answers'],
  how?: 'applied' | 'silent' | 'applied, silent',
];

const error500: TransportEffect = { kind: 'error', status: 500, code: 'InternalFailure' };
const error503: TransportEffect = { kind: 'error', status: 503, code: 'ServiceUnavailable' };

const writeLaws: readonly Law[] = [
  ['throttling', 'throttled', { kind: 'throttle' }],
  ['a conflict', 'conflict', 'conflict'],
  ['a missing permission', 'identity', 'denied'],
  ['credentials that are not accepted', 'identity', 'unauthenticated'],
  ['a request the cloud rejects', 'permanent', 'rejected'],
  ['a 500 before the change', 'unknown', error500],
  ['a 500 after the change', 'unknown', { ...error500, applied: true }, 'applied'],
  ['a 503', 'unknown', error503],
  ['a code nobody has heard of', 'unknown', { kind: 'error', status: 418, code: 'Teapot' }],
  ["a proxy's 502", 'unknown', { kind: 'html', status: 502 }],
  ["a proxy's 504 after the change", 'unknown', { kind: 'html', status: 504, applied: true }, 'applied'],
  ["a proxy's own 200", 'unknown', { kind: 'html', status: 200 }],
  ["a proxy's own 404", 'unknown', { kind: 'html', status: 404 }],
  ['a reset before the change', 'unknown', { kind: 'reset' }],
  ['a reset after the change', 'unknown', { kind: 'reset', applied: true }, 'applied'],
  ['half an answer', 'unknown', { kind: 'truncate' }, 'applied, silent'],
  ['silence before the change', 'unknown', { kind: 'hang' }, 'silent'],
  ['silence after the change', 'unknown', { kind: 'hang', applied: true }, 'applied, silent'],
  [
    'an answer slower than the limit',
    'unknown',
    { kind: 'slow', delayMs: 1_200, applied: 'first' },
    'applied, silent',
  ],
  [
    'a gateway time-out with the change to come',
    'unknown',
    { kind: 'apply-late', delayMs: 60_000, status: 504 },
  ],
  ['silence with the change to come', 'unknown', { kind: 'apply-late', delayMs: 60_000 }, 'silent'],
];

const readLaws: readonly Law[] = [
  ['throttling', 'throttled', { kind: 'throttle' }],
  ['a missing permission', 'identity', 'denied'],
  ['credentials that are not accepted', 'identity', 'unauthenticated'],
  ['a 500', 'unavailable', error500],
  ['a 503', 'unavailable', error503],
  ["a proxy's 502", 'unavailable', { kind: 'html', status: 502 }],
  ["a proxy's own 200", 'unavailable', { kind: 'html', status: 200 }],
  ["a proxy's own 404", 'unavailable', { kind: 'html', status: 404 }],
  ['a reset', 'unavailable', { kind: 'reset' }],
  ['half an answer', 'unavailable', { kind: 'truncate' }, 'silent'],
  ['silence', 'unavailable', { kind: 'hang' }, 'silent'],
];

/** The laws every provider keeps, on the wire: the real SDK talks HTTP to a simulated cloud that counts. */
export function describeScalingProvider(name: string, start: () => Promise<ContractRig>): void {
  describe(name, () => laws(start));
}

function laws(start: () => Promise<ContractRig>): void {
  let rig: ContractRig;
  beforeEach(async () => {
    rig = await start();
  });
  afterEach(() => rig.close());

  const patiently = () => new AbortController().signal;
  const read = (target = rig.target, signal = patiently()) => rig.provider.describe(target, signal);
  const write = (instances: number, expected: CapacityState, signal = patiently()) =>
    rig.provider.setCapacity(rig.target, instances, expected, { intentAtMs: Date.now(), signal });
  const effectOf = (effect: Law[2]) => (typeof effect === 'string' ? rig.answers[effect] : effect);

  describe('reading', () => {
    it('tells the size, the readiness and the bounds as they are now, never as they were', async () => {
      expect(await read()).toMatchObject({ desired: 3, ready: 3, blocks: [] });
      await rig.somebodyElse({ size: 6 });
      expect(await read()).toMatchObject({ desired: 6, ready: 3 });
      expect((await read(rig.elsewhere)).desired).toBe(5);
    });

    it('knows a missing object from one it cannot see', async () => {
      const failure = await failureOf(read(rig.missing));
      expect(failure).toMatchObject({ fault: 'permanent', code: 'target_not_found', retry: 'never' });
      expect(failure.message).toMatch(/check the resource's name/);
    });

    it.each(readLaws)('takes %s for %s and says what to do', async (_what, fault, effect, how) => {
      rig.onNext('read', effectOf(effect));
      const { failure, tookMs } = await timed(() => read());
      expect(failure).toMatchObject({ fault });
      expect(failure.message).toMatch(/:|;/);
      expect(tookMs).toBeLessThan((how?.includes('silent') ? testLimits.readMs : 0) + slackMs);
      expect((await read()).desired).toBe(3);
    });

    it('stops when it is aborted, and does not even begin when it was aborted before', async () => {
      rig.onNext('read', { kind: 'hang' });
      const { failure, tookMs } = await timed(() => read(rig.target, AbortSignal.timeout(50)));
      expect(failure.fault).toBe('unavailable');
      expect(tookMs).toBeLessThan(testLimits.readMs);
      const before = rig.requests('read');
      expect(await failureOf(read(rig.target, AbortSignal.abort()))).toMatchObject({ fault: 'unavailable' });
      expect(rig.requests('read')).toBe(before);
    });
  });

  describe('writing', () => {
    it('sets the number itself: up, down, the same again', async () => {
      for (const instances of [7, 2, 2]) {
        await write(instances, await read());
        expect(rig.size(rig.target)).toBe(instances);
      }
      expect(rig.requests('write')).toBe(3);
      expect(rig.size(rig.elsewhere)).toBe(5);
    });

    it.each(writeLaws)('sends one request and takes %s for %s', async (_what, fault, effect, how) => {
      const expected = await read();
      rig.onNext('write', effectOf(effect));
      const { failure, tookMs } = await timed(() => write(5, expected));
      expect(failure).toMatchObject({ fault });
      expect(failure.message).toMatch(/:|;/);
      expect(tookMs).toBeLessThan((how?.includes('silent') ? testLimits.writeMs : 0) + slackMs);
      expect(rig.size(rig.target)).toBe(how?.includes('applied') ? 5 : 3);
      await new Promise((resolve) => setTimeout(resolve, 30));
      expect(rig.requests('write')).toBe(1);
      expect(rig.applied()).toEqual(how?.includes('applied') ? [5] : []);
    });

    it('waits for a slow answer within its limit', async () => {
      const expected = await read();
      rig.onNext('write', { kind: 'slow', delayMs: 150 });
      await write(5, expected);
      expect(rig.applied()).toEqual([5]);
    });

    it('hands on how long the cloud wants to be left alone, within reason', async () => {
      const expected = await read();
      rig.onNext('write', { kind: 'throttle', retryAfterSeconds: 7 });
      expect(await failureOf(write(5, expected))).toMatchObject({ fault: 'throttled', retryAfterMs: 7_000 });
      rig.onNext('write', { kind: 'throttle', retryAfterSeconds: 86_400 });
      expect((await failureOf(write(5, expected))).retryAfterMs).toBeLessThanOrEqual(60_000);
    });

    it('is over at once when it is aborted, and says that the outcome is unknown', async () => {
      const expected = await read();
      rig.onNext('write', { kind: 'hang' });
      const { failure, tookMs } = await timed(() => write(5, expected, AbortSignal.timeout(50)));
      expect(failure.fault).toBe('unknown');
      expect(tookMs).toBeLessThan(testLimits.writeMs);
      expect(rig.requests('write')).toBe(1);
    });

    it('sends nothing when it was told to stop before', async () => {
      const expected = await read();
      expect(await failureOf(write(5, expected, AbortSignal.abort()))).toMatchObject({ fault: 'pre_send' });
      expect([rig.requests('write'), rig.size(rig.target)]).toEqual([0, 3]);
    });

    it('finds the object gone', async () => {
      const expected = await read();
      await rig.somebodyElse({ remove: true });
      expect(await failureOf(write(5, expected))).toMatchObject({
        fault: 'permanent',
        code: 'target_not_found',
      });
      expect([rig.requests('write'), rig.applied()]).toEqual([1, []]);
    });

    it('is never sent when the cloud cannot be reached', async () => {
      const expected = await read();
      await rig.close();
      // A connection that is only now being closed may still take a request: then nobody could know.
      await expect.poll(() => rig.openSockets()).toBe(0);
      expect(await failureOf(write(5, expected))).toMatchObject({ fault: 'pre_send' });
      expect(await failureOf(read())).toMatchObject({ fault: 'unavailable' });
    });
  });

  describe('reading many', () => {
    const sizes = (states: readonly (CapacityState | Error)[]) =>
      states.map((state) => (state instanceof ProviderError ? state.code : (state as CapacityState).desired));

    it('answers in the order it was asked, an error in the place of each that failed', async () => {
      const other = rig.add('other', 4);
      const asked = [rig.missing, rig.elsewhere, other, rig.target, rig.missing, rig.target];
      const states = await rig.provider.describeMany(asked, patiently());
      expect(sizes(states)).toEqual(['target_not_found', 5, 4, 3, 'target_not_found', 3]);
      expect(await rig.provider.describeMany([], patiently())).toEqual([]);
    });

    it('reads one region or cluster although another one fails', async () => {
      rig.onNext('read', error503, 99);
      const [broken, good] = await rig.provider.describeMany([rig.target, rig.elsewhere], patiently());
      expect(broken).toMatchObject({ fault: 'unavailable' });
      expect(good).toMatchObject({ desired: 5 });
    });

    it('ends within its limit however many there are and however silent the cloud is', async () => {
      const targets = Array.from({ length: 120 }, (_, index) => rig.add(`app-${index}`, 1));
      rig.onNext('read', { kind: 'hang' }, 999);
      const startedAt = performance.now();
      const states = await rig.provider.describeMany([...targets, rig.elsewhere], patiently());
      expect(performance.now() - startedAt).toBeLessThan(testLimits.manyMs + slackMs);
      expect(states).toHaveLength(121);
      for (const state of states.slice(0, -1)) expect(state).toMatchObject({ fault: 'unavailable' });
      expect(states.at(-1)).toMatchObject({ desired: 5 });
    });

    it('stops when it is told to', async () => {
      const states = await rig.provider.describeMany([rig.target, rig.elsewhere], AbortSignal.abort());
      expect(states.map((state) => (state as ProviderError).fault)).toEqual(['unavailable', 'unavailable']);
      expect(rig.requests('read')).toBe(0);
    });
  });

  it('keeps its limits while garbage is collected', async () => {
    const expected = await read();
    rig.onNext('read', { kind: 'hang' });
    rig.onNext('write', { kind: 'hang' });
    const parent = new AbortController();
    const collecting = setInterval(collectGarbage, 20);
    const both = await Promise.all([
      timed(() => read(rig.target, parent.signal)),
      timed(() => write(5, expected, parent.signal)),
    ]).finally(() => clearInterval(collecting));
    expect(both.map(({ failure }) => failure.fault)).toEqual(['unavailable', 'unknown']);
    for (const { tookMs } of both) expect(tookMs).toBeLessThan(testLimits.writeMs + slackMs);
  });

  it('leaves no connection behind when it is closed', async () => {
    await write(5, await read());
    await rig.provider.describeMany([rig.target, rig.elsewhere], patiently());
    rig.onNext('read', { kind: 'hang' });
    await failureOf(read());
    await rig.provider.close();
    await expect.poll(() => rig.openSockets(), { timeout: 1_000 }).toBe(0);
  });
}

/** What a provider call failed with: always one of ours, already classified. */
export async function failureOf(call: Promise<unknown>): Promise<ProviderError> {
  try {
    await call;
  } catch (error) {
    expect(error).toBeInstanceOf(ProviderError);
    return error as ProviderError;
  }
  throw new Error('the call succeeded');
}

async function timed(call: () => Promise<unknown>): Promise<{ failure: ProviderError; tookMs: number }> {
  const startedAt = performance.now();
  const failure = await failureOf(call());
  return { failure, tookMs: performance.now() - startedAt };
}
