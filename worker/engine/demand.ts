import type { Stage } from './stage.ts';
import type {
  Candidate,
  EngineForecast,
  EnginePolicy,
  EngineRelativeSize,
  MetricResponse,
  MetricResponses,
} from './types.ts';
import { metricName, percent, percentOf } from './wording.ts';

/** From here on a ratio no longer shows the demand, only that it is at least as much. */
export const saturatedRatio = 0.98;

/** Hidden demand is searched for by doubling: few decisions find any demand, and overshoot by less than itself. */
const growthWhenSaturated = 2;

/** A plan for a saturated resource could never be seen to fail, so no plan runs hotter than this. */
const hottestPlan = 0.97;

/** Of the planned ratio: a base above cannot be scaled away, one below is noise. */
const hopelessShare = 0.9;
const negligibleShare = 0.15;

/** 7.000000001 is 7: a millionth of an instance is the arithmetic's, not the demand's. */
const roundingNoise = 1e-6;

/** A sample, or a prediction. */
export interface Load extends EngineRelativeSize {
  readonly cpuRatio: number | null;
  readonly memoryRatio: number | null;
  readonly instances: number;
}

/** The capacity that one metric of one source asks for. */
export interface Proposal {
  readonly source: Candidate['source'];
  readonly metric: Candidate['metric'];
  readonly ratio: number;
  readonly targetRatio: number;
  /** What `required` would meet: an object for "would meet". */
  readonly goal: string;
  /** Instances' worth of work. */
  readonly demand: number;
  /** Instances, not rounded yet, and past saturation where that hides the demand. */
  readonly unrounded: number;
  /** The same by what is visible alone. */
  readonly visible: number;
  readonly required: number;
  readonly saturated: boolean;
}

/** The utilisation planned for: the target, unless that is where demand is hidden. */
export function plannedRatio(policy: EnginePolicy, metric: Candidate['metric']): number {
  return Math.min(metric === 'cpu' ? policy.targetCpuRatio : policy.targetMemoryRatio, hottestPlan);
}

/** How many of today's instances one of then was worth. */
export function relativeSize(load: EngineRelativeSize, metric: Candidate['metric']): number {
  return (metric === 'cpu' ? load.cpuWorth : load.memoryWorth) ?? 1;
}

/** Instances' worth of work; 0 of a sample that lacks the metric. */
export function demandAt(load: Load, metric: Candidate['metric']): number {
  const ratio = metric === 'cpu' ? load.cpuRatio : load.memoryRatio;
  return (ratio ?? 0) * load.instances * relativeSize(load, metric);
}

/** Whole instances; never -0. */
export function roundUp(unrounded: number): number {
  return Math.max(0, Math.ceil(unrounded - roundingNoise));
}

/** How a metric responds to the count, judged by what is planned for. */
export function responseOf(
  { baseRatio, changes }: MetricResponse,
  planned: number,
): 'none' | 'partial' | 'full' | 'unknown' {
  if (changes === 0) return 'unknown';
  if (baseRatio >= hopelessShare * planned) return 'none';
  return baseRatio < negligibleShare * planned ? 'full' : 'partial';
}

/** Clauses for the metrics of a sample that no count brings to their targets; '' when all of them answer. */
export function describeUnresponsive(
  load: Load | undefined,
  responses: MetricResponses,
  policy: EnginePolicy,
): string {
  if (responses.cpu.changes + responses.memory.changes === 0) return '';
  return (['cpu', 'memory'] as const)
    .filter((metric) => (metric === 'cpu' ? load?.cpuRatio : load?.memoryRatio) != null)
    .filter((metric) => responseOf(responses[metric], plannedRatio(policy, metric)) === 'none')
    .map((metric) => {
      const base = percent(responses[metric].baseRatio);
      return `${metricName(metric)} does not respond to the count: ${base} of it stay, whatever runs`;
    })
    .join('; ');
}

/** By what a load is judged. */
export interface Yardstick {
  readonly policy: EnginePolicy;
  /** Absent: every metric responds fully. */
  readonly responses?: MetricResponses | undefined;
  /** The utilisation planned for; absent: the target. */
  readonly planned?: typeof plannedRatio | undefined;
}

/**
 * demand = instances × ratio, in today's instances; required = demand / target. The ratio alone would change with our
 * own actions; demand does not. Of a metric with a base, `ratio = base + share / instances`, only the share responds:
 * required = instances × (ratio - base) / (target - base); one whose base leaves no room asks for nothing. Only a
 * measured ratio saturates: a prediction may name any figure.
 */
