import type { ReasonCode, StageName, StageRecord } from '../../shared/domain/scaling-decision.ts';

/** What a stage makes of the number it is given; `code` only when it changed or held it. */
export interface Stage {
  readonly capacity: number;
  readonly code?: ReasonCode;
  readonly detail?: string;
}

export function recordStage(stage: StageName, before: number, result: Stage): StageRecord {
  return {
    stage,
    before,
    after: result.capacity,
    ...(result.code === undefined ? {} : { code: result.code }),
    ...(result.detail === undefined ? {} : { detail: result.detail }),
  };
}
