import type { Job } from 'bullmq';
import type { JobQueueName } from '../../shared/queues/queues.ts';
import { type ExecuteDeps, executeDecision } from '../jobs/execute-decision.ts';
import {
  afterUnexpected,
  announce,
  createClaims,
  type JobEnd,
  postponeAndRing,
  type RunDeps,
  runEntry,
} from './run-job.ts';

/** Serves one of the execution queues. */
export function createExecuteProcessor(
  deps: RunDeps & ExecuteDeps,
  queue: JobQueueName,
): (entry: Job) => Promise<unknown> {
  const claims = createClaims(deps.pool, queue);
  return (entry) =>
    runEntry(entry, async (id): Promise<JobEnd> => {
      const job = await claims.add(id);
      if (job === null) return { id, state: 'skipped' };
      const startedAt = performance.now();
      try {
        const outcome = await executeDecision(deps, job);
        if (outcome.kind === 'postpone')
          return await postponeAndRing(deps, job, outcome.delayMs, outcome.refund, outcome.error);
        announce(deps, queue, [{ job, completion: outcome.completion, startedAt }]);
        const failure = outcome.completion.error?.message;
        return { id, state: 'finished', ...(failure === undefined ? {} : { failure }) };
      } catch (error) {
        return await afterUnexpected(deps, job, error);
      }
    });
}