export function proposalsOf(
  load: Load,
  source: 'reactive' | 'prediction',
  { policy, responses, planned = plannedRatio }: Yardstick,
): readonly Proposal[] {
  const proposals: Proposal[] = [];
  for (const metric of ['cpu', 'memory'] as const) {
    const ratio = metric === 'cpu' ? load.cpuRatio : load.memoryRatio;
    if (ratio === null) continue;
    const targetRatio = planned(policy, metric);
    const response = responses?.[metric];
    const kind = response === undefined ? 'unknown' : responseOf(response, plannedRatio(policy, metric));
    if (kind === 'none') continue;
    const base = kind === 'partial' ? (response?.baseRatio ?? 0) : 0;
    const goal = `a ${metricName(metric)} ${planned === plannedRatio ? 'target' : 'limit'} of ${percent(targetRatio)}`;
    const serving = load.instances * relativeSize(load, metric);
    const demand = serving * ratio + 0; // +0: -0 would not survive JSON
    const visible =
      base === 0 ? demand / targetRatio : (serving * Math.max(0, ratio - base)) / (targetRatio - base);
    const saturated = source === 'reactive' && ratio >= saturatedRatio;
    const unrounded = saturated ? Math.max(visible, serving * growthWhenSaturated) : visible;
    const required = roundUp(unrounded);
    proposals.push({
      source,
      metric,
      ratio,
      targetRatio,
      goal,
      demand,
      unrounded,
      visible,
      required,
      saturated,
    });
  }
  return proposals;
}

/**
 * With a forecast that is trusted, what runs now only has to stay within the limit: the rest is the forecast's
 * business.
 */
export function limitRatio(policy: EnginePolicy): number {
  return Math.min(policy.limitRatio, hottestPlan);
}

/**
 * What the forecast asks for: the upper bound within the limit and, where the target is to be kept, the expected demand
 * within the target. The ratio is what is expected on as many instances as run.
 */
export function forecastProposals(
  forecast: EngineForecast,
  policy: EnginePolicy,
  current: number,
): readonly Proposal[] {
  return forecast.metrics.map((given) => {
    const { metric, expected, upper } = given;
    const limit = limitRatio(policy);
    const target = plannedRatio(policy, metric);
    const unrounded = forecastNeed(given, metric, policy);
    const forTarget = policy.planning === 'target' && expected / target >= upper / limit;
    const name = metricName(metric);
    const goal = forTarget
      ? `a ${name} target of ${percent(target)}`
      : `a ${name} limit of ${percent(limit)} at a tolerated risk of ${percentOf(policy.toleratedRisk)}`;
    return {
      source: 'forecast',
      metric,
      ratio: expected / Math.max(current, 1),
      targetRatio: forTarget ? target : limit,
      goal,
      demand: forTarget ? expected : upper,
      unrounded,
      visible: unrounded,
      required: roundUp(unrounded),
      saturated: false,
    };
  });
}

/** Instances, not rounded yet, for an upper bound and an expectation. */
export function forecastNeed(
  { upper, expected }: { readonly upper: number; readonly expected: number },
  metric: Candidate['metric'],
  policy: EnginePolicy,
): number {
  const forLimit = upper / limitRatio(policy);
  return policy.planning === 'target'
    ? Math.max(forLimit, expected / plannedRatio(policy, metric))
    : forLimit;
}

/** What a past sample asked for: the larger of its metrics. */
export function requiredAt(load: Load, yardstick: Yardstick): number {
  return highestRequired(proposalsOf(load, 'reactive', yardstick));
}

/** What runs now needs, by its newest sample. */
export function measureDemand(proposals: readonly Proposal[]): Stage {
  const capacity = highestRequired(proposals);
  const visible = proposals.reduce((most, proposal) => Math.max(most, roundUp(proposal.visible)), 0);
  const hiding = proposals.find((proposal) => proposal.saturated && proposal.required === capacity);
  if (capacity > visible && hiding !== undefined) {
    return {
      capacity,
      code: 'saturated',
      detail: `${describeProposal(hiding)} hides how much more is needed`,
    };
  }
  const worth = proposals
    .map((proposal) => `${metricName(proposal.metric)} ${proposal.demand.toFixed(2)}`)
    .join(', ');
  return { capacity, detail: `demand in instances' worth: ${worth}` };
}

export function highestRequired(proposals: readonly Proposal[]): number {
  return proposals.reduce((most, proposal) => Math.max(most, proposal.required), 0);
}

/** `CPU at 100%` */
export function describeProposal(proposal: Proposal): string {
  return `${metricName(proposal.metric)} at ${percent(proposal.ratio)}`;
}
