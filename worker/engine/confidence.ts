import type { EnginePolicy, EngineSample, Explanation } from '../../shared/domain/scaling-decision.ts';

/** Under this many residuals the figure is still learning. */
const enoughResiduals = 20;

/**
 * Estimated probability that demand stays within target at `instances` over the horizon: of the changes demand has made
 * over one horizon before, the share that would still fit, (#{change <= room} + 0.5) / (n + 1), the smaller of CPU's and
 * memory's. The rank estimate of split conformal prediction with the last value as the forecast (Vovk, Gammerman and
 * Shafer, "Algorithmic Learning in a Random World", 2005). Without residuals it is 0.5: nothing is known.
 */
export function estimateConfidence(
  instances: number,
  samples: readonly EngineSample[],
  policy: EnginePolicy,
): Explanation['confidence'] {
  const horizonMs = policy.provisioningDelayMs + policy.decisionIntervalMs;
  const shares = (['cpuRatio', 'memoryRatio'] as const).flatMap((metric) => {
    const series = demandSeries(samples, metric);
    const now = series.at(-1);
    if (now === undefined) return [];
    const target = metric === 'cpuRatio' ? policy.targetCpuRatio : policy.targetMemoryRatio;
    const changes = changesOver(series, horizonMs);
    const room = instances * target - now.demand;
    const fitting = changes.filter((change) => change <= room).length;
    return [{ value: (fitting + 0.5) / (changes.length + 1), n: changes.length }];
  });
  const known = shares.filter((share) => share.n > 0);
  const least = known.reduce((worst, share) => (share.value < worst.value ? share : worst), {
    value: 2,
    n: 0,
  });
  if (known.length === 0) return { value: 0.5, basis: 'none', n: 0, learning: true };
  return { value: least.value, basis: 'residuals', n: least.n, learning: least.n < enoughResiduals };
}

interface Point {
  readonly atMs: number;
  readonly demand: number;
}

function demandSeries(samples: readonly EngineSample[], metric: 'cpuRatio' | 'memoryRatio'): Point[] {
  return samples.flatMap((sample) => {
    const ratio = sample[metric];
    return ratio === null ? [] : [{ atMs: sample.atMs, demand: ratio * sample.instances }];
  });
}

/** demand(t) − demand(t − horizon), pairing each point with the newest one at least a horizon older. */
function changesOver(series: readonly Point[], horizonMs: number): number[] {
  const changes: number[] = [];
  let behind = -1;
  for (const point of series) {
    while ((series[behind + 1] as Point).atMs <= point.atMs - horizonMs) behind++;
    const before = series[behind];
    // Across a gap of many horizons the change says nothing about one horizon.
    if (before !== undefined && point.atMs - before.atMs <= 3 * horizonMs)
      changes.push(point.demand - before.demand);
  }
  return changes;
}
