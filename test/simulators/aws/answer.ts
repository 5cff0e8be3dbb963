import { type Answer, type Answering, sendAnswer, truncateAnswer } from '../core/answer.ts';
import { AwsError } from './aws-error.ts';
import { type Exchange, record } from './exchange.ts';
import { errorBody } from './query-answer.ts';

/** The error in the envelope of the service that was asked. */
export function errorAnswer({ service, requestId }: Exchange, error: AwsError): Answer {
  return {
    status: error.status,
    body: errorBody(service, requestId, error),
    contentType: 'text/xml',
    outcome: `${error.status} ${error.code}`,
  };
}

/** How the service asked words that it is asked too often. @param retryAfterSeconds sent as a header when given. */
export function throttled(exchange: Exchange, retryAfterSeconds?: number): Answer {
  const error =
    exchange.service === 'ec2'
      ? new AwsError('RequestLimitExceeded', 'Request limit exceeded.', 503)
      : new AwsError('Throttling', 'Rate exceeded');
  const answer = errorAnswer(exchange, error);
  if (retryAfterSeconds === undefined) return answer;
  return { ...answer, headers: { 'retry-after': String(retryAfterSeconds) } };
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
  sendAnswer(answering(exchange), answer);
}

export function truncate(exchange: Exchange, answer: Answer): void {
  truncateAnswer(answering(exchange), answer);
}

function answering(exchange: Exchange): Answering {
  return {
    response: exchange.response,
    record: (outcome) => record(exchange, 'answered', outcome),
    headersOf: ({ contentType, body, headers }) => ({
      'content-type': contentType,
      'content-length': Buffer.byteLength(body),
      // A load balancer knows nothing of the service's request ids.
      ...(contentType === 'text/html' ? {} : { 'x-amzn-requestid': exchange.requestId }),
      ...headers,
    }),
  };
}
