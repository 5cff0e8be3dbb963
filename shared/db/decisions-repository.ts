import type { Selectors } from '../domain/api-key.ts';
import { NotFound } from '../errors.ts';
import { iso } from './iso-column.ts';
import { decodeCursor, encodeCursor } from './page-cursor.ts';
import type { Queryable } from './pool.ts';
import { coveredBy, selectorsParameter } from './selectors-repository.ts';

/** A decision as the API shows it: the platform's fields, then ours. */
export interface DecisionRow {
  readonly id: string;
  readonly resource_id: string;
  readonly decision_type: 'scaleup' | 'scaledown' | 'noaction';
  readonly current_instances: number;
  readonly target_instances: number;
  readonly reason: string;
  /** USD per hour at `target_instances`. */
  readonly estimated_cost: number;
  readonly confidence: number;
  readonly created_at: string;
  readonly executed: boolean;
  readonly explanation: Record<string, unknown>;
  readonly reason_code: string;
  readonly state: DecisionState;
  readonly expires_at: string;
  readonly seq: number;
}

export type DecisionState =
  | 'none'
  | 'pending'
  | 'executing'
  | 'executed'
  | 'failed'
  | 'expired'
  | 'superseded';

const columns = `id, resource_id, decision_type, current_instances, target_instances, reason, estimated_cost::double precision as estimated_cost,
  confidence, ${iso('created_at')}, executed, explanation, reason_code,
  case when state = 'pending' and expires_at < now() then 'expired' else state end as state, ${iso('expires_at')}, seq::double precision as seq`;

export async function findDecision(db: Queryable, id: string): Promise<DecisionRow | null> {
  const { rows } = await db.query<DecisionRow>({
    name: 'find_decision',
    text: `select ${columns} from scaling_decisions where id = $1`,
    values: [id],
  });
  return rows[0] ?? null;
}

export function decisionNotFound(id: string): NotFound {
  return new NotFound('decision_not_found', `There is no decision ${id}: decide first.`);
}

/** Newest first. Index: scaling_decisions_by_resource, or the unique one on seq. */
export async function listDecisions(
  db: Queryable,
  filter: {
    readonly resource_id?: string | undefined;
    readonly limit: number;
    readonly cursor?: string | undefined;
    /** Only decisions of resources these cover. */
    readonly selectors: Selectors;
  },
): Promise<{ decisions: DecisionRow[]; cursor: string | null }> {
  const before = filter.cursor === undefined ? null : (decodeCursor(filter.cursor, 'seq')[0] ?? null);
  const { rows } = await db.query<DecisionRow>(
    `select ${columns} from scaling_decisions
      where ($1::uuid is null or resource_id = $1) and ($2::bigint is null or scaling_decisions.seq < $2)
        and ${coveredBy('$4', 'scaling_decisions.resource_id')}
      order by scaling_decisions.seq desc limit $3`,
    [filter.resource_id ?? null, before, filter.limit, selectorsParameter(filter.selectors)],
  );
  const last = rows.at(-1);
  return {
    decisions: rows,
    cursor: rows.length < filter.limit || last === undefined ? null : encodeCursor([last.seq]),
  };
}

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
