import type { ApiAnswer, ApiCall } from './api-call.ts';
import { type ApiResource, SELF_SUBJECT_ACCESS_REVIEWS } from './api-resources.ts';
import { unauthorized } from './api-status.ts';
import { asObject, isObject, type JsonObject, stringAt } from './json.ts';
import { parseJsonBody } from './patches.ts';
import { decodeProtobufBody, PROTOBUF_TYPE } from './protobuf.ts';
import { type ResourceRequest, resourcePath } from './request-info.ts';

/** What a token may do, as a Role words it; `*` stands for anything, an absent list too, except verbs and resources. */
export interface AccessRule {
  readonly verbs: readonly string[];
  // `deployments`, `deployments/scale`, `*` or `*/scale`
  readonly resources: readonly string[];
  readonly apiGroups?: readonly string[];
  readonly namespaces?: readonly string[];
  readonly resourceNames?: readonly string[];
}

export interface TokenGrant {
  readonly user: string;
  /** Absent: everything is allowed. */
  readonly rules?: readonly AccessRule[];
}

export const ANONYMOUS: TokenGrant = { user: 'system:anonymous', rules: [] };
/** Who everybody is while no token is configured. */
export const ADMIN: TokenGrant = { user: 'system:admin' };

/** A token nobody issued is 401; no token at all is the anonymous user, who then gets 403. */
export function authenticate(
  tokens: ReadonlyMap<string, TokenGrant>,
  authorization: string | undefined,
): TokenGrant {
  if (tokens.size === 0) return ADMIN;
  const token = /^Bearer\s+(.+)$/i.exec(authorization ?? '')?.[1];
  if (token === undefined) return ANONYMOUS;
  const grant = tokens.get(token.trim());
  if (grant === undefined) throw unauthorized();
  return grant;
}

export interface Attempt {
  readonly verb: string;
  readonly group: string;
  /** With the subresource, if any. */
  readonly resource: string;
  readonly namespace: string | null;
  readonly name: string | null;
}

export function attemptOf(target: ResourceRequest): Attempt {
  const { verb, resource, subresource, namespace, name } = target;
  return { verb, group: resource.group, resource: resourcePath(resource, subresource), namespace, name };
}

export function isAllowed({ rules }: TokenGrant, attempt: Attempt): boolean {
  return rules === undefined || rules.some((rule) => permits(rule, attempt)) || isSelfReview(attempt);
}

function permits(rule: AccessRule, attempt: Attempt): boolean {
  const [, subresource] = attempt.resource.split('/');
  return (
    includes(rule.verbs, attempt.verb) &&
    (includes(rule.resources, attempt.resource) ||
      (subresource !== undefined && rule.resources.includes(`*/${subresource}`))) &&
    includes(rule.apiGroups, attempt.group) &&
    includes(rule.namespaces, attempt.namespace ?? '') &&
    includes(rule.resourceNames, attempt.name ?? '')
  );
}

function includes(allowed: readonly string[] | undefined, value: string): boolean {
  return allowed === undefined || allowed.includes('*') || allowed.includes(value);
}

/** Everybody who is known may ask what they may do. */
function isSelfReview({ group, resource }: Attempt): boolean {
  return group === 'authorization.k8s.io' && resource.startsWith('selfsubject');
}

export function reviewAccess(call: ApiCall, grant: TokenGrant): ApiAnswer {
  const { resource } = call.target;
  const body = reviewBody(call, resource.kind);
  const status =
    resource === SELF_SUBJECT_ACCESS_REVIEWS ? accessStatus(grant, asObject(body.spec)) : rulesStatus(grant);
  const review = {
    kind: resource.kind,
    apiVersion: 'authorization.k8s.io/v1',
    metadata: { creationTimestamp: null },
    spec: asObject(body.spec),
    status,
  };
  return { kind: 'plain', status: 201, body: review };
}

function reviewBody(call: ApiCall, kind: ApiResource['kind']): JsonObject {
  return call.contentType === PROTOBUF_TYPE
    ? decodeProtobufBody(kind, call.body)
    : asObject(parseJsonBody(call.body, kind));
}

function accessStatus(grant: TokenGrant, spec: JsonObject): JsonObject {
  const asked = spec.resourceAttributes;
  const allowed = isObject(asked) ? isAllowed(grant, attributesOf(asked)) : grant.rules === undefined;
  if (!allowed) return { allowed: false };
  const role = grant.rules === undefined ? 'cluster-admin' : grant.user;
  const reason = `RBAC: allowed by ClusterRoleBinding "${role}" of ClusterRole "${role}" to User "${grant.user}"`;
  return { allowed: true, reason };
}

function attributesOf(asked: JsonObject): Attempt {
  const [resource, subresource] = [stringAt(asked, 'resource'), stringAt(asked, 'subresource')];
  return {
    verb: stringAt(asked, 'verb'),
    group: stringAt(asked, 'group'),
    resource: subresource === '' ? resource : `${resource}/${subresource}`,
    namespace: stringAt(asked, 'namespace') || null,
    name: stringAt(asked, 'name') || null,
  };
}

function rulesStatus({ rules }: TokenGrant): JsonObject {
  const everything: AccessRule = { verbs: ['*'], resources: ['*'], apiGroups: ['*'] };
  const resourceRules = (rules ?? [everything]).map(({ verbs, resources, apiGroups, resourceNames }) => ({
    verbs: [...verbs],
    resources: [...resources],
    apiGroups: [...(apiGroups ?? ['*'])],
    ...(resourceNames === undefined ? {} : { resourceNames: [...resourceNames] }),
  }));
  return { resourceRules, nonResourceRules: [], incomplete: false };
}
