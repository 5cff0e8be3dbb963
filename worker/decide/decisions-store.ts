import { iso } from '../../shared/db/iso-column.ts';
import type { Queryable } from '../../shared/db/pool.ts';
import type { StoredInputs } from './stored-inputs.ts';

export interface NewDecision {
  readonly id: string;
  readonly job_id: string;
  readonly resource_id: string;
  readonly decision_type: string;
  readonly current_instances: number;
  readonly target_instances: number;
  readonly reason: string;
  readonly reason_code: string;
  /** Decimal string or number, USD per hour. */
  readonly estimated_cost: string | number;
  readonly confidence: number;
  readonly explanation: unknown;
  readonly inputs: unknown;
  readonly engine_version: string;
  readonly policy_version: number;
}

/** One decision per decide job; a second insert for the same job is left out of the answer. */
export async function insertDecisions(
  db: Queryable,
  decisions: readonly NewDecision[],
  lifetimeMs: number,
): Promise<Map<string, { created_at: string; seq: number }>> {
  const { rows } = await db.query<{ id: string; created_at: string; seq: number }>({
    name: 'insert_decisions',
    text: `insert into scaling_decisions (id, job_id, resource_id, decision_type, current_instances, target_instances, reason, reason_code,
        estimated_cost, confidence, state, explanation, inputs, engine_version, policy_version, expires_at)
      select d.id, d.job_id, d.resource_id, d.decision_type, d.current_instances, d.target_instances, d.reason, d.reason_code,
        d.estimated_cost, d.confidence, case d.decision_type when 'noaction' then 'none' else 'pending' end, d.explanation, d.inputs,
        d.engine_version, d.policy_version, now() + $15 * interval '1 millisecond'
      from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::integer[], $6::integer[], $7::text[], $8::text[], $9::numeric[],
        $10::double precision[], $11::json[], $12::json[], $13::text[], $14::integer[])
        as d (id, job_id, resource_id, decision_type, current_instances, target_instances, reason, reason_code, estimated_cost, confidence,
          explanation, inputs, engine_version, policy_version)
      on conflict (job_id) do nothing
      returning id, ${iso('created_at')}, seq::double precision as seq`,
    values: [
      decisions.map((decision) => decision.id),
      decisions.map((decision) => decision.job_id),
      decisions.map((decision) => decision.resource_id),
      decisions.map((decision) => decision.decision_type),
      decisions.map((decision) => decision.current_instances),
      decisions.map((decision) => decision.target_instances),
      decisions.map((decision) => decision.reason),
      decisions.map((decision) => decision.reason_code),
      decisions.map((decision) => String(decision.estimated_cost)),
      decisions.map((decision) => decision.confidence),
      decisions.map((decision) => JSON.stringify(decision.explanation)),
      decisions.map((decision) => JSON.stringify(decision.inputs)),
      decisions.map((decision) => decision.engine_version),
      decisions.map((decision) => decision.policy_version),
      lifetimeMs,
    ],
  });
  return new Map(rows.map((row) => [row.id, row]));
}

/** Keeps what decisions learnt of how metrics respond to the count. */
export async function saveResponses(
  db: Queryable,
  responses: readonly { readonly resourceId: string; readonly state: unknown }[],
): Promise<void> {
  await db.query({
    name: 'save_metric_responses',
    text: `insert into metric_responses (resource_id, state)
      select r.id, v.state from unnest($1::uuid[], $2::json[]) as v (id, state) join resources r on r.id = v.id
      on conflict (resource_id) do update set state = excluded.state, updated_at = now()`,
    values: [
      responses.map(({ resourceId }) => resourceId),
      responses.map(({ state }) => JSON.stringify(state)),
    ],
  });
}

/** A decision as it was stored, with the inputs it was made from. */
export interface StoredDecision {
  readonly decision_type: string;
  readonly current_instances: number;
  readonly target_instances: number;
  readonly reason: string;
  readonly reason_code: string;
  readonly confidence: number;
  readonly explanation: Record<string, unknown>;
  readonly inputs: StoredInputs;
  readonly engine_version: string;
}

export async function findStoredDecision(db: Queryable, id: string): Promise<StoredDecision | null> {
  const { rows } = await db.query<StoredDecision>({
    name: 'read_stored_decision',
    text: `select decision_type, current_instances, target_instances, reason, reason_code, confidence, explanation, inputs, engine_version
      from scaling_decisions where id = $1`,
    values: [id],
  });
  return rows[0] ?? null;
}
