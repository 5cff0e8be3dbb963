import { type ApiResource, groupVersion, HORIZONTAL_POD_AUTOSCALERS } from './api-resources.ts';
import { toAutoscalingV1 } from './hpa-versions.ts';
import type { JsonObject, KubernetesObject } from './json.ts';
import type { ObjectReader, ObjectStore } from './object-store.ts';
import type { ResourceRequest } from './request-info.ts';

/** One authorized request for a resource, on its way to a handler. */
export interface ApiCall {
  readonly target: ResourceRequest;
  readonly query: URLSearchParams;
  readonly body: Buffer;
  /** Media type of the body, without parameters. */
  readonly contentType: string;
  readonly userAgent: string;
  /** The present for every write; for a read possibly a moment ago. */
  readonly reader: ObjectReader;
  readonly store: ObjectStore;
  /** Called for every change a client made, dry runs excepted. */
  readonly applied: (change: AppliedChange) => void;
}

export interface AppliedChange {
  readonly resource: ApiResource;
  readonly before: KubernetesObject | undefined;
  readonly after: KubernetesObject | undefined;
}

export type ApiAnswer =
  | {
      readonly kind: 'object';
      readonly status: number;
      readonly resource: ApiResource;
      readonly object: KubernetesObject;
    }
  | {
      readonly kind: 'list';
      readonly resource: ApiResource;
      readonly apiVersion: string;
      readonly items: readonly KubernetesObject[];
      readonly metadata: JsonObject;
    }
  /** What is no object of a known resource: a Status, a Scale, a review. */
  | { readonly kind: 'plain'; readonly status: number; readonly body: JsonObject };

/** The stored object in the version the URL asked for. */
export function present(resource: ApiResource, version: string, object: KubernetesObject): KubernetesObject {
  return resource === HORIZONTAL_POD_AUTOSCALERS && version === 'v1' ? toAutoscalingV1(object) : object;
}

export function requestedApiVersion(target: ResourceRequest): string {
  return groupVersion(target.resource.group, target.version);
}

/** As the real server: the parameter, else the client's name from its user agent. */
export function fieldManagerOf(call: ApiCall): string {
  const given = call.query.get('fieldManager') ?? '';
  return given === '' ? (call.userAgent.split('/')[0]?.slice(0, 128) ?? '') || 'unknown' : given;
}

export function isDryRun(call: ApiCall): boolean {
  return call.query.getAll('dryRun').includes('All');
}
