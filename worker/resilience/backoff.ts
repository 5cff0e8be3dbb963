/** No wait is longer than this: a decision lives for minutes only. */
const longestMs = 60_000;

/**
 * Full jitter: a random wait between 0 and min(60 s, base × 2^attempt), so that many clients that failed together do
 * not come back together (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
 * @param random in [0, 1); a parameter so that tests can fix it.
 * @returns milliseconds.
 */
export function fullJitter(baseMs: number, attempt: number, random: () => number = Math.random): number {
  return random() * Math.min(longestMs, baseMs * 2 ** Math.min(attempt, 30));
}
