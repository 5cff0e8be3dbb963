import { beforeEach, describe, expect, it } from 'vitest';
import { ProviderError, type ProviderFault } from '../../../worker/providers/provider-error.ts';
import type {
  CapacityState,
  ProviderTarget,
  ScalingProvider,
} from '../../../worker/providers/scaling-provider.ts';
import { withCallPolicy } from '../../../worker/resilience/call-policy.ts';

const here: ProviderTarget = { provider: 'aws', scope: 'us-east-1', name: 'web' };
const there: ProviderTarget = { ...here, scope: 'eu-west-1' };
const signal = new AbortController().signal;
const state = { desired: 3 } as CapacityState;

/** Calls wait until a test ends them, unless `fate` says at once how they end. */
class SlowCloud implements ScalingProvider {
  readonly name = 'aws' as const;
  readonly settleMs = 7;
  readonly running: { readonly succeed: () => void; readonly fail: (error: Error) => void }[] = [];
  fate: (() => Promise<CapacityState>) | null = null;
  calls = 0;
  isClosed = false;

  describe(): Promise<CapacityState> {
    this.calls++;
    if (this.fate !== null) return this.fate();
    return new Promise((resolve, fail) => this.running.push({ succeed: () => resolve(state), fail }));
  }
  async describeMany(): Promise<CapacityState[]> {
    return [state];
  }
  async setCapacity(): Promise<void> {
    await this.describe();
  }
  async close(): Promise<void> {
    this.isClosed = true;
  }
}

let cloud: SlowCloud;
let now: number;
let calls: string[];
let circuits: number[];
let policy: ScalingProvider;

beforeEach(() => {
  cloud = new SlowCloud();
  now = 1_000;
  calls = [];
  circuits = [];
  policy = withCallPolicy(cloud, {
    concurrency: 2,
    failures: 3,
    openMs: 30_000,
    now: () => now,
    onCall: (operation, result) => calls.push(`${operation}:${result}`),
    onCircuit: (open) => circuits.push(open),
  });
});

const failWith = (fault: ProviderFault, code = 'x') => {
  cloud.fate = () => Promise.reject(new ProviderError(fault, code, 'Words: and advice.'));
};
const succeed = () => {
  cloud.fate = () => Promise.resolve(state);
};
const codeOf = (call: Promise<unknown>) =>
  call.then(
    () => 'ok',
    (error: ProviderError) => error.code,
  );
const read = (target = here) => codeOf(policy.describe(target, signal));
const write = (target = here, by = signal) =>
  codeOf(policy.setCapacity(target, 5, state, { intentAtMs: 0, signal: by }));
const turnOfEvents = () => new Promise((resolve) => setTimeout(resolve, 0));

describe('the limit of calls in flight', () => {
  it('holds per region or cluster, and lets those that wait in one by one, in order', async () => {
    const ended: number[] = [];
    const mine = [1, 2, 3, 4].map((index) => read().then(() => ended.push(index)));
    const other = read(there);
    expect(cloud.calls).toBe(3); // two here, one there
    cloud.running[0]?.succeed();
    await turnOfEvents();
    expect(cloud.calls).toBe(4);
    cloud.running[1]?.fail(new ProviderError('permanent', 'x', 'Words.'));
    await turnOfEvents();
    expect(cloud.calls).toBe(5);
    for (const call of cloud.running) call.succeed();
    await Promise.all([...mine, other]);
    expect(ended).toEqual([1, 2, 3, 4]);
  });

  it('gives every place back, however a call ends', async () => {
    for (const fault of ['permanent', 'conflict', 'throttled'] as const) {
      failWith(fault);
      for (let index = 0; index < 5; index++) await read();
    }
    cloud.fate = null;
    cloud.calls = 0;
    for (let index = 0; index < 3; index++) void read();
    expect(cloud.calls).toBe(2);
    for (const call of cloud.running) call.succeed();
  });

  it('waits no longer than the caller wants to, and sends nothing after that', async () => {
    void read();
    void read();
    const leaving = new AbortController();
    const waiting = policy.setCapacity(here, 5, state, { intentAtMs: 0, signal: leaving.signal });
    const staying = read();
    leaving.abort();
    await expect(waiting).rejects.toMatchObject({ fault: 'pre_send', code: 'aborted' });
    await expect(policy.describe(here, AbortSignal.abort())).rejects.toMatchObject({
      fault: 'unavailable',
      code: 'aborted',
    });
    cloud.running[0]?.succeed();
    await turnOfEvents();
    expect(cloud.calls).toBe(3); // the one that stayed
    for (const call of cloud.running) call.succeed();
    expect(await staying).toBe('ok');
  });
});

