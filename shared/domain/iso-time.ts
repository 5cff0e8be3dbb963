/** Epoch milliseconds as ISO 8601 in UTC; null where there is no such moment (null, or without end). */
export function isoOrNull(ms: number | null): string | null {
  return ms === null || !Number.isFinite(ms) ? null : new Date(ms).toISOString();
}
