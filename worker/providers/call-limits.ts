/** How long a provider lets a call take, in ms. A caller's own signal may end it sooner. */
export interface CallLimits {
  /** All requests of one `describe` together. */
  readonly readMs: number;
  readonly writeMs: number;
  /** All requests of one `describeMany` together. */
  readonly manyMs: number;
}

/** What is not answered within these is not waited for: a late write is looked up, a late read is read again. */
export const callLimits: CallLimits = { readMs: 3_000, writeMs: 10_000, manyMs: 30_000 };
