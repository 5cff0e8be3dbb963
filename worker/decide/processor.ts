import type { Job } from 'bullmq';
import { errorMessage } from '../../shared/errors.ts';
import { Batcher } from '../../shared/jobs/batcher.ts';
import { enqueue } from '../../shared/queues/queues.ts';
import type { ForecasterCache } from '../forecast/forecaster-cache.ts';
import { Claims } from '../queue/claims.ts';
import type { ClaimedJob, JobCompletion } from '../queue/jobs-store.ts';
import { afterUnexpected, type JobEnd, type RunDeps, reportFinished, runEntry } from '../queue/run-job.ts';
import { decideForResources } from './decide-batch.ts';
import { FleetProtections } from './fleet-protections.ts';

/** Serves the `decide` queue: what arrives together is claimed, read, decided and committed together. */
export function createDecideProcessor(
  deps: RunDeps & { readonly decisionLifetimeMs: number; readonly forecasts: ForecasterCache },
): (entry: Job) => Promise<unknown> {
  const claims = new Claims(deps, 'decide');
  const protections = new FleetProtections(deps.pool);
  const decisions = new Batcher<ClaimedJob, JobCompletion | null>(async (jobs) => {
    const startedAt = performance.now();
    const { completions, followUps } = await decideForResources(
      {
        pool: deps.pool,
        decisionLifetimeMs: deps.decisionLifetimeMs,
        forecasts: deps.forecasts,
        protections,
        onDecision: (decision) =>
          deps.metrics.decisions.inc({ outcome: decision.decisionType, reason: decision.reasonCode }),
      },
      jobs,
    );
    const byId = new Map(completions.map((completion) => [completion.id, completion]));
    reportFinished(
      deps,
      'decide',
      jobs.flatMap((job) => {
        const completion = byId.get(job.id);
        return completion === undefined ? [] : [{ job, completion, startedAt }];
      }),
    );
    if (followUps.length > 0) {
      await enqueue(
        deps.queues,
        followUps.map((job) => ({ id: job.id, queue: job.queue, seq: 0 })),
      ).catch((error: unknown) => {
        deps.logger.warn({ event: 'enqueue.failed', detail: errorMessage(error) }, 'the relay enqueues them');
      });
    }
    return jobs.map((job) => byId.get(job.id) ?? null);
  });
  return (entry) =>
    runEntry(entry, claims, async (job): Promise<JobEnd> => {
      try {
        const completion = await decisions.add(job);
        if (completion === null) return { id: job.id, state: 'skipped' };
        return {
          id: job.id,
          state: 'finished',
          ...(completion.error === null ? {} : { failure: completion.error.message }),
        };
      } catch (error) {
        return await afterUnexpected(deps, job, error);
      }
    });
}
