import type { Candidate, EngineSample } from './types.ts';
import { metricName } from './wording.ts';

/** 1.5 %: what a ratio of 1.5 looks like when it is taken for a percentage. */
const smallRatio = 0.015;
/** A fall by so much at once, down to a small value, is that of a source that changed its unit. */
const leastFall = 50;
const mostFall = 200;

/**
 * Whether utilisation that was not declared looks like ratios taken for percentages: every value is small, or one metric
 * fell to a hundredth at once.
 * @param samples plausible, oldest first.
 * @returns a clause that fits behind "because", or null.
 */
export function doubtUnit(samples: readonly EngineSample[]): string | null {
  const newest = samples.at(-1);
  if (newest === undefined || !(isSmall(newest.cpuRatio) || isSmall(newest.memoryRatio))) return null;
  const values = { cpu: valuesOf(samples, 'cpu'), memory: valuesOf(samples, 'memory') };
  const all = [...values.cpu, ...values.memory];
  if (all.length > 0 && all.every((value) => value <= smallRatio)) {
    const most = all.reduce((highest, value) => Math.max(highest, value), 0);
    return `no value is above ${points(most)}, so these look like ratios: ${whatToDo}`;
  }
  for (const metric of ['cpu', 'memory'] as const) {
    const fall = fallOf(values[metric]);
    if (fall === null) continue;
    return `${metricName(metric)} fell from ${points(fall.from)} to ${points(fall.to)} at once, which looks like another unit: ${whatToDo}`;
  }
  return null;
}

function isSmall(ratio: number | null): boolean {
  return ratio !== null && ratio > 0 && ratio <= smallRatio;
}

/** Whether all of these small values, undeclared, look like ratios. */
export function areSmall(ratios: readonly number[]): boolean {
  return ratios.some((ratio) => ratio > 0) && ratios.every((ratio) => ratio <= smallRatio);
}

const whatToDo = 'set utilization_unit to ratio or to percent';

/** Zero is the same in both units. */
function valuesOf(samples: readonly EngineSample[], metric: Candidate['metric']): number[] {
  return samples
    .map((sample) => (metric === 'cpu' ? sample.cpuRatio : sample.memoryRatio))
    .filter((ratio): ratio is number => ratio !== null && ratio > 0);
}

/** The step from the last value that was not small to the small ones that followed, where it is about a hundredth. */
function fallOf(values: readonly number[]): { from: number; to: number } | null {
  const at = values.findLastIndex((value) => value > smallRatio);
  const [from, to] = [values[at], values[at + 1]];
  if (from === undefined || to === undefined) return null;
  const fall = from / to;
  return fall >= leastFall && fall <= mostFall ? { from, to } : null;
}

function points(ratio: number): string {
  return `${Number((ratio * 100).toPrecision(3))}%`;
}
