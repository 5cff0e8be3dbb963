import type { Response } from 'express';
import { databaseError } from '../../shared/db/pool.ts';
import { type FieldError, InvalidInput, ScalerError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/observability/logger.ts';

const titles: Readonly<Record<number, string>> = {
  400: 'Bad request',
  401: 'Not authenticated',
  403: 'Not allowed',
  404: 'Not found',
  405: 'Method not allowed',
  409: 'Conflict',
  412: 'Changed meanwhile',
  413: 'Too large',
  415: 'Wrong content type',
  422: 'Not acceptable',
  424: 'Failed',
  428: 'Precondition needed',
  429: 'Too many requests',
  431: 'Headers too large',
  500: 'Our fault',
  503: 'Not available now',
};

/** Any error as a ScalerError. An unexpected one is logged, and reveals nothing to the client. */
export function problemOf(thrown: unknown, logger: Logger, requestId: string): ScalerError {
  const error = databaseError(thrown);
  if (error instanceof ScalerError) return error;
  const { type, status } = (error ?? {}) as { type?: unknown; status?: unknown };
  if (type === 'entity.too.large')
    return new InvalidInput('body_too_large', 'The body is larger than this route takes.', {
      httpStatus: 413,
    });
  if (typeof status === 'number' && status >= 400 && status < 500)
    return new InvalidInput('bad_request', 'The request could not be read.');
  logger.error({ event: 'http.unexpected', requestId, err: error });
  return new ScalerError({
    code: 'internal_error',
    message: 'Something went wrong on our side; it is in the log under the request id.',
    retry: 'never',
    httpStatus: 500,
  });
}

/** Sends problem+json (RFC 9457); cuts the connection when the response was started already. */
export function sendProblem(response: Response, problem: ScalerError, requestId: string): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const status = problem.httpStatus;
  response.locals.problemCode = problem.code;
  if (status === 401) response.setHeader('WWW-Authenticate', 'Bearer');
  if (problem.retryAfterMs !== undefined)
    response.setHeader('Retry-After', String(Math.max(1, Math.ceil(problem.retryAfterMs / 1_000))));
  const body = {
    type: `urn:scaler:problem:${problem.code}`,
    title: titles[status] ?? 'Error',
    status,
    code: problem.code,
    detail: problem.message,
    request_id: requestId,
    ...(problem.fields.length === 0 ? {} : { errors: problem.fields }),
    ...(Object.keys(problem.context).length === 0 ? {} : { context: problem.context }),
  };
  response.status(status).setHeader('Content-Type', 'application/problem+json');
  response.end(JSON.stringify(body));
}

/** What zod tells of one mistake. */
interface Issue {
  readonly path: readonly PropertyKey[];
  readonly message: string;
  readonly code?: string;
  readonly keys?: readonly string[];
  /** Of a union: the mistakes by each of its shapes. */
  readonly errors?: readonly (readonly Issue[])[];
}

/** 400 with a field error for each of zod's issues. @param part of the request: path, query or body. */
export function invalidRequest(part: string, issues: readonly Issue[]): InvalidInput {
  const fields: FieldError[] = issues
    .flatMap(innermost)
    .slice(0, 100)
    .flatMap((issue) => {
      const path = issue.path.map(String).join('.');
      const names = issue.code === 'unrecognized_keys' && issue.keys !== undefined ? issue.keys : [null];
      return names.map((name) => ({
        field: [path, name].filter(Boolean).join('.') || part,
        message: name === null ? issue.message : 'is not a field of this request',
      }));
    });
  const reasons = fields.slice(0, 3).map(({ field, message }) => `${field}: ${message}`);
  return new InvalidInput('invalid_request', `The ${part} is not valid. ${reasons.join('; ')}`, { fields });
}

/** The mistakes inside a union, by the shape that was meant: the one whose own fields fit best. */
function innermost(issue: Issue): readonly Issue[] {
  if (issue.errors === undefined || issue.errors.length === 0) return [issue];
  const meant = issue.errors.reduce((best, shape) => (misfits(shape) < misfits(best) ? shape : best));
  return meant.flatMap((inner) => innermost({ ...inner, path: [...issue.path, ...inner.path] }));
}

/** Fields that the shape itself lacks or does not know; what is wrong inside its fields says nothing of the shape. */
function misfits(issues: readonly Issue[]): number {
  return issues.reduce((sum, { path, keys }) => sum + (path.length > 1 ? 0 : (keys?.length ?? 1)), 0);
}
