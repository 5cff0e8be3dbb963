import { Counter, Gauge, type Registry } from 'prom-client';
import { type AuditEntry, auditMany } from '../../shared/db/audit-store.ts';
import type { Queryable } from '../../shared/db/pool.ts';
import { addressBlock } from '../http/address-block.ts';
import { AcceptedRequests } from './accepted-requests.ts';
import { NamedCounts } from './named-counts.ts';
import { TokenBuckets } from './token-buckets.ts';

/** A request as the audit log records it. */
export interface AuditedRequest {
  /** Null when the request was not authenticated. */
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
  /** Refused because the key's selectors do not cover the resource. */
  readonly bySelectors: boolean;
}

const maxBuffered = 5_000;
const maxPerStatement = 500;
const flushDelayMs = 200;
const retryDelayMs = 2_000;
const summaryIntervalMs = 60_000;
/** One entry for accepted requests: after so many, or after so long. */
const maxAcceptedPerEntry = 200;
const acceptedIntervalMs = 5_000;
/** Rate limits of single entries for refusals: of one key or address, and of all together. */
const bucketPerSource = { burst: 30, perSecond: 0.5, maxNames: 10_000 };
const bucketOfAll = { burst: 300, perSecond: 5, maxNames: 1 };

/**
 * Write-behind audit log of requests: refused ones in an entry each, accepted ones by id in an entry for many. No
 * response waits for it. Refusals are rate limited, so that a flood of them is no flood of writes; those over the
 * limit are summarised in one entry a minute. While PostgreSQL is away entries are buffered; those that do not fit
 * are dropped and counted, in the metric and in the next summary.
 */
export class AuditTrail {
  readonly #db: Queryable;
  readonly #onError: (error: unknown) => void;
  readonly #perSource = new TokenBuckets(bucketPerSource);
  readonly #ofAll = new TokenBuckets(bucketOfAll);
  readonly #dropped: Counter;
  readonly #summarised: Counter;
  #buffer: AuditEntry[] = [];
  #droppedSinceSummary = 0;
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
      collect: () => waiting.set(this.#buffer.length),
    });
    this.#summaryTimer = setInterval(() => {
      // With a full buffer the counting goes on, and the summary waits.
      if (this.#buffer.length < maxBuffered) this.#summarise();
    }, summaryIntervalMs);
    this.#summaryTimer.unref();
    this.#acceptedTimer = setInterval(() => this.#flushAccepted(), acceptedIntervalMs);
    this.#acceptedTimer.unref();
  }

  /** Records a refused request, or counts it in the next summary. @param nowMs a monotonic clock. */
  refused(request: AuditedRequest, nowMs: number = performance.now()): void {
    const source = request.keyId ?? addressBlock(request.address ?? undefined);
    if (this.#perSource.take(source, nowMs) && this.#ofAll.take('all', nowMs)) {
      this.#addUnlessFull(refusalEntry(request));
      return;
    }
    this.#summarised.inc();
    count(this.#refused, source, request);
  }

  /** Records an accepted mutating request; what it changed is in an entry of its own, or in its job. */
  accepted(request: AuditedRequest): void {
    this.#accepted.add(request);
    if (this.#accepted.count >= maxAcceptedPerEntry) this.#flushAccepted();
  }

  /** Flushes. Resolves when everything is written, or could not be. */
  async close(): Promise<void> {
    clearInterval(this.#summaryTimer);
    clearInterval(this.#acceptedTimer);
    this.#flushAccepted();
    this.#summarise();
    await this.#writing;
    await this.#write();
  }

  #addUnlessFull(entry: AuditEntry): void {
    if (this.#buffer.length >= maxBuffered) {
      this.#dropped.inc();
      this.#droppedSinceSummary++;
      return;
    }
    this.#add(entry);
  }

  #add(entry: AuditEntry): void {
    this.#buffer.push(entry);
    this.#scheduleWrite(flushDelayMs);
  }

  #scheduleWrite(ms: number): void {
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
    while (this.#buffer.length > 0) {
      const entries = this.#buffer.slice(0, maxPerStatement);
      try {
        await auditMany(this.#db, entries);
        this.#buffer.splice(0, entries.length);
      } catch (error) {
        this.#onError(error);
        this.#scheduleWrite(retryDelayMs);
        return;
      }
    }
  }

  #summarise(): void {
    const { count: refused } = this.#refused;
    if (refused + this.#droppedSinceSummary > 0) {
      const dropped = this.#droppedSinceSummary;
      this.#droppedSinceSummary = 0;
      this.#add(summaryEntry(this.#refused, dropped));
    }
    this.#refused = newCounts();
  }

  #flushAccepted(): void {
    const entry = this.#accepted.take();
    if (entry !== null) this.#addUnlessFull(entry);
  }
}

/** Refusals over the rate limit, since the last summary. */
interface Counts {
  count: number;
  readonly since: string;
  readonly bySource: NamedCounts;
  readonly byRoute: NamedCounts;
  readonly byCode: NamedCounts;
  firstRequestId: string | null;
  lastRequestId: string | null;
}

function newCounts(): Counts {
  return {
    count: 0,
    since: new Date().toISOString(),
    bySource: new NamedCounts(100),
    byRoute: new NamedCounts(100),
    byCode: new NamedCounts(50),
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

function summaryEntry(counts: Counts, droppedRows: number): AuditEntry {
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

function refusalEntry(request: AuditedRequest): AuditEntry {
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
