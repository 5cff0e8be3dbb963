/** What is scaled, with its policy: one row of `resources`. Times are epoch milliseconds; durations are seconds. */
export interface Resource {
  readonly id: string;
  readonly name: string;
  readonly resource_type: 'ec2' | 'kubernetes';
  readonly cloud_provider: CloudProvider;
  readonly min_instances: number;
  readonly max_instances: number;
  readonly current_instances: number;
  /** Percent. */
  readonly target_cpu: number;
  /** Percent. */
  readonly target_memory: number;
  /** Seconds. */
  readonly cooldown_period: number;
  readonly created_at: string;
  readonly region: string | null;
  readonly cluster: string | null;
  readonly max_scale_up_step: number;
  readonly max_scale_down_step: number;
  /** Seconds; null means `cooldown_period`. */
  readonly scale_down_cooldown: number | null;
  readonly max_actions_per_hour: number;
  /** Changes of direction within half an hour after which scaling in is held. */
  readonly max_reversals_per_half_hour: number;
  /** Fraction of the current capacity within which no change is made. */
  readonly tolerance: number;
  /** Seconds. */
  readonly stabilization_window: number;
  /** Seconds. */
  readonly provisioning_delay: number;
  /** Seconds. */
  readonly decision_interval: number;
  /** USD per unit and hour as a decimal string. */
  readonly hourly_price: string | null;
  readonly instance_type: string | null;
  /** vCPU per replica as a decimal string. */
  readonly cpu_request: string | null;
  /** GiB per replica as a decimal string. */
  readonly memory_request: string | null;
  readonly mode: 'manual' | 'recommend' | 'auto';
  readonly actuation: 'desired' | 'floor';
  /** What forecasts are planned for: see EnginePolicy. */
  readonly planning: 'target' | 'risk';
  /** Percent; above it a step is a breach. */
  readonly max_utilization: number;
  /** Share of time that may be in breach. */
  readonly tolerated_risk: number;
  /** What a missing instance-minute costs, in idle instance-minutes; takes the place of `tolerated_risk`. */
  readonly shortage_price: number | null;
  readonly scale_up_paused_until: string | null;
  readonly scale_down_paused_until: string | null;
  /** What posted CPU and memory are in; null: not declared, taken as percent and doubted. */
  readonly utilization_unit: 'percent' | 'ratio' | null;
  /** Seconds after which the newest sample is stale; null: what its rhythm suggests. */
  readonly max_sample_age: number | null;
  /** Seconds that requests and predictions must be silent before the last instance goes. */
  readonly scale_to_zero_after: number;
  /** Version of the policy: the ETag. */
  readonly version: number;
  readonly updated_at: string;
  readonly observed_at: string | null;
  readonly observed_ready: number | null;
  /** What the last look at the cloud object showed besides its size; null: nothing of note. */
  readonly observed_state: {
    readonly blocks: readonly {
      readonly code: string;
      readonly direction: string;
      readonly message: string;
    }[];
    readonly removable: number | null;
    readonly mix: readonly UnitMix[] | null;
  } | null;
}

/** Machines of one type in a group that counts its capacity in other units: what each counts for, and how many run. */
export interface UnitMix {
  readonly instance_type: string;
  readonly units: number;
  readonly count: number;
}

export type CloudProvider = 'aws' | 'kubernetes';

/** `deployment:namespace/name` or `statefulset:namespace/name`, each part a Kubernetes DNS-1123 name. */
export const kubernetesNamePattern =
  /^(deployment|statefulset):([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)\/([a-z0-9](?:[-.a-z0-9]{0,251}[a-z0-9])?)$/;

/** An AWS region. It becomes part of a host's name, so nothing else may get through. */
export const awsRegionPattern = /^[a-z]{2}(?:-[a-z]{1,16}){1,3}-\d{1,2}$/;

/** An Auto Scaling group's name: 1-255 printable characters, no `:` (the API model's own pattern is wider). */
export const autoScalingGroupNamePattern = /^[\x20-\x39\x3b-\x7e]{1,255}$/;
