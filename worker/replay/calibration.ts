import type { PolicyMaker, StepStatements } from './policy.ts';
import { firstScoredStep } from './score.ts';
import type { Trace } from './trace.ts';

/** A probability that was stated, and whether it came so: 1 or 0. */
export interface Outcome {
  readonly confidence: number;
  readonly right: number;
}

/** Statements taken together: their mean, how many of them came true (a share), and how far apart these are. */
export interface Group {
  readonly n: number;
  readonly stated: number;
  readonly observed: number;
  readonly difference: number;
}

/** Groups that have statements, the mean of |difference| by statements (expected calibration error) and the worst. */
export interface Grouped {
  readonly groups: readonly Group[];
  readonly mean_error: number;
  readonly worst_error: number;
}

export interface Calibration {
  readonly n: number;
  /** By rank: the tenth with the lowest confidence, and so on. */
  readonly deciles: Grouped;
  /** By value: up to 0.1, up to 0.2, and so on. */
  readonly bins: Grouped;
}

/** Of the counts decided, and of counts around those expected, where all probabilities occur. */
export interface Outcomes {
  readonly decided: Outcome[];
  readonly around: Outcome[];
}

const groupCount = 10;
/** Demand of exactly the limit is within it, whatever the arithmetic's last digit. */
const roundingNoise = 1e-9;

/** Has a policy remember what it states, step by step. It decides as before. */
export function recordStatements(make: PolicyMaker): {
  readonly make: PolicyMaker;
  readonly statements: StepStatements[];
} {
  const statements: StepStatements[] = [];
  return {
    statements,
    make: (options) => {
      const policy = make(options);
      return {
        decide(observed) {
          const count = policy.decide(observed);
          if (policy.stated !== undefined) statements.push(policy.stated());
          return count;
        },
      };
    },
  };
}

/** Holds what was said at each step against the demand that came. What nobody recorded is no outcome. */
export function outcomesOf(trace: Trace, statements: readonly StepStatements[]): Outcomes {
  const decided: Outcome[] = [];
  const around: Outcome[] = [];
  for (let step = firstScoredStep(trace); step < statements.length; step++) {
    const { horizonSteps, decided: chosen, around: others } = statements[step] as StepStatements;
    const due = step + horizonSteps;
    if (due >= trace.demand.length || trace.missing[due] === 1) continue;
    const demand = trace.demand[due] as number;
    const outcome = ({ confidence, atMost }: StepStatements['decided']) => ({
      confidence,
      right: demand <= atMost + roundingNoise ? 1 : 0,
    });
    decided.push(outcome(chosen));
    for (const other of others) around.push(outcome(other));
  }
  return { decided, around };
}

export function calibrationOf(outcomes: readonly Outcome[]): Calibration {
  const ranked = ranks(outcomes);
  const deciles = Array.from({ length: groupCount }, (_, at) =>
    ranked.slice(
      Math.floor((at * ranked.length) / groupCount),
      Math.floor(((at + 1) * ranked.length) / groupCount),
    ),
  );
  const bins: Outcome[][] = Array.from({ length: groupCount }, () => []);
  for (const outcome of ranked)
    bins[Math.min(groupCount - 1, Math.floor(outcome.confidence * groupCount))]?.push(outcome);
  return { n: ranked.length, deciles: grouped(deciles), bins: grouped(bins) };
}

/**
 * By confidence. Those that said the same share what came of them: else the order they came in would tell which decile
 * is right.
 */
function ranks(outcomes: readonly Outcome[]): Outcome[] {
  const ranked = outcomes.toSorted((a, b) => a.confidence - b.confidence);
  for (let from = 0, to = 0; from < ranked.length; from = to) {
    const { confidence } = ranked[from] as Outcome;
    let right = 0;
    for (; to < ranked.length && (ranked[to] as Outcome).confidence === confidence; to++)
      right += (ranked[to] as Outcome).right;
    if (to - from > 1) ranked.fill({ confidence, right: right / (to - from) }, from, to);
  }
  return ranked;
}

function grouped(parts: readonly (readonly Outcome[])[]): Grouped {
  const groups = parts.filter((part) => part.length > 0).map(groupOf);
  const n = groups.reduce((sum, group) => sum + group.n, 0);
  const error = groups.reduce((sum, group) => sum + group.n * Math.abs(group.difference), 0);
  return {
    groups,
    mean_error: n === 0 ? 0 : error / n,
    worst_error: groups.reduce((worst, group) => Math.max(worst, Math.abs(group.difference)), 0),
  };
}

function groupOf(part: readonly Outcome[]): Group {
  const stated = part.reduce((sum, { confidence }) => sum + confidence, 0) / part.length;
  const observed = part.reduce((sum, { right }) => sum + right, 0) / part.length;
  return { n: part.length, stated, observed, difference: observed - stated };
}
