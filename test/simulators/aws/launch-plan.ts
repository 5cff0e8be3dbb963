import { sizeOf } from '../../../worker/samples/instance-size.ts';
import { type FormValue, isTree } from './query-form.ts';
import { activeInstances, type Group, regionOf, type World } from './state.ts';

export interface LaunchPlan {
  readonly type: string;
  readonly zone: string;
  /** Capacity units it will count for; undefined when the group has no weights. */
  readonly weight: number | undefined;
}

/** Launch configurations are only names here, so their instances need a type. */
const TYPE_OF_A_LAUNCH_CONFIGURATION = 'm5.large';

/** The next instance: the group's first type, in the zone that has fewest. */
export function launchPlan(world: World, group: Group): LaunchPlan {
  const active = activeInstances(group);
  const inZone = (zone: string): number => active.filter((one) => one.zone === zone).length;
  const zone = group.zones.reduce((best, other) => (inZone(other) < inZone(best) ? other : best));

  const override = overridesOf(group.mixedInstancesPolicy)[0];
  const templateId = group.launchTemplate?.LaunchTemplateId ?? specificationOf(group.mixedInstancesPolicy).id;
  const template = regionOf(world, group.region).launchTemplates.get(templateId ?? '');
  const type = override?.type ?? template?.instanceType ?? TYPE_OF_A_LAUNCH_CONFIGURATION;
  return { zone, type, weight: override?.weight ?? sizeIn(group.settings.DesiredCapacityType, type) };
}

/** What a machine counts for in a group that counts vCPUs or memory. */
function sizeIn(capacityType: FormValue | undefined, instance_type: string): number | undefined {
  const { vcpu, gib } = sizeOf({ instance_type, cpu_request: null, memory_request: null });
  if (capacityType === 'vcpu') return vcpu ?? undefined;
  return capacityType === 'memory-mib' && gib !== null ? gib * 1_024 : undefined;
}

/** `MixedInstancesPolicy.LaunchTemplate.Overrides`: the types the group may use, by preference. */
function overridesOf(
  policy: FormValue | undefined,
): { type: string | undefined; weight: number | undefined }[] {
  const overrides = child(child(policy, 'LaunchTemplate'), 'Overrides');
  if (!Array.isArray(overrides)) return [];
  return overrides.map((override: FormValue) => {
    const weight = text(child(override, 'WeightedCapacity'));
    return {
      type: text(child(override, 'InstanceType')),
      weight: weight === undefined ? undefined : Number(weight),
    };
  });
}

export function specificationOf(policy: FormValue | undefined): {
  readonly id: string | undefined;
  readonly name: string | undefined;
  readonly version: string | undefined;
} {
  const specification = child(child(policy, 'LaunchTemplate'), 'LaunchTemplateSpecification');
  return {
    id: text(child(specification, 'LaunchTemplateId')),
    name: text(child(specification, 'LaunchTemplateName')),
    version: text(child(specification, 'Version')),
  };
}

function child(value: FormValue | undefined, name: string): FormValue | undefined {
  return isTree(value) ? value[name] : undefined;
}

function text(value: FormValue | undefined): string | undefined {
  return typeof value === 'string' ? value : undefined;
}
