/** Every resource the simulated API server knows: one row feeds routing, discovery, OpenAPI and access checks. */
export interface ApiResource {
  readonly group: string;
  /** Served versions; the first is the one objects are stored in. */
  readonly versions: readonly string[];
  readonly plural: string;
  readonly singular: string;
  readonly kind: string;
  readonly namespaced: boolean;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly verbs: readonly Verb[];
  readonly subresources: readonly Subresource[];
  /** A CustomResourceDefinition: no strategic merge patch, no defaults. */
  readonly custom: boolean;
}

export type Subresource = 'scale' | 'status';
export type Verb = 'get' | 'list' | 'watch' | 'create' | 'update' | 'patch' | 'delete' | 'deletecollection';

const ALL_VERBS: readonly Verb[] = [
  'create',
  'delete',
  'deletecollection',
  'get',
  'list',
  'patch',
  'update',
  'watch',
];

function resource(
  group: string,
  versions: readonly string[],
  kind: string,
  plural: string,
  more: Partial<ApiResource> = {},
): ApiResource {
  return {
    group,
    versions,
    kind,
    plural,
    singular: kind.toLowerCase(),
    namespaced: true,
    shortNames: [],
    categories: [],
    verbs: ALL_VERBS,
    subresources: [],
    custom: false,
    ...more,
  };
}

export const NAMESPACES = resource('', ['v1'], 'Namespace', 'namespaces', {
  namespaced: false,
  shortNames: ['ns'],
  subresources: ['status'],
});
export const PODS = resource('', ['v1'], 'Pod', 'pods', {
  shortNames: ['po'],
  categories: ['all'],
  subresources: ['status'],
});
export const EVENTS = resource('', ['v1'], 'Event', 'events', { shortNames: ['ev'] });
export const DEPLOYMENTS = resource('apps', ['v1'], 'Deployment', 'deployments', {
  shortNames: ['deploy'],
  categories: ['all'],
  subresources: ['scale', 'status'],
});
export const STATEFUL_SETS = resource('apps', ['v1'], 'StatefulSet', 'statefulsets', {
  shortNames: ['sts'],
  categories: ['all'],
  subresources: ['scale', 'status'],
});
export const REPLICA_SETS = resource('apps', ['v1'], 'ReplicaSet', 'replicasets', {
  shortNames: ['rs'],
  categories: ['all'],
  subresources: ['scale', 'status'],
});
export const HORIZONTAL_POD_AUTOSCALERS = resource(
  'autoscaling',
  ['v2', 'v1'],
  'HorizontalPodAutoscaler',
  'horizontalpodautoscalers',
  { shortNames: ['hpa'], categories: ['all'], subresources: ['status'] },
);
export const POD_DISRUPTION_BUDGETS = resource(
  'policy',
  ['v1'],
  'PodDisruptionBudget',
  'poddisruptionbudgets',
  { shortNames: ['pdb'], subresources: ['status'] },
);
export const SCALED_OBJECTS = resource('keda.sh', ['v1alpha1'], 'ScaledObject', 'scaledobjects', {
  shortNames: ['so'],
  subresources: ['status'],
  custom: true,
});
export const SELF_SUBJECT_ACCESS_REVIEWS = resource(
  'authorization.k8s.io',
  ['v1'],
  'SelfSubjectAccessReview',
  'selfsubjectaccessreviews',
  { namespaced: false, verbs: ['create'] },
);
export const SELF_SUBJECT_RULES_REVIEWS = resource(
  'authorization.k8s.io',
  ['v1'],
  'SelfSubjectRulesReview',
  'selfsubjectrulesreviews',
  { namespaced: false, verbs: ['create'] },
);

export const API_RESOURCES: readonly ApiResource[] = [
  NAMESPACES,
  PODS,
  EVENTS,
  DEPLOYMENTS,
  STATEFUL_SETS,
  REPLICA_SETS,
  HORIZONTAL_POD_AUTOSCALERS,
  POD_DISRUPTION_BUDGETS,
  SCALED_OBJECTS,
  SELF_SUBJECT_ACCESS_REVIEWS,
  SELF_SUBJECT_RULES_REVIEWS,
];

export interface ApiGroupVersion {
  readonly group: string;
  readonly version: string;
}

/** In the order discovery lists them: the core group first, a group's preferred version first. */
export const API_GROUP_VERSIONS: readonly ApiGroupVersion[] = uniqueGroupVersions();

function uniqueGroupVersions(): ApiGroupVersion[] {
  const seen = new Map<string, ApiGroupVersion>();
  for (const { group, versions } of API_RESOURCES) {
    for (const version of versions) seen.set(`${group}/${version}`, { group, version });
  }
  return [...seen.values()];
}

export function resourcesIn({ group, version }: ApiGroupVersion): readonly ApiResource[] {
  return API_RESOURCES.filter((each) => each.group === group && each.versions.includes(version));
}

export function findResource(group: string, version: string, plural: string): ApiResource | undefined {
  return API_RESOURCES.find(
    (each) => each.group === group && each.plural === plural && each.versions.includes(version),
  );
}

/** `apps/v1`, or `v1` for the core group. */
export function groupVersion(group: string, version: string): string {
  return group === '' ? version : `${group}/${version}`;
}

/** How error messages name a resource: `deployments.apps`, `pods`. */
export function qualifiedName(resource: ApiResource): string {
  return resource.group === '' ? resource.plural : `${resource.plural}.${resource.group}`;
}

/** `Deployment.apps`, as validation errors name it. */
export function qualifiedKind(resource: ApiResource): string {
  return resource.group === '' ? resource.kind : `${resource.kind}.${resource.group}`;
}

export function storedApiVersion(resource: ApiResource): string {
  return groupVersion(resource.group, resource.versions[0] ?? 'v1');
}
