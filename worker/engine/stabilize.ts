import type { CheckedSamples } from './data-quality.ts';
import { describeProposal, forecastNeed, requiredAt, roundUp } from './demand.ts';
import type { Recommendation } from './recommend.ts';
import type { Stage } from './stage.ts';
import type { EngineInput, EngineSample } from './types.ts';
import { seconds } from './wording.ts';

/**
 * Scaling in waits until complete, fresh data of the whole window agrees: the window's highest need counts. Scaling out
 * never waits.
 */
export function stabilize(
  wanted: number,
  input: EngineInput,
  data: CheckedSamples,
  recommendation: Recommendation,
): Stage {
  const { currentInstances: current, policy, nowMs } = input;
  if (wanted >= current) return { capacity: wanted };
  if (data.verdict === 'suspect_unit') return { capacity: current, code: 'suspect_unit', detail: data.why };
  if (data.verdict !== 'fresh') return { capacity: current, code: doubtCode(data), detail: data.why };
  if (recommendation.saturated !== undefined) {
    const detail = `${describeProposal(recommendation.saturated)} hides how much is needed`;
    return { capacity: current, code: 'saturated', detail };
  }
  const windowMs = policy.stabilizationWindowMs;
  const newest = data.samples.at(-1);
  // Where samples are slow, the window ends with the newest of them.
  const endMs = Math.min(nowMs, (newest?.atMs ?? nowMs) + data.intervalMs - 1);
  const window = data.samples.filter((sample) => sample.atMs > endMs - windowMs);
  const expected = Math.floor(windowMs / data.intervalMs);
  const covered = intervalsCovered(window, newest, data.intervalMs, nowMs);
  if (covered < expected / 2) {
    const detail = `the stabilization window of ${seconds(windowMs)} has complete samples in ${covered} of its ${expected} intervals`;
    return { capacity: current, code: 'partial_data', detail };
  }
  return recommendation.forecast === null
    ? highestOf(window, wanted, input, recommendation)
    : highestForecast(wanted, input, recommendation);
}

/** Why data that is not fresh may not scale in. */
export function doubtCode({
  verdict,
}: CheckedSamples): 'no_data' | 'stale_data' | 'suspect_unit' | 'partial_data' {
  if (verdict === 'none') return 'no_data';
  if (verdict === 'suspect_unit') return verdict;
  return verdict === 'stale' ? 'stale_data' : 'partial_data';
}

/** What forecasts of the window asked for: capacity ordered for a time is not given back before that time has come. */
function highestForecast(
  wanted: number,
  { currentInstances: current, policy }: EngineInput,
  recommendation: Recommendation,
): Stage {
  const highest = Math.max(
    ...(recommendation.forecast?.metrics ?? []).map((metric) =>
      roundUp(forecastNeed(metric.windowHighest, metric.metric, policy)),
    ),
  );
  if (highest <= wanted) return { capacity: wanted };
  const capacity = Math.min(highest, current);
  const detail = `a forecast of the last ${seconds(policy.stabilizationWindowMs)} still needs ${highest}`;
  return { capacity, code: 'stabilized', detail };
}

function highestOf(
  window: readonly EngineSample[],
  wanted: number,
  input: EngineInput,
  { responses }: Recommendation,
): Stage {
  const { currentInstances: current, policy, nowMs } = input;
  let highest = wanted;
  let highestAtMs = nowMs;
  let lastAgainstMs = nowMs;
  for (const sample of window) {
    const required = requiredAt(sample, { policy, responses });
    if (required >= highest && required > wanted) {
      highest = required;
      highestAtMs = sample.atMs;
    }
    if (required >= current) lastAgainstMs = sample.atMs;
  }
  if (highest === wanted) return { capacity: wanted };
  const windowMs = policy.stabilizationWindowMs;
  const detail = `${highest} were needed ${seconds(Math.max(0, nowMs - highestAtMs))} ago, within the stabilization window of ${seconds(windowMs)}`;
  if (highest < current) return { capacity: highest, code: 'stabilized', detail };
  return { capacity: current, code: 'stabilized', detail, untilMs: lastAgainstMs + windowMs };
}

/**
 * Many samples of one minute are no history of five: how many decision intervals have a sample as complete as the
 * newest.
 */
function intervalsCovered(
  window: readonly EngineSample[],
  newest: EngineSample | undefined,
  intervalMs: number,
  nowMs: number,
): number {
  let covered = 0;
  let previous = Number.NaN;
  for (const sample of window) {
    if (sample.cpuRatio === null && newest?.cpuRatio !== null) continue;
    if (sample.memoryRatio === null && newest?.memoryRatio !== null) continue;
    const interval = Math.max(0, Math.floor((nowMs - sample.atMs) / intervalMs));
    if (interval !== previous) covered++;
    previous = interval;
  }
  return covered;
}
