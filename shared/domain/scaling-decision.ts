/**
 * The engine's contract: what goes in, what comes out. All times are epoch milliseconds, durations are
 * milliseconds and named so, utilisation is a ratio (0.7 means 70 %), demand is in instances' worth of work.
 */

export interface EnginePolicy {
  readonly version: number;
  readonly minInstances: number;
  readonly maxInstances: number;
  readonly targetCpuRatio: number;
  readonly targetMemoryRatio: number;
  readonly maxScaleUpStep: number;
  readonly maxScaleDownStep: number;
  readonly scaleUpCooldownMs: number;
  readonly scaleDownCooldownMs: number;
  readonly maxActionsPerHour: number;
  readonly tolerance: number;
  readonly stabilizationWindowMs: number;
  readonly provisioningDelayMs: number;
  readonly decisionIntervalMs: number;
  readonly scaleUpPausedUntilMs: number | null;
  readonly scaleDownPausedUntilMs: number | null;
}

/** One measured value. Ratios may exceed 1 (Kubernetes usage over request). */
export interface EngineSample {
  readonly atMs: number;
  readonly cpuRatio: number | null;
  readonly memoryRatio: number | null;
  readonly instances: number;
}

/** A prediction another service wrote, already matched to the decision's horizon by the caller. */
export interface EnginePrediction {
  readonly forMs: number;
  readonly madeAtMs: number;
  readonly cpuRatio: number | null;
  readonly memoryRatio: number | null;
  /** The instance count the ratios were predicted for. */
  readonly instances: number;
  readonly confidence: number | null;
}

export interface EngineInput {
  readonly currentInstances: number;
  readonly policy: EnginePolicy;
  /** Any order, duplicates and gaps allowed: the engine sorts out. */
  readonly samples: readonly EngineSample[];
  readonly usePrediction: boolean;
  /** The freshest prediction for the horizon, or null when there is none. */
  readonly prediction: EnginePrediction | null;
  /** Actions that took place (or may have), newest last, within the last hour at least. */
  readonly recentActions: readonly { readonly atMs: number; readonly action: 'ScaleUp' | 'ScaleDown' }[];
  /** Why the resource may not be touched at all now (kill switch), or null. */
  readonly stopped: { readonly scope: string; readonly reason: string } | null;
  readonly nowMs: number;
}

/** Stable: logs, rows and the API share these. */
export type ReasonCode =
  | 'no_data'
  | 'stale_data'
  | 'partial_data'
  | 'within_tolerance'
  | 'stabilized'
  | 'scale_up_step'
  | 'scale_down_step'
  | 'at_maximum'
  | 'at_minimum'
  | 'cooldown'
  | 'rate_limited'
  | 'paused'
  | 'stopped'
  | 'direction_kept'
  | 'saturated'
  | 'demand_above_capacity'
  | 'demand_below_capacity'
  | 'demand_matches_capacity'
  | 'below_minimum'
  | 'above_maximum';

export type StageName =
  | 'data_quality'
  | 'demand'
  | 'forecast'
  | 'recommendation'
  | 'tolerance'
  | 'stabilization'
  | 'step_limit'
  | 'bounds'
  | 'cooldown'
  | 'rate_limit'
  | 'pause';

/** One stage's effect on the number. `code` is set only when the stage changed it or held it. */
export interface StageRecord {
  readonly stage: StageName;
  readonly before: number;
  readonly after: number;
  readonly code?: ReasonCode;
  readonly detail?: string;
}

/** What one source of demand would ask for. */
export interface Candidate {
  readonly source: 'reactive' | 'prediction';
  readonly metric: 'cpu' | 'memory';
  /** Instances' worth of work. */
  readonly demand: number;
  readonly required: number;
  readonly chosen: boolean;
}

export interface Explanation {
  readonly candidates: readonly Candidate[];
  readonly stages: readonly StageRecord[];
  /** The constraint that decided the final number, or null when the recommendation went through untouched. */
  readonly binding: ReasonCode | null;
  /** What the numbers alone would have wanted, before any limit; null without data. */
  readonly wanted: number | null;
  /** When the next change in the wanted direction can happen at the earliest; null: now. */
  readonly earliestNextChangeMs: number | null;
  readonly dataQuality: {
    readonly verdict: 'fresh' | 'stale' | 'partial' | 'none';
    readonly samplesUsed: number;
    readonly samplesDropped: number;
    readonly newestSampleAgeMs: number | null;
  };
  readonly confidence: {
    readonly value: number;
    readonly basis: 'residuals' | 'none';
    /** Residuals the value rests on. */
    readonly n: number;
    readonly learning: boolean;
  };
  readonly prediction: { readonly requested: boolean; readonly used: boolean; readonly why: string };
  readonly engineVersion: string;
  readonly policyVersion: number;
}

export interface EngineDecision {
  readonly decisionType: 'scaleup' | 'scaledown' | 'noaction';
  readonly currentInstances: number;
  readonly targetInstances: number;
  readonly reasonCode: ReasonCode;
  /** One plain sentence. With a prediction used it begins `Predicted CPU: 85%, Memory: 70%`. */
  readonly reason: string;
  /** Estimated probability that demand over the horizon stays within target at `targetInstances`. */
  readonly confidence: number;
  readonly explanation: Explanation;
}
