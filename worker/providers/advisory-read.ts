import { withDeadline } from '../resilience/deadline.ts';
import type { ProviderError } from './provider-error.ts';
import type { Block } from './scaling-provider.ts';

/** Of the time for a whole look: an advisory read that hangs must not end it. */
export const advisoryShare = 0.8;

/** What an advisory read asks, and what it takes. */
export interface AdvisoryRead {
  /** Completes "It is not known …". */
  readonly question: string;
  /** The cloud's own name of the permission. */
  readonly permission: string;
  /** Less than the whole look may take. */
  readonly limitMs: number;
}

/**
 * A read that only advises: without its answer scaling out goes on, and nothing is scaled in.
 * @param classify the provider's own.
 * @returns the answer, or the block that its absence means.
 */
export async function advisory<T>(
  read: (signal: AbortSignal) => Promise<T>,
  { question, permission, limitMs }: AdvisoryRead,
  signal: AbortSignal,
  classify: (error: unknown) => ProviderError,
): Promise<{ readonly answer: T } | { readonly gap: Block }> {
  try {
    return { answer: await withDeadline(signal, limitMs, read) };
  } catch (error) {
    // The look itself is over: no gap in it, but its end.
    if (signal.aborted) throw error;
    const failure = classify(error);
    return {
      gap: {
        code: 'advisory_read_failed',
        direction: 'down',
        message: `It is not known ${question}, so nothing is scaled in: ${failure.message} It takes the permission ${permission}.`,
      },
    };
  }
}
