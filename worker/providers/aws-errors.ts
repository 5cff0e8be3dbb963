import { errorMessage, ProviderError, type ProviderFault } from '../../shared/errors.ts';

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

/** By the error's `name`, which is AWS's code. Names that are not here say nothing certain. */
const byName: Readonly<Record<string, Meaning>> = {
  Throttling: throttled,
  ThrottlingException: throttled,
  RequestLimitExceeded: throttled,
  TooManyRequestsException: throttled,
  ScalingActivityInProgress: {
    fault: 'conflict',
    code: 'scaling_in_progress',
    words: 'A scaling activity is in progress.',
  },
  ScalingActivityInProgressFault: {
    fault: 'conflict',
    code: 'scaling_in_progress',
    words: 'A scaling activity is in progress.',
  },
  ValidationError: {
    fault: 'permanent',
    code: 'aws_rejected',
    words: "AWS rejects the request: check the group's name, region and bounds.",
  },
  InvalidParameterValue: {
    fault: 'permanent',
    code: 'aws_rejected',
    words: "AWS rejects the request: check the group's name, region and bounds.",
  },
  AccessDenied: {
    fault: 'identity',
    code: 'aws_denied',
    words: "AWS denies the call: the worker's IAM policy lacks this permission (see the README).",
  },
  AccessDeniedException: {
    fault: 'identity',
    code: 'aws_denied',
    words: "AWS denies the call: the worker's IAM policy lacks this permission (see the README).",
  },
  UnauthorizedOperation: {
    fault: 'identity',
    code: 'aws_denied',
    words: "AWS denies the call: the worker's IAM policy lacks this permission (see the README).",
  },
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
  RequestExpired: {
    fault: 'fenced',
    code: 'signature_expired',
    words: 'The request arrived after its signature had expired, so AWS dropped it.',
  },
};

/** Failures before a connection was there: nothing can have been applied. */
const beforeSending = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'CERT_HAS_EXPIRED',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'ERR_TLS_CERT_ALTNAME_INVALID',
]);

/**
 * An SDK error as one of ours. For a write everything unlisted is `unknown`: it may have been applied.
 */
export function classifyAwsError(error: unknown, kind: 'read' | 'write'): ProviderError {
  if (error instanceof ProviderError) return error;
  const { name, code, status } = factsOf(error);
  const context = {
    aws_error: name,
    aws_message: errorMessage(error).slice(0, 500),
    ...(status === undefined ? {} : { http_status: status }),
  };
  // Some services word an outdated signature as a wrong one.
  const outdated = name === 'SignatureDoesNotMatch' && errorMessage(error).startsWith('Signature expired');
  const known = byName[outdated ? 'RequestExpired' : name];
  if (known !== undefined) return build(known, context, error);
  if (code !== undefined && beforeSending.has(code)) {
    return build(
      {
        fault: kind === 'write' ? 'pre_send' : 'unavailable',
        code: 'aws_unreachable',
        words: `AWS could not be reached (${code}): check the network and the endpoint.`,
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

function build(meaning: Meaning, context: Record<string, unknown>, cause: unknown): ProviderError {
  return new ProviderError(
    meaning.fault,
    meaning.code,
    `${meaning.words} (AWS: ${context.aws_error}: ${context.aws_message})`,
    { context, cause },
  );
}

function factsOf(error: unknown): { name: string; code: string | undefined; status: number | undefined } {
  if (typeof error !== 'object' || error === null)
    return { name: 'Unknown', code: undefined, status: undefined };
  const { name, code, $metadata } = error as {
    name?: unknown;
    code?: unknown;
    $metadata?: { httpStatusCode?: number };
  };
  return {
    name: typeof name === 'string' ? name : 'Unknown',
    code: typeof code === 'string' ? code : undefined,
    status: $metadata?.httpStatusCode,
  };
}
