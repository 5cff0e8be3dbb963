import { setImmediate as nextTurn } from 'node:timers/promises';
import type pg from 'pg';
import { loadDecisionInputs } from '../decide/inputs-store.ts';
import { checkSamples, sampleIntervalMs } from '../engine/data-quality.ts';
import type { EnginePolicy, EngineSample } from '../engine/types.ts';
import { type Metric, ResourceForecaster, shapeOf } from '../forecaster/resource-forecaster.ts';
import type { ClaimedJob, JobCompletion } from '../queue/jobs-store.ts';
import type { InstanceSize } from '../samples/instance-size.ts';
import { readSamples } from '../samples/read-samples.ts';
import type { ForecasterCache } from './forecaster-cache.ts';

/** Two weeks: the week profile needs one, the pool of residuals another after it has learnt. */
const historyMs = 15 * 86_400_000;
const pageSize = 5_000;
/** After this many steps the event loop gets a turn. */
const stepsPerTurn = 500;

/** Builds the forecaster of a resource from its stored samples, in the background of the decisions. */
export async function buildForecaster(
  deps: { readonly pool: pg.Pool; readonly forecasts: ForecasterCache },
  job: ClaimedJob,
): Promise<JobCompletion> {
  const inputs = (await loadDecisionInputs(deps.pool, [job.resource_id])).get(job.resource_id);
  const common = { id: job.id, fence: job.fence } as const;
  if (inputs === undefined) {
    const error = {
      code: 'resource_not_found',
      message: 'The resource was deleted before it was its turn.',
      http_status: 404,
    };
    return { ...common, status: 'failed', outcome: 'rejected', result: null, error };
  }
  const { policy, nowMs } = inputs.engine;
  const samples = await readHistory(deps.pool, job.resource_id, inputs.size, policy, nowMs);
  const forecaster = await learn(samples, policy);
  await deps.forecasts.adopt(job.resource_id, forecaster, { size: inputs.size, policy });
  const result = { samples: samples.length, metrics: forecaster.metrics };
  return { ...common, status: 'completed', outcome: 'succeeded', result, error: null };
}

/** @returns the plausible samples of the last two weeks, oldest first, in today's instances. */
export async function readHistory(
  pool: pg.Pool,
  resourceId: string,
  size: InstanceSize,
  policy: EnginePolicy,
  nowMs: number,
  fromMs: number = nowMs - historyMs,
): Promise<EngineSample[]> {
  const all: EngineSample[] = [];
  let counted = null;
  for (let nextMs = fromMs; ; ) {
    const range = { fromMs: nextMs, toMs: nowMs + 1, limit: pageSize };
    const page = await readSamples(pool, resourceId, range, size, counted);
    all.push(...checkSamples(page.samples, policy, nowMs).samples);
    const last = page.samples.at(-1);
    if (page.samples.length < pageSize || last === undefined) return all;
    nextMs = last.atMs + 1;
    counted = page.counted;
  }
}

async function learn(samples: readonly EngineSample[], policy: EnginePolicy): Promise<ResourceForecaster> {
  const metrics: Metric[] = [];
  if (samples.some((sample) => sample.cpuRatio !== null)) metrics.push('cpu');
  if (samples.some((sample) => sample.memoryRatio !== null)) metrics.push('memory');
  const forecaster = new ResourceForecaster(shapeOf(policy, sampleIntervalMs(samples)), metrics);
  for (let start = 0; start < samples.length; start += stepsPerTurn) {
    forecaster.advance(samples.slice(start, start + stepsPerTurn), policy);
    await nextTurn();
  }
  return forecaster;
}
