import { describe, expect, it } from 'vitest';
import { decide } from '../../../worker/engine/decide.ts';
import type {
  EngineDecision,
  EngineInput,
  EnginePolicy,
  EngineSample,
} from '../../../worker/engine/types.ts';
import { input, now, policy } from '../../support/engine-input.ts';

interface Load {
  readonly cpu: number | null;
  readonly memory: number | null;
  readonly requests?: number;
}

/** A decision and a sample a minute, each change in force at the next minute. */
function run(
  minutes: number,
  start: number,
  loadAt: (instances: number, minute: number) => Load,
  values: Partial<EnginePolicy> = {},
): { counts: number[]; last: EngineDecision } {
  const given = policy({ maxInstances: 100, maxActionsPerHour: 60, ...values });
  const samples: EngineSample[] = [];
  const actions: { atMs: number; action: 'ScaleUp' | 'ScaleDown' }[] = [];
  const counts: number[] = [];
  let responses: EngineInput['responses'] = null;
  let current = start;
  let last: EngineDecision | undefined;
  for (let minute = 0; minute < minutes; minute++) {
    const nowMs = now + minute * 60_000;
    const { cpu, memory, requests } = loadAt(current, minute);
    samples.push({
      atMs: nowMs,
      cpuRatio: cpu,
      memoryRatio: memory,
      instances: current,
      ...(requests === undefined ? {} : { requests }),
    });
    last = decide(
      input({
        currentInstances: current,
        policy: given,
        samples: samples.slice(-120),
        recentActions: actions.slice(-100),
        responses,
        nowMs,
      }),
    );
    responses = last.responses ?? responses;
    if (last.targetInstances !== current)
      actions.push({ atMs: nowMs, action: last.targetInstances > current ? 'ScaleUp' : 'ScaleDown' });
    current = last.targetInstances;
    counts.push(current);
  }
  return { counts, last: last as EngineDecision };
}

const day = 1_440;
const most = (counts: readonly number[]) => counts.reduce((highest, count) => Math.max(highest, count), 0);

describe('a metric that does not answer to the count', () => {
  it('drives no growth: a heap that is never given back, with CPU that needs two', () => {
    const { counts, last } = run(day, 3, (instances) => ({ cpu: 0.9 / instances, memory: 0.9 }));
    expect(most(counts)).toBeLessThanOrEqual(6);
    expect(last.targetInstances).toBe(2);
    expect(last.explanation.responses).toMatchObject([{ metric: 'memory', response: 'none' }]);
    expect(last.explanation.stages[1]?.detail).toMatch(
      /memory does not respond to the count: 90% of it stay/,
    );
  });

  it('drives no growth where it is all there is, after a few changes that it did not answer', () => {
    const { counts, last } = run(day, 3, () => ({ cpu: null, memory: 0.9 }));
    expect(most(counts)).toBeLessThanOrEqual(15);
    expect(last).toMatchObject({ reasonCode: 'unresponsive', decisionType: 'noaction' });
  });

  it.each([0.02, 0.05])('with a noise of %d is still found', (noise) => {
    const shake = (minute: number, of: number) => 1 + noise * Math.sin(minute * 12.9898 + of * 78.233);
    const { counts } = run(day, 3, (instances, minute) => ({
      cpu: (0.9 / instances) * shake(minute, 1),
      memory: 0.9 * shake(minute, 2),
    }));
    expect(counts.at(-1)).toBeLessThanOrEqual(5);
  });

  it('is used again once it begins to respond', () => {
    const deployedAt = 600;
    const { counts, last } = run(day, 3, (instances, minute) => ({
      // A change of the load makes the count move, and shows how memory answers now.
      cpu: (minute < deployedAt ? 0.9 : minute < deployedAt + 60 ? 4.2 : 0.9) / instances,
      memory: minute < deployedAt ? 0.9 : 4.8 / instances,
    }));
    expect(counts[deployedAt - 1]).toBe(2);
    expect(counts.at(-1)).toBe(6);
    expect(last.explanation.responses[0]?.response).not.toBe('none');
  });
});

describe('a metric with a base', () => {
  it.each([3, 5, 12])('settles where it meets its target, from %d instances', (start) => {
    // 40 % whatever runs, and the load of two instances: 80 % on five.
    const { counts } = run(240, start, (instances) => ({
      cpu: 0.3 / instances,
      memory: 0.4 + 2 / instances,
    }));
    expect(Math.abs((counts.at(-1) as number) - 5)).toBeLessThanOrEqual(1);
  });
});

describe('a metric that answers fully', () => {
  it.each<[string, (instances: number, minute: number) => Load]>([
    ['under a steady load', (instances) => ({ cpu: 4.2 / instances, memory: 2 / instances })],
    [
      'while the load grows as fast as the count may',
      (instances, minute) => ({
        cpu: Math.min(0.97, Math.min(20, 2 + minute / 3) / instances),
        memory: null,
      }),
    ],
    [
      'while the load grows, told by requests',
      (instances, minute) => {
        const load = Math.min(20, 2 + minute / 3);
        return { cpu: load / instances, memory: load / instances, requests: load * 100 };
      },
    ],
    [
      'while the load grows, memory with it',
      (instances, minute) => {
        const load = Math.min(20, 2 + minute / 3);
        return { cpu: (0.8 * load) / instances, memory: load / instances };
      },
    ],
  ])('is never given up %s', (_, loadAt) => {
    const { counts, last } = run(600, 3, loadAt);
    const { cpu, memory } = loadAt(counts.at(-1) as number, 599);
    expect(cpu ?? 0).toBeLessThanOrEqual(0.7 * 1.1);
    expect(memory ?? 0).toBeLessThanOrEqual(0.8 * 1.1);
    for (const { response } of last.explanation.responses) expect(response).not.toBe('none');
  });
});

it('CPU that seems not to answer is still believed: load that grows with capacity looks the same', () => {
  const { counts } = run(120, 3, () => ({ cpu: 0.9, memory: null }));
  expect(counts.at(-1)).toBeGreaterThan(15);
});

it('CPU that does not answer while requests tell the load is given up', () => {
  const { counts, last } = run(day, 3, (instances) => ({ cpu: 0.9, memory: 0.9 / instances, requests: 300 }));
  expect(most(counts)).toBeLessThanOrEqual(9);
  expect(last.explanation.responses).toMatchObject([{ metric: 'cpu', response: 'none' }, {}]);
});
