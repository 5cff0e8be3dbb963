import type { Candidate } from './types.ts';

/** How the engine's sentences write numbers and names. */
export const metricName = (metric: Candidate['metric']): string => (metric === 'cpu' ? 'CPU' : 'memory');

export const percent = (ratio: number): string => `${Math.round(ratio * 100)}%`;

/** With a digit more, for shares of a few percent. */
export const percentOf = (ratio: number): string => `${Number((ratio * 100).toPrecision(2))}%`;

/** Rounded up: "0 s are left" would read as over. */
export const seconds = (durationMs: number): string => `${Math.ceil(durationMs / 1_000)} s`;

export const instances = (count: number): string => `${count} ${count === 1 ? 'instance' : 'instances'}`;
