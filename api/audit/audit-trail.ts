import { Counter, Gauge, type Registry } from 'prom-client';
import { type AuditEntry, auditMany } from '../../shared/db/audit-store.ts';
import type { Queryable } from '../../shared/db/pool.ts';
import { addressBlock } from '../http/address-block.ts';
import { AcceptedRequests } from './accepted-requests.ts';
import { Tally } from './tally.ts';
import { TokenBuckets } from './token-buckets.ts';

/** A request as the audit log names it. */
export interface AuditedRequest {
  /** Null when nobody was authenticated. */
  readonly keyId: string | null;
  /** The id in a well-formed key that was not accepted: a claim, not an identity. */
  readonly presentedKey: string | null;
  /** The route's, or null where no route was reached. */
  readonly scope: string | null;
  readonly method: string;
  readonly route: string;
  readonly status: number;
  /** The problem's code. */
  readonly code: string;
  readonly address: string | null;
  readonly requestId: string;
  /** Refused because the key's selectors do not cover what it names. */
  readonly bySelectors: boolean;
}

const mostWaiting = 5_000;
const mostPerStatement = 500;
const gatherMs = 200;
const retryMs = 2_000;
const summaryMs = 60_000;
/** Accepted requests share a row: so many, or those of so long. */
const mostAccepted = 200;
const acceptedMs = 5_000;

/**
 * Refused requests, each as a row of audit_log, and accepted ones, each by its id in a row for many. A flood of refusals must not
 * become a flood of writes: a key or address gets 30 rows at once and one every two seconds, all of them 300 and five a
 * second; what exceeds that is counted and told in one row a minute. Nothing here makes an answer wait: rows are gathered
 * in memory and written behind. What does not fit while PostgreSQL is away is counted as dropped, in the metric and the row.
 */
export class AuditTrail {
  readonly #db: Queryable;
  readonly #onError: (error: unknown) => void;
  readonly #each = new TokenBuckets({ burst: 30, perSecond: 0.5, mostNames: 10_000 });
  readonly #together = new TokenBuckets({ burst: 300, perSecond: 5, mostNames: 1 });
  readonly #dropped: Counter;
  readonly #summarised: Counter;
  #waiting: AuditEntry[] = [];
  #droppedSince = 0;
  readonly #accepted = new AcceptedRequests();
  #refused = newCounts();
  #writing: Promise<void> | null = null;
  #timer: NodeJS.Timeout | null = null;
  readonly #summaryTimer: NodeJS.Timeout;
  readonly #acceptedTimer: NodeJS.Timeout;

