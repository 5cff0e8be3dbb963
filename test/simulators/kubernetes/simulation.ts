import type { FaultRule, FaultScript, TransportEffect } from '../core/fault-script.ts';
import type { Ledger } from '../core/ledger.ts';
import type { VirtualClock } from '../core/virtual-clock.ts';
import type { TokenGrant } from './access.ts';
import type { ApiResource } from './api-resources.ts';
import type { KubernetesObject } from './json.ts';
import type { ObjectStore } from './object-store.ts';
import type { PodLifecycle } from './pods.ts';
import { capacityOf } from './scale.ts';
import type { WorkloadController } from './workload-controller.ts';

/** What somebody else does to an object: a person with kubectl, a deployment, another autoscaler. */
export interface ExternalChange {
  readonly replicas?: number;
  /** Deletes the object and makes one of the same name and spec: new uid, new pods. */
  readonly recreate?: boolean;
  readonly remove?: boolean;
  readonly user?: string;
}

export type KubernetesEffect =
  | TransportEffect
  /** Somebody else changes the request's object, just before the request is carried out or just after it. */
  | { readonly kind: 'external'; readonly change: ExternalChange; readonly when: 'before' | 'after' }
  /** The events so far are forgotten, so that a watch from an old resourceVersion is answered 410. */
  | { readonly kind: 'compact' };

/**
 * Actions are named `get deployments/scale`, `list pods`, `watch deployments`, and `get /version` for what is no
 * resource. Targets are `namespace/name`, the scope is the user. `error` words 401, 403, 404, 409, 410 and 504 as the real server does.
 */
export type KubernetesFaultRule = FaultRule<KubernetesEffect>;
export type KubernetesFaultScript = FaultScript<KubernetesEffect>;

export interface KubernetesSubject {
  readonly verb: string;
  readonly path: string;
  /** With the subresource, if any; null for what is no resource. */
  readonly resource: string | null;
  readonly namespace: string | null;
  readonly name: string | null;
  /** Of the object that was changed. */
  readonly uid: string | null;
  readonly user: string | null;
  /** What the client sent along to lock on. */
  readonly sentResourceVersion: string | null;
  /** What the change got. */
  readonly resourceVersion: string | null;
}
export type KubernetesLedger = Ledger<KubernetesSubject>;

export interface Simulation {
  readonly store: ObjectStore;
  readonly clock: VirtualClock;
  readonly ledger: KubernetesLedger;
  readonly faults: KubernetesFaultScript;
  readonly pods: PodLifecycle;
  readonly workloads: WorkloadController;
  /** Empty: everybody is an administrator. */
  readonly tokens: Map<string, TokenGrant>;
  /** API groups nobody installed: unknown to discovery, and 404 in plain text. */
  readonly missingGroups: ReadonlySet<string>;
  readonly latencyMs: { readonly from: number; readonly to: number };
  readonly random: () => number;
  readonly bookmarkIntervalMs: number;
  readonly address: () => string;
  /** Runs `work` after so many real ms, unless the simulator is closed before. */
  readonly later: (milliseconds: number, work: () => void) => void;
}

/** Who makes a change, as the ledger names it. */
export interface Requester {
  readonly requestId: string | null;
  readonly action: string;
  readonly verb: string;
  readonly path: string;
  readonly receivedAt: number;
  readonly user: string | null;
  readonly userAgent: string | null;
  readonly invocationId: string | null;
  readonly sentResourceVersion: string | null;
}

export function recordApplied(
  { ledger, clock }: Pick<Simulation, 'ledger' | 'clock'>,
  requester: Requester,
  resource: ApiResource,
  before: KubernetesObject | undefined,
  after: KubernetesObject | undefined,
): void {
  const metadata = (after ?? before)?.metadata;
  ledger.append('applied', {
    ...requester,
    appliedAt: Date.now(),
    virtualAt: clock.now(),
    resource: resource.plural,
    namespace: metadata?.namespace ?? null,
    name: metadata?.name ?? null,
    uid: metadata?.uid ?? null,
    resourceVersion: after?.metadata.resourceVersion ?? null,
    from: capacityOf(resource, before),
    to: capacityOf(resource, after),
    outcome: before === after ? 'unchanged' : 'applied',
  });
}

/** A change nobody asked for over HTTP. */
export function internalRequester(action: string, user: string): Requester {
  return {
    requestId: null,
    action,
    verb: action,
    path: '',
    receivedAt: Date.now(),
    user,
    userAgent: null,
    invocationId: null,
    sentResourceVersion: null,
  };
}
