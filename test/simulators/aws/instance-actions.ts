import type { Actions } from './actions.ts';
import { validationError } from './aws-error.ts';
import { describeActivity } from './describe-group.ts';
import { existingGroup, refuseWhileDeleting } from './group-actions.ts';
import { reconcile, terminate } from './lifecycle.ts';
import { missing } from './query-form.ts';
import type { Activity, Group, Instance, Region } from './state.ts';
import { applyWrite } from './writes.ts';

export const instanceActions: Actions = {
  TerminateInstanceInAutoScalingGroup({ world, region, parameters, requester }) {
    const { group, instance } = memberOf(region, parameters.requiredText('InstanceId'));
    const decrements = parameters.flag('ShouldDecrementDesiredCapacity');
    if (decrements === undefined) throw missing('ShouldDecrementDesiredCapacity');
    refuseWhileDeleting(group);
    if (decrements && group.desired - 1 < group.min) {
      throw validationError(
        `Currently, desiredSize equals minSize (${group.min}). Terminating instance without replacement will violate group's min size constraint. Either set shouldDecrementDesiredCapacity flag to false or lower group's min size.`,
      );
    }
    let activity: Activity | undefined;
    applyWrite(world, region.name, group.name, requester, () => {
      const from = group.desired;
      if (decrements) group.desired -= 1;
      const consequence = decrements ? `, shrinking the capacity from ${from} to ${group.desired}.` : '.';
      const at = `${new Date(world.clock.now()).toISOString().slice(0, 19)}Z`;
      activity = terminate(world, group, instance, [
        `At ${at} instance ${instance.id} was taken out of service in response to a user request${consequence}`,
      ]);
      reconcile(world, group);
    });
    return activity === undefined ? undefined : { Activity: describeActivity(activity) };
  },

  SetInstanceProtection({ world, region, parameters, requester }) {
    const group = existingGroup(region, parameters.requiredText('AutoScalingGroupName'));
    const isProtected = parameters.flag('ProtectedFromScaleIn');
    if (isProtected === undefined) throw missing('ProtectedFromScaleIn');
    const instances = parameters.texts('InstanceIds').map((id) => {
      const instance = group.instances.find((one) => one.id === id);
      if (instance === undefined)
        throw validationError(`The instance ${id} is not part of Auto Scaling group ${group.name}.`);
      return instance;
    });
    applyWrite(world, region.name, group.name, requester, () => {
      for (const instance of instances) instance.isProtected = isProtected;
      reconcile(world, group); // what was held back may end now
    });
    return {};
  },
};

function memberOf(region: Region, instanceId: string): { group: Group; instance: Instance } {
  for (const group of region.groups.values()) {
    const instance = group.instances.find(({ id }) => id === instanceId);
    if (instance !== undefined) return { group, instance };
  }
  throw validationError(`Instance Id not found - No managed instance found for instance ID: ${instanceId}`);
}
