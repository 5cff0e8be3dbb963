import { describe, expect, it } from 'vitest';
import type { ExecutionFacts, GuardView } from '../../../worker/engine/guard-view.ts';
import { firstRefusal, noFleetFacts } from '../../../worker/engine/guards.ts';
import { now } from '../../support/engine-input.ts';

const facts: ExecutionFacts = {
  circuitOpen: false,
  forbidden: null,
  decisionState: 'pending',
  expired: false,
  attemptOpen: false,
  newerAttempted: false,
  epochMoved: false,
  bounds: { min: 1, max: 20 },
  cloudBounds: { min: 0, max: null },
  step: 3,
  settlesAtMs: null,
};
const view = (values: Partial<GuardView> = {}, execution: Partial<ExecutionFacts> = {}): GuardView => ({
  from: 4,
  target: 6,
  execution: { ...facts, ...execution },
  stop: null,
  pausedUntilMs: null,
  nowMs: now,
  cooldown: { leftMs: 0, periodMs: 300_000 },
  rate: { changes: 0, limit: 12, freesAtMs: null },
  reversals: { count: 0, limit: 5, freesAtMs: null },
  fleet: noFleetFacts,
  blocks: [],
  ...values,
});
const hold = { scope: 'scope:aws:x', wanting: 9, resources: 10, untilMs: now + 1, until: 'soon' };
const freeze = { direction: 'up', id: 'f', scope: 'global', reason: 'sale', untilMs: now + 1 } as const;
const block = {
  code: 'managed_by_hpa',
  direction: 'both',
  message: 'The HorizontalPodAutoscaler owns it.',
} as const;
const budget = {
  what: 'change',
  scope: 'global',
  left: 1,
  used: 9,
  limit: 10,
  windowSeconds: 300,
  freesAtMs: now + 1,
} as const;

describe('the guards', () => {
  it('let a change pass that nothing speaks against', () => {
    expect(firstRefusal(view())).toBeNull();
  });

  it.each<[string, Partial<GuardView>, Partial<ExecutionFacts>, string | undefined]>([
    ['circuit_open', {}, { circuitOpen: true }, 'wait'],
    ['forbidden', {}, { forbidden: 'The key does not cover it.' }, undefined],
    ['resource_busy', {}, { attemptOpen: true }, 'wait'],
    ['resource_busy', {}, { decisionState: 'executing' }, 'wait'],
    ['resource_busy', {}, { epochMoved: true }, 'wait'],
    ['decision_executed', {}, { decisionState: 'executed' }, undefined],
    ['decision_expired', {}, { expired: true }, 'expire'],
    ['decision_superseded', {}, { newerAttempted: true }, 'supersede'],
    ['stopped', { stop: { scope: 'global', reason: 'drill' } }, {}, undefined],
    ['frozen', { fleet: { ...noFleetFacts, freezes: [freeze] } }, {}, undefined],
    ['out_of_bounds', {}, { bounds: { min: 1, max: 5 } }, undefined],
    ['out_of_bounds', {}, { cloudBounds: { min: 7, max: null } }, undefined],
    ['step_too_large', {}, { step: 1 }, undefined],
    ['paused', { pausedUntilMs: now + 1 }, {}, undefined],
    ['cooldown', { cooldown: { leftMs: 1, periodMs: 2 } }, {}, undefined],
    ['settling', {}, { settlesAtMs: now + 1 }, undefined],
    ['rate_limited', { rate: { changes: 12, limit: 12, freesAtMs: now + 1 } }, {}, undefined],
    ['managed_by_hpa', { blocks: [block] }, {}, undefined],
    ['flapping', { target: 3, reversals: { count: 6, limit: 5, freesAtMs: now + 1 } }, {}, undefined],
    ['correlated_scale_in', { target: 3, fleet: { ...noFleetFacts, hold } }, {}, undefined],
    ['fleet_budget', { fleet: { ...noFleetFacts, budgets: [budget] } }, {}, undefined],
  ])('refuse with %s what only %j %j speaks against', (code, values, execution, effect) => {
    const refusal = firstRefusal(view(values, execution));
    expect(refusal?.code).toBe(code);
    expect(refusal?.effect).toBe(effect);
    expect(refusal?.message).toMatch(/^[A-Z0-9].{10,}\.$/);
  });

  it('let the first instance come whatever cooldown is left', () => {
    const cooldown = { leftMs: 1, periodMs: 2 };
    expect(firstRefusal(view({ from: 0, target: 1, cooldown }))).toBeNull();
  });
});
