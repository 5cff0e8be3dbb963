import type { CheckedSamples } from './data-quality.ts';
import { demandAt, limitRatio, plannedRatio, saturatedRatio } from './demand.ts';
import type {
  Candidate,
  EngineForecast,
  EnginePolicy,
  EngineSample,
  Explanation,
  MetricForecast,
} from './types.ts';

/** Counts are rounded up from the bound but for a millionth: see `demand.ts`. */
const boundNoise = 1e-6;
/** Under this many residuals the figure is still learning. */
const enoughResiduals = 20;

export function unknownConfidence(policy: EnginePolicy): Explanation['confidence'] {
  return { value: 0.5, basis: 'none', withinRatio: policy.targetCpuRatio, n: 0, learning: true };
}

/**
 * The calibrated probability that demand at the horizon stays within the limit on `instances`: what the forecast gives
 * `limit × instances`, the smallest of its metrics'.
 */
export function forecastConfidence(
  instances: number,
  forecast: EngineForecast,
  policy: EnginePolicy,
): Explanation['confidence'] {
  const withinRatio = limitRatio(policy);
  const values = forecast.metrics.map((metric) => probabilityWithin(withinRatio * instances, metric));
  const n = Math.min(...forecast.metrics.map((metric) => metric.residuals));
  return { value: Math.min(...values), basis: 'forecast', withinRatio, n, learning: n < enoughResiduals };
}

/**
 * What the distribution gives; from the planned bound on no less than that bound was made for. The distribution is of
 * the ensemble's errors alone, the bound of all forecasts': where it knows better how high demand will be at most, as
 * during a scheduled peak, what is planned by it is as sure as it says. Under the bound it says nothing.
 */
function probabilityWithin(demand: number, { distribution, upper, risk }: MetricForecast): number {
  const own = probabilityOf(demand, distribution);
  return demand >= upper - boundNoise ? Math.max(own, 1 - risk) : own;
}

/** Between the points of the distribution a straight line; beyond them half of what is left. */
function probabilityOf(demand: number, points: readonly (readonly [number, number])[]): number {
  let [before, beforeDemand] = [0, Number.NEGATIVE_INFINITY];
  for (const [probability, pointDemand] of points) {
    if (pointDemand > demand) {
      if (beforeDemand === Number.NEGATIVE_INFINITY) return probability / 2;
      return before + ((demand - beforeDemand) / (pointDemand - beforeDemand)) * (probability - before);
    }
    [before, beforeDemand] = [probability, pointDemand];
  }
  return (before + 1) / 2;
}

/**
 * Estimated probability that the metric's demand, one horizon (provisioning delay + decision interval) from now, stays
 * within target on `instances`:
 *
 *     (#{residual <= target × instances - demand now} + 0.5) / (n + 1)
 *
 * The residuals are those the last-value forecast made on these samples, demand(t) - demand(t - horizon). It is the
 * mid-rank of the room left among them, the conformal p-value (Vovk, Gammerman and Shafer, "Algorithmic Learning in a
 * Random World", Springer 2005, chapter 2; Lei et al., "Distribution-Free Predictive Inference for Regression", JASA
 * 113, 2018) with ties broken at one half. Its guarantee needs exchangeable residuals; those of a time series overlap
 * and drift, so here it is an estimate. 0.5 with basis `none` when nothing can be said.
 */
export function estimateConfidence(
  instances: number,
  data: CheckedSamples,
  metric: Candidate['metric'],
  policy: EnginePolicy,
): Explanation['confidence'] {
  const newest = data.samples.at(-1);
  const ratio = newest === undefined ? null : ratioOf(newest, metric);
  // Of old or hidden demand one cannot say how far it is from anything.
  if (newest === undefined || ratio === null || ratio >= saturatedRatio || data.verdict === 'stale')
    return unknownConfidence(policy);
  const room = plannedRatio(policy, metric) * instances - demandAt(newest, metric);
  const { n, fitting } = residualsWithin(room, data, metric, policy);
  if (n === 0) return unknownConfidence(policy);
  return {
    value: (fitting + 0.5) / (n + 1),
    basis: 'residuals',
    withinRatio: plannedRatio(policy, metric),
    n,
    learning: n < enoughResiduals,
  };
}

/** Binary noise must not decide whether a residual of exactly the room fits. */
const roundingNoise = 1e-9;

/** Pairs each sample with the newest that was known a horizon before it, if that was fresh then. */
function residualsWithin(
  room: number,
  { samples, staleAfterMs }: CheckedSamples,
  metric: Candidate['metric'],
  policy: EnginePolicy,
): { n: number; fitting: number } {
  const horizonMs = policy.provisioningDelayMs + policy.decisionIntervalMs;
  const oldestMs = horizonMs + staleAfterMs;
  let n = 0;
  let fitting = 0;
  let next = 0;
  let known: EngineSample | undefined;
  for (const sample of samples) {
    if (ratioOf(sample, metric) === null) continue;
    for (let candidate = samples[next]; candidate !== undefined; candidate = samples[++next]) {
      if (candidate.atMs > sample.atMs - horizonMs) break;
      if (ratioOf(candidate, metric) !== null) known = candidate;
    }
    if (known === undefined || known === sample || sample.atMs - known.atMs > oldestMs) continue;
    n++;
    if (demandAt(sample, metric) - demandAt(known, metric) <= room + roundingNoise) fitting++;
  }
  return { n, fitting };
}

function ratioOf(sample: EngineSample, metric: Candidate['metric']): number | null {
  return metric === 'cpu' ? sample.cpuRatio : sample.memoryRatio;
}
