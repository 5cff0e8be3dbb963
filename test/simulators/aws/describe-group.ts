import type { XmlValue } from './query-answer.ts';
import { ACCOUNT_ID, type Activity, type Group, type Instance, type InstanceRefresh } from './state.ts';

export type Description = { readonly [name: string]: XmlValue };

export function describeGroup(group: Group): Description {
  return {
    AutoScalingGroupName: group.name,
    AutoScalingGroupARN: group.arn,
    LaunchConfigurationName: group.launchConfigurationName,
    LaunchTemplate: group.launchTemplate === undefined ? undefined : { ...group.launchTemplate },
    MixedInstancesPolicy: group.mixedInstancesPolicy,
    MinSize: group.min,
    MaxSize: group.max,
    DesiredCapacity: group.desired,
    DefaultCooldown: group.defaultCooldown,
    AvailabilityZones: group.zones,
    LoadBalancerNames: [],
    TargetGroupARNs: [],
    Instances: group.instances.map(describeMember),
    CreatedTime: new Date(group.createdAt),
    SuspendedProcesses: [...group.suspended].map(([ProcessName, SuspensionReason]) => ({
      ProcessName,
      SuspensionReason,
    })),
    EnabledMetrics: [],
    Status: group.status,
    Tags: group.tags.map((tag) => ({ ResourceId: group.name, ResourceType: 'auto-scaling-group', ...tag })),
    TerminationPolicies: group.terminationPolicies,
    NewInstancesProtectedFromScaleIn: group.protectNewInstances,
    ServiceLinkedRoleARN: `arn:aws:iam::${ACCOUNT_ID}:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling`,
    ...group.settings,
  };
}

function describeMember(instance: Instance): Description {
  return {
    InstanceId: instance.id,
    InstanceType: instance.type,
    AvailabilityZone: instance.zone,
    LifecycleState: instance.lifecycle,
    HealthStatus: instance.health,
    LaunchTemplate: instance.launchTemplate === undefined ? undefined : { ...instance.launchTemplate },
    ProtectedFromScaleIn: instance.isProtected,
    WeightedCapacity: instance.weight === undefined ? undefined : String(instance.weight),
  };
}

/** The shape DescribeAutoScalingInstances uses: health in capitals, and the group's name. */
export function describeGroupInstance(instance: Instance): Description {
  return {
    ...describeMember(instance),
    AutoScalingGroupName: instance.groupName,
    HealthStatus: instance.health.toUpperCase(),
  };
}

export function describeActivity(activity: Activity): Description {
  return {
    ActivityId: activity.id,
    AutoScalingGroupName: activity.groupName,
    AutoScalingGroupARN: activity.groupArn,
    Description: activity.description,
    Cause: activity.cause,
    StartTime: new Date(activity.startedAt),
    EndTime: activity.endedAt === undefined ? undefined : new Date(activity.endedAt),
    StatusCode: activity.status,
    StatusMessage: activity.statusMessage,
    Progress: activity.progress,
    Details: activity.details,
  };
}

export function describeRefresh(refresh: InstanceRefresh, now: number): Description {
  const isOver = refresh.endedAt !== undefined;
  const share = (now - refresh.startedAt) / Math.max(1, refresh.finishesAt - refresh.startedAt);
  const percentage = refresh.status === 'Successful' ? 100 : Math.min(99, Math.floor(share * 100));
  return {
    InstanceRefreshId: refresh.id,
    AutoScalingGroupName: refresh.groupName,
    Status: refresh.status,
    StartTime: new Date(refresh.startedAt),
    EndTime: refresh.endedAt === undefined ? undefined : new Date(refresh.endedAt),
    PercentageComplete: refresh.status === 'Pending' ? 0 : percentage,
    InstancesToUpdate: isOver ? 0 : Math.ceil(refresh.instancesAtStart * (1 - percentage / 100)),
    Preferences: refresh.preferences,
    DesiredConfiguration: refresh.desiredConfiguration,
  };
}
