import { createHash } from 'node:crypto';
import type { Ledger, LedgerEntry } from '../core/ledger.ts';
import type { Random } from '../core/seeded-random.ts';
import type { VirtualClock } from '../core/virtual-clock.ts';
import type { Description } from './describe-group.ts';
import type { FormValue } from './query-form.ts';

export const ACCOUNT_ID = '123456789012';

/** Whom and what a ledger entry is about; the rest is in LedgerFacts. */
export interface AwsSubject {
  readonly service: string;
  readonly region: string;
  readonly group: string | null;
  readonly accessKeyId: string | null;
  /** The date its signature carries, as sent (`20260101T000000Z`); null for external writers. */
  readonly signedAt: string | null;
  /** The group's own limits after the write; null where there is no group. */
  readonly bounds: { readonly min: number; readonly max: number } | null;
}
export type AwsLedger = Ledger<AwsSubject>;
export type AwsLedgerEntry = LedgerEntry<AwsSubject>;

export interface Instance {
  readonly id: string;
  readonly type: string;
  readonly zone: string;
  readonly groupName: string;
  readonly launchedAt: number;
  /** Capacity units it counts for; undefined when the group has no weights. */
  readonly weight: number | undefined;
  readonly launchTemplate: LaunchTemplateReference | undefined;
  lifecycle: 'Pending' | 'InService' | 'Terminating' | 'Terminated';
  health: 'Healthy' | 'Unhealthy';
  isProtected: boolean;
}

export interface Activity {
  readonly id: string;
  readonly order: number;
  readonly groupName: string;
  readonly groupArn: string;
  readonly instanceId: string | undefined;
  readonly description: string;
  readonly cause: string;
  readonly details: string;
  readonly startedAt: number;
  status: 'PreInService' | 'InProgress' | 'Successful' | 'Failed' | 'Cancelled';
  statusMessage: string | undefined;
  progress: number;
  endedAt: number | undefined;
}

export interface InstanceRefresh {
  readonly id: string;
  readonly order: number;
  readonly groupName: string;
  readonly startedAt: number;
  readonly finishesAt: number;
  readonly instancesAtStart: number;
  readonly desiredConfiguration: FormValue | undefined;
  readonly preferences: FormValue | undefined;
  status: 'Pending' | 'InProgress' | 'Cancelling' | 'Cancelled' | 'Successful';
  endedAt: number | undefined;
}

export interface LaunchTemplateReference {
  readonly LaunchTemplateId: string;
  readonly LaunchTemplateName: string;
  readonly Version: string;
}

export interface LaunchTemplate {
  readonly id: string;
  readonly name: string;
  readonly createdAt: number;
  readonly instanceType: string;
  readonly imageId: string;
}

export interface Tag {
  readonly Key: string;
  readonly Value: string;
  readonly PropagateAtLaunch: boolean;
}

export interface Group {
  readonly name: string;
  readonly region: string;
  readonly arn: string;
  readonly createdAt: number;
  min: number;
  max: number;
  desired: number;
  defaultCooldown: number;
  zones: readonly string[];
  launchTemplate: LaunchTemplateReference | undefined;
  launchConfigurationName: string | undefined;
  mixedInstancesPolicy: FormValue | undefined;
  protectNewInstances: boolean;
  terminationPolicies: readonly string[];
  tags: readonly Tag[];
  /** Settings that change nothing in the simulation: kept and answered as they came. */
  settings: Readonly<Record<string, FormValue>>;
  status: 'Delete in progress' | undefined;
  /** Process name to the reason AWS would show. */
  readonly suspended: Map<string, string>;
  instances: Instance[];
  refreshes: InstanceRefresh[];
  lastActivity: Activity | undefined;
  /** Sentences that explain the next activities: "At … a user request …". */
  pendingCauses: string[];
  isLaunchRetryPlanned: boolean;
}

export interface Region {
  readonly name: string;
  readonly groups: Map<string, Group>;
  /** By id; terminated ones stay for an hour, as EC2 shows them. */
  readonly instances: Map<string, Instance>;
  readonly launchTemplates: Map<string, LaunchTemplate>;
  activities: Activity[];
  /** What DescribeAutoScalingGroups said of a group just before its last write; undefined means it was not there. */
  readonly beforeLastWrite: Map<
    string,
    { readonly shown: Description | undefined; readonly writtenAt: number }
  >;
  /** Instance type to the number that may exist at once; absent means plenty. */
  readonly capacityLimits: Map<string, number>;
}

export interface Provisioning {
  /** Virtual ms from Pending to InService. */
  readonly launchMs: number;
  readonly launchMsByType: Readonly<Record<string, number>>;
  /** Virtual ms from Terminating to gone. */
  readonly terminateMs: number;
  /** Each delay varies by up to this share of itself, both ways. */
  readonly jitter: number;
  /** Virtual ms until a launch that found no capacity is tried again. */
  readonly retryMs: number;
}

export interface World {
  readonly clock: VirtualClock;
  readonly random: Random;
  readonly ledger: AwsLedger;
  readonly provisioning: Provisioning;
  readonly regions: Map<string, Region>;
  nextOrder: number;
}

export function regionOf(world: World, name: string): Region {
  let region = world.regions.get(name);
  if (region === undefined) {
    region = {
      name,
      groups: new Map(),
      instances: new Map(),
      launchTemplates: new Map(),
      activities: [],
      beforeLastWrite: new Map(),
      capacityLimits: new Map(),
    };
    world.regions.set(name, region);
  }
  return region;
}

/** `length` hex digits from the seeded source, so that one seed gives one set of ids. */
export function hexId(world: World, length: number): string {
  return createHash('sha256')
    .update(`${world.random()}-${world.nextOrder++}`)
    .digest('hex')
    .slice(0, length);
}

export function uuidFrom(world: World): string {
  return hexId(world, 32).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/** Instances that count towards desired capacity. */
export function activeInstances(group: Group): Instance[] {
  return group.instances.filter(({ lifecycle }) => lifecycle === 'Pending' || lifecycle === 'InService');
}

export function capacityOf(instances: readonly Instance[]): number {
  return instances.reduce((sum, instance) => sum + (instance.weight ?? 1), 0);
}
