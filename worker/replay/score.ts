import { oraclePlan } from './oracle.ts';
import { limit, type PlantOptions, type Run } from './plant.ts';
import type { Trace } from './trace.ts';

const dayMs = 86_400_000;

/** The figures of one run. Percentages are of time, but `unserved_percent`, which is of demand. */
export interface Score {
  readonly breach_percent: number;
  readonly overload_percent: number;
  readonly unserved_percent: number;
  readonly instance_hours: number;
  readonly oracle_instance_hours: number;
  readonly ratio_to_oracle: number;
  readonly actions_per_day: number;
  readonly decisions: number;
  readonly ms_per_decision: number;
}

/** @param fromStep where scoring starts: what came before is learning, and is scored by nobody. */
export function score(trace: Trace, run: Run, options: PlantOptions, fromStep: number): Score {
  const { demand, stepMs } = trace;
  const oracle = oraclePlan(demand, { ...options, limit, delaySteps: run.delaySteps });
  let breaches = 0;
  let overloads = 0;
  let unserved = 0;
  let load = 0;
  let paid = 0;
  let best = 0;
  let actions = 0;
  for (let step = fromStep; step < demand.length; step++) {
    const asked = demand[step] as number;
    const ready = run.ready[step] as number;
    if (asked > limit * ready + 1e-12) breaches++;
    if (asked > ready) overloads++;
    unserved += Math.max(0, asked - ready);
    load += asked;
    paid += run.paid[step] as number;
    best += oracle[step] as number;
    actions += run.changed[step] as number;
  }
  const steps = demand.length - fromStep;
  const hours = stepMs / 3_600_000;
  return {
    breach_percent: (100 * breaches) / steps,
    overload_percent: (100 * overloads) / steps,
    unserved_percent: load === 0 ? 0 : (100 * unserved) / load,
    instance_hours: paid * hours,
    oracle_instance_hours: best * hours,
    ratio_to_oracle: best === 0 ? 1 : paid / best,
    actions_per_day: actions / ((steps * stepMs) / dayMs),
    decisions: demand.length,
    ms_per_decision: run.msPerDecision,
  };
}

/** Scoring starts after a day, where there are at least two. */
export function firstScoredStep(trace: Trace): number {
  const day = Math.round(dayMs / trace.stepMs);
  return trace.demand.length >= 2 * day ? day : 0;
}
