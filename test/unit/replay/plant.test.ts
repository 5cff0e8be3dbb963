import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { oraclePlan } from '../../../worker/replay/oracle.ts';
import { type PlantOptions, runPlant } from '../../../worker/replay/plant.ts';
import type { Observed } from '../../../worker/replay/policy.ts';
import { firstScoredStep, score } from '../../../worker/replay/score.ts';
import type { Trace } from '../../../worker/replay/trace.ts';
import { forAll } from '../../support/for-all.ts';

const stepMs = 60_000;
const traceOf = (...demand: number[]): Trace => ({
  name: 't',
  startMs: 0,
  stepMs,
  demand: Float64Array.from(demand),
  missing: new Uint8Array(demand.length),
});
const options = (values: Partial<PlantOptions> = {}): PlantOptions => ({
  delayMs: 2 * stepMs,
  minInstances: 1,
  maxInstances: 100,
  target: 0.7,
  risk: 0.02,
  pinned: false,
  lost: 0,
  startInstances: 2,
  ...values,
});
/** Names these totals, step by step. */
const scripted = (totals: readonly number[], seen: Observed[] = []) => {
  let step = 0;
  return () => ({
    decide(observed: Observed) {
      seen.push(observed);
      return totals[step++] as number;
    },
  });
};

describe('the plant', () => {
  it('pays a launch from the next step, and has it serve after the delay', () => {
    const run = runPlant(traceOf(1, 1, 1, 1, 1), scripted([5, 5, 5, 5, 5]), options());
    expect([...run.paid]).toEqual([2, 5, 5, 5, 5]);
    expect([...run.ready]).toEqual([2, 2, 2, 5, 5]);
    expect([...run.changed]).toEqual([1, 0, 0, 0, 0]);
  });

  it('takes away at once, what is still starting first and of that the newest', () => {
    const run = runPlant(traceOf(1, 1, 1, 1, 1, 1), scripted([4, 6, 5, 1, 1, 1]), options());
    expect([...run.paid]).toEqual([2, 4, 6, 5, 1, 1]);
    // 2 more ordered after step 0 serve from step 3; of the 2 ordered after step 1 one is left, until all but one go.
    expect([...run.ready]).toEqual([2, 2, 2, 4, 1, 1]);
  });

  it('keeps within the bounds whatever the policy says', () => {
    const run = runPlant(traceOf(1, 1, 1), scripted([50, -3, 0]), options({ maxInstances: 3 }));
    expect([...run.paid]).toEqual([2, 3, 1]);
  });

  it('shows utilisation over 1 unless it is measured capped, and lost samples as none', () => {
    const seen: Observed[] = [];
    runPlant(traceOf(3, 1), scripted([2, 2], seen), options());
    expect(seen.map((each) => each.utilisation)).toEqual([1.5, 0.5]);
    const capped: Observed[] = [];
    runPlant(traceOf(3, 1), scripted([2, 2], capped), options({ pinned: true }));
    expect(capped.map((each) => each.utilisation)).toEqual([1, 0.5]);
    const lost: Observed[] = [];
    runPlant(
      traceOf(...Array.from({ length: 1_000 }, () => 1)),
      scripted(Array(1_000).fill(2), lost),
      options({ lost: 0.3 }),
    );
    const share = lost.filter((each) => each.utilisation === null).length / 1_000;
    expect(share).toBeGreaterThan(0.25);
    expect(share).toBeLessThan(0.35);
  });
});

describe('the score', () => {
  it('counts time above 90 %, demand over capacity, what is paid and what the best plan pays', () => {
    const trace = traceOf(1.7, 1.85, 3, 1.7, 1.7);
    const run = runPlant(trace, scripted([2, 2, 2, 2, 2]), options());
    expect(score(trace, run, options(), 0)).toMatchObject({
      breach_percent: 40,
      overload_percent: 20,
      unserved_percent: (100 * 1) / (1.7 + 1.85 + 3 + 1.7 + 1.7),
      instance_hours: 10 / 60,
      actions_per_day: 0,
      decisions: 5,
    });
  });

  it('starts on the second day where there is one', () => {
    expect(firstScoredStep(traceOf(1, 1, 1))).toBe(0);
    expect(firstScoredStep(traceOf(...Array.from({ length: 2 * 1_440 }, () => 1)))).toBe(1_440);
  });
});

describe('the oracle', () => {
  it('keeps an instance over a short gap, and launches anew over a long one', () => {
    const plan = (demand: number[], delaySteps: number) => [
      ...oraclePlan(Float64Array.from(demand), { limit: 1, delaySteps, minInstances: 1, maxInstances: 9 }),
    ];
    expect(plan([2, 1, 2], 2)).toEqual([2, 2, 2]);
    expect(plan([2, 1, 1, 1, 1, 2], 2)).toEqual([2, 1, 1, 2, 2, 2]);
    expect(plan([3, 1, 3], 1)).toEqual([3, 3, 3]);
  });

  it('costs what the cheapest of all plans costs', () => {
    const small = fc.record({
      demand: fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 7 }),
      delaySteps: fc.integer({ min: 1, max: 3 }),
    });
    forAll(300, [small], ({ demand, delaySteps }) => {
      const bounds = { limit: 1, delaySteps, minInstances: 1, maxInstances: 3 };
      const cost = oraclePlan(Float64Array.from(demand), bounds).reduce((sum, paid) => sum + paid, 0);
      expect(cost).toBe(cheapest(demand, delaySteps));
    });
  });
});

/** By trying everything: each level is on or off in each step, and a new start costs the steps of its delay. */
function cheapest(demand: readonly number[], delaySteps: number): number {
  let total = 0;
  for (let level = 1; level <= 3; level++) {
    let best = Number.POSITIVE_INFINITY;
    for (let plan = 0; plan < 1 << demand.length; plan++) {
      let cost = 0;
      let served = true;
      let ranBefore = false;
      for (const [step, need] of demand.entries()) {
        const runs = (plan & (1 << step)) !== 0;
        if (need >= level && !runs) served = false;
        if (runs) {
          cost++;
          // The first start is free: what runs at the beginning was there.
          if (step > 0 && (plan & (1 << (step - 1))) === 0 && ranBefore) cost += delaySteps;
          ranBefore = true;
        }
      }
      if (served) best = Math.min(best, cost);
    }
    total += best;
  }
  return total;
}
