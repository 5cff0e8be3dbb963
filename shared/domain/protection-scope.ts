import type { CloudProvider } from './resource.ts';

/** `global`, `provider:aws`, `scope:aws:us-east-1` (a region, or a Kubernetes cluster) or `resource:<uuid>`. */
export const protectionScopePattern =
  /^(global|provider:(aws|kubernetes)|scope:(aws|kubernetes):[\x21-\x7e]{1,255}|resource:[0-9a-f-]{36})$/;

/** The region or cluster of a resource, as a scope. */
export function cloudScope(resource: {
  readonly cloud_provider: CloudProvider;
  readonly region: string | null;
  readonly cluster: string | null;
}): string {
  return `scope:${resource.cloud_provider}:${resource.region ?? resource.cluster ?? ''}`;
}

/** Every scope a resource lies in, the widest first. */
export function scopesOf(resource: {
  readonly id: string;
  readonly cloud_provider: CloudProvider;
  readonly region: string | null;
  readonly cluster: string | null;
}): readonly [global: string, provider: string, cloud: string, resource: string] {
  return ['global', `provider:${resource.cloud_provider}`, cloudScope(resource), `resource:${resource.id}`];
}
