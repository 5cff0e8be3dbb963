/** A decision lives for minutes only, so no advice to wait longer is worth following to the letter. */
const longestMs = 60_000;

/** The wait a throttled answer advises, in ms, at most a minute; undefined when it names no number of seconds. */
export function retryAfterMs(
  headers: Readonly<Record<string, string | undefined>> | undefined,
): number | undefined {
  const seconds = Number(headers?.['retry-after']);
  return Number.isFinite(seconds) && seconds > 0 ? Math.min(longestMs, seconds * 1_000) : undefined;
}
