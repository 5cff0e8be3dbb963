import type { Actions } from './actions.ts';
import { newestFirstKey } from './activity-actions.ts';
import { AwsError } from './aws-error.ts';
import { describeRefresh } from './describe-group.ts';
import { existingGroup, refuseWhileDeleting } from './group-actions.ts';
import { pageSize, paginate } from './paging.ts';
import { activeInstances, type Group, type InstanceRefresh, uuidFrom, type World } from './state.ts';
import { applyWrite } from './writes.ts';

/** Virtual ms a refresh stays Pending, and a cancelled one Cancelling. */
const TRANSITION_MS = 5_000;

/** A refresh takes one launch per instance and changes its status only: instances are not replaced here. */
export const refreshActions: Actions = {
  StartInstanceRefresh({ world, region, parameters, requester }) {
    const group = existingGroup(region, parameters.requiredText('AutoScalingGroupName'));
    refuseWhileDeleting(group);
    if (activeRefresh(group) !== undefined) {
      throw new AwsError(
        'InstanceRefreshInProgress',
        'An Instance Refresh is already in progress and blocks the execution of this Instance Refresh.',
      );
    }
    const startedAt = world.clock.now();
    const instancesAtStart = activeInstances(group).length;
    const refresh: InstanceRefresh = {
      id: uuidFrom(world),
      order: world.nextOrder++,
      groupName: group.name,
      startedAt,
      finishesAt: startedAt + TRANSITION_MS + instancesAtStart * world.provisioning.launchMs,
      instancesAtStart,
      desiredConfiguration: parameters.tree('DesiredConfiguration'),
      preferences: parameters.tree('Preferences'),
      status: 'Pending',
      endedAt: undefined,
    };
    applyWrite(world, region.name, group.name, requester, () => {
      group.refreshes.push(refresh);
      advanceLater(world, refresh, startedAt + TRANSITION_MS, 'Pending', 'InProgress');
      advanceLater(world, refresh, refresh.finishesAt, 'InProgress', 'Successful');
    });
    return { InstanceRefreshId: refresh.id };
  },

  CancelInstanceRefresh({ world, region, parameters, requester }) {
    const group = existingGroup(region, parameters.requiredText('AutoScalingGroupName'));
    const refresh = activeRefresh(group);
    if (refresh === undefined || refresh.status === 'Cancelling') {
      throw new AwsError(
        'ActiveInstanceRefreshNotFound',
        `No in progress or pending Instance Refresh found for Auto Scaling group ${group.name}`,
      );
    }
    applyWrite(world, region.name, group.name, requester, () => {
      refresh.status = 'Cancelling';
      advanceLater(world, refresh, world.clock.now() + TRANSITION_MS, 'Cancelling', 'Cancelled');
    });
    return { InstanceRefreshId: refresh.id };
  },

  DescribeInstanceRefreshes({ world, region, parameters }) {
    const group = existingGroup(region, parameters.requiredText('AutoScalingGroupName'));
    const ids = parameters.texts('InstanceRefreshIds');
    const shown = group.refreshes.filter(({ id }) => ids.length === 0 || ids.includes(id)).reverse();
    const size = pageSize(parameters, 'MaxRecords', { standard: 50, most: 100 });
    const { page, nextToken } = paginate(shown, newestFirstKey, {
      token: parameters.text('NextToken'),
      size,
    });
    return {
      InstanceRefreshes: page.map((refresh) => describeRefresh(refresh, world.clock.now())),
      NextToken: nextToken,
    };
  },
};

function activeRefresh(group: Group): InstanceRefresh | undefined {
  return group.refreshes.find(({ status }) => ['Pending', 'InProgress', 'Cancelling'].includes(status));
}

function advanceLater(
  world: World,
  refresh: InstanceRefresh,
  dueAt: number,
  from: InstanceRefresh['status'],
  to: InstanceRefresh['status'],
): void {
  world.clock.at(dueAt, () => {
    if (refresh.status !== from) return;
    refresh.status = to;
    if (to === 'Successful' || to === 'Cancelled') refresh.endedAt = world.clock.now();
  });
}
