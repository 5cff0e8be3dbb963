import type { EnginePolicy, EngineSample } from '../../shared/domain/scaling-decision.ts';
import { requiredOf } from './demand.ts';
import type { Stage } from './stage.ts';

/**
 * Scaling in waits until the whole window agrees: the window's highest need counts. Scaling out never waits. A window
 * with less than half of the samples it should have is no agreement.
 */
export function stabilize(
  recommended: number,
  current: number,
  samples: readonly EngineSample[],
  policy: EnginePolicy,
  nowMs: number,
): Stage {
  if (recommended >= current || policy.stabilizationWindowMs === 0) return { capacity: recommended };
  const window = samples.filter((sample) => sample.atMs > nowMs - policy.stabilizationWindowMs);
  const expected = Math.floor(policy.stabilizationWindowMs / policy.decisionIntervalMs);
  if (window.length < expected / 2) {
    return {
      capacity: current,
      code: 'partial_data',
      detail: `${window.length} of about ${expected} samples in the stabilization window`,
    };
  }
  const highest = Math.max(recommended, ...window.map((sample) => requiredOf(sample, policy)));
  const calm = Math.min(current, highest);
  return calm > recommended ? { capacity: calm, code: 'stabilized' } : { capacity: recommended };
}
