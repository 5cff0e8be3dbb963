import { ApiError } from './api-status.ts';
import { type Exchange, record } from './exchange.ts';
import type { JsonObject } from './json.ts';

/** A whole answer; a watch is streamed instead. */
export interface Answer {
  readonly status: number;
  readonly body: string;
  readonly contentType: string;
  /** For the ledger: `200`, `409 Conflict`. */
  readonly outcome: string;
  readonly headers?: Readonly<Record<string, string>>;
}

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

/** What a load balancer in front of the API server says. */
export function htmlAnswer(status: number): Answer {
  const body = `<html>\r\n<head><title>${status}</title></head>\r\n<body><center><h1>${status}</h1></center></body>\r\n</html>\r\n`;
  return { status, body, contentType: 'text/html', outcome: `${status} html` };
}

export function send(exchange: Exchange, answer: Answer): void {
  if (exchange.response.destroyed) {
    record(exchange, 'answered', `client gone before ${answer.outcome}`);
    return;
  }
  record(exchange, 'answered', answer.outcome);
  writeHead(exchange, answer);
  exchange.response.end(exchange.request.method === 'HEAD' ? undefined : answer.body);
}

/** Promises a whole body, sends half, and closes. No RST: that could also throw away the half that was sent. */
export function truncate(exchange: Exchange, answer: Answer): void {
  record(exchange, 'answered', `truncated ${answer.outcome}`);
  writeHead(exchange, answer);
  const half = answer.body.slice(0, Math.ceil(answer.body.length / 2));
  exchange.response.write(half, () => exchange.response.socket?.destroy());
}

/** Go's server knows the length of what fits its buffer, and sends the rest in chunks. Clients differ in both. */
const LONGEST_UNCHUNKED = 2048;

function writeHead({ response, requester }: Exchange, answer: Answer): void {
  const length = Buffer.byteLength(answer.body);
  response.writeHead(answer.status, {
    'audit-id': requester.requestId ?? '',
    'cache-control': 'no-cache, private',
    'content-type': answer.contentType,
    ...(length <= LONGEST_UNCHUNKED ? { 'content-length': length } : {}),
    ...answer.headers,
  });
}

/** Anything but an ApiError is our own bug, and says so. */
export function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  const message = `Bug in the simulator or its script: ${error instanceof Error ? error.stack : String(error)}`;
  return new ApiError(500, 'InternalError', message);
}
