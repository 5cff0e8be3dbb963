import { errorMessage } from '../../shared/errors.ts';
import { ProviderError, type ProviderFault } from './provider-error.ts';
import { requestNotSentCode } from './request-not-sent.ts';
import { retryAfterMs } from './retry-after.ts';

/** How RBAC words a refusal. Quotas and admission webhooks answer 403 too, but only for the one request. */
const deniedByRole = /User ".*" cannot /;

/**
 * A client-node error as one of ours. Bodies may be a Status object, a string or nothing, so the HTTP status
 * counts; but only the API server itself may say that something does not exist: a proxy's 404 says nothing. For a write
 * everything unlisted is `unknown`.
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
      return build('permanent', 'kubernetes_rejected', 'The cluster rejects the request: decide again.');
    case 401:
      return build(
        'identity',
        'kubernetes_unauthenticated',
        "The cluster does not accept the credentials: check the worker's service account or kubeconfig.",
      );
    case 403:
      if (isStatus(error) && !deniedByRole.test(context.kubernetes_message))
        return build(
          'permanent',
          'kubernetes_rejected',
          'A quota or an admission rule of the cluster rejects the request: change the rule or decide again.',
        );
      return build(
        'identity',
        'kubernetes_denied',
        "The cluster denies the call: the worker's Role lacks this permission (docs/reference/permissions.md has the Role).",
      );
    case 404:
      if (!isStatus(error)) break;
      return build(
        'permanent',
        'target_not_found',
        "There is no such workload: check the resource's name and cluster.",
      );
    case 409:
      return build(
        'conflict',
        'kubernetes_conflict',
        'Somebody else changed the workload in between; it is read again.',
      );
    case 429:
      return build(
        'throttled',
        'throttled',
        'The cluster is overloaded; it is tried again later.',
        retryAfterMs(headersOf(error)) ?? 1_000,
      );
  }
  const code = requestNotSentCode(error);
  if (code !== undefined) {
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

/**
 * Whether the API server itself spoke: it answers with a Status object, what stands in front of it with something else.
 */
function isStatus(error: unknown): boolean {
  const body = (error as { body?: unknown } | null)?.body;
  if (typeof body !== 'string') return (body as { kind?: unknown } | null | undefined)?.kind === 'Status';
  try {
    return (JSON.parse(body) as { kind?: unknown } | null)?.kind === 'Status';
  } catch {
    return false;
  }
}

function headersOf(error: unknown): Record<string, string> | undefined {
  return (error as { headers?: Record<string, string> } | null)?.headers;
}
