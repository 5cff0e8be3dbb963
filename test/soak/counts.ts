/** What was answered in one second, or in a whole phase. */
export interface TrafficCounts {
  sent: number;
  /** Due, but more than the load process could send in time. */
  unsent: number;
  answered: number;
  acceptedJobs: number;
  acceptedRequests: number;
  /** Wrong on purpose, and refused as they should be. */
  refused: number;
  shed429: number;
  shed503: number;
  /** By class, to compare what was refused first. */
  executes: number;
  shedExecutes503: number;
  decides: number;
  shedDecides503: number;
  /** Of the 503: PostgreSQL could not be had in time. */
  shedDatabase503: number;
  retryAfterMissing: number;
  retryAfterSum: number;
  /** No answer within 15 s, or a broken connection, by operation. */
  noAnswer: Record<string, number>;
  /** Every other answer, by operation and status. */
  errors: Record<string, number>;
  inFlight: number;
  /** How late the sender itself was, at most. */
  senderLateMs: number;
}

/** Adds the counts of a second to those of a step, in place. */
export function mergeCounts(into: TrafficCounts, from: TrafficCounts): void {
  for (const name of summed) into[name] += from[name];
  for (const field of ['errors', 'noAnswer'] as const)
    for (const [name, count] of Object.entries(from[field]))
      into[field][name] = (into[field][name] ?? 0) + count;
  into.inFlight = Math.max(into.inFlight, from.inFlight);
  into.senderLateMs = Math.max(into.senderLateMs, from.senderLateMs);
}

const summed = [
  'sent',
  'unsent',
  'answered',
  'acceptedJobs',
  'acceptedRequests',
  'refused',
  'shed429',
  'shed503',
  'executes',
  'shedExecutes503',
  'decides',
  'shedDecides503',
  'shedDatabase503',
  'retryAfterMissing',
  'retryAfterSum',
] as const;

export function emptyCounts(): TrafficCounts {
  const zeros = Object.fromEntries(summed.map((name) => [name, 0])) as Record<
    (typeof summed)[number],
    number
  >;
  return { ...zeros, errors: {}, noAnswer: {}, inFlight: 0, senderLateMs: 0 };
}

export function sumOf(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}
