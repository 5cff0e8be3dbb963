import { type Flatness, flatness, type Point, slopeOf } from '../soak/slope.ts';

/** What is left after garbage was collected, MB. */
export interface LiveMemory {
  /** The heap, and what lies outside it for JavaScript objects (buffers). */
  readonly liveMb: number;
  /** Of the whole process. */
  readonly rssMb: number;
}

export interface MemoryVerdict {
  readonly verdict: Flatness;
  readonly start_mb: number;
  readonly end_mb: number;
  /** Least squares over the least of each 1,000 requests; null when there are too few. */
  readonly mb_per_10k: number | null;
  readonly error_mb_per_10k: number | null;
  /** Over the requests judged. */
  readonly allowed_mb: number;
  readonly judged_from_request: number;
}

/**
 * Growth over the requests judged that is noise. Of the live memory: in 15,000 requests 140 bytes for each, less than what a
 * request leaves that is kept by mistake (a closure, a text and a Map's entry); a sound run's slope is known to 0.3 MB.
 * Of the whole process, which V8 gives back late and malloc in pieces: what the soak allows outside the heap. As everywhere, 5 % of
 * the level are not growth.
 */
export const allowedMb = { live: 2, rss: 12 } as const;

/** slopeOf() makes blocks of 20 s: here requests pass in place of seconds, so that a block is 1,000 of them. */
const requestsPerSecond = 50;
const perHour = requestsPerSecond * 3_600;

/** Whether memory grows once the process has run warm, which it has after a quarter of the requests. */
export function judgeMemory(
  measured: readonly (readonly [requests: number, mb: number])[],
  allowed: number,
): MemoryVerdict {
  const last = measured.at(-1)?.[0] ?? 0;
  const settled = measured.filter(([requests]) => requests >= last / 4);
  const points: Point[] = settled.map(([requests, mb]) => ({ at: requests / requestsPerSecond, value: mb }));
  const slope = slopeOf(points, 'minimum');
  const per10k = (value: number | undefined) =>
    value === undefined ? null : round((value / perHour) * 10_000);
  return {
    verdict: flatness(slope, allowed),
    start_mb: round(settled[0]?.[1] ?? 0),
    end_mb: round(settled.at(-1)?.[1] ?? 0),
    mb_per_10k: per10k(slope?.perHour),
    error_mb_per_10k: per10k(slope?.error),
    allowed_mb: allowed,
    judged_from_request: settled[0]?.[0] ?? 0,
  };
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
