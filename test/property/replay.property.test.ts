import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { presentExplanation } from '../../worker/decide/present-decision.ts';
import { packInputs, unpackInputs } from '../../worker/decide/stored-inputs.ts';
import { decide } from '../../worker/engine/decide.ts';
import type { EngineInput } from '../../worker/engine/types.ts';
import { ResourceForecaster, shapeOf } from '../../worker/forecaster/resource-forecaster.ts';
import { compare } from '../../worker/simulate/replay-decision.ts';
import { input, now, policy } from '../support/engine-input.ts';
import { forAll } from '../support/for-all.ts';

const ratio = fc.double({ min: 0, max: 1.4, noNaN: true });
/** What a resource has been through: its samples, the forecast made of them, and what happened of late. */
const situations: fc.Arbitrary<EngineInput> = fc
  .record({
    values: fc.array(fc.tuple(ratio, fc.option(ratio), fc.integer({ min: 1, max: 40 })), {
      minLength: 1,
      maxLength: 60,
    }),
    requests: fc.option(fc.double({ min: 0, max: 1e6, noNaN: true })),
    current: fc.integer({ min: 0, max: 50 }),
    planning: fc.constantFrom('target' as const, 'risk' as const),
    risk: fc.double({ min: 0.001, max: 0.5, noNaN: true }),
    usePrediction: fc.boolean(),
    actionAgoMs: fc.option(fc.integer({ min: 0, max: 4_000_000 })),
  })
  .map(({ values, requests, current, planning, risk, usePrediction, actionAgoMs }) => {
    const rules = policy({ planning, toleratedRisk: risk, maxInstances: 60 });
    const samples = values.map(([cpuRatio, memoryRatio, instances], index) => ({
      atMs: now - (values.length - 1 - index) * 60_000 - (index % 3),
      cpuRatio,
      memoryRatio,
      instances,
      ...(requests === null ? {} : { requests }),
    }));
    const forecaster = new ResourceForecaster(shapeOf(rules), ['cpu']);
    forecaster.advance(samples, rules);
    return input({
      currentInstances: current,
      policy: rules,
      samples,
      usePrediction,
      forecast: forecaster.forecast(rules),
      recentActions: actionAgoMs === null ? [] : [{ atMs: now - actionAgoMs, action: 'ScaleUp' }],
    });
  });

/** What the database keeps of a decision, and gives back. */
function stored(given: EngineInput) {
  const decision = decide(given);
  const row = {
    decision_type: decision.decisionType,
    current_instances: decision.currentInstances,
    target_instances: decision.targetInstances,
    reason: decision.reason,
    reason_code: decision.reasonCode,
    confidence: decision.confidence,
    explanation: presentExplanation(decision.explanation, decision.reasonCode, { hourly_cost: 1 }),
    inputs: packInputs(given),
    engine_version: decision.explanation.engineVersion,
  };
  return JSON.parse(JSON.stringify(row));
}

describe('a stored decision', () => {
  it('comes out the same, bit for bit, from what was stored with it', () =>
    forAll(2_000, [situations], (given) => {
      expect(compare(stored(given))).toEqual({
        equal: true,
        engine_version: expect.any(String),
        differences: [],
      });
    }));

  it('does not, once one of its inputs was changed so that it matters', () => {
    const row = stored(input({ currentInstances: 4 }));
    row.inputs.currentInstances = 9;
    expect(compare(row)).toMatchObject({ equal: false });
  });

  it('keeps every sample as it was', () =>
    forAll(200, [situations], (given) => {
      expect(unpackInputs(JSON.parse(JSON.stringify(packInputs(given))))).toEqual(given);
    }));
});
