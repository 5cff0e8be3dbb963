import type { EnginePolicy, EngineSample } from '../../shared/domain/scaling-decision.ts';

export interface CheckedSamples {
  readonly verdict: 'fresh' | 'stale' | 'partial' | 'none';
  /** Oldest first, one per moment, plausible. */
  readonly samples: readonly EngineSample[];
  readonly dropped: number;
  readonly newestAgeMs: number | null;
}

/** Usage of more than this many times what is there is a broken sensor. */
const absurdRatio = 100;
const leastStaleAfterMs = 180_000;
/** Clocks differ a little. */
const futureToleranceMs = 5_000;

/**
 * Sorts, removes what cannot be true, and says whether the rest may be trusted. `stale`: the newest is older than three
 * decision intervals (at least 3 minutes). `partial`: the newest lacks a metric that earlier ones had.
 */
export function checkSamples(
  given: readonly EngineSample[],
  policy: EnginePolicy,
  nowMs: number,
): CheckedSamples {
  const byTime = new Map<number, EngineSample>();
  for (const sample of given) if (isPlausible(sample, nowMs)) byTime.set(sample.atMs, sample);
  const samples = [...byTime.values()].sort((a, b) => a.atMs - b.atMs);
  const dropped = given.length - samples.length;
  const newest = samples.at(-1);
  if (newest === undefined) return { verdict: 'none', samples, dropped, newestAgeMs: null };
  const newestAgeMs = Math.max(0, nowMs - newest.atMs);
  const staleAfterMs = Math.max(leastStaleAfterMs, 3 * policy.decisionIntervalMs);
  return { verdict: verdictOf(samples, newest, newestAgeMs > staleAfterMs), samples, dropped, newestAgeMs };
}

function verdictOf(
  samples: readonly EngineSample[],
  newest: EngineSample,
  stale: boolean,
): CheckedSamples['verdict'] {
  if (stale) return 'stale';
  const lost =
    (newest.cpuRatio === null && samples.some((sample) => sample.cpuRatio !== null)) ||
    (newest.memoryRatio === null && samples.some((sample) => sample.memoryRatio !== null));
  return lost ? 'partial' : 'fresh';
}

function isPlausible(sample: EngineSample, nowMs: number): boolean {
  if (!Number.isFinite(sample.atMs) || sample.atMs > nowMs + futureToleranceMs) return false;
  if (!Number.isSafeInteger(sample.instances) || sample.instances < 1) return false;
  if (sample.cpuRatio === null && sample.memoryRatio === null) return false;
  return isRatio(sample.cpuRatio) && isRatio(sample.memoryRatio);
}

function isRatio(ratio: number | null): boolean {
  return ratio === null || (Number.isFinite(ratio) && ratio >= 0 && ratio <= absurdRatio);
}
