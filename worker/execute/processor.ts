import type { Job } from 'bullmq';
import type { JobQueueName } from '../../shared/queues/queues.ts';
import { Claims } from '../queue/claims.ts';
import {
  afterUnexpected,
  type JobEnd,
  postponeAndEnqueue,
  type RunDeps,
  reportFinished,
  runEntry,
} from '../queue/run-job.ts';
import { type ExecuteDeps, executeDecision } from './perform.ts';

/** Serves one of the execution queues. */
export function createExecuteProcessor(
  deps: RunDeps & ExecuteDeps,
  queue: JobQueueName,
  claims: Claims = new Claims(deps, queue),
): (entry: Job) => Promise<unknown> {
  return (entry) =>
    runEntry(entry, claims, async (job): Promise<JobEnd> => {
      const startedAt = performance.now();
      try {
        const outcome = await executeDecision(deps, job);
        if (outcome.kind === 'postpone') return await postponeAndEnqueue(deps, job, outcome);
        reportFinished(deps, queue, [{ job, completion: outcome.completion, startedAt }]);
        const failure = outcome.completion.error?.message;
        return { id: job.id, state: 'finished', ...(failure === undefined ? {} : { failure }) };
      } catch (error) {
        return await afterUnexpected(deps, job, error);
      }
    });
}
