import { randomUUID } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type pg from 'pg';
import { estimateCost, unitPrice } from '../../shared/cost/estimate.ts';
import { insertJobs, type NewJob } from '../../shared/db/jobs-store.ts';
import { withTransaction } from '../../shared/db/pool.ts';
import { decide } from '../engine/decide.ts';
import type { EngineDecision, FleetProtection } from '../engine/types.ts';
import type { ForecastAnswer, ForecasterCache } from '../forecast/forecaster-cache.ts';
import { type ClaimedJob, finishJobs, type JobCompletion, lockHeldJobs } from '../queue/jobs-store.ts';
import { insertDecisions, type NewDecision, saveResponses } from './decisions-store.ts';
import type { FleetProtections } from './fleet-protections.ts';
import { type DecisionInputs, loadDecisionInputs } from './inputs-store.ts';
import { presentExplanation } from './present-decision.ts';
import { packInputs } from './stored-inputs.ts';

export interface DecideDeps {
  readonly pool: pg.Pool;
  readonly decisionLifetimeMs: number;
  readonly forecasts: ForecasterCache;
  readonly protections: FleetProtections;
  readonly onDecision: (decision: EngineDecision) => void;
}

export interface DecideResult {
  readonly completions: readonly JobCompletion[];
  /** Executions that `auto` resources asked for, and forecasters to be built, committed with the decisions. */
  readonly followUps: readonly NewJob[];
}

/** Building a forecaster is not urgent, but pointless once the resource has changed again. */
const buildDeadlineMs = 15 * 60_000;
/** After this many decisions the event loop gets a turn, so that lock renewals are never late. */
const decisionsPerTurn = 25;

interface Prepared {
  readonly job: ClaimedJob;
  readonly inputs: DecisionInputs;
  readonly decision: EngineDecision;
  readonly row: NewDecision;
  readonly needsBuilding: boolean;
}

/**
 * Decides for a batch of claimed jobs: one read, the engine for each, one transaction. A job whose fence was lost
 * meanwhile leaves nothing behind.
 */
export async function decideForResources(
  deps: DecideDeps,
  jobs: readonly ClaimedJob[],
): Promise<DecideResult> {
  const fresh = jobs.filter((job) => !job.expired);
  const inputs = await loadDecisionInputs(deps.pool, [...new Set(fresh.map((job) => job.resource_id))]);
  const failures: JobCompletion[] = jobs
    .filter((job) => job.expired)
    .map((job) =>
      failed(job, 'expired', 'deadline_passed', 'The job waited past its deadline: ask again.', 409),
    );
  const [forecasts, protections] = await Promise.all([
    forecastsFor(deps, fresh, inputs),
    deps.protections.of(inputs.values()),
  ]);
  const prepared: Prepared[] = [];
  for (const [index, job] of fresh.entries()) {
    if (index > 0 && index % decisionsPerTurn === 0) await nextTurn();
    const known = inputs.get(job.resource_id);
    if (known === undefined)
      failures.push(
        failed(
          job,
          'rejected',
          'resource_not_found',
          'The resource was deleted before it was its turn.',
          404,
        ),
      );
    else prepared.push(prepare(job, known, forecasts.get(job.resource_id), protections.get(job.resource_id)));
  }
  const result = await save(deps, prepared, failures);
  for (const { decision } of prepared) deps.onDecision(decision);
  return result;
}

const wantsPrediction = (job: ClaimedJob): boolean => job.input.use_prediction === true;

/** Forecasts for the resources that one of the jobs wants predictions for. */
async function forecastsFor(
  deps: DecideDeps,
  jobs: readonly ClaimedJob[],
  inputs: ReadonlyMap<string, DecisionInputs>,
): Promise<Map<string, ForecastAnswer>> {
  const ids = new Set(jobs.filter(wantsPrediction).map((job) => job.resource_id));
  const asked = [...ids].flatMap((resourceId) => {
    const known = inputs.get(resourceId);
    return known === undefined ? [] : [{ resourceId, input: known.engine, size: known.size }];
  });
  return asked.length === 0 ? new Map() : await deps.forecasts.forecast(asked);
}

