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
  /**
   * What a forecast is planned for. `target`: neither the expected demand above the target, nor the upper bound above
   * the limit. `risk`: the upper bound alone.
   */
  readonly planning: 'target' | 'risk';
  /** The utilisation a resource may reach; more is a breach. */
  readonly limitRatio: number;
  /** The share of time that may be in breach. */
  readonly toleratedRisk: number;
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
  /**
   * Changes of direction within half an hour after which scaling in is held. Absent in decisions of engines before 1.3.
   */
  readonly maxReversalsPerHalfHour?: number;
  /** What utilisation was posted in; null: not declared, so that what looks like the other unit is doubted. */
  readonly utilizationUnit?: 'percent' | 'ratio' | null;
  /** Age from which the newest sample is stale; null or absent: by the samples' own rhythm. */
  readonly maxSampleAgeMs?: number | null;
  /** How long requests and predictions must be silent before the last instance goes. */
  readonly scaleToZeroAfterMs?: number;
}

/** What holds or limits every resource of a scope. */
export interface FleetProtection {
  readonly code: 'stopped' | 'frozen' | 'correlated_scale_in' | 'circuit_open' | 'fleet_budget';
  readonly direction: 'up' | 'down' | 'both';
  /** Instances by which the resource may still change; 0 holds it. */
  readonly allowed: number;
  /** A clause that fits behind "because". */
  readonly detail: string;
  readonly untilMs: number | null;
}

/** How many of today's instances one of then was worth; absent: one. Instance types and requests change. */
export interface EngineRelativeSize {
  readonly cpuWorth?: number;
  readonly memoryWorth?: number;
}

/** One measured value. Ratios may exceed 1 (Kubernetes usage over request). */
export interface EngineSample extends EngineRelativeSize {
  readonly atMs: number;
  readonly cpuRatio: number | null;
  readonly memoryRatio: number | null;
  readonly instances: number;
  /** Requests per second of the whole resource: they show the demand where a saturated ratio hides it. */
  readonly requests?: number | null;
}

/** How much of a metric's utilisation stays whatever the count is: `base + share × load / instances`. */
export interface MetricResponse {
  readonly baseRatio: number;
  /** Changes of the count that showed it. */
  readonly changes: number;
  /** Changes in a row that it did not answer, where nothing told the load. */
  readonly unchanged: number;
}

export interface MetricResponses {
  /** The newest change that is learnt from, epoch ms. */
  readonly throughMs: number;
  readonly cpu: MetricResponse;
  readonly memory: MetricResponse;
}

/** What a recent look at the cloud object showed besides its size. */
export interface ObservedObject {
  /** What forbids a change now. */
  readonly blocks: readonly {
    readonly code: string;
    readonly direction: 'up' | 'down' | 'both';
    readonly message: string;
  }[];
  /** Units that can go, the others being protected or in standby; null: all. */
  readonly removable: number | null;
}

/** When a source was heard, and when it last told of demand. Epoch ms. */
export interface Activity {
  readonly firstMs: number;
  readonly newestMs: number;
  readonly lastActiveMs: number | null;
  /** The longest silence of the source itself within `scaleToZeroAfterMs`: of that time nothing is known. */
  readonly longestGapMs: number;
}

/** What a prediction said of a moment that has passed, and what was measured then; in instances' worth of work. */
export interface PredictionOutcome {
  readonly atMs: number;
  readonly predicted: number;
  readonly measured: number;
}

/** What our own forecaster says of one metric. Demand is in instances' worth of work. */
export interface MetricForecast {
  readonly metric: 'cpu' | 'memory';
  /** Of the newest step. */
  readonly demand: number;
  /** At the horizon. */
  readonly expected: number;
  /** The demand at the horizon that is exceeded with probability `risk`. */
  readonly upper: number;
  readonly risk: number;
  /** The calibrated distribution of demand at the horizon: [probability of not more, demand], both ascending. */
  readonly distribution: readonly (readonly [number, number])[];
  /** The highest of `upper` and of `expected` over the stabilization window, or the horizon where that is longer. */
  readonly windowHighest: { readonly upper: number; readonly expected: number };
  /** The same over the last hour. */
  readonly hourHighest: { readonly upper: number; readonly expected: number };
  /** False once a ratio well above 1 was seen: this metric does not hide demand at its ceiling. */
  readonly capped: boolean;
  /** Outcomes that the bounds rest on. */
  readonly residuals: number;
  readonly trusted: boolean;
  /** Why it is not. */
  readonly distrust: string | null;
  /** What other services' predictions are worth here; null while there are too few outcomes to say. */
  readonly predictionWeight: number | null;
}

