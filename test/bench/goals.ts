/** One thing the service is meant to reach, as a ratio within one run: absolute rates differ from machine to machine. */
export interface Goal {
  readonly id: string;
  readonly what: string;
  readonly measured: number | null;
  readonly goal: number;
  readonly better: 'higher' | 'lower';
  readonly met: boolean | null;
}

/** The middle value, or the mean of the two in the middle; NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return Number.NaN;
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

export function judge(
  id: string,
  what: string,
  measured: number | null,
  better: Goal['better'],
  goal: number,
): Goal {
  const known = measured !== null && Number.isFinite(measured);
  const met = known ? (better === 'higher' ? measured >= goal : measured <= goal) : null;
  return { id, what, measured: known ? measured : null, goal, better, met };
}