function prepare(
  job: ClaimedJob,
  inputs: DecisionInputs,
  forecasted: ForecastAnswer | undefined,
  protections: readonly FleetProtection[] | undefined,
): Prepared {
  const usePrediction = wantsPrediction(job);
  const engineInput = {
    ...inputs.engine,
    usePrediction,
    ...(usePrediction && forecasted !== undefined
      ? { forecast: forecasted.forecast, noForecast: forecasted.why }
      : {}),
    ...(protections === undefined ? {} : { protections }),
  };
  const decision = decide(engineInput);
  const price = unitPrice(inputs.price);
  const cost = estimateCost(price, decision.targetInstances, decision.currentInstances);
  const row: NewDecision = {
    id: randomUUID(),
    job_id: job.id,
    resource_id: job.resource_id,
    decision_type: decision.decisionType,
    current_instances: decision.currentInstances,
    target_instances: decision.targetInstances,
    reason: decision.reason,
    reason_code: decision.reasonCode,
    estimated_cost: cost.hourly_cost,
    confidence: decision.confidence,
    explanation: presentExplanation(decision.explanation, decision.reasonCode, cost),
    inputs: packInputs(engineInput),
    engine_version: decision.explanation.engineVersion,
    policy_version: decision.explanation.policyVersion,
  };
  return { job, inputs, decision, row, needsBuilding: usePrediction && forecasted?.needsBuilding === true };
}

async function save(
  deps: DecideDeps,
  prepared: readonly Prepared[],
  failures: readonly JobCompletion[],
): Promise<DecideResult> {
  return await withTransaction(deps.pool, async (tx) => {
    const held = await lockHeldJobs(
      tx,
      prepared.map(({ job }) => job),
    );
    const mine = prepared.filter(({ job }) => held.has(job.id));
    const stored = await insertDecisions(
      tx,
      mine.map(({ row }) => row),
      deps.decisionLifetimeMs,
    );
    const decided = mine.filter(({ row }) => stored.has(row.id));
    const completions = [
      ...failures,
      ...decided.map((entry) => completed(entry, stored.get(entry.row.id)?.created_at as string)),
    ];
    const learnt = learntOf(decided);
    if (learnt.length > 0) await saveResponses(tx, learnt);
    const finished = await finishJobs(tx, completions);
    const executions = decided
      .filter(({ inputs, row }) => inputs.mode === 'auto' && row.decision_type !== 'noaction')
      .map((entry) => execution(entry, deps.decisionLifetimeMs));
    const wanted = [...executions, ...builds(decided)];
    const inserted = wanted.length === 0 ? new Set() : await insertJobs(tx, wanted);
    return {
      completions: completions.filter((completion) => finished.has(completion.id)),
      followUps: wanted.filter((job) => inserted.has(job.id)),
    };
  });
}

/** What the decisions learnt, the newest of each resource, in one order for all workers. */
function learntOf(decided: readonly Prepared[]): { resourceId: string; state: unknown }[] {
  const learnt = new Map(
    decided
      .filter(({ decision }) => decision.responses !== null)
      .map(({ row, decision }) => [row.resource_id, decision.responses]),
  );
  return [...learnt]
    .map(([resourceId, state]) => ({ resourceId, state }))
    .toSorted((a, b) => (a.resourceId < b.resourceId ? -1 : 1));
}

/** The platform's synchronous shape, plus the explanation. */
function completed({ job, row }: Prepared, createdAt: string): JobCompletion {
  const result = {
    id: row.id,
    resource_id: row.resource_id,
    decision_type: row.decision_type,
    current_instances: row.current_instances,
    target_instances: row.target_instances,
    reason: row.reason,
    estimated_cost: Number(row.estimated_cost),
    confidence: row.confidence,
    created_at: createdAt,
    executed: false,
    explanation: row.explanation,
  };
  return {
    id: job.id,
    fence: job.fence,
    status: 'completed',
    outcome: row.decision_type === 'noaction' ? 'noop' : 'succeeded',
    result,
    error: null,
  };
}

function failed(
  job: ClaimedJob,
  outcome: 'rejected' | 'expired',
  code: string,
  message: string,
  status: number,
): JobCompletion {
  return {
    id: job.id,
    fence: job.fence,
    status: 'failed',
    outcome,
    result: null,
    error: { code, message, http_status: status },
  };
}

/** One job for each forecaster that has to be built; the database lets only one of a resource wait. */
function builds(decided: readonly Prepared[]): NewJob[] {
  const byResource = new Map(
    decided.filter((entry) => entry.needsBuilding).map((entry) => [entry.row.resource_id, entry.job]),
  );
  return [...byResource].map(([resourceId, job]) => ({
    id: randomUUID(),
    kind: 'forecast',
    queue: 'forecast',
    resource_id: resourceId,
    decision_id: null,
    input: { automatic: true },
    notify: false,
    deadlineMs: buildDeadlineMs,
    actor_key_id: 'auto',
    request_id: job.request_id ?? job.id,
    remote_address: null,
  }));
}

function execution({ job, inputs, row }: Prepared, lifetimeMs: number): NewJob {
  return {
    id: randomUUID(),
    kind: 'execute',
    queue: inputs.executeQueue,
    resource_id: row.resource_id,
    decision_id: row.id,
    input: { automatic: true },
    notify: false,
    deadlineMs: lifetimeMs,
    actor_key_id: 'auto',
    request_id: job.request_id ?? job.id,
    remote_address: null,
  };
}
