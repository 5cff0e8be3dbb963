import { describe, expect, it } from 'vitest';
import { decide } from '../../../worker/engine/decide.ts';
import { DecidingView, protect as limit } from '../../../worker/engine/holds.ts';
import type { EngineInput, FleetProtection } from '../../../worker/engine/types.ts';
import { input, minutes, now, policy } from '../../support/engine-input.ts';

const protection = (values: Partial<FleetProtection> = {}): FleetProtection => ({
  code: 'fleet_budget',
  direction: 'down',
  allowed: 1,
  detail: '3 of 4 are used',
  untilMs: now + 60_000,
  ...values,
});
const turns = (...actions: ('ScaleUp' | 'ScaleDown')[]) =>
  actions.map((action, index) => ({ atMs: now - (actions.length - index) * 120_000, action }));
const flapping = policy({ maxReversalsPerHalfHour: 3 });

const protect = (asked: number, going: number, of: EngineInput) =>
  limit(new DecidingView(asked, of), going, of.protections ?? []);

describe('protection of the fleet', () => {
  it('limits a change to what the budget has left', () => {
    const stage = protect(4, 4, input({ currentInstances: 8, protections: [protection()] }));
    expect(stage).toEqual({
      capacity: 7,
      code: 'fleet_budget',
      detail: '3 of 4 are used',
      untilMs: now + 60_000,
    });
  });

  it('limits scaling out to what the budget of changes has left', () => {
    const left = protection({ direction: 'both', allowed: 2 });
    expect(protect(9, 9, input({ currentInstances: 4, protections: [left] })).capacity).toBe(6);
  });

  it('takes the strictest of several', () => {
    const protections = [protection({ allowed: 2 }), protection({ code: 'frozen', allowed: 0 })];
    expect(protect(4, 4, input({ currentInstances: 8, protections }))).toMatchObject({
      capacity: 8,
      code: 'frozen',
    });
  });

  it.each([
    ['no protection', {}],
    ['one of the other direction', { protections: [protection({ direction: 'up', allowed: 0 })] }],
    ['room for all of it', { protections: [protection({ allowed: 4 })] }],
  ])('lets a change through with %s', (_, values) => {
    expect(protect(4, 4, input({ currentInstances: 8, ...values }))).toEqual({ capacity: 4 });
  });

  it('does not let through what an earlier stage held, and is told all the same', () => {
    const stage = protect(4, 8, input({ currentInstances: 8, protections: [protection()] }));
    expect(stage).toMatchObject({ capacity: 8, code: 'fleet_budget' });
  });

  it('is told in the reason of a decision', () => {
    const decision = decide(
      input({
        currentInstances: 8,
        samples: minutes(15, { cpuRatio: 0.1, instances: 8 }),
        protections: [protection({ code: 'frozen', allowed: 0, detail: 'global is frozen (Black Friday)' })],
      }),
    );
    expect(decision).toMatchObject({ decisionType: 'noaction', reasonCode: 'frozen' });
    expect(decision.reason).toContain('global is frozen (Black Friday)');
  });
});

describe('a resource that swings', () => {
  const swinging = turns('ScaleUp', 'ScaleDown', 'ScaleUp', 'ScaleDown', 'ScaleUp');

  it('is not scaled in once it changed direction too often, until the oldest change is half an hour old', () => {
    const stage = protect(6, 6, input({ currentInstances: 8, policy: flapping, recentActions: swinging }));
    expect(stage).toMatchObject({ capacity: 8, code: 'flapping', untilMs: now - 8 * 60_000 + 30 * 60_000 });
  });

  it('is always scaled out', () => {
    const stage = protect(10, 10, input({ currentInstances: 8, policy: flapping, recentActions: swinging }));
    expect(stage).toEqual({ capacity: 10 });
  });

  it.each([
    ['three changes of direction, this one included', turns('ScaleUp', 'ScaleDown', 'ScaleUp')],
    ['many changes the same way', turns('ScaleDown', 'ScaleDown', 'ScaleDown', 'ScaleDown', 'ScaleDown')],
    ['changes longer ago', swinging.map((one) => ({ ...one, atMs: one.atMs - 1_800_000 }))],
  ])('is scaled in after %s', (_, recentActions) => {
    expect(protect(6, 6, input({ currentInstances: 8, policy: flapping, recentActions }))).toEqual({
      capacity: 6,
    });
  });

  it('was not watched for by engines before 1.3', () => {
    expect(protect(6, 6, input({ currentInstances: 8, recentActions: swinging }))).toEqual({ capacity: 6 });
  });
});
