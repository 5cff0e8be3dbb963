import type { Action, Actions } from './actions.ts';
import { validationError } from './aws-error.ts';
import { existingGroup, refuseWhileDeleting } from './group-actions.ts';
import { reconcile } from './lifecycle.ts';
import { applyWrite } from './writes.ts';

/** Only Launch and Terminate stop anything here; the others are kept and shown. */
const PROCESSES = [
  'Launch',
  'Terminate',
  'AddToLoadBalancer',
  'AlarmNotification',
  'AZRebalance',
  'HealthCheck',
  'InstanceRefresh',
  'ReplaceUnhealthy',
  'ScheduledActions',
];

export const processActions: Actions = {
  SuspendProcesses: changeProcesses((suspended, process, now) => {
    suspended.set(process, `User suspended at ${new Date(now).toISOString()}`);
  }),
  ResumeProcesses: changeProcesses((suspended, process) => {
    suspended.delete(process);
  }),
};

/** No process named means all of them. */
function changeProcesses(
  change: (suspended: Map<string, string>, process: string, now: number) => void,
): Action {
  return ({ world, region, parameters, requester }) => {
    const group = existingGroup(region, parameters.requiredText('AutoScalingGroupName'));
    refuseWhileDeleting(group);
    const named = parameters.texts('ScalingProcesses');
    const unknown = named.find((process) => !PROCESSES.includes(process));
    if (unknown !== undefined) throw validationError(`The process type ${unknown} is not valid.`);
    applyWrite(world, region.name, group.name, requester, () => {
      const processes = named.length === 0 ? PROCESSES : named;
      for (const process of processes) change(group.suspended, process, world.clock.now());
      reconcile(world, group);
    });
    return undefined;
  };
}
