import type { ActionContext, Actions } from './actions.ts';
import { AwsError, validationError } from './aws-error.ts';
import { type Description, describeGroup } from './describe-group.ts';
import { groupFromRequest, newSizes, readSettings, type Sizes } from './group-settings.ts';
import { explain, reconcile } from './lifecycle.ts';
import { pageSize, paginate } from './paging.ts';
import { missing, type Parameters, parametersOf } from './query-form.ts';
import type { Group, Region, Tag, World } from './state.ts';
import { applyWrite, staleView } from './writes.ts';

export const groupActions: Actions = {
  CreateAutoScalingGroup(context) {
    const { world, region, parameters, requester } = context;
    const name = parameters.requiredText('AutoScalingGroupName');
    if (region.groups.has(name)) {
      throw new AwsError(
        'AlreadyExists',
        `AutoScalingGroup by this name already exists - A group with the name ${name} already exists`,
      );
    }
    const group = groupFromRequest(world, region, name, parameters);
    applyWrite(world, region.name, name, requester, () => {
      region.groups.set(name, group);
      explain(
        world,
        group,
        `a user request created an AutoScalingGroup changing the desired capacity from 0 to ${group.desired}.`,
      );
      reconcile(world, group);
    });
    return undefined;
  },

  UpdateAutoScalingGroup(context) {
    const { world, region, parameters, requester } = context;
    const name = parameters.requiredText('AutoScalingGroupName');
    const group = region.groups.get(name);
    if (group === undefined) throw validationError('AutoScalingGroup name not found - null');
    refuseWhileDeleting(group);
    const sizes = newSizes(group, {
      min: parameters.integer('MinSize'),
      max: parameters.integer('MaxSize'),
      desired: parameters.integer('DesiredCapacity'),
    });
    const { simulated, stored } = readSettings(region, parameters);
    applyWrite(world, region.name, name, requester, () => {
      Object.assign(group, simulated, { settings: { ...group.settings, ...stored } });
      resize(world, group, sizes);
    });
    return undefined;
  },

  SetDesiredCapacity({ world, region, parameters, requester }) {
    const group = existingGroup(region, parameters.requiredText('AutoScalingGroupName'));
    const desired = parameters.integer('DesiredCapacity');
    if (desired === undefined) throw missing('DesiredCapacity');
    refuseWhileDeleting(group);
    if (desired > group.max) {
      throw validationError(
        `New SetDesiredCapacity value ${desired} is above max value ${group.max} for the AutoScalingGroup.`,
      );
    }
    if (desired < group.min) {
      throw validationError(
        `New SetDesiredCapacity value ${desired} is below min value ${group.min} for the AutoScalingGroup.`,
      );
    }
    if (parameters.flag('HonorCooldown') === true) refuseInCooldown(world, group);
    applyWrite(world, region.name, group.name, requester, () => setDesired(world, group, desired));
    return undefined;
  },

  DeleteAutoScalingGroup({ world, region, parameters, requester }) {
    const group = existingGroup(region, parameters.requiredText('AutoScalingGroupName'));
    const isForced = parameters.flag('ForceDelete') === true;
    if (!isForced && group.instances.length > 0) {
      throw new AwsError(
        'ResourceInUse',
        'You cannot delete an AutoScalingGroup while there are instances or pending Spot instance request(s) still in the group.',
      );
    }
    applyWrite(world, region.name, group.name, requester, () => {
      explain(
        world,
        group,
        `a user request force-deleted an AutoScalingGroup changing the desired capacity from ${group.desired} to 0.`,
      );
      Object.assign(group, { min: 0, max: 0, desired: 0, status: 'Delete in progress' });
      if (group.instances.length === 0) region.groups.delete(group.name);
      else reconcile(world, group);
    });
    return undefined;
  },

  DescribeAutoScalingGroups(context) {
    const { parameters } = context;
    const names = parameters.texts('AutoScalingGroupNames');
    const size = pageSize(parameters, 'MaxRecords', { standard: 50, most: 100 });
    if (names.length > size) {
      throw validationError(`The number of group names that may be passed in is limited to ${size}`);
    }
    const isAskedFor = tagFilter(parameters);
    const shown = visibleGroups(context).filter(
      (group) => (names.length === 0 || names.includes(nameOf(group))) && isAskedFor(group),
    );
    const { page, nextToken } = paginate(shown, nameOf, { token: parameters.text('NextToken'), size });
    return { AutoScalingGroups: page, NextToken: nextToken };
  },
};

export function existingGroup(region: Region, name: string): Group {
  const group = region.groups.get(name);
  if (group !== undefined) return group;
  throw validationError(`AutoScalingGroup name not found - AutoScalingGroup '${name}' not found`);
}

export function setDesired(world: World, group: Group, desired: number): void {
  if (desired === group.desired) return;
  explain(
    world,
    group,
    `a user request explicitly set group desired capacity changing the desired capacity from ${group.desired} to ${desired}.`,
  );
  group.desired = desired;
  reconcile(world, group);
}

export function refuseWhileDeleting(group: Group): void {
  if (group.status === undefined) return;
  throw validationError('The AutoScaling group may not be modified while it is pending delete');
}

/** Changes all three limits at once, as UpdateAutoScalingGroup does; instances follow. */
export function resize(world: World, group: Group, sizes: Sizes): void {
  if (sizes.desired !== group.desired) {
    explain(
      world,
      group,
      `a user request update of AutoScalingGroup constraints to min: ${sizes.min}, max: ${sizes.max}, desired: ${sizes.desired} changing the desired capacity from ${group.desired} to ${sizes.desired}.`,
    );
  }
  Object.assign(group, sizes);
  reconcile(world, group);
}

/** In cooldown: while the last activity runs, and for the group's cooldown after it ended. */
function refuseInCooldown(world: World, group: Group): void {
  const last = group.lastActivity;
  if (last === undefined) return;
  const endsAt = (last.endedAt ?? Number.POSITIVE_INFINITY) + group.defaultCooldown * 1000;
  if (world.clock.now() >= endsAt) return;
  throw new AwsError(
    'ScalingActivityInProgress',
    `Scaling activity ${last.id} is in progress and blocks this action`,
  );
}

/** The region's groups in the order of their names; with a stale read, as they were before their last write. */
function visibleGroups({ region, staleMs }: ActionContext): Description[] {
  const shown = new Map<string, Description | undefined>();
  for (const group of region.groups.values()) shown.set(group.name, describeGroup(group));
  if (staleMs !== undefined) {
    for (const [name, description] of staleView(region, staleMs)) shown.set(name, description);
  }
  return [...shown.values()]
    .filter((description) => description !== undefined)
    .sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
}

function nameOf(description: Description): string {
  return String(description.AutoScalingGroupName);
}

/** `tag:KEY`, `tag-key` and `tag-value`; a group must match every filter, by any of its values. */
function tagFilter(parameters: Parameters): (group: Description) => boolean {
  const filters = parameters.list('Filters').map((given) => {
    const filter = parametersOf(given);
    return { name: filter.requiredText('Name'), values: filter.texts('Values') };
  });
  return (group) => {
    const tags = (group.Tags ?? []) as unknown as readonly Tag[];
    return filters.every(({ name, values }) =>
      tags.some(({ Key, Value }) => {
        if (name === 'tag-key') return values.includes(Key);
        if (name === 'tag-value') return values.includes(Value);
        return name === `tag:${Key}` && values.includes(Value);
      }),
    );
  };
}
