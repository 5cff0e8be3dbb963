import { errorMessage, ProviderError, type ProviderFault } from '../../shared/errors.ts';

const beforeSending = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'CERT_HAS_EXPIRED',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
]);

/**
 * A client-node error as one of ours. Bodies may be a Status object, a string or nothing: only the HTTP status counts.
 * For a write everything unlisted is `unknown`.
 */
export function classifyKubernetesError(error: unknown, kind: 'read' | 'write'): ProviderError {
  if (error instanceof ProviderError) return error;
  const status = statusOf(error);
  const context = {
    kubernetes_message: messageOf(error).slice(0, 500),
    ...(status === undefined ? {} : { http_status: status }),
  };
  const build = (fault: ProviderFault, code: string, words: string, retryAfterMs?: number) =>
    new ProviderError(fault, code, `${words} (Kubernetes: ${context.kubernetes_message})`, {
      context,
      cause: error,
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    });
  switch (status) {
    case 400:
    case 405:
    case 415:
    case 422:
      return build('permanent', 'kubernetes_rejected', 'The cluster rejects the request.');
    case 401:
      return build(
        'identity',
        'kubernetes_unauthenticated',
        "The cluster does not accept the credentials: check the worker's service account or kubeconfig.",
      );
    case 403:
      return build(
        'identity',
        'kubernetes_denied',
        "The cluster denies the call: the worker's Role lacks this permission (see the README).",
      );
    case 404:
      return build(
        'permanent',
        'target_not_found',
        "There is no such workload: check the resource's name and cluster.",
      );
    case 409:
      return build('conflict', 'kubernetes_conflict', 'Somebody else changed the workload in between.');
    case 429:
      return build(
        'throttled',
        'throttled',
        'The cluster is overloaded; it is tried again later.',
        retryAfterOf(error),
      );
  }
  const code = codeOf(error);
  if (code !== undefined && beforeSending.has(code)) {
    return build(
      kind === 'write' ? 'pre_send' : 'unavailable',
      'kubernetes_unreachable',
      `The cluster could not be reached (${code}): check the network and the kubeconfig.`,
    );
  }
  if (kind === 'read')
    return build(
      'unavailable',
      'kubernetes_unavailable',
      'The cluster did not answer properly; it is tried again.',
    );
  return build(
    'unknown',
    'kubernetes_outcome_unknown',
    'The cluster did not say whether the change was made; it is looked up.',
  );
}

function statusOf(error: unknown): number | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'number' ? code : undefined;
}

function codeOf(error: unknown): string | undefined {
  for (
    let current: unknown = error, depth = 0;
    typeof current === 'object' && current !== null && depth < 4;
    depth++
  ) {
    const { code, cause } = current as { code?: unknown; cause?: unknown };
    if (typeof code === 'string') return code;
    current = cause;
  }
  return undefined;
}

function messageOf(error: unknown): string {
  const body = (error as { body?: unknown } | null)?.body;
  if (typeof body === 'string' && body !== '') {
    try {
      const status: unknown = JSON.parse(body);
      const message = (status as { message?: unknown } | null)?.message;
      if (typeof message === 'string') return message;
    } catch {
      return body;
    }
    return body;
  }
  const message = (body as { message?: unknown } | null | undefined)?.message;
  return typeof message === 'string' ? message : errorMessage(error);
}

function retryAfterOf(error: unknown): number {
  const headers = (error as { headers?: Record<string, string> } | null)?.headers;
  const seconds = Number(headers?.['retry-after']);
  return Number.isFinite(seconds) && seconds > 0 ? seconds * 1_000 : 1_000;
}
