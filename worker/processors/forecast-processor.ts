import type { Job } from 'bullmq';
import { type ClaimedJob, finishJobs, type JobCompletion } from '../../shared/db/jobs-repository.ts';
import { buildForecaster } from '../jobs/build-forecaster.ts';
import type { ForecastStore } from '../jobs/forecast-store.ts';
import { simulatePolicy } from '../jobs/simulate-policy.ts';
import { verifyDecision } from '../jobs/verify-decision.ts';
import { Claims } from './claims.ts';
import { afterUnexpected, announce, type JobEnd, type RunDeps, runEntry } from './run-job.ts';

/** Serves the `forecast` queue: what computes for long and must not delay decisions. */
export function createForecastProcessor(
  deps: RunDeps & { readonly forecasts: ForecastStore },
): (entry: Job) => Promise<unknown> {
  const claims = new Claims(deps, 'forecast');
  return (entry) =>
    runEntry(entry, claims, async (job): Promise<JobEnd> => {
      const startedAt = performance.now();
      try {
        const completion = await run(deps, job);
        if (!(await finishJobs(deps.pool, [completion])).has(job.id)) return { id: job.id, state: 'skipped' };
        announce(deps, 'forecast', [{ job, completion, startedAt }]);
        const failure = completion.error?.message;
        return { id: job.id, state: 'finished', ...(failure === undefined ? {} : { failure }) };
      } catch (error) {
        return await afterUnexpected(deps, job, error);
      }
    });
}

async function run(
  deps: RunDeps & { readonly forecasts: ForecastStore },
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
