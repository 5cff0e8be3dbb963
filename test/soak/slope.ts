/** A measured value; `at` in seconds. */
export interface Point {
  readonly at: number;
  readonly value: number;
}

export interface Slope {
  /** By least squares, in the value's unit. */
  readonly perHour: number;
  /** Standard error of `perHour`. */
  readonly error: number;
  readonly mean: number;
  readonly hours: number;
}

export type Flatness = 'flat' | 'growing' | 'too short to say';

const blockSeconds = 20;
const fewestBlocks = 6;
const secondsPerHour = 3_600;

/**
 * A line through the means (or, for a heap that is collected now and then, the minima) of blocks of 20 s: neighbouring
 * measurements are alike, and would make the error look smaller than it is.
 * @returns null with fewer than six blocks.
 */
export function slopeOf(points: readonly Point[], of: 'mean' | 'minimum' = 'mean'): Slope | null {
  const blocks = blocksOf(points, of);
  if (blocks.length < fewestBlocks) return null;
  const n = blocks.length;
  const meanAt = blocks.reduce((sum, { at }) => sum + at, 0) / n;
  const mean = blocks.reduce((sum, { value }) => sum + value, 0) / n;
  const spread = blocks.reduce((sum, { at }) => sum + (at - meanAt) ** 2, 0);
  const perSecond = blocks.reduce((sum, { at, value }) => sum + (at - meanAt) * (value - mean), 0) / spread;
  const residual = blocks.reduce(
    (sum, { at, value }) => sum + (value - mean - perSecond * (at - meanAt)) ** 2,
    0,
  );
  const error = Math.sqrt(residual / (n - 2) / spread);
  const first = blocks[0] as Point;
  const last = blocks[n - 1] as Point;
  return {
    perHour: perSecond * secondsPerHour,
    error: error * secondsPerHour,
    mean,
    hours: (last.at - first.at) / secondsPerHour,
  };
}

/**
 * Growing means: surely not level (two standard errors), and more over the time measured than `allowed` (in the value's
 * unit) or 5 % of the level, whichever is more.
 */
export function flatness(slope: Slope | null, allowed: number): Flatness {
  if (slope === null) return 'too short to say';
  const growth = slope.perHour * slope.hours;
  const isSure = slope.perHour - 2 * slope.error > 0;
  return isSure && growth > Math.max(allowed, 0.05 * slope.mean) ? 'growing' : 'flat';
}

function blocksOf(points: readonly Point[], of: 'mean' | 'minimum'): Point[] {
  const blocks = new Map<number, Point[]>();
  const start = points[0]?.at ?? 0;
  for (const point of points) {
    const block = Math.floor((point.at - start) / blockSeconds);
    const members = blocks.get(block);
    if (members === undefined) blocks.set(block, [point]);
    else members.push(point);
  }
  return [...blocks.values()].map((members) => {
    const values = members.map(({ value }) => value);
    const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0);
    return {
      at: sum(members.map(({ at }) => at)) / members.length,
      value: of === 'minimum' ? Math.min(...values) : sum(values) / values.length,
    };
  });
}
