import { ApiException } from '@kubernetes/client-node';
import { describe, expect, it } from 'vitest';
import { classifyKubernetesError } from '../../../worker/providers/kubernetes-errors.ts';
import { ProviderError, type ProviderFault } from '../../../worker/providers/provider-error.ts';

const status = (code: number, message = 'in the words of the cluster') =>
  JSON.stringify({ kind: 'Status', apiVersion: 'v1', status: 'Failure', message, code });

/** An answer as client-node throws it. */
function answer(
  code: number,
  body: unknown = status(code),
  headers: Record<string, string> = {},
): ApiException<unknown> {
  return new ApiException(code, 'x', body, headers);
}

const nodeError = (code: string, more: object = {}) => Object.assign(new Error(code), { code, ...more });
const rbac =
  'deployments.apps "web" is forbidden: User "system:serviceaccount:scaler:worker" cannot update resource "deployments/scale"';
const html = '<html><body><h1>Not here</h1></body></html>';

describe.each(['read', 'write'] as const)('a Kubernetes error on a %s', (kind) => {
  const uncertain = kind === 'write' ? 'unknown' : 'unavailable';

  it.each<[ProviderFault, string, number, unknown]>([
    ['permanent', 'kubernetes_rejected', 400, status(400)],
    ['permanent', 'kubernetes_rejected', 405, status(405)],
    ['permanent', 'kubernetes_rejected', 415, status(415)],
    ['permanent', 'kubernetes_rejected', 422, status(422)],
    ['permanent', 'target_not_found', 404, status(404)],
    ['permanent', 'target_not_found', 404, JSON.parse(status(404))],
    [
      'permanent',
      'kubernetes_rejected',
      403,
      status(403, 'pods "web" is forbidden: exceeded quota: compute'),
    ],
    [
      'permanent',
      'kubernetes_rejected',
      403,
      status(403, 'admission webhook "guard" denied the request: no'),
    ],
    ['identity', 'kubernetes_denied', 403, status(403, rbac)],
    ['identity', 'kubernetes_denied', 403, null],
    ['identity', 'kubernetes_denied', 403, html],
    ['identity', 'kubernetes_unauthenticated', 401, null],
    ['conflict', 'kubernetes_conflict', 409, status(409)],
    ['throttled', 'throttled', 429, 'Too many requests, please try again later.\n'],
  ])('%s (%s): %i with %s', (fault, code, httpStatus, body) => {
    const failure = classifyKubernetesError(answer(httpStatus, body), kind);
    expect(failure).toMatchObject({ fault, code, context: { http_status: httpStatus } });
    expect(failure.message).toMatch(/[:;].* \(Kubernetes: /s);
  });

  it.each<[string, unknown]>([
    ['a 500', answer(500)],
    ['a 502 of a proxy', answer(502, html)],
    ['a 503', answer(503)],
    ['a 504 without kind', answer(504, '{"status":"Failure","message":"Timeout"}')],
    ["a proxy's 404", answer(404, html)],
    ["an unknown path's 404", answer(404, '404 page not found\n')],
    ['a redirect', answer(302, '')],
    ['a 418', answer(418)],
    ['a reset', nodeError('ECONNRESET')],
    ['a broken pipe', nodeError('EPIPE')],
    ['a time-out after connecting', nodeError('ETIMEDOUT', { syscall: 'read' })],
    [
      'an abort',
      Object.assign(new Error('The user aborted a request.'), { name: 'AbortError', type: 'aborted' }),
    ],
    ['half a body', new SyntaxError('Unexpected end of JSON input')],
    ['what is no error', 'text'],
    ['nothing', undefined],
    ['null', null],
  ])('unlisted: %s', (_what, error) => {
    expect(classifyKubernetesError(error, kind)).toMatchObject({ fault: uncertain, retry: 'backoff' });
  });

  it.each(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'CERT_HAS_EXPIRED', 'SELF_SIGNED_CERT_IN_CHAIN'])(
    'never sent: %s, as node-fetch wraps it',
    (code) => {
      const failure = classifyKubernetesError(nodeError(code, { type: 'system', errno: code }), kind);
      expect(failure).toMatchObject({
        fault: kind === 'write' ? 'pre_send' : 'unavailable',
        code: 'kubernetes_unreachable',
      });
    },
  );

  it('tells what the cluster said, whatever form it came in', () => {
    const said = (body: unknown) =>
      classifyKubernetesError(answer(422, body), kind).context.kubernetes_message;
    expect(said(status(422, 'replicas: too many'))).toBe('replicas: too many');
    expect(said({ kind: 'Status', message: 'replicas: too many' })).toBe('replicas: too many');
    expect(said('plain text')).toBe('plain text');
    expect(said('[1]')).toBe('[1]');
    expect(String(said('x'.repeat(10_000)))).toHaveLength(500);
  });

  it('follows Retry-After, a second without, a minute at most', () => {
    const adviceOf = (headers: Record<string, string>) =>
      classifyKubernetesError(answer(429, 'busy', headers), kind).retryAfterMs;
    expect(adviceOf({ 'retry-after': '7' })).toBe(7_000);
    expect(adviceOf({})).toBe(1_000);
    expect(adviceOf({ 'retry-after': 'soon' })).toBe(1_000);
    expect(adviceOf({ 'retry-after': '86400' })).toBe(60_000);
  });

  it('leaves what is classified already as it is', () => {
    const known = new ProviderError('conflict', 'x', 'Words.');
    expect(classifyKubernetesError(known, kind)).toBe(known);
  });
});
