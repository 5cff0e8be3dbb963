import type { AuditEntry } from '../../shared/db/audit-store.ts';
import type { AuditedRequest } from './audit-trail.ts';

/** Requests alike in all but their id. */
interface Group {
  readonly key: string;
  readonly scope: string | null;
  readonly address: string | null;
  readonly method: string;
  readonly route: string;
  readonly request_ids: string[];
}

/**
 * Requests that changed something, gathered into one row: each with its key, scope, address, route and request id. What
 * it changed is told by rows of its own, or by its job.
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

  /** The row of all since the last one; null when there were none. */
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
