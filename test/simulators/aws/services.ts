import type { Actions } from './actions.ts';
import { activityActions } from './activity-actions.ts';
import { ec2Actions } from './ec2-actions.ts';
import { groupActions } from './group-actions.ts';
import { instanceActions } from './instance-actions.ts';
import { processActions } from './process-actions.ts';
import type { Service } from './query-answer.ts';
import { refreshActions } from './refresh-actions.ts';
import { stsActions } from './sts-actions.ts';

const actions: Readonly<Record<Service, ReadonlyMap<string, Actions[string]>>> = {
  autoscaling: byName({
    ...groupActions,
    ...activityActions,
    ...instanceActions,
    ...processActions,
    ...refreshActions,
  }),
  ec2: byName(ec2Actions),
  sts: byName(stsActions),
};

export function actionOf(service: Service, name: string): Actions[string] | undefined {
  return actions[service].get(name);
}

/** A map, so that an action called `constructor` is as unknown as any other. */
function byName(table: Actions): ReadonlyMap<string, Actions[string]> {
  return new Map(Object.entries(table));
}
