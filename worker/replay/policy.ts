/** What a policy sees at the end of a step. */
export interface Observed {
  /** Start of the step, epoch ms. */
  readonly atMs: number;
  /**
   * Mean utilisation of the ready instances: demand / ready, over 1 when overloaded unless it is measured capped; null
   * when the sample is lost.
   */
  readonly utilisation: number | null;
  readonly ready: number;
  /** Ready and starting. */
  readonly total: number;
}

export interface PolicyOptions {
  readonly stepMs: number;
  readonly delayMs: number;
  readonly minInstances: number;
  readonly maxInstances: number;
  /** The utilisation that target policies aim at. */
  readonly target: number;
  /** The share of time that may be above 90 % utilisation. */
  readonly risk: number;
}

/** The stated probability that demand is at most `atMost`, in instances' worth of load. */
export interface Statement {
  readonly confidence: number;
  readonly atMost: number;
}

/**
 * What a policy states of the demand `horizonSteps` ahead: with the count it named, and with counts around those it
 * expects.
 */
export interface StepStatements {
  readonly horizonSteps: number;
  readonly decided: Statement;
  readonly around: readonly Statement[];
}

/** Names the total it wants, after each step. */
export interface ReplayPolicy {
  decide(observed: Observed): number;
  /** For plots: what was expected of the step `horizonSteps` ahead, and its upper bound. */
  band?(): { readonly expected: number; readonly upper: number; readonly horizonSteps: number } | null;
  /** For those that state how sure they are: of the newest decision. */
  stated?(): StepStatements;
}

export type PolicyMaker = (options: PolicyOptions) => ReplayPolicy;
