import type { CloudProvider, Resource, UnitMix } from '../../shared/domain/resource.ts';

/** Names one real cloud object. */
export interface ProviderTarget {
  readonly provider: CloudProvider;
  /** AWS region, or kubeconfig context; null means the process's default. */
  readonly scope: string | null;
  /** Auto Scaling group name, or `deployment:namespace/name` / `statefulset:namespace/name`. */
  readonly name: string;
  /** Which of the object's numbers is ours; absent means `desired`. */
  readonly actuation?: Actuation;
}

/**
 * `desired`: the size itself. `floor`: the least its own autoscaler may go down to; that one stays in charge of the
 * size.
 */
export type Actuation = Resource['actuation'];

/** Something that forbids a change now, in plain words with what to do about it. */
export interface Block {
  /**
   * Stable: `managed_by_hpa`, `managed_by_keda`, `process_suspended`, `instance_refresh`, `group_deleting`,
   * `weight_unknown`, `advisory_read_failed`, `no_autoscaler`, …
   */
  readonly code: string;
  readonly direction: 'up' | 'down' | 'both';
  readonly message: string;
}

export interface CapacityState {
  /** What the cloud was told to run: the number a write replaces. For `floor`, the autoscaler's minimum. */
  readonly desired: number;
  readonly ready: number;
  /** The bounds of that number: the group's own, the autoscaler's own for `floor`; a workload has 0 and null. */
  readonly min: number;
  readonly max: number | null;
  readonly blocks: readonly Block[];
  /** Units that can go: neither protected from scale-in nor in standby. Absent: all of them. */
  readonly removable?: number;
  /** What runs, where a machine is not one unit. */
  readonly mix?: readonly UnitMix[];
  /** What setCapacity needs to make its write conditional; stored with the attempt. Empty for AWS. */
  readonly fence: {
    readonly uid?: string;
    readonly resourceVersion?: string;
    /** Counts the changes of a workload's specification; unlike resourceVersion it stays when only its status moves. */
    readonly generation?: number;
    /** Which HorizontalPodAutoscaler carries the floor. */
    readonly autoscaler?: string;
  };
  readonly instanceType: string | null;
  /** vCPU per replica and GiB per replica as decimal strings (Kubernetes requests). */
  readonly cpuRequest: string | null;
  readonly memoryRequest: string | null;
}

/**
 * A cloud adapter. Every method throws only ProviderError (shared/errors.ts), already classified, and ends within
 * its own time-out. Nothing is retried here: the queue owns retries.
 */
export interface ScalingProvider {
  readonly name: CloudProvider;
  /**
   * How long after the intent an unacknowledged write may still land, in ms (AWS: signature window; Kubernetes:
   * in-flight request).
   */
  readonly settleMs: number;
  /** Reads the live state, never cached. ProviderError permanent/`target_not_found` when there is no such object. */
  describe(target: ProviderTarget, signal: AbortSignal): Promise<CapacityState>;
  /** Batched, may be some seconds old; the same order as `targets`; an Error per target that failed. */
  describeMany(targets: readonly ProviderTarget[], signal: AbortSignal): Promise<(CapacityState | Error)[]>;
  /**
   * Exactly one request that sets the absolute capacity. Resolves only when the cloud accepted it.
   * @param intentAtMs when the intent was committed (epoch ms): AWS pins the signature's date to it, so that the write
   * expires by itself.
   */
  setCapacity(
    target: ProviderTarget,
    instances: number,
    expected: CapacityState,
    options: { readonly intentAtMs: number; readonly signal: AbortSignal },
  ): Promise<void>;
  close(): Promise<void>;
}
