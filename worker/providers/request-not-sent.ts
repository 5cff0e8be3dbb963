import { ProviderError } from './provider-error.ts';

/** Failures before a connection was there: nothing can have been applied. */
const beforeSending = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'CERT_HAS_EXPIRED',
  'CERT_NOT_YET_VALID',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'ERR_TLS_CERT_ALTNAME_INVALID',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
]);

/**
 * Node's code when a request certainly never left, looked for in the error and its causes; undefined when it may have.
 * A reset, and a time-out of anything but the connecting itself, may come after the request.
 */
export function requestNotSentCode(error: unknown): string | undefined {
  let current = error;
  for (let depth = 0; depth < 4 && typeof current === 'object' && current !== null; depth++) {
    const { code, syscall, cause } = current as { code?: unknown; syscall?: unknown; cause?: unknown };
    if (
      typeof code === 'string' &&
      (beforeSending.has(code) || (code === 'ETIMEDOUT' && syscall === 'connect'))
    )
      return code;
    current = cause;
  }
  return undefined;
}

/** A write whose signal was aborted before there was anything to abort. */
export function requestNotSent(): ProviderError {
  return new ProviderError(
    'pre_send',
    'aborted',
    'The write was called off before it was sent; nothing was changed.',
  );
}
