import type { Actions } from './actions.ts';
import { describeActivity, describeGroupInstance } from './describe-group.ts';
import { existingGroup } from './group-actions.ts';
import { pageSize, paginate } from './paging.ts';
import type { Activity } from './state.ts';

export const activityActions: Actions = {
  /** Newest first. Without IncludeDeletedGroups only what belongs to groups that exist, by their ARN. */
  DescribeScalingActivities({ region, parameters }) {
    const groupName = parameters.text('AutoScalingGroupName');
    const includeDeleted = parameters.flag('IncludeDeletedGroups') === true;
    if (groupName !== undefined && !includeDeleted) existingGroup(region, groupName);
    const ids = parameters.texts('ActivityIds');
    const liveArns = new Set([...region.groups.values()].map(({ arn }) => arn));
    const shown = region.activities
      .filter(
        (activity) =>
          (groupName === undefined || activity.groupName === groupName) &&
          (includeDeleted || liveArns.has(activity.groupArn)) &&
          (ids.length === 0 || ids.includes(activity.id)),
      )
      .reverse();
    const size = pageSize(parameters, 'MaxRecords', { standard: 100, most: 100 });
    const { page, nextToken } = paginate(shown, newestFirstKey, {
      token: parameters.text('NextToken'),
      size,
    });
    return { Activities: page.map(describeActivity), NextToken: nextToken };
  },

  DescribeAutoScalingInstances({ region, parameters }) {
    const ids = parameters.texts('InstanceIds');
    const shown = [...region.groups.values()]
      .flatMap(({ instances }) => instances)
      .filter(({ id }) => ids.length === 0 || ids.includes(id))
      .sort((a, b) => (a.id < b.id ? -1 : 1));
    const size = pageSize(parameters, 'MaxRecords', { standard: 50, most: 50 });
    const { page, nextToken } = paginate(shown, ({ id }) => id, {
      token: parameters.text('NextToken'),
      size,
    });
    return { AutoScalingInstances: page.map(describeGroupInstance), NextToken: nextToken };
  },
};

/** Ascending keys for a list that runs from the highest order to the lowest. */
export function newestFirstKey({ order }: Pick<Activity, 'order'>): string {
  return String(Number.MAX_SAFE_INTEGER - order).padStart(16, '0');
}
