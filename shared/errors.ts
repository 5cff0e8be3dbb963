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

export type ErrorDetails = {
  context?: Record<string, unknown>;
  fields?: readonly FieldError[];
  retryAfterMs?: number;
  cause?: unknown;
};

export class InvalidInput extends ScalerError {
  constructor(
    code: string,
    message: string,
    details: ErrorDetails & { httpStatus?: 400 | 413 | 415 | 422 | 428 | 431 } = {},
  ) {
    super({ ...details, code, message, retry: 'never', httpStatus: details.httpStatus ?? 400 });
  }
}

export class NotFound extends ScalerError {
  constructor(code: string, message: string, details: ErrorDetails = {}) {
    super({ ...details, code, message, retry: 'never', httpStatus: 404 });
  }
}

/** The request was fine but the world has moved on: stale decision, ETag mismatch, execution running. */
export class Conflict extends ScalerError {
  constructor(code: string, message: string, details: ErrorDetails & { httpStatus?: 409 | 412 } = {}) {
    super({ ...details, code, message, retry: 'never', httpStatus: details.httpStatus ?? 409 });
  }
}

/** PostgreSQL or Redis is away. */
export class DependencyUnavailable extends ScalerError {
  constructor(code: string, message: string, details: ErrorDetails = {}) {
    super({ ...details, code, message, retry: 'backoff', httpStatus: 503 });
  }
}

/** Our bug. */
export class InvariantBroken extends ScalerError {
  constructor(message: string, details: ErrorDetails = {}) {
    super({ ...details, code: 'invariant_broken', message, retry: 'never', httpStatus: 500 });
  }
}

export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
