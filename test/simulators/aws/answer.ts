import { AwsError } from './aws-error.ts';
import { type Exchange, record } from './exchange.ts';
import { errorBody } from './query-answer.ts';

export interface Answer {
  readonly status: number;
  readonly body: string;
  readonly contentType: string;
  /** For the ledger: `200`, `400 ValidationError`. */
  readonly outcome: string;
  readonly headers?: Readonly<Record<string, string>>;
}

export function errorAnswer({ service, requestId }: Exchange, error: AwsError): Answer {
  return {
    status: error.status,
    body: errorBody(service, requestId, error),
    contentType: 'text/xml',
    outcome: `${error.status} ${error.code}`,
  };
}

export function throttled(exchange: Exchange, retryAfterSeconds?: number): Answer {
  const error =
    exchange.service === 'ec2'
      ? new AwsError('RequestLimitExceeded', 'Request limit exceeded.', 503)
      : new AwsError('Throttling', 'Rate exceeded');
  const answer = errorAnswer(exchange, error);
  if (retryAfterSeconds === undefined) return answer;
  return { ...answer, headers: { 'retry-after': String(retryAfterSeconds) } };
}

/** What a load balancer in front of the service says. */
export function htmlAnswer(status: number): Answer {
  const body = `<html>\r\n<head><title>${status}</title></head>\r\n<body><center><h1>${status}</h1></center></body>\r\n</html>\r\n`;
  return { status, body, contentType: 'text/html', outcome: `${status} html` };
}

/** AWS's own words for the codes that fault scripts use most. */
export function wordsFor(code: string): string {
  switch (code) {
    case 'InternalFailure':
      return 'The request processing has failed because of an unknown error, exception or failure.';
    case 'ResourceContention':
      return 'You already have a pending update to an Amazon EC2 Auto Scaling resource.';
    case 'ServiceUnavailable':
      return 'The request has failed due to a temporary failure of the server.';
    case 'ExpiredToken':
      return 'The security token included in the request is expired';
    default:
      return `${code}, as the fault script says.`;
  }
}

export function send(exchange: Exchange, answer: Answer): void {
  if (exchange.response.destroyed) {
    record(exchange, 'answered', `client gone before ${answer.outcome}`);
    return;
  }
  record(exchange, 'answered', answer.outcome);
  writeHead(exchange, answer);
  exchange.response.end(answer.body);
}

/** Promises a whole body, sends half, and closes. No RST: that could also throw away the half that was sent. */
export function truncate(exchange: Exchange, answer: Answer): void {
  record(exchange, 'answered', `truncated ${answer.outcome}`);
  writeHead(exchange, answer);
  const half = answer.body.slice(0, Math.ceil(answer.body.length / 2));
  exchange.response.write(half, () => exchange.response.socket?.destroy());
}

function writeHead({ response, requestId }: Exchange, answer: Answer): void {
  response.writeHead(answer.status, {
    'content-type': answer.contentType,
    'content-length': Buffer.byteLength(answer.body),
    // A load balancer knows nothing of the service's request ids.
    ...(answer.contentType === 'text/html' ? {} : { 'x-amzn-requestid': requestId }),
    ...answer.headers,
  });
}
