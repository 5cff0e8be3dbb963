import { iso } from '../../shared/db/iso-column.ts';
import type { Queryable } from '../../shared/db/pool.ts';
import { coveredBy, selectorsParameter } from '../../shared/db/selectors-store.ts';
import type { Selectors } from '../../shared/domain/api-key.ts';
import { NotFound } from '../../shared/errors.ts';
import { findOr404 } from '../http/find-or-404.ts';
import { decodeSequenceCursor, nextCursor } from '../http/page-cursor.ts';

/** A stored decision as the API shows it. */
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

const columns = `id, resource_id, decision_type, current_instances, target_instances, reason,
  estimated_cost::double precision as estimated_cost, confidence, ${iso('created_at')}, executed, explanation,
  reason_code, case when state = 'pending' and expires_at < now() then 'expired' else state end as state,
  ${iso('expires_at')}, seq::double precision as seq`;

export async function findDecision(db: Queryable, id: string): Promise<DecisionRow | null> {
  const { rows } = await db.query<DecisionRow>({
    name: 'find_decision',
    text: `select ${columns} from scaling_decisions where id = $1`,
    values: [id],
  });
  return rows[0] ?? null;
}

/** @throws NotFound */
export async function getDecision(db: Queryable, id: string): Promise<DecisionRow> {
  return await findOr404(findDecision(db, id), () => decisionNotFound(id));
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
    /** Only decisions of the resources these cover. */
    readonly selectors: Selectors;
  },
): Promise<{ decisions: DecisionRow[]; cursor: string | null }> {
  const before = decodeSequenceCursor(filter.cursor);
  const { rows } = await db.query<DecisionRow>(
    `select ${columns} from scaling_decisions
      where ($1::uuid is null or resource_id = $1) and ($2::bigint is null or scaling_decisions.seq < $2)
        and ${coveredBy('$4', 'scaling_decisions.resource_id')}
      order by scaling_decisions.seq desc limit $3`,
    [filter.resource_id ?? null, before, filter.limit, selectorsParameter(filter.selectors)],
  );
  return { decisions: rows, cursor: nextCursor(rows, filter.limit, (row) => [row.seq]) };
}
