import type { Job } from 'bullmq';
import { Claims } from '../queue/claims.ts';
import { type ClaimedJob, finishJobs, type JobCompletion } from '../queue/jobs-store.ts';
import { afterUnexpected, type JobEnd, type RunDeps, reportFinished, runEntry } from '../queue/run-job.ts';
import { verifyDecision } from '../simulate/replay-decision.ts';
import { simulatePolicy } from '../simulate/simulate-policy.ts';
import { buildForecaster } from './build-forecaster.ts';
import type { ForecasterCache } from './forecaster-cache.ts';

/** Serves the `forecast` queue: what computes for long and must not delay decisions. */
export function createForecastProcessor(
  deps: RunDeps & { readonly forecasts: ForecasterCache },
): (entry: Job) => Promise<unknown> {
  const claims = new Claims(deps, 'forecast');
  return (entry) =>
    runEntry(entry, claims, async (job): Promise<JobEnd> => {
      const startedAt = performance.now();
      try {
        const completion = await run(deps, job);
        if (!(await finishJobs(deps.pool, [completion])).has(job.id)) return { id: job.id, state: 'skipped' };
        reportFinished(deps, 'forecast', [{ job, completion, startedAt }]);
        const failure = completion.error?.message;
        return { id: job.id, state: 'finished', ...(failure === undefined ? {} : { failure }) };
      } catch (error) {
        return await afterUnexpected(deps, job, error);
      }
    });
}

async function run(
  deps: RunDeps & { readonly forecasts: ForecasterCache },
  job: ClaimedJob,
): Promise<JobCompletion> {
  switch (job.kind) {
    case 'forecast':
      return await buildForecaster(deps, job);
    case 'simulate':
      return await simulatePolicy(deps.pool, job);
    case 'verify':
      return await verifyDecision(deps.pool, job);
    default: {
      const error = {
        code: 'unknown_job_kind',
        message: `This worker does not know jobs of kind ${job.kind}: update it.`,
        http_status: 500,
      };
      return { id: job.id, fence: job.fence, status: 'failed', outcome: 'rejected', result: null, error };
    }
  }
}