describe('the circuit', () => {
  const open = async (): Promise<void> => {
    failWith('unknown');
    for (let index = 0; index < 3; index++) await write();
    cloud.calls = 0;
  };

  it.each(['unknown', 'unavailable', 'pre_send'] as const)(
    'opens after enough failures in a row (%s)',
    async (fault) => {
      failWith(fault);
      expect([await read(), await read(), await read()]).toEqual(['x', 'x', 'x']);
      await expect(policy.describe(here, signal)).rejects.toMatchObject({
        fault: 'throttled',
        code: 'circuit_open',
        retry: 'after',
        retryAfterMs: 30_000,
        message: expect.stringContaining('aws us-east-1 are held for 30 s'),
      });
      expect(cloud.calls).toBe(3);
      expect(circuits).toEqual([1]);
      expect(calls.at(-1)).toBe('describe:circuit_open');
    },
  );

  it('opens at once when the cloud does not know us', async () => {
    failWith('identity');
    await read();
    expect(await write()).toBe('circuit_open');
    expect(cloud.calls).toBe(1);
  });

  it.each(['throttled', 'conflict', 'permanent', 'fenced'] as const)(
    'counts %s as an answer, not as a failure',
    async (fault) => {
      for (let round = 0; round < 5; round++) {
        failWith('unknown');
        await read();
        await read();
        failWith(fault);
        await read();
      }
      expect(circuits).toEqual([]);
      expect(cloud.calls).toBe(15);
    },
  );

  it.each(['aborted', 'fence_missing'])(
    'does not count what we did not send ourselves (%s)',
    async (code) => {
      failWith('pre_send', code);
      for (let index = 0; index < 9; index++) await write();
      expect(circuits).toEqual([]);
    },
  );

  it('is one per region or cluster', async () => {
    await open();
    succeed();
    expect(await read(there)).toBe('ok');
    expect(await read()).toBe('circuit_open');
  });

  it('lets exactly one call through after its time, and closes when that one succeeds', async () => {
    await open();
    now += 29_999;
    expect(await read()).toBe('circuit_open');
    now += 1;
    cloud.fate = null;
    const probe = read();
    expect([await read(), await write()]).toEqual(['circuit_open', 'circuit_open']);
    expect(cloud.calls).toBe(1);
    cloud.running[0]?.succeed();
    expect(await probe).toBe('ok');
    succeed();
    expect([await read(), await write()]).toEqual(['ok', 'ok']);
    expect(circuits).toEqual([1, 0]);
  });

  it('opens again when that one fails, and closes for a plain no', async () => {
    await open();
    now += 30_000;
    expect(await read()).toBe('x');
    expect(await read()).toBe('circuit_open');
    expect(cloud.calls).toBe(1);
    now += 30_000;
    failWith('permanent');
    expect([await read(), await read()]).toEqual(['x', 'x']);
    expect(circuits).toEqual([1, 1, 0]);
  });

  it('lets another one try when that one was called off', async () => {
    await open();
    now += 30_000;
    failWith('pre_send', 'aborted');
    expect(await write()).toBe('aborted');
    succeed();
    expect(await read()).toBe('ok');
  });

  it('stops those too that waited for their turn while it opened', async () => {
    const all = [1, 2, 3, 4, 5].map(() => read());
    for (let index = 0; index < 3; index++) {
      cloud.running[index]?.fail(new ProviderError('unavailable', 'x', 'Words.'));
      await turnOfEvents();
    }
    cloud.running[3]?.succeed();
    expect((await Promise.all(all)).filter((code) => code === 'circuit_open')).toHaveLength(1);
    expect(cloud.calls).toBe(4);
  });
});

it('hands everything else through', async () => {
  expect([policy.name, policy.settleMs]).toEqual(['aws', 7]);
  expect(await policy.describeMany([here], signal)).toEqual([state]);
  await policy.close();
  expect(cloud.isClosed).toBe(true);
});
