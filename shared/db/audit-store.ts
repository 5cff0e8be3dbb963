import type { Queryable } from './pool.ts';

export interface AuditEntry {
  readonly actor: string;
  readonly action: string;
  readonly resource_id?: string | null;
  readonly subject?: string | null;
  /** Null for what no single request did. */
  readonly request_id: string | null;
  readonly remote_address: string | null;
  readonly detail?: Readonly<Record<string, unknown>>;
}

/** Who did what. Append-only; triggers see to it. */
export async function audit(db: Queryable, entry: AuditEntry): Promise<void> {
  await db.query({
    name: 'audit',
    text: 'insert into audit_log (actor, action, resource_id, subject, request_id, remote_address, detail) values ($1, $2, $3, $4, $5, $6, $7)',
    values: [
      entry.actor,
      entry.action,
      entry.resource_id ?? null,
      entry.subject ?? null,
      entry.request_id,
      entry.remote_address,
      JSON.stringify(entry.detail ?? {}),
    ],
  });
}

/** Many entries in one statement, in the order given. */
export async function auditMany(db: Queryable, entries: readonly AuditEntry[]): Promise<void> {
  await db.query({
    name: 'audit_many',
    text: `insert into audit_log (actor, action, resource_id, subject, request_id, remote_address, detail)
      select actor, action, resource_id, subject, request_id, remote_address, detail
      from unnest($1::text[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::jsonb[])
        with ordinality as e (actor, action, resource_id, subject, request_id, remote_address, detail, place)
      order by place`,
    values: [
      entries.map((entry) => entry.actor),
      entries.map((entry) => entry.action),
      entries.map((entry) => entry.resource_id ?? null),
      entries.map((entry) => entry.subject ?? null),
      entries.map((entry) => entry.request_id),
      entries.map((entry) => entry.remote_address),
      entries.map((entry) => JSON.stringify(entry.detail ?? {})),
    ],
  });
}
