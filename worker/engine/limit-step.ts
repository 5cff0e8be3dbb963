import type { Stage } from './stage.ts';
import type { EnginePolicy } from './types.ts';

/** How far one decision may go. */
export function limitStep(wanted: number, current: number, policy: EnginePolicy): Stage {
  const { maxScaleUpStep: up, maxScaleDownStep: down } = policy;
  if (wanted > current + up) {
    return { capacity: current + up, code: 'scale_up_step', detail: `at most ${up} may be added at once` };
  }
  if (wanted < current - down) {
    return {
      capacity: current - down,
      code: 'scale_down_step',
      detail: `at most ${down} may be removed at once`,
    };
  }
  return { capacity: wanted };
}
