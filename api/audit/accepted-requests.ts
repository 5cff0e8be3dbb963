import type { AuditEntry } from '../../shared/db/audit-store.ts';
import type { AuditedRequest } from './audit-trail.ts';

/** Requests that differ only in their id. */
interface Group {
  readonly key: string;
  readonly scope: string | null;
  readonly address: string | null;
  readonly method: string;
  readonly route: string;
  readonly request_ids: string[];
}

/**
 * Batches accepted mutating requests into one audit entry, grouped by key, scope, address and route. What each
 * request changed is in entries of its own, or in its job.
 */
export class AcceptedRequests {
  #groups = new Map<string, Group>();
  #count = 0;
  #since = '';

  get count(): number {
    return this.#count;
  }

  add({ keyId, scope, address, method, route, requestId }: AuditedRequest): void {
    if (this.#count++ === 0) this.#since = new Date().toISOString();
    const name = JSON.stringify([keyId, scope, address, method, route]);
    const known = this.#groups.get(name);
    if (known !== undefined) known.request_ids.push(requestId);
    else
      this.#groups.set(name, {
        key: keyId ?? 'anonymous',
        scope,
        address,
        method,
        route,
        request_ids: [requestId],
      });
  }

  /** The entry for all requests since the last call; null when there were none. */
  take(): AuditEntry | null {
    if (this.#count === 0) return null;
    const detail = {
      requests: this.#count,
      since: this.#since,
      until: new Date().toISOString(),
      by: [...this.#groups.values()],
    };
    this.#groups = new Map();
    this.#count = 0;
    return { actor: 'scaler', action: 'requests.accepted', request_id: null, remote_address: null, detail };
  }
}
