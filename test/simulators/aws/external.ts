import { existingGroup, resize, setDesired } from './group-actions.ts';
import { blankGroup, newSizes, type Sizes } from './group-settings.ts';
import { addLaunchTemplate, findLaunchTemplate, referenceTo } from './launch-templates.ts';
import { populate, reconcile, terminate } from './lifecycle.ts';
import { activeInstances, type Group, type Region, regionOf, type World } from './state.ts';
import { applyWrite, externalRequester } from './writes.ts';

/** A group that is there before anybody asks: its instances are in service, and no activity tells of them. */
export interface GroupSeed {
  readonly name: string;
  readonly region?: string;
  readonly min: number;
  readonly max: number;
  /** Default: min. */
  readonly desired?: number;
  readonly instanceType?: string;
  readonly zones?: readonly string[];
  readonly tags?: Readonly<Record<string, string>>;
  readonly defaultCooldownSeconds?: number;
  readonly suspended?: readonly string[];
  readonly protectInstances?: boolean;
  /** With a weight the group gets a MixedInstancesPolicy, and capacity counts in units. */
  readonly weight?: number;
}

/** What somebody else does to a group: an operator, a deployment, another autoscaler. */
export interface ExternalChange {
  readonly desired?: number;
  readonly min?: number;
  readonly max?: number;
  readonly suspend?: readonly string[];
  readonly resume?: readonly string[];
  /** Deletes the group and makes one of the same name: new ARN, new instances, the limits above or the old ones. */
  readonly recreate?: boolean;
  /** The group vanishes, instances and all, without a transition. */
  readonly remove?: boolean;
}

export const DEFAULT_REGION = 'us-east-1';

/** Makes a group with its instances in service, and the launch template it needs. */
export function seedGroup(world: World, seed: GroupSeed): Group {
  const region = regionOf(world, seed.region ?? DEFAULT_REGION);
  const group = blankGroup(world, region, seed.name, {
    min: seed.min,
    max: seed.max,
    desired: seed.desired ?? seed.min,
  });
  const templateName = `${seed.name}-template`;
  const template =
    findLaunchTemplate(region, { id: undefined, name: templateName }) ??
    addLaunchTemplate(world, region, {
      name: templateName,
      instanceType: seed.instanceType ?? 'm5.large',
      imageId: 'ami-0abcdef1234567890',
    });
  const reference = referenceTo(template, '$Latest');
  if (seed.weight === undefined) {
    group.launchTemplate = reference;
  } else {
    group.mixedInstancesPolicy = {
      LaunchTemplate: {
        LaunchTemplateSpecification: { ...reference },
        Overrides: [{ InstanceType: template.instanceType, WeightedCapacity: String(seed.weight) }],
      },
    };
  }
  group.zones = seed.zones ?? group.zones;
  group.tags = Object.entries(seed.tags ?? {}).map(([Key, Value]) => ({
    Key,
    Value,
    PropagateAtLaunch: true,
  }));
  group.defaultCooldown = seed.defaultCooldownSeconds ?? group.defaultCooldown;
  group.protectNewInstances = seed.protectInstances ?? false;
  suspend(world, group, seed.suspended ?? []);
  applyWrite(world, region.name, seed.name, externalRequester('Seed'), () => {
    region.groups.set(seed.name, group);
    populate(world, group);
  });
  region.beforeLastWrite.delete(seed.name); // to a stale read too it has always been there
  return group;
}

/** Changes a group as its owner would beside us. @throws AwsError when there is none of that name. */
export function changeExternally(
  world: World,
  regionName: string,
  name: string,
  change: ExternalChange,
): void {
  const region = regionOf(world, regionName);
  const group = existingGroup(region, name);
  const sizes = newSizes(group, { min: change.min, max: change.max, desired: change.desired });
  applyWrite(world, regionName, name, externalRequester('ExternalWriter'), () => {
    if (change.remove === true || change.recreate === true) discard(world, region, group);
    if (change.remove === true) return;
    const current = change.recreate === true ? recreate(world, region, group, sizes) : group;
    suspend(world, current, change.suspend ?? []);
    for (const process of change.resume ?? []) current.suspended.delete(process);
    if (change.min === undefined && change.max === undefined) setDesired(world, current, sizes.desired);
    else resize(world, current, sizes);
    reconcile(world, current);
  });
}

function discard(world: World, region: Region, group: Group): void {
  region.groups.delete(group.name);
  for (const instance of activeInstances(group)) terminate(world, group, instance, []);
}

/** The same settings, but nothing of the old one's identity, instances or history. */
function recreate(world: World, region: Region, old: Group, sizes: Sizes): Group {
  const group: Group = {
    ...blankGroup(world, region, old.name, sizes),
    defaultCooldown: old.defaultCooldown,
    zones: old.zones,
    launchTemplate: old.launchTemplate,
    launchConfigurationName: old.launchConfigurationName,
    mixedInstancesPolicy: old.mixedInstancesPolicy,
    protectNewInstances: old.protectNewInstances,
    terminationPolicies: old.terminationPolicies,
    tags: old.tags,
    settings: old.settings,
  };
  region.groups.set(group.name, group);
  populate(world, group);
  return group;
}

function suspend(world: World, group: Group, processes: readonly string[]): void {
  for (const process of processes) {
    group.suspended.set(process, `User suspended at ${new Date(world.clock.now()).toISOString()}`);
  }
}