export interface EngineForecast {
  /** The newest step's time, and the time forecast. */
  readonly madeAtMs: number;
  readonly forMs: number;
  /** How long it has been observing. */
  readonly observedMs: number;
  /** At least one, each metric once. */
  readonly metrics: readonly MetricForecast[];
}

/** A prediction another service wrote, already matched to the decision's horizon by the caller. */
export interface EnginePrediction extends EngineRelativeSize {
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
  /** Our own forecast; null when there is none. Absent in decisions of engines before 1.2. */
  readonly forecast?: EngineForecast | null;
  /** Why there is no forecast, for the explanation. */
  readonly noForecast?: string;
  /** Actions that took place (or may have), newest last, within the last hour at least. */
  readonly recentActions: readonly { readonly atMs: number; readonly action: 'ScaleUp' | 'ScaleDown' }[];
  /** Why the resource may not be touched at all now (kill switch), or null. */
  readonly stopped: { readonly scope: string; readonly reason: string } | null;
  /** What holds the resource's scopes, where anything does. */
  readonly protections?: readonly FleetProtection[];
  /** Of the cloud object, where it was looked at lately and there is something of note. */
  readonly observed?: ObservedObject;
  /** How long samples take to arrive, where several arrivals show it. */
  readonly deliveryDelayMs?: number | null;
  /** Of requests and of predictions; only for a minimum of 0. Null: there are none. */
  readonly activity?: { readonly requests: Activity | null; readonly predictions: Activity | null };
  /** Of the newest predictions whose time has passed, oldest first. Absent: not looked up, so nothing is doubted. */
  readonly predictionOutcomes?: readonly PredictionOutcome[];
  /** What earlier decisions learnt of how metrics respond to the count. */
  readonly responses?: MetricResponses | null;
  readonly nowMs: number;
}

/** Stable: logs, rows and the API share these. */
export type ReasonCode =
  | 'no_data'
  | 'stale_data'
  | 'partial_data'
  | 'suspect_unit'
  | 'idle'
  | 'woken'
  | 'unresponsive'
  | 'protected_instances'
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
  | 'flapping'
  | FleetProtection['code']
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
  | 'pause'
  | 'protection';

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
  readonly source: 'reactive' | 'prediction' | 'forecast';
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
    readonly verdict: 'fresh' | 'stale' | 'suspect_unit' | 'partial' | 'none';
    readonly samplesUsed: number;
    readonly samplesDropped: number;
    readonly newestSampleAgeMs: number | null;
  };
  readonly confidence: {
    readonly value: number;
    readonly basis: 'forecast' | 'residuals' | 'none';
    /** The utilisation that demand is to stay within. */
    readonly withinRatio: number;
    /** Residuals the value rests on. */
    readonly n: number;
    readonly learning: boolean;
  };
  readonly prediction: { readonly requested: boolean; readonly used: boolean; readonly why: string };
  readonly forecast: { readonly used: boolean; readonly why: string };
  /** What is known to block a change of the cloud object. */
  readonly blocks: ObservedObject['blocks'];
  /** How metrics respond to the count, where a change has shown it. */
  readonly responses: readonly {
    readonly metric: Candidate['metric'];
    readonly response: 'none' | 'partial' | 'full' | 'unknown';
    readonly baseRatio: number;
    readonly changes: number;
  }[];
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
  /**
   * Estimated probability that demand at the horizon stays within `explanation.confidence.withinRatio` of
   * `targetInstances`.
   */
  readonly confidence: number;
  readonly explanation: Explanation;
  /** To be handed in with the next decision; null: what was handed in still holds. */
  readonly responses: MetricResponses | null;
}
