import type { PolicyMaker, ReplayPolicy } from './policy.ts';
import type { Trace } from './trace.ts';

/** Utilisation above this is a breach. */
export const limit = 0.9;

export interface PlantOptions {
  readonly delayMs: number;
  readonly minInstances: number;
  readonly maxInstances: number;
  readonly target: number;
  readonly risk: number;
  /** Utilisation is measured capped at 1, as a CPU's is. */
  readonly pinned: boolean;
  /** The share of samples that get lost. */
  readonly lost: number;
  /** What runs before the first step; by default what the first demand needs at 70 %. */
  readonly startInstances?: number;
}

export interface Run {
  /** Instances that served in each step, and that were paid. */
  readonly ready: Int32Array;
  readonly paid: Int32Array;
  /** Steps after which the wanted total changed. */
  readonly changed: Uint8Array;
  /** Upper bound and expectation for each step, where the policy gives them. */
  readonly upper: Float64Array;
  readonly expected: Float64Array;
  readonly delaySteps: number;
  readonly msPerDecision: number;
}

const stepsPerTurn = 1_000;

/** A launch takes whole steps: a delay shorter than one takes one. */
export function delayStepsOf(delayMs: number, stepMs: number): number {
  return Math.max(1, Math.round(delayMs / stepMs));
}

/**
 * Runs a service under a policy. In each step what is ready serves the demand; at its end the policy names a total.
 * What it adds is paid from the next step on and serves `delaySteps` later; what it takes away goes at once, what is
 * still starting first. One decision a step; no queue: demand over capacity is lost.
 */
export function runPlant(trace: Trace, make: PolicyMaker, options: PlantOptions): Run {
  const steps = plantInTurns(trace, make, options);
  for (;;) {
    const turn = steps.next();
    if (turn.done === true) return turn.value;
  }
}

/** The same, giving way every thousand steps. @returns the run, when it is done. */
export function* plantInTurns(
  trace: Trace,
  make: PolicyMaker,
  options: PlantOptions,
): Generator<undefined, Run, undefined> {
  const { demand, stepMs, startMs } = trace;
  const steps = demand.length;
  const delaySteps = delayStepsOf(options.delayMs, stepMs);
  const policy = make({ ...options, stepMs, delayMs: delaySteps * stepMs });
  const random = seeded(1);
  const ready = new Int32Array(steps);
  const paid = new Int32Array(steps);
  const changed = new Uint8Array(steps);
  const upper = new Float64Array(steps).fill(Number.NaN);
  const expected = new Float64Array(steps).fill(Number.NaN);
  const clamp = (count: number) => Math.min(options.maxInstances, Math.max(options.minInstances, count));
  let serving = clamp(options.startInstances ?? Math.ceil((demand[0] as number) / 0.7));
  let total = serving;
  const starting: { atStep: number; count: number }[] = [];
  const startedAt = performance.now();
  for (let step = 0; step < steps; step++) {
    if (step % stepsPerTurn === stepsPerTurn - 1) yield;
    while (starting[0] !== undefined && starting[0].atStep <= step) serving += starting.shift()?.count ?? 0;
    ready[step] = serving;
    paid[step] = total;
    const isLost = trace.missing[step] === 1 || random() < options.lost;
    const load = (demand[step] as number) / serving;
    const utilisation = isLost ? null : options.pinned ? Math.min(1, load) : load;
    const wanted = clamp(
      policy.decide({ atMs: startMs + step * stepMs, utilisation, ready: serving, total }),
    );
    remember(policy, step, upper, expected);
    if (wanted === total) continue;
    changed[step] = 1;
    if (wanted > total) starting.push({ atStep: step + 1 + delaySteps, count: wanted - total });
    else serving -= cancel(starting, total - wanted);
    total = wanted;
  }
  const msPerDecision = (performance.now() - startedAt) / steps;
  return { ready, paid, changed, upper, expected, delaySteps, msPerDecision };
}

/**
 * Takes instances away, the newest of those that are starting first. @returns how many have to go of those that serve.
 */
function cancel(starting: { atStep: number; count: number }[], count: number): number {
  let left = count;
  for (let newest = starting.at(-1); newest !== undefined && left > 0; newest = starting.at(-1)) {
    const taken = Math.min(left, newest.count);
    left -= taken;
    newest.count -= taken;
    if (newest.count === 0) starting.pop();
  }
  return left;
}

function remember(policy: ReplayPolicy, step: number, upper: Float64Array, expected: Float64Array): void {
  const band = policy.band?.() ?? null;
  if (band === null || step + band.horizonSteps >= upper.length) return;
  upper[step + band.horizonSteps] = band.upper;
  expected[step + band.horizonSteps] = band.expected;
}

/** Mulberry32: small, and the same on every machine. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
