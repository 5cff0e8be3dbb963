import type { Candidate, EnginePolicy } from '../../shared/domain/scaling-decision.ts';
import type { Stage } from './stage.ts';
import { metricName, percent } from './words.ts';

/** From here on a ratio no longer shows the demand, only that it is at least as much. */
export const saturatedRatio = 0.98;

/** Hidden demand is searched for by doubling: few decisions find any demand, and overshoot by less than itself. */
const growthWhenSaturated = 2;

/** A plan for a saturated resource could never be seen to fail, so no plan runs hotter than this. */
const hottestPlan = 0.97;

/** 7.000000001 is 7: a millionth of an instance is the arithmetic's, not the demand's. */
const roundingNoise = 1e-6;

/** A sample, or a prediction. */
export interface Load {
  readonly cpuRatio: number | null;
  readonly memoryRatio: number | null;
  readonly instances: number;
}

/** What one metric of one source asks for. */
export interface Ask {
  readonly source: Candidate['source'];
  readonly metric: Candidate['metric'];
  readonly ratio: number;
  readonly targetRatio: number;
  /** Instances' worth of work. */
  readonly demand: number;
  /** Instances, not rounded yet, and past saturation where that hides the demand. */
  readonly need: number;
  readonly required: number;
  readonly saturated: boolean;
}

/** The utilisation planned for: the target, unless that is where demand is hidden. */
export function plannedRatio(policy: EnginePolicy, metric: Candidate['metric']): number {
  return Math.min(metric === 'cpu' ? policy.targetCpuRatio : policy.targetMemoryRatio, hottestPlan);
}

/** Whole instances for a need; never -0. */
export function roundUp(need: number): number {
  return Math.max(0, Math.ceil(need - roundingNoise));
}

/**
 * demand = instances × ratio, need = demand / target. The ratio alone would change with our own actions; demand does
 * not. Only a measured ratio saturates: a prediction may name any figure.
 */
export function asksOf(load: Load, policy: EnginePolicy, source: Candidate['source']): readonly Ask[] {
  const asks: Ask[] = [];
  for (const metric of ['cpu', 'memory'] as const) {
    const ratio = metric === 'cpu' ? load.cpuRatio : load.memoryRatio;
    if (ratio === null) continue;
    const targetRatio = plannedRatio(policy, metric);
    const demand = load.instances * ratio + 0; // +0: -0 would not survive JSON
    const saturated = source === 'reactive' && ratio >= saturatedRatio;
    const need = saturated
      ? Math.max(demand / targetRatio, load.instances * growthWhenSaturated)
      : demand / targetRatio;
    asks.push({ source, metric, ratio, targetRatio, demand, need, required: roundUp(need), saturated });
  }
  return asks;
}

/** What a past sample asked for: the larger of its metrics. */
export function requiredAt(load: Load, policy: EnginePolicy): number {
  return mostRequired(asksOf(load, policy, 'reactive'));
}

/** What runs now needs, by its newest sample. */
export function measureDemand(asks: readonly Ask[]): Stage {
  const capacity = mostRequired(asks);
  const visible = asks.reduce((most, ask) => Math.max(most, roundUp(ask.demand / ask.targetRatio)), 0);
  const hiding = asks.find((ask) => ask.saturated && ask.required === capacity);
  if (capacity > visible && hiding !== undefined) {
    return { capacity, code: 'saturated', detail: `${saying(hiding)} hides how much more is needed` };
  }
  const worth = asks.map((ask) => `${metricName(ask.metric)} ${ask.demand.toFixed(2)}`).join(', ');
  return { capacity, detail: `demand in instances' worth: ${worth}` };
}

export function mostRequired(asks: readonly Ask[]): number {
  return asks.reduce((most, ask) => Math.max(most, ask.required), 0);
}

/** `CPU at 100%` */
export function saying(ask: Ask): string {
  return `${metricName(ask.metric)} at ${percent(ask.ratio)}`;
}
