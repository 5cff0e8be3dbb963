import type { Queryable } from './pool.ts';

export interface AuditEntry {
  readonly actor: string;
  readonly action: string;
  readonly resource_id?: string | null;
  readonly subject?: string | null;
  readonly request_id: string;
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
