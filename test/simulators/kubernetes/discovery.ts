import {
  API_GROUP_VERSIONS,
  type ApiGroupVersion,
  type ApiResource,
  groupVersion,
  resourcesIn,
  type Subresource,
} from './api-resources.ts';
import type { JsonObject } from './json.ts';

/** The server our recorded answers come from. */
export const SERVER_VERSION: JsonObject = {
  major: '1',
  minor: '36',
  emulationMajor: '1',
  emulationMinor: '36',
  minCompatibilityMajor: '1',
  minCompatibilityMinor: '35',
  gitVersion: 'v1.36.2+simulator',
  gitCommit: '0000000000000000000000000000000000000000',
  gitTreeState: 'clean',
  buildDate: '2026-01-01T00:00:00Z',
  goVersion: 'none',
  compiler: 'none',
  platform: 'linux/amd64',
};

const SUBRESOURCE_VERBS = ['get', 'patch', 'update'];

/** GET /api */
export function coreVersions(address: string): JsonObject {
  return {
    kind: 'APIVersions',
    versions: ['v1'],
    serverAddressByClientCIDRs: [{ clientCIDR: '0.0.0.0/0', serverAddress: address }],
  };
}

type Groups = ReadonlySet<string>;

function groupNames(missing: Groups): string[] {
  const names = new Set(API_GROUP_VERSIONS.map(({ group }) => group));
  return [...names].filter((name) => name !== '' && !missing.has(name));
}

/** One entry of GET /apis, and GET /apis/{group}. */
export function apiGroup(name: string): JsonObject | undefined {
  const versions = API_GROUP_VERSIONS.filter(({ group }) => group === name).map(({ version }) => {
    return { groupVersion: groupVersion(name, version), version };
  });
  const [preferredVersion] = versions;
  return preferredVersion === undefined ? undefined : { name, versions, preferredVersion };
}

/** GET /apis */
export function apiGroupList(missing: Groups): JsonObject {
  const groups = groupNames(missing).map((name) => apiGroup(name) as JsonObject);
  return { kind: 'APIGroupList', apiVersion: 'v1', groups };
}

/** GET /api/v1 and GET /apis/{group}/{version} */
export function apiResourceList(group: string, version: string): JsonObject | undefined {
  const resources = resourcesIn({ group, version });
  if (resources.length === 0) return undefined;
  return {
    kind: 'APIResourceList',
    ...(group === '' ? {} : { apiVersion: 'v1' }),
    groupVersion: groupVersion(group, version),
    resources: resources.flatMap((resource) => [
      plainResource(resource),
      ...resource.subresources.map((subresource) => plainSubresource(resource, subresource)),
    ]),
  };
}

function plainResource({
  plural,
  singular,
  namespaced,
  kind,
  verbs,
  shortNames,
  categories,
}: ApiResource): JsonObject {
  return {
    name: plural,
    singularName: singular,
    namespaced,
    kind,
    verbs: [...verbs],
    ...(shortNames.length === 0 ? {} : { shortNames: [...shortNames] }),
    ...(categories.length === 0 ? {} : { categories: [...categories] }),
  };
}

function plainSubresource({ plural, namespaced, kind }: ApiResource, subresource: Subresource): JsonObject {
  const scale = { group: 'autoscaling', version: 'v1', kind: 'Scale' };
  return {
    name: `${plural}/${subresource}`,
    singularName: '',
    namespaced,
    ...(subresource === 'scale' ? scale : { kind }),
    verbs: SUBRESOURCE_VERBS,
  };
}

/** GET /api and /apis in one document: every group, version and resource. */
export function aggregatedDiscovery(
  root: 'api' | 'apis',
  version: 'v2' | 'v2beta1',
  missing: Groups,
): JsonObject {
  const groups = root === 'api' ? [''] : groupNames(missing);
  return {
    kind: 'APIGroupDiscoveryList',
    apiVersion: `apidiscovery.k8s.io/${version}`,
    metadata: {},
    items: groups.map((name) => ({
      metadata: name === '' ? { creationTimestamp: null } : { name, creationTimestamp: null },
      versions: API_GROUP_VERSIONS.filter(({ group }) => group === name).map(aggregatedVersion),
    })),
  };
}

function aggregatedVersion(of: ApiGroupVersion): JsonObject {
  return {
    version: of.version,
    freshness: 'Current',
    resources: resourcesIn(of).map((resource) => ({
      resource: resource.plural,
      responseKind: { group: of.group, version: of.version, kind: resource.kind },
      scope: resource.namespaced ? 'Namespaced' : 'Cluster',
      singularResource: resource.singular,
      verbs: [...resource.verbs],
      ...(resource.shortNames.length === 0 ? {} : { shortNames: [...resource.shortNames] }),
      ...(resource.categories.length === 0 ? {} : { categories: [...resource.categories] }),
      ...(resource.subresources.length === 0 ? {} : { subresources: subresourcesOf(of, resource) }),
    })),
  };
}

function subresourcesOf(of: ApiGroupVersion, resource: ApiResource): JsonObject[] {
  return resource.subresources.map((subresource) => ({
    subresource,
    responseKind:
      subresource === 'scale'
        ? { group: 'autoscaling', version: 'v1', kind: 'Scale' }
        : { group: of.group, version: of.version, kind: resource.kind },
    verbs: SUBRESOURCE_VERBS,
  }));
}
