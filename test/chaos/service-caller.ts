import { setTimeout as delay } from 'node:timers/promises';
import { type HttpAnswer, send } from './http-client.ts';
import type { Journal } from './journal.ts';

/** One request and its answer, as the clients' log keeps it. Times are epoch milliseconds. */
export interface LoggedCall {
  readonly kind: 'call';
  readonly sentAt: number;
  readonly answeredAt: number;
  readonly client: string;
  readonly op: string;
  readonly route: string;
  /** The Idempotency-Key; every try of one request has the same. */
  readonly key: string | null;
  /** `<key>.<try>`: the job row names the try that made it. */
  readonly requestId: string;
  /** Tells bodies apart. */
  readonly body: unknown;
  /** 0 when no answer came. */
  readonly status: number;
  readonly code: string | null;
  readonly replayed: boolean;
  readonly jobIds: readonly string[];
  /** The id of what was made, when it is no job. */
  readonly made: string | null;
  readonly error: string | null;
}

export interface CallOptions {
  readonly client: string;
  readonly op: string;
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly path: string;
  readonly body?: unknown;
  /** Only for POST. */
  readonly key?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly timeoutMs?: number;
  /** How long to go on trying after faults, ms; default 60 s. */
  readonly patienceMs?: number;
  /** The first API to ask; the others follow by turns. */
  readonly first?: number;
}

/** Answers that say "not now" and leave nothing behind. */
const tryAgain = new Set([0, 429, 500, 502, 503, 504]);
const defaultTimeoutMs = 8_000;

/** Calls the service as a careful client does: the same request with the same Idempotency-Key until there is an answer. */
export class ServiceCaller {
  readonly #bases: readonly string[];
  readonly #authorization: string;
  readonly #log: Journal;
  readonly #running = new AbortController();
  #turn = 0;
  #requests = 0;
  /** Answers by status, for the report. */
  readonly statuses: Record<string, number> = {};

  constructor(bases: readonly string[], key: string, log: Journal) {
    this.#bases = bases;
    this.#authorization = `Bearer ${key}`;
    this.#log = log;
  }

  /** Ends all patience: what is under way returns its last answer. */
  stop(): void {
    this.#running.abort();
  }

  /** @returns the first answer that settles the matter, or the last one when patience ran out. */
  async call(options: CallOptions): Promise<HttpAnswer> {
    const end = performance.now() + (options.patienceMs ?? 60_000);
    const first = options.first ?? this.#turn++;
    for (let tried = 0; ; tried++) {
      const base = this.#bases[(first + tried) % this.#bases.length] as string;
      const answer = await this.once(base, options, tried);
      const settled =
        !tryAgain.has(answer.status) &&
        (answer.body as { code?: string } | null)?.code !== 'request_in_progress';
      if (settled || performance.now() > end || this.#running.signal.aborted) return answer;
      await delay(Math.min(2_000, 50 * 2 ** tried));
    }
  }

  /** One try at one API, logged when it is a write. */
  async once(base: string, options: CallOptions, tried: number): Promise<HttpAnswer> {
    const { client, op, method, path, body, key, timeoutMs = defaultTimeoutMs } = options;
    const requestId = `${key ?? `${client}-${++this.#requests}`}.${tried}`;
    const sentAt = Date.now();
    const answer = await send(method, base + path, {
      headers: {
        authorization: this.#authorization,
        'x-request-id': requestId,
        ...(key === undefined ? {} : { 'idempotency-key': key }),
        ...options.headers,
      },
      body,
      timeoutMs,
    });
    this.statuses[answer.status] = (this.statuses[answer.status] ?? 0) + 1;
    if (method !== 'GET') {
      const {
        code = null,
        job_id,
        job_ids,
        id = null,
      } = (answer.body ?? {}) as {
        code?: string | null;
        id?: string | null;
        job_id?: string;
        job_ids?: string[];
      };
      const location = /^\/jobs\/(.+)$/.exec(String(answer.headers['content-location'] ?? ''))?.[1];
      this.#log.write({
        kind: 'call',
        sentAt,
        answeredAt: Date.now(),
        client,
        op,
        route: `${method} ${path}`,
        key: key ?? null,
        requestId,
        body: body ?? null,
        status: answer.status,
        code,
        replayed: answer.headers['idempotent-replayed'] === 'true',
        jobIds: job_ids ?? [job_id ?? location].filter((job) => job !== undefined),
        made: answer.status === 201 ? id : null,
        error: answer.error,
      } satisfies LoggedCall);
    }
    return answer;
  }

  get bases(): readonly string[] {
    return this.#bases;
  }
}
