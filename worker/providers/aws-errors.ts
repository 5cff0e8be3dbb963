import { errorMessage } from '../../shared/errors.ts';
import { ProviderError, type ProviderFault } from './provider-error.ts';
import { requestNotSentCode } from './request-not-sent.ts';
import { retryAfterMs } from './retry-after.ts';

interface Meaning {
  readonly fault: ProviderFault;
  readonly code: string;
  readonly words: string;
}

const throttled: Meaning = {
  fault: 'throttled',
  code: 'throttled',
  words: 'AWS throttled the call; it is tried again later.',
};
const identity: Meaning = {
  fault: 'identity',
  code: 'aws_identity',
  words: "AWS does not accept the credentials: check the worker's AWS identity and its expiry.",
};

const denied: Meaning = {
  fault: 'identity',
  code: 'aws_denied',
  words:
    "AWS denies the call: the worker's IAM policy lacks this permission (docs/reference/permissions.md has the policy).",
};
const conflict: Meaning = {
  fault: 'conflict',
  code: 'scaling_in_progress',
  words: 'A scaling activity is in progress; the group is read again.',
};
const rejected: Meaning = {
  fault: 'permanent',
  code: 'aws_rejected',
  words: "AWS rejects the request: check the group's name, region and bounds.",
};
const gone: Meaning = {
  fault: 'permanent',
  code: 'target_not_found',
  words: "There is no such Auto Scaling group: check the resource's name and region.",
};
const outOfTime: Meaning = {
  fault: 'fenced',
  code: 'signature_expired',
  words:
    "AWS dropped the request because of its signature's age: it came too late, or a clock is wrong (the worker's or the database's).",
};

/** By the error's `name`, which is AWS's code. Names that are not here say nothing certain. */
const byName: Readonly<Record<string, Meaning>> = {
  Throttling: throttled,
  ThrottlingException: throttled,
  ThrottledException: throttled,
  RequestLimitExceeded: throttled,
  RequestThrottled: throttled,
  RequestThrottledException: throttled,
  TooManyRequests: throttled,
  TooManyRequestsException: throttled,
  ScalingActivityInProgress: conflict,
  ScalingActivityInProgressFault: conflict,
  ValidationError: rejected,
  ValidationException: rejected,
  InvalidParameterValue: rejected,
  InvalidParameterCombination: rejected,
  MissingParameter: rejected,
  InvalidAction: rejected,
  AccessDenied: denied,
  AccessDeniedException: denied,
  UnauthorizedOperation: denied,
  OptInRequired: denied,
  MissingAuthenticationToken: identity,
  InvalidClientTokenId: identity,
  UnrecognizedClientException: identity,
  SignatureDoesNotMatch: identity,
  AuthFailure: identity,
  ExpiredToken: identity,
  ExpiredTokenException: identity,
  CredentialsProviderError: {
    ...identity,
    words: 'The worker has no AWS credentials: give it a role, a profile or keys.',
  },
  RequestExpired: outOfTime,
};

/**
 * An SDK error as one of ours. For a write everything unlisted is `unknown`: it may have been applied.
 */
export function classifyAwsError(error: unknown, kind: 'read' | 'write'): ProviderError {
  if (error instanceof ProviderError) return error;
  const { name, status } = factsOf(error);
  const context = {
    aws_error: name,
    aws_message: errorMessage(error).slice(0, 500),
    ...(status === undefined ? {} : { http_status: status }),
  };
  const known = meaningOf(name, errorMessage(error));
  if (known !== undefined) return build(known, context, error);
  const notSentCode = requestNotSentCode(error);
  if (notSentCode !== undefined) {
    return build(
      {
        fault: kind === 'write' ? 'pre_send' : 'unavailable',
        code: 'aws_unreachable',
        words: `AWS could not be reached (${notSentCode}): check the network and the endpoint.`,
      },
      context,
      error,
    );
  }
  if (kind === 'read')
    return build(
      {
        fault: 'unavailable',
        code: 'aws_unavailable',
        words: 'AWS did not answer properly; it is tried again.',
      },
      context,
      error,
    );
  return build(
    {
      fault: 'unknown',
      code: 'aws_outcome_unknown',
      words: 'AWS did not say whether the change was made; it is looked up.',
    },
    context,
    error,
  );
}

function meaningOf(name: string, message: string): Meaning | undefined {
  // Some services word an outdated signature as a wrong one.
  if (name === 'SignatureDoesNotMatch' && /^Signature (expired|not yet current)/.test(message))
    return outOfTime;
  if (name === 'ValidationError' && message.startsWith('AutoScalingGroup name not found')) return gone;
  return Object.hasOwn(byName, name) ? byName[name] : undefined;
}

function build(meaning: Meaning, context: Record<string, unknown>, cause: unknown): ProviderError {
  const { fault, code, words } = meaning;
  const advised = fault === 'throttled' ? retryAfterMs(headersOf(cause)) : undefined;
  return new ProviderError(fault, code, `${words} (AWS: ${context.aws_error}: ${context.aws_message})`, {
    context,
    cause,
    ...(advised === undefined ? {} : { retryAfterMs: advised }),
  });
}

function factsOf(error: unknown): { name: string; status: number | undefined } {
  if (typeof error !== 'object' || error === null) return { name: 'Unknown', status: undefined };
  const { name, $metadata } = error as { name?: unknown; $metadata?: { httpStatusCode?: number } };
  return { name: typeof name === 'string' ? name : 'Unknown', status: $metadata?.httpStatusCode };
}

function headersOf(error: unknown): Record<string, string> | undefined {
  return (error as { $response?: { headers?: Record<string, string> } } | null)?.$response?.headers;
}
