import { API_GROUP_VERSIONS, type ApiGroupVersion, type ApiResource, resourcesIn } from './api-resources.ts';
import type { JsonObject } from './json.ts';

/**
 * Just enough OpenAPI for `kubectl apply`, which looks up whether PATCH of a kind takes `fieldValidation` and
 * `dryRun`. Strategic merge is left out of the documents on purpose: kubectl then computes its patch from the Go
 * types it was built with, and needs no schema from us.
 */
export function openApiIndex(): JsonObject {
  const paths = API_GROUP_VERSIONS.map((each) => {
    const path = groupPath(each);
    return [path, { serverRelativeURL: `/openapi/v3/${path}?hash=${DOCUMENT_HASH}` }] as const;
  });
  return { paths: Object.fromEntries(paths) };
}

/** Clients cache a document by this; it changes when the documents do. */
const DOCUMENT_HASH = 'SIMULATOR1';

export function openApiEtag(): string {
  return `"${DOCUMENT_HASH}"`;
}

function groupPath({ group, version }: ApiGroupVersion): string {
  return group === '' ? `api/${version}` : `apis/${group}/${version}`;
}

export function openApiDocument(path: string): JsonObject | undefined {
  const of = API_GROUP_VERSIONS.find((each) => groupPath(each) === path);
  if (of === undefined) return undefined;
  const resources = resourcesIn(of);
  return {
    openapi: '3.0.0',
    info: { title: 'Kubernetes', version: 'v1.36.2+simulator' },
    paths: Object.fromEntries(resources.flatMap((resource) => pathsOf(of, resource))),
    components: {
      schemas: Object.fromEntries(
        resources.map((resource) => [schemaName(of, resource), schemaOf(of, resource)]),
      ),
    },
  };
}

function schemaName({ group, version }: ApiGroupVersion, { kind }: ApiResource): string {
  const domain = group === '' || !group.includes('.') ? `io.k8s.api.${group === '' ? 'core' : group}` : group;
  return `${domain}.${version}.${kind}`;
}

function schemaOf({ group, version }: ApiGroupVersion, { kind, plural }: ApiResource): JsonObject {
  const open = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
  return {
    type: 'object',
    description: `${kind} as the simulator keeps it: ${plural} are stored as they are sent.`,
    properties: {
      apiVersion: { type: 'string' },
      kind: { type: 'string' },
      metadata: open,
      spec: open,
      status: open,
    },
    'x-kubernetes-group-version-kind': [{ group, version, kind }],
  };
}

function pathsOf(of: ApiGroupVersion, resource: ApiResource): [string, JsonObject][] {
  const { group, version } = of;
  const base = `/${groupPath(of)}${resource.namespaced ? '/namespaces/{namespace}' : ''}/${resource.plural}`;
  const gvk = { group, version, kind: resource.kind };
  const operation = (action: string, more: JsonObject = {}): JsonObject => ({
    operationId: `${action}${resource.kind}`,
    'x-kubernetes-action': action,
    'x-kubernetes-group-version-kind': gvk,
    responses: { 200: { description: 'OK' } },
    ...more,
  });
  const parameters = ['dryRun', 'fieldManager', 'fieldValidation'].map(queryParameter);
  const schema = { $ref: `#/components/schemas/${schemaName(of, resource)}` };
  const json = { required: true, content: { 'application/json': { schema } } };
  const patchContent = { 'application/merge-patch+json': { schema: { type: 'object' } } };
  const collection: JsonObject = { post: operation('post', { parameters, requestBody: json }) };
  if (!resource.verbs.includes('patch')) return [[base, collection]];
  const item: JsonObject = {
    get: operation('get'),
    put: operation('put', { parameters, requestBody: json }),
    patch: operation('patch', {
      parameters: [...parameters, queryParameter('force')],
      requestBody: { required: true, content: patchContent },
    }),
    delete: operation('delete', { parameters: [queryParameter('dryRun')] }),
  };
  return [
    [base, { get: operation('list'), ...collection }],
    [`${base}/{name}`, item],
  ];
}

function queryParameter(name: string): JsonObject {
  return { name, in: 'query', schema: { type: 'string', uniqueItems: true } };
}
