import { type Controls, commonControls } from '../core/control.ts';
import {
  changeExternally,
  DEFAULT_REGION,
  type ExternalChange,
  type GroupSeed,
  seedGroup,
} from './external.ts';
import type { Simulation } from './simulation.ts';
import { type Group, type Instance, regionOf, type World } from './state.ts';

/** What other processes may do over HTTP: read the ledger and how the world stands, and disturb it. */
export const controlsOf = ({ world, faults }: Simulation): Controls => ({
  ...commonControls(world.ledger, faults, world.clock),
  'GET state': () => describeWorld(world),
  'POST groups': ({ input }) => ({
    groups: [input].flat().map((seed) => describe(seedGroup(world, seed as GroupSeed))),
  }),
  'POST external': ({ input }) => {
    const {
      region = DEFAULT_REGION,
      group,
      ...change
    } = input as ExternalChange & { region?: string; group: string };
    changeExternally(world, region, group, change);
    return { group: regionOf(world, region).groups.has(group) };
  },
  'POST capacity': ({ input }) => {
    const {
      region = DEFAULT_REGION,
      instanceType,
      limit,
    } = input as {
      region?: string;
      instanceType: string;
      limit: number | null;
    };
    limitCapacity(world, region, instanceType, limit);
    return {};
  },
});

/** How many instances of a type may exist in the region at once; null lifts the limit. */
export function limitCapacity(
  world: World,
  region: string,
  instanceType: string,
  limit: number | null,
): void {
  const limits = regionOf(world, region).capacityLimits;
  if (limit === null) limits.delete(instanceType);
  else limits.set(instanceType, limit);
}

export interface GroupView {
  readonly name: string;
  readonly region: string;
  readonly arn: string;
  readonly min: number;
  readonly max: number;
  readonly desired: number;
  readonly inService: number;
  readonly pending: number;
  readonly terminating: number;
  readonly status: string | null;
  readonly suspended: readonly string[];
  readonly instances: readonly Pick<Instance, 'id' | 'type' | 'zone' | 'lifecycle' | 'isProtected'>[];
}

export function describe(group: Group): GroupView {
  const count = (lifecycle: Instance['lifecycle']): number =>
    group.instances.filter((one) => one.lifecycle === lifecycle).length;
  return {
    name: group.name,
    region: group.region,
    arn: group.arn,
    min: group.min,
    max: group.max,
    desired: group.desired,
    inService: count('InService'),
    pending: count('Pending'),
    terminating: count('Terminating'),
    status: group.status ?? null,
    suspended: [...group.suspended.keys()],
    instances: group.instances.map(({ id, type, zone, lifecycle, isProtected }) => ({
      id,
      type,
      zone,
      lifecycle,
      isProtected,
    })),
  };
}

function describeWorld(world: World): { now: number; realNow: number; groups: readonly GroupView[] } {
  const groups = [...world.regions.values()].flatMap((region) => [...region.groups.values()].map(describe));
  return { now: world.clock.now(), realNow: Date.now(), groups };
}
