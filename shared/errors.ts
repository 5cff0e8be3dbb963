/** How the queue treats an error: give up, try again later at a cost of one attempt, or postpone for free. */
export type RetryClass = 'never' | 'backoff' | 'after';

export interface FieldError {
  readonly field: string;
  readonly message: string;
}

/**
 * Every error we raise on purpose. `code` is stable: logs, rows and the API share it. `message` is one plain
 * sentence that says what to do next. `context` is safe to show.
 */
export class ScalerError extends Error {
  readonly code: string;
  readonly retry: RetryClass;
  readonly httpStatus: number;
  readonly context: Readonly<Record<string, unknown>>;
  readonly fields: readonly FieldError[];
  /** Only for `retry: 'after'` and for 429/503 answers: how long to wait, in milliseconds. */
  readonly retryAfterMs: number | undefined;

  constructor(options: {
    code: string;
    message: string;
    retry: RetryClass;
    httpStatus: number;
    context?: Record<string, unknown>;
    fields?: readonly FieldError[];
    retryAfterMs?: number;
    cause?: unknown;
  }) {
    super(options.message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = options.code;
    this.retry = options.retry;
    this.httpStatus = options.httpStatus;
    this.context = options.context ?? {};
    this.fields = options.fields ?? [];
    this.retryAfterMs = options.retryAfterMs;
  }
}

type Details = {
  context?: Record<string, unknown>;
  fields?: readonly FieldError[];
  retryAfterMs?: number;
  cause?: unknown;
};

export class InvalidInput extends ScalerError {
  constructor(
    code: string,
    message: string,
    details: Details & { httpStatus?: 400 | 413 | 415 | 422 | 428 | 431 } = {},
  ) {
    super({ ...details, code, message, retry: 'never', httpStatus: details.httpStatus ?? 400 });
  }
}

export class NotFound extends ScalerError {
  constructor(code: string, message: string, details: Details = {}) {
    super({ ...details, code, message, retry: 'never', httpStatus: 404 });
  }
}

/** The request was fine but the world has moved on: stale decision, ETag mismatch, execution running. */
export class Conflict extends ScalerError {
  constructor(code: string, message: string, details: Details & { httpStatus?: 409 | 412 } = {}) {
    super({ ...details, code, message, retry: 'never', httpStatus: details.httpStatus ?? 409 });
  }
}

/** PostgreSQL or Redis is away. */
export class DependencyUnavailable extends ScalerError {
  constructor(code: string, message: string, details: Details = {}) {
    super({ ...details, code, message, retry: 'backoff', httpStatus: 503 });
  }
}

/** Our bug. */
export class InvariantBroken extends ScalerError {
  constructor(message: string, details: Details = {}) {
    super({ ...details, code: 'invariant_broken', message, retry: 'never', httpStatus: 500 });
  }
}

/**
 * What a failed provider call means for the write it belonged to. Only `unknown` may have been applied.
 */
export type ProviderFault =
  | 'throttled' // not applied; postpone without spending an attempt
  | 'conflict' // not applied; somebody else moved the object: re-read
  | 'permanent' // not applied; the cloud refuses this request
  | 'identity' // not applied; credentials or permissions
  | 'fenced' // not applied; our own fence refused a late write
  | 'pre_send' // not applied; the request never left
  | 'unavailable' // a read failed; nothing was to be applied
  | 'unknown'; // may or may not have been applied

const faultRetry: Record<ProviderFault, RetryClass> = {
  throttled: 'after',
  conflict: 'backoff',
  permanent: 'never',
  identity: 'never',
  fenced: 'backoff',
  pre_send: 'backoff',
  unavailable: 'backoff',
  unknown: 'backoff',
};

/** A provider call that failed, classified once, where the SDK's error entered. */
export class ProviderError extends ScalerError {
  readonly fault: ProviderFault;
  constructor(fault: ProviderFault, code: string, message: string, details: Details = {}) {
    super({ ...details, code, message, retry: faultRetry[fault], httpStatus: 502 });
    this.fault = fault;
  }
}

export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
