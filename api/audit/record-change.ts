import { audit } from '../../shared/db/audit-store.ts';
import type { Queryable } from '../../shared/db/pool.ts';
import type { Call } from '../http/route.ts';

/** Writes what a request did into the audit log, with its key, scope, address and id. Give it the request's transaction. */
export async function note(
  db: Queryable,
  call: Call,
  entry: {
    readonly action: string;
    readonly resource_id?: string;
    readonly subject?: string;
    readonly detail?: Readonly<Record<string, unknown>>;
  },
): Promise<void> {
  await audit(db, {
    ...entry,
    actor: call.keyId,
    request_id: call.requestId,
    remote_address: call.remoteAddress,
    detail: { ...entry.detail, scope: call.scope },
  });
}
