import { describe, expect, it } from 'vitest';
import type { RetryClass } from '../../../shared/errors.ts';
import { classifyAwsError } from '../../../worker/providers/aws-errors.ts';
import { ProviderError, type ProviderFault } from '../../../worker/providers/provider-error.ts';

/** An error as the SDK throws it: `name` is AWS's code. */
function sdkError(name: string, message = 'in the words of AWS', more: object = {}): Error {
  return Object.assign(new Error(message), { name, ...more });
}

const nodeError = (code: string, more: object = {}) => Object.assign(new Error(code), { code, ...more });

const retryOf: Readonly<Record<ProviderFault, RetryClass>> = {
  throttled: 'after',
  conflict: 'backoff',
  permanent: 'never',
  identity: 'never',
  fenced: 'backoff',
  pre_send: 'backoff',
  unavailable: 'backoff',
  unknown: 'backoff',
};

/** The table of error classes: what AWS calls it, and what it means for a write and for a read. */
const named: readonly (readonly [ProviderFault, string, ...string[]])[] = [
  [
    'throttled',
    'throttled',
    'Throttling',
    'ThrottlingException',
    'ThrottledException',
    'RequestLimitExceeded',
    'RequestThrottled',
    'RequestThrottledException',
    'TooManyRequests',
    'TooManyRequestsException',
  ],
  ['conflict', 'scaling_in_progress', 'ScalingActivityInProgress', 'ScalingActivityInProgressFault'],
  [
    'permanent',
    'aws_rejected',
    'ValidationError',
    'ValidationException',
    'InvalidParameterValue',
    'InvalidParameterCombination',
    'MissingParameter',
    'InvalidAction',
  ],
  [
    'identity',
    'aws_denied',
    'AccessDenied',
    'AccessDeniedException',
    'UnauthorizedOperation',
    'OptInRequired',
  ],
  [
    'identity',
    'aws_identity',
    'MissingAuthenticationToken',
    'InvalidClientTokenId',
    'UnrecognizedClientException',
    'SignatureDoesNotMatch',
    'AuthFailure',
    'ExpiredToken',
    'ExpiredTokenException',
    'CredentialsProviderError',
  ],
  ['fenced', 'signature_expired', 'RequestExpired'],
];

describe.each(['read', 'write'] as const)('an AWS error on a %s', (kind) => {
  for (const [fault, code, ...names] of named) {
    it.each(names)(`${fault}: %s`, (name) => {
      const failure = classifyAwsError(
        sdkError(name, 'as it was', { $metadata: { httpStatusCode: 400 } }),
        kind,
      );
      expect(failure).toMatchObject({
        fault,
        code,
        retry: retryOf[fault],
        context: { aws_error: name, aws_message: 'as it was', http_status: 400 },
      });
      expect(failure.message).toContain(`(AWS: ${name}: as it was)`);
    });
  }

  it.each([
    'ECONNREFUSED',
    'ENOTFOUND',
    'EAI_AGAIN',
    'EHOSTUNREACH',
    'ENETUNREACH',
    'CERT_HAS_EXPIRED',
    'CERT_NOT_YET_VALID',
    'DEPTH_ZERO_SELF_SIGNED_CERT',
    'SELF_SIGNED_CERT_IN_CHAIN',
    'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
    'ERR_TLS_CERT_ALTNAME_INVALID',
  ])('never sent: %s', (code) => {
    const failure = classifyAwsError(nodeError(code), kind);
    expect(failure).toMatchObject({
      fault: kind === 'write' ? 'pre_send' : 'unavailable',
      code: 'aws_unreachable',
    });
    expect(failure.message).toContain(code);
  });

  it('never sent: a connection that timed out, wrapped', () => {
    const error = new Error('x', { cause: nodeError('ETIMEDOUT', { syscall: 'connect' }) });
    expect(classifyAwsError(error, kind).code).toBe('aws_unreachable');
  });

  it.each<[string, unknown]>([
    ['a 500', sdkError('InternalFailure', 'x', { $metadata: { httpStatusCode: 500 } })],
    ['ResourceContention', sdkError('ResourceContentionFault', 'x', { $metadata: { httpStatusCode: 500 } })],
    ['a 502', sdkError('Unknown', 'x', { $metadata: { httpStatusCode: 502 } })],
    ['a 503', sdkError('ServiceUnavailable', 'x', { $metadata: { httpStatusCode: 503 } })],
    ['a 504', sdkError('504', 'x', { $metadata: { httpStatusCode: 504 } })],
    ['a reset', nodeError('ECONNRESET')],
    ['a broken pipe', nodeError('EPIPE')],
    ['a time-out after connecting', nodeError('ETIMEDOUT', { syscall: 'read' })],
    ['a time-out of the SDK', sdkError('TimeoutError')],
    ['an abort', sdkError('AbortError')],
    ['a name nobody has heard of', sdkError('SomethingNew', 'x', { $metadata: { httpStatusCode: 400 } })],
    ['the name of a method of every object', sdkError('constructor')],
    ['what is no error', 'text'],
    ['nothing', undefined],
    ['null', null],
  ])('unlisted: %s', (_what, error) => {
    expect(classifyAwsError(error, kind)).toMatchObject({
      fault: kind === 'write' ? 'unknown' : 'unavailable',
      code: kind === 'write' ? 'aws_outcome_unknown' : 'aws_unavailable',
      retry: 'backoff',
    });
  });

  it.each(['Signature expired: 20250101T000000Z is now earlier than …', 'Signature not yet current: 2025…'])(
    'fenced, although it is worded as a wrong signature: %s',
    (message) => {
      expect(classifyAwsError(sdkError('SignatureDoesNotMatch', message), kind)).toMatchObject({
        fault: 'fenced',
      });
    },
  );

  it('tells a group that is gone from bounds that are wrong', () => {
    const message = 'AutoScalingGroup name not found - no such group: web';
    expect(classifyAwsError(sdkError('ValidationError', message), kind)).toMatchObject({
      fault: 'permanent',
      code: 'target_not_found',
    });
  });

  it('leaves what is classified already as it is', () => {
    const known = new ProviderError('conflict', 'x', 'Words.');
    expect(classifyAwsError(known, kind)).toBe(known);
  });

  it('follows Retry-After when throttled, never longer than a minute, and only then', () => {
    const adviceOf = (name: string, seconds: string) =>
      classifyAwsError(sdkError(name, 'x', { $response: { headers: { 'retry-after': seconds } } }), kind)
        .retryAfterMs;
    expect(adviceOf('Throttling', '7')).toBe(7_000);
    expect(adviceOf('Throttling', '86400')).toBe(60_000);
    expect(adviceOf('Throttling', 'Wed, 21 Oct 2026 07:28:00 GMT')).toBeUndefined();
    expect(adviceOf('Throttling', '-1')).toBeUndefined();
    expect(adviceOf('AccessDenied', '7')).toBeUndefined();
  });

  it('keeps a message as long as a page out of rows and logs', () => {
    const { context } = classifyAwsError(sdkError('Throttling', 'x'.repeat(10_000)), kind);
    expect(String(context.aws_message)).toHaveLength(500);
  });
});
