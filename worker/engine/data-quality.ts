import type { Stage } from './stage.ts';
import type { EnginePolicy, EngineSample } from './types.ts';
import { doubtUnit } from './unit-doubt.ts';
import { seconds } from './wording.ts';

export interface CheckedSamples {
  readonly verdict: 'fresh' | 'stale' | 'suspect_unit' | 'partial' | 'none';
  /** Oldest first, one per moment, every value plausible or null. */
  readonly samples: readonly EngineSample[];
  readonly dropped: number;
  readonly newestAgeMs: number | null;
  /** Why the verdict is not `fresh`: a clause for the reason. */
  readonly why: string;
  /** The samples' own interval, or that of decisions where that is longer. */
  readonly intervalMs: number;
  /** The age from which a sample is stale. */
  readonly staleAfterMs: number;
}

/** Usage of more than 10,000 % of what is there is a broken sensor; metric_samples refuses it too. */
export const absurdRatio = 100;
/** An instance a thousand times as large as another is a typing error. */
const absurdWorth = 1_000;
/** More instances than any provider lets one resource have: a broken counter. */
const absurdInstances = 1_000_000;
const leastStaleAfterMs = 180_000;
/** Clocks differ a little. */
const futureToleranceMs = 5_000;

/** So many intervals may be missed. */
const missedIntervals = 3;
/** The newest gaps tell the rhythm of today; fewer than two tell none. */
const rhythmGaps = 12;
const fewestGaps = 2;
/** A source that is heard less often than this has no rhythm to wait for. */
const longestIntervalMs = 3_600_000;

/** The median gap between the newest samples, ms; null where there are too few to tell. */
export function sampleIntervalMs(samples: readonly EngineSample[]): number | null {
  const count = Math.min(samples.length - 1, rhythmGaps);
  if (count < fewestGaps) return null;
  const gaps = new Float64Array(count);
  for (let index = 0, at = samples.length - count; at < samples.length; index++, at++)
    gaps[index] = (samples[at] as EngineSample).atMs - (samples[at - 1] as EngineSample).atMs;
  gaps.sort();
  return Math.min(longestIntervalMs, gaps[Math.floor(count / 2)] as number);
}

/**
 * Samples older than this say what was, not what is: three intervals of their own or of decisions, and as long as they
 * were seen to take on their way. An explicit `maxSampleAgeMs` wins.
 */
function staleAfter(policy: EnginePolicy, intervalMs: number | null, deliveryDelayMs: number): number {
  if (policy.maxSampleAgeMs != null) return policy.maxSampleAgeMs;
  const rhythmMs = intervalMs === null ? 0 : missedIntervals * intervalMs + deliveryDelayMs;
  return Math.max(leastStaleAfterMs, missedIntervals * policy.decisionIntervalMs, rhythmMs);
}

/**
 * Sorts, keeps the last given of a moment, removes what cannot be true, and says how far the rest may be trusted.
 * `partial`: at the newest moment a metric is missing that was there before, or a value cannot be true.
 * @param deliveryDelayMs how long samples take to arrive, where that is known.
 */
