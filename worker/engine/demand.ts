import type { Candidate, EnginePolicy, EngineSample } from '../../shared/domain/scaling-decision.ts';

/** At this utilisation a sample no longer shows the demand, only that it is at least as much. */
export const saturatedRatio = 0.98;

/** 7.000000001 is 7: below this, a fraction is the arithmetic's, not the demand's. */
const roundingNoise = 1e-6;

interface Load {
  readonly cpuRatio: number | null;
  readonly memoryRatio: number | null;
  readonly instances: number;
}

/** Whole instances that keep `demand` (instances' worth of work) at or below the target ratio. */
export function requiredFor(demand: number, targetRatio: number): number {
  return Math.ceil(demand / targetRatio - roundingNoise);
}

/**
 * What each metric asks for: demand = instances × utilisation, required = ceil(demand / target). Utilisation alone would
 * change with our own actions; demand does not.
 */
export function candidatesOf(
  load: Load,
  policy: EnginePolicy,
  source: Candidate['source'],
): readonly Omit<Candidate, 'chosen'>[] {
  const metrics = [
    { metric: 'cpu', ratio: load.cpuRatio, target: policy.targetCpuRatio },
    { metric: 'memory', ratio: load.memoryRatio, target: policy.targetMemoryRatio },
  ] as const;
  return metrics.flatMap(({ metric, ratio, target }) => {
    if (ratio === null) return [];
    const demand = load.instances * ratio;
    return [{ source, metric, demand, required: requiredFor(demand, target) }];
  });
}

/** CPU at its ceiling hides how much more is wanted. Memory over its request is a real figure, so it hides nothing. */
export function isSaturated(sample: EngineSample): boolean {
  return sample.cpuRatio !== null && sample.cpuRatio >= saturatedRatio && sample.cpuRatio <= 1;
}

/** While the demand is hidden, at least half as much again as runs, so that a few decisions find it. */
export function requiredWhenSaturated(instances: number, required: number): number {
  return Math.max(required, Math.ceil(instances * 1.5));
}

/** The larger need of a sample's metrics, growing past saturation. */
export function requiredOf(sample: EngineSample, policy: EnginePolicy): number {
  const required = Math.max(
    0,
    ...candidatesOf(sample, policy, 'reactive').map((candidate) => candidate.required),
  );
  return isSaturated(sample) ? requiredWhenSaturated(sample.instances, required) : required;
}
