import { audit } from '../../shared/db/audit-store.ts';
import type { Queryable } from '../../shared/db/pool.ts';
import type { RouteRequest } from '../http/route.ts';

/**
 * Writes what a request changed into the audit log, with its key, scope, address and id. Pass the transaction of the
 * change, so that neither is committed without the other.
 */
export async function recordChange(
  db: Queryable,
  request: RouteRequest,
  entry: {
    readonly action: string;
    readonly resource_id?: string;
    readonly subject?: string;
    readonly detail?: Readonly<Record<string, unknown>>;
  },
): Promise<void> {
  await audit(db, {
    ...entry,
    actor: request.keyId,
    request_id: request.requestId,
    remote_address: request.remoteAddress,
    detail: { ...entry.detail, scope: request.scope },
  });
}