export function checkSamples(
  given: readonly EngineSample[],
  policy: EnginePolicy,
  nowMs: number,
  deliveryDelayMs: number | null = null,
): CheckedSamples {
  const clean: EngineSample[] = [];
  const withoutRatio: EngineSample[] = [];
  let atZero = 0;
  let ordered = true;
  let unusableAtMs = Number.NEGATIVE_INFINITY;
  for (const sample of given) {
    if (!Number.isFinite(sample.atMs) || sample.atMs > nowMs + futureToleranceMs) continue;
    const kept = cleaned(sample);
    // Plausible, but nothing to measure demand by: no instances, or requests alone.
    if (sample.instances === 0) atZero++;
    if (kept === null && Number.isFinite(sample.requests ?? Number.NaN)) withoutRatio.push(sample);
    // Identity tells whether a value had to go: what was measured at that moment is not fully known.
    if (kept !== sample) unusableAtMs = Math.max(unusableAtMs, sample.atMs);
    if (kept === null) continue;
    const last = clean.at(-1);
    if (last !== undefined && last.atMs >= kept.atMs) ordered = false;
    clean.push(kept);
  }
  const samples = ordered ? clean : sortedOnePerMoment(clean);
  const dropped = given.length - samples.length - atZero;
  const ownIntervalMs = sampleIntervalMs(
    samples.length > fewestGaps ? samples : sortedOnePerMoment([...samples, ...withoutRatio]),
  );
  const staleAfterMs = staleAfter(policy, ownIntervalMs, deliveryDelayMs ?? 0);
  const rhythm = { intervalMs: Math.max(policy.decisionIntervalMs, ownIntervalMs ?? 0), staleAfterMs };
  const newest = samples.at(-1);
  if (newest === undefined) {
    const many = dropped > 0 ? ` (${dropped} given, none plausible)` : '';
    const why = `there are no usable samples${many}`;
    return { verdict: 'none', samples, dropped, newestAgeMs: null, why, ...rhythm };
  }
  const newestAgeMs = Math.max(0, nowMs - newest.atMs);
  const checked = (verdict: CheckedSamples['verdict'], why: string) => {
    return { verdict, samples, dropped, newestAgeMs, why, ...rhythm };
  };
  if (newestAgeMs > staleAfterMs) return checked('stale', `the newest sample is ${seconds(newestAgeMs)} old`);
  const doubt = policy.utilizationUnit === null ? doubtUnit(samples) : null;
  if (doubt !== null) return checked('suspect_unit', doubt);
  const why = missingAtNewest(samples, newest, unusableAtMs);
  return checked(why === '' ? 'fresh' : 'partial', why);
}

/** Without data nothing can be asked for; otherwise what the verdict forbids is for later stages to hold. */
export function reportQuality(data: CheckedSamples, current: number): Stage {
  if (data.verdict === 'none') return { capacity: current, code: 'no_data', detail: data.why };
  return data.why === '' ? { capacity: current } : { capacity: current, detail: data.why };
}

/** The sample itself when all of it is plausible, a copy without what is not, or null when nothing is left. */
function cleaned(sample: EngineSample): EngineSample | null {
  const { cpuRatio, memoryRatio, instances, cpuWorth = 1, memoryWorth = 1 } = sample;
  if (!Number.isSafeInteger(instances) || instances < 1 || instances > absurdInstances) return null;
  const cpuFits = cpuRatio === null || (isRatio(cpuRatio) && isRelativeSize(cpuWorth));
  const memoryFits = memoryRatio === null || (isRatio(memoryRatio) && isRelativeSize(memoryWorth));
  const cpu = cpuFits ? cpuRatio : null;
  const memory = memoryFits ? memoryRatio : null;
  if (cpu === null && memory === null) return null;
  return cpuFits && memoryFits ? sample : { ...sample, cpuRatio: cpu, memoryRatio: memory };
}

export function isRatio(ratio: number): boolean {
  return Number.isFinite(ratio) && ratio >= 0 && ratio <= absurdRatio;
}

/** How many of one kind of instance another can be worth. */
export function isRelativeSize(worth: number): boolean {
  return worth >= 1 / absurdWorth && worth <= absurdWorth;
}

function sortedOnePerMoment(samples: readonly EngineSample[]): EngineSample[] {
  // Array.prototype.sort is stable, so the last of equals is the last given.
  const sorted = samples.toSorted((a, b) => a.atMs - b.atMs);
  return sorted.filter((sample, index) => sorted[index + 1]?.atMs !== sample.atMs);
}

function missingAtNewest(
  samples: readonly EngineSample[],
  newest: EngineSample,
  unusableAtMs: number,
): string {
  if (unusableAtMs >= newest.atMs) return 'the newest sample has no value, or one that cannot be true';
  if (newest.cpuRatio === null && samples.some((sample) => sample.cpuRatio !== null)) {
    return 'the newest sample lacks CPU';
  }
  if (newest.memoryRatio === null && samples.some((sample) => sample.memoryRatio !== null)) {
    return 'the newest sample lacks memory';
  }
  return '';
}
