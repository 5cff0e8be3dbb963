import { isDeepStrictEqual } from 'node:util';
import type pg from 'pg';
import { findStoredDecision, type StoredDecision } from '../decide/decisions-store.ts';
import { presentExplanation } from '../decide/present-decision.ts';
import { unpackInputs } from '../decide/stored-inputs.ts';
import { decide, engineVersion } from '../engine/decide.ts';
import type { ClaimedJob, JobCompletion } from '../queue/jobs-store.ts';

/** Decides again from what was stored with a decision, and says whether everything comes out the same, bit for bit. */
export async function verifyDecision(pool: pg.Pool, job: ClaimedJob): Promise<JobCompletion> {
  const common = { id: job.id, fence: job.fence } as const;
  const stored = await findStoredDecision(pool, job.decision_id as string);
  if (stored === null) {
    const error = {
      code: 'decision_not_found',
      message: `There is no decision ${job.decision_id}.`,
      http_status: 404,
    };
    return { ...common, status: 'failed', outcome: 'rejected', result: null, error };
  }
  const result = { decision_id: job.decision_id, ...compare(stored) };
  return { ...common, status: 'completed', outcome: 'succeeded', result, error: null };
}

/** @returns the fields that differ; another engine version is named, not compared. */
export function compare(stored: StoredDecision): Record<string, unknown> {
  if (stored.engine_version !== engineVersion) {
    return {
      equal: null,
      engine_version: stored.engine_version,
      running_engine_version: engineVersion,
      message: `Decided by engine ${stored.engine_version}; this worker runs ${engineVersion}: replay it with that release.`,
    };
  }
  const again = decide(unpackInputs(stored.inputs));
  const explanation = presentExplanation(again.explanation, again.reasonCode, {});
  // The cost is not the engine's: prices are read when deciding.
  const withoutCost = ({ cost: _, ...rest }: Record<string, unknown>) => JSON.parse(JSON.stringify(rest));
  const pairs: [string, unknown, unknown][] = [
    ['decision_type', stored.decision_type, again.decisionType],
    ['current_instances', stored.current_instances, again.currentInstances],
    ['target_instances', stored.target_instances, again.targetInstances],
    ['reason', stored.reason, again.reason],
    ['reason_code', stored.reason_code, again.reasonCode],
    ['confidence', stored.confidence, again.confidence],
    ['explanation', withoutCost(stored.explanation), withoutCost(explanation)],
  ];
  const differences = pairs
    .filter(([, before, after]) => !isDeepStrictEqual(before, after))
    .map(([field, before, after]) => ({ field, stored: before, recomputed: after }));
  return { equal: differences.length === 0, engine_version: engineVersion, differences };
}
