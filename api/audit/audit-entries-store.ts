import type { Queryable } from '../../shared/db/pool.ts';
import { decodeSequenceCursor, nextCursor } from '../http/page-cursor.ts';

/** An entry of the audit log as the API shows it. */
export interface AuditEntryRow {
  readonly id: number;
  readonly at: string;
  readonly actor: string;
  readonly action: string;
  readonly resource_id: string | null;
  readonly subject: string | null;
  readonly request_id: string | null;
  readonly remote_address: string | null;
  readonly detail: Record<string, unknown>;
  readonly chain_no: number;
  readonly hash: string;
}

export interface AuditFilter {
  readonly resource_id?: string | undefined;
  readonly actor?: string | undefined;
  readonly action?: string | undefined;
  readonly limit: number;
  readonly cursor?: string | undefined;
}

/** Newest first. Index: the primary key, or audit_log_chain, along which ids rise as well. */
export async function listAuditEntries(
  db: Queryable,
  filter: AuditFilter,
): Promise<{ entries: AuditEntryRow[]; cursor: string | null }> {
  const before = decodeSequenceCursor(filter.cursor);
  const [where, order] =
    filter.resource_id === undefined
      ? ['$1::uuid is null', 'a.id']
      : ['a.resource_id = $1', 'a.resource_id desc, a.chain_no'];
  const { rows } = await db.query<AuditEntryRow>(
    `select a.id::double precision as id, to_char(a.at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at,
        a.actor, a.action, a.resource_id, a.subject, a.request_id, a.remote_address, a.detail,
        a.chain_no::double precision as chain_no, encode(a.hash, 'hex') as hash
      from audit_log a where ${where} and ($2::bigint is null or a.id < $2)
        and ($3::text is null or a.actor = $3) and ($4::text is null or a.action = $4)
      order by ${order} desc limit $5`,
    [filter.resource_id ?? null, before, filter.actor ?? null, filter.action ?? null, filter.limit],
  );
  return { entries: rows, cursor: nextCursor(rows, filter.limit, (row) => [row.id]) };
}
