/**
 * JSON, which is YAML too. `insecure-skip-tls-verify` is what makes client-node speak plain http at all; kubectl
 * does not mind it, but sends no token over http: there everybody is anonymous once tokens are configured.
 */
export function kubeconfigFor(options: {
  readonly server: string;
  readonly context: string;
  readonly token?: string | undefined;
}): string {
  const { server, context, token } = options;
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': context,
    clusters: [{ name: context, cluster: { server, 'insecure-skip-tls-verify': true } }],
    contexts: [{ name: context, context: { cluster: context, user: context, namespace: 'default' } }],
    users: [{ name: context, user: token === undefined ? {} : { token } }],
  };
  return `${JSON.stringify(config, null, 2)}\n`;
}