  constructor(db: Queryable, registry: Registry, onError: (error: unknown) => void) {
    this.#db = db;
    this.#onError = onError;
    const registers = [registry];
    this.#dropped = new Counter({
      name: 'scaler_audit_dropped_total',
      help: 'Audit rows lost because PostgreSQL did not take them in time; should be zero',
      registers,
    });
    this.#summarised = new Counter({
      name: 'scaler_audit_summarised_total',
      help: 'Refused requests that were counted in a summary, not written one by one',
      registers,
    });
    const waiting: Gauge = new Gauge({
      name: 'scaler_audit_waiting',
      help: 'Audit rows not written yet',
      registers,
      collect: () => waiting.set(this.#waiting.length),
    });
    this.#summaryTimer = setInterval(() => {
      // While nothing can be written, counting goes on.
      if (this.#waiting.length < mostWaiting) this.#summarise();
    }, summaryMs);
    this.#summaryTimer.unref();
    this.#acceptedTimer = setInterval(() => this.#flushAccepted(), acceptedMs);
    this.#acceptedTimer.unref();
  }

  /** @param nowMs a clock that only goes forward. */
  refused(request: AuditedRequest, nowMs: number = performance.now()): void {
    const source = request.keyId ?? addressBlock(request.address ?? undefined);
    if (this.#each.take(source, nowMs) && this.#together.take('all', nowMs)) {
      this.#add(rowOf(request));
      return;
    }
    this.#summarised.inc();
    count(this.#refused, source, request);
  }

  /** A request that changed something; its own row, or its job's, says what. */
  accepted(request: AuditedRequest): void {
    this.#accepted.add(request);
    if (this.#accepted.count >= mostAccepted) this.#flushAccepted();
  }

  /** Writes what is left. Resolves when it is written, or could not be. */
  async close(): Promise<void> {
    clearInterval(this.#summaryTimer);
    clearInterval(this.#acceptedTimer);
    this.#flushAccepted();
    this.#summarise();
    await this.#writing;
    await this.#write();
  }

  #add(entry: AuditEntry): void {
    if (this.#waiting.length >= mostWaiting) {
      this.#dropped.inc();
      this.#droppedSince++;
      return;
    }
    this.#put(entry);
  }

  #put(entry: AuditEntry): void {
    this.#waiting.push(entry);
    this.#writeIn(gatherMs);
  }

  #writeIn(ms: number): void {
    if (this.#timer !== null) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      void this.#write();
    }, ms);
    this.#timer.unref();
  }

  async #write(): Promise<void> {
    this.#writing ??= this.#writeAll().finally(() => {
      this.#writing = null;
    });
    await this.#writing;
  }

  async #writeAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      const entries = this.#waiting.slice(0, mostPerStatement);
      try {
        await auditMany(this.#db, entries);
        this.#waiting.splice(0, entries.length);
      } catch (error) {
        this.#onError(error);
        this.#writeIn(retryMs);
        return;
      }
    }
  }

  #summarise(): void {
    const { count: refused } = this.#refused;
    if (refused + this.#droppedSince > 0) {
      const dropped = this.#droppedSince;
      this.#droppedSince = 0;
      this.#put(summaryOf(this.#refused, dropped));
    }
    this.#refused = newCounts();
  }

  #flushAccepted(): void {
    const entry = this.#accepted.take();
    if (entry !== null) this.#add(entry);
  }
}

interface Counts {
  count: number;
  readonly since: string;
  readonly bySource: Tally;
  readonly byRoute: Tally;
  readonly byCode: Tally;
  firstRequestId: string | null;
  lastRequestId: string | null;
}

function newCounts(): Counts {
  return {
    count: 0,
    since: new Date().toISOString(),
    bySource: new Tally(100),
    byRoute: new Tally(100),
    byCode: new Tally(50),
    firstRequestId: null,
    lastRequestId: null,
  };
}

function count(counts: Counts, source: string, request: AuditedRequest): void {
  counts.count++;
  counts.bySource.add(request.address === null ? source : `${source} from ${addressBlock(request.address)}`);
  counts.byRoute.add(`${request.method} ${request.route}`);
  counts.byCode.add(request.code);
  counts.firstRequestId ??= request.requestId;
  counts.lastRequestId = request.requestId;
}

/** Of refusals that were counted, not written one by one. */
function summaryOf(counts: Counts, droppedRows: number): AuditEntry {
  return {
    actor: 'scaler',
    action: 'requests.refused',
    request_id: null,
    remote_address: null,
    detail: {
      requests: counts.count,
      since: counts.since,
      until: new Date().toISOString(),
      by_source: counts.bySource,
      by_route: counts.byRoute,
      by_code: counts.byCode,
      first_request_id: counts.firstRequestId,
      last_request_id: counts.lastRequestId,
      dropped_rows: droppedRows,
    },
  };
}

function rowOf(request: AuditedRequest): AuditEntry {
  return {
    actor: request.keyId ?? 'anonymous',
    action: 'request.refused',
    request_id: request.requestId,
    remote_address: request.address,
    detail: {
      code: request.code,
      status: request.status,
      method: request.method,
      route: request.route,
      scope: request.scope,
      presented_key: request.presentedKey,
      by_selectors: request.bySelectors,
    },
  };
}
