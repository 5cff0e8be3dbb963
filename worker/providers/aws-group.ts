import type { AutoScalingGroup, Instance } from '@aws-sdk/client-auto-scaling';
import type { UnitMix } from '../../shared/domain/resource.ts';
import { sizeOf } from '../samples/instance-size.ts';
import type { Block, CapacityState } from './scaling-provider.ts';

/** A group seen from its floor: the number we set is MinSize, its own policies may run more. */
export function floorOf({ removable: _, ...state }: CapacityState): CapacityState {
  return { ...state, desired: state.min, min: 0 };
}

/** What the group itself shows to forbid a change. */
export function* blocksOf(group: AutoScalingGroup): Generator<Block> {
  const instances = group.Instances ?? [];
  if (group.Status !== undefined) {
    yield {
      code: 'group_deleting',
      direction: 'both',
      message: `The group is being deleted (${group.Status}): remove the resource.`,
    };
  }
  for (const { ProcessName, SuspensionReason } of group.SuspendedProcesses ?? []) {
    const direction = ProcessName === 'Launch' ? 'up' : ProcessName === 'Terminate' ? 'down' : null;
    if (direction !== null) {
      yield {
        code: 'process_suspended',
        direction,
        message: `The group's ${ProcessName} process is suspended (${SuspensionReason ?? 'no reason given'}): resume it first.`,
      };
    }
  }
  const untold = instances.find((instance) => unitsIn(group, instance) === null);
  if (untold !== undefined) {
    yield {
      code: 'weight_unknown',
      direction: 'both',
      message: `The group counts its capacity in ${group.DesiredCapacityType}, but how much of it a ${untold.InstanceType} is is not known: use a group in units.`,
    };
  }
  if (instances.length > 0 && instances.every((instance) => instance.ProtectedFromScaleIn === true)) {
    yield {
      code: 'all_protected',
      direction: 'down',
      message:
        'Every instance is protected from scale-in, so none would be terminated: remove the protection first.',
    };
  }
}

/** While an instance refresh is under way. */
export const refreshing: Block = {
  code: 'instance_refresh',
  direction: 'down',
  message: 'An instance refresh is under way: scaling in waits until it is over. Cancel the refresh or wait.',
};

/** A machine that runs, or may run, in a group. */
interface Machine {
  readonly InstanceType?: string | undefined;
  readonly WeightedCapacity?: string | undefined;
}

/** What a machine counts for in the group's capacity: its weight, else its vCPUs or MiB, else one. Null: not known. */
function unitsIn({ DesiredCapacityType }: AutoScalingGroup, machine: Machine): number | null {
  if (machine.WeightedCapacity !== undefined) return Number(machine.WeightedCapacity);
  if (DesiredCapacityType === undefined || DesiredCapacityType === 'units') return 1;
  const { vcpu, gib } = sizeOf({
    instance_type: machine.InstanceType ?? null,
    cpu_request: null,
    memory_request: null,
  });
  if (DesiredCapacityType === 'vcpu') return vcpu;
  return DesiredCapacityType === 'memory-mib' && gib !== null ? gib * 1_024 : null;
}

/** What these instances count for together; one whose share is not known counts as one. */
export function unitsOf(group: AutoScalingGroup, instances: readonly Instance[]): number {
  return instances.reduce((sum, instance) => sum + (unitsIn(group, instance) ?? 1), 0);
}

/** What runs, or is configured where nothing does, in a group whose machines are not one unit each; else undefined. */
export function mixOf(group: AutoScalingGroup): readonly UnitMix[] | undefined {
  const instances = group.Instances ?? [];
  const overrides = group.MixedInstancesPolicy?.LaunchTemplate?.Overrides ?? [];
  if ([...overrides, ...instances].every((one) => unitsIn(group, one) === 1)) return undefined;
  const mix = new Map<string, UnitMix>();
  for (const one of instances.length > 0 ? instances : overrides.slice(0, 1)) {
    const instance_type = one.InstanceType;
    const units = unitsIn(group, one);
    if (instance_type === undefined || units === null) continue;
    const key = `${instance_type} ${units}`;
    mix.set(key, { instance_type, units, count: (mix.get(key)?.count ?? 0) + 1 });
  }
  return [...mix.values()];
}

/** Units that a smaller desired capacity can end: EC2 ends neither protected instances nor those in standby. */
export function removableOf(group: AutoScalingGroup): number | undefined {
  const instances = group.Instances ?? [];
  const staying = instances.filter(
    ({ ProtectedFromScaleIn, LifecycleState }) =>
      ProtectedFromScaleIn === true || LifecycleState === 'Standby' || LifecycleState === 'EnteringStandby',
  );
  return staying.length === 0 ? undefined : unitsOf(group, instances) - unitsOf(group, staying);
}
