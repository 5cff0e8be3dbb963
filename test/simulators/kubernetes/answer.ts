import { type Answer, type Answering, sendAnswer, truncateAnswer } from '../core/answer.ts';
import { ApiError } from './api-status.ts';
import { type Exchange, record } from './exchange.ts';
import type { JsonObject } from './json.ts';

export function jsonAnswer(status: number, body: JsonObject, contentType = 'application/json'): Answer {
  return { status, body: `${JSON.stringify(body)}\n`, contentType, outcome: String(status) };
}

export function errorAnswer(error: ApiError): Answer {
  const { status, reason, body, headers } = error;
  const outcome = `${status} ${reason}`;
  return typeof body === 'string'
    ? { status, body, contentType: 'text/plain; charset=utf-8', outcome, headers }
    : { ...jsonAnswer(status, body), outcome, headers };
}

/** Go's server knows the length of what fits its buffer, and sends the rest in chunks. Clients differ in both. */
const LONGEST_UNCHUNKED = 2048;

export function send(exchange: Exchange, answer: Answer): void {
  sendAnswer(answering(exchange), answer, exchange.request.method !== 'HEAD');
}

export function truncate(exchange: Exchange, answer: Answer): void {
  truncateAnswer(answering(exchange), answer);
}

function answering(exchange: Exchange): Answering {
  return {
    response: exchange.response,
    record: (outcome) => record(exchange, 'answered', outcome),
    headersOf: ({ contentType, body, headers }) => {
      const length = Buffer.byteLength(body);
      return {
        'audit-id': exchange.requester.requestId ?? '',
        'cache-control': 'no-cache, private',
        'content-type': contentType,
        ...(length <= LONGEST_UNCHUNKED ? { 'content-length': length } : {}),
        ...headers,
      };
    },
  };
}

/** Anything but an ApiError is our own bug, and says so. */
export function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  const message = `Bug in the simulator or its script: ${error instanceof Error ? error.stack : String(error)}`;
  return new ApiError(500, 'InternalError', message);
}
