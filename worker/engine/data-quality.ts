import type { Stage } from './stage.ts';
import type { EnginePolicy, EngineSample } from './types.ts';
import { seconds } from './wording.ts';

export interface CheckedSamples {
  readonly verdict: 'fresh' | 'stale' | 'partial' | 'none';
  /** Oldest first, one per moment, every value plausible or null. */
  readonly samples: readonly EngineSample[];
  readonly dropped: number;
  readonly newestAgeMs: number | null;
  /** Why the verdict is not `fresh`: a clause for the reason. */
  readonly why: string;
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

/** Samples older than this say what was, not what is. */
export function staleAfterMs(policy: EnginePolicy): number {
  return Math.max(leastStaleAfterMs, 3 * policy.decisionIntervalMs);
}

/**
 * Sorts, keeps the last given of a moment, removes what cannot be true, and says how far the rest may be trusted.
 * `partial`: at the newest moment a metric is missing that was there before, or a value cannot be true.
 */
export function checkSamples(
  given: readonly EngineSample[],
  policy: EnginePolicy,
  nowMs: number,
): CheckedSamples {
  const clean: EngineSample[] = [];
  let ordered = true;
  let unusableAtMs = Number.NEGATIVE_INFINITY;
  for (const sample of given) {
    if (!Number.isFinite(sample.atMs) || sample.atMs > nowMs + futureToleranceMs) continue;
    const kept = cleaned(sample);
    // Identity tells whether a value had to go: what was measured at that moment is not fully known.
    if (kept !== sample) unusableAtMs = Math.max(unusableAtMs, sample.atMs);
    if (kept === null) continue;
    const last = clean.at(-1);
    if (last !== undefined && last.atMs >= kept.atMs) ordered = false;
    clean.push(kept);
  }
  const samples = ordered ? clean : sortedOnePerMoment(clean);
  const dropped = given.length - samples.length;
  const newest = samples.at(-1);
  if (newest === undefined) {
    const many = dropped > 0 ? ` (${dropped} given, none plausible)` : '';
    return {
      verdict: 'none',
      samples,
      dropped,
      newestAgeMs: null,
      why: `there are no usable samples${many}`,
    };
  }
  const newestAgeMs = Math.max(0, nowMs - newest.atMs);
  if (newestAgeMs > staleAfterMs(policy)) {
    const why = `the newest sample is ${seconds(newestAgeMs)} old`;
    return { verdict: 'stale', samples, dropped, newestAgeMs, why };
  }
  const why = missingAtNewest(samples, newest, unusableAtMs);
  return { verdict: why === '' ? 'fresh' : 'partial', samples, dropped, newestAgeMs, why };
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
