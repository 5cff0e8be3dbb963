import { type LaunchPlan, launchPlan } from './launch-plan.ts';
import {
  type Activity,
  activeInstances,
  capacityOf,
  type Group,
  hexId,
  type Instance,
  type Region,
  regionOf,
  uuidFrom,
  type World,
} from './state.ts';

/** How long EC2 goes on showing a terminated instance. */
const TERMINATED_SHOWN_MS = 3_600_000;
/** A group that scales for months of virtual time must not eat the process. */
const ACTIVITIES_KEPT = 10_000;

/** Starts or ends instances until the group has what it asks for, as far as its processes are not suspended. */
export function reconcile(world: World, group: Group): void {
  const capacity = capacityOf(activeInstances(group));
  if (capacity < group.desired) scaleOut(world, group, capacity);
  else if (capacity > group.desired) scaleIn(world, group, capacity);
}

/** "At 2026-01-01T00:00:00Z …", kept until an activity takes it as its cause. */
export function explain(world: World, group: Group, sentence: string): void {
  group.pendingCauses.push(`At ${seconds(world.clock.now())} ${sentence}`);
  group.pendingCauses = group.pendingCauses.slice(-5);
}

/** Puts instances in service at once and without activities: a group that has been running for long. */
export function populate(world: World, group: Group): void {
  for (let capacity = 0; capacity < group.desired; ) {
    const plan = launchPlan(world, group);
    const instance = addInstance(world, group, plan);
    instance.lifecycle = 'InService';
    capacity += plan.weight ?? 1;
  }
}

function scaleOut(world: World, group: Group, capacity: number): void {
  if (group.suspended.has('Launch') || group.isLaunchRetryPlanned) return;
  const causes = [
    ...takeCauses(group),
    `At ${seconds(world.clock.now())} an instance was started in response to a difference between desired and actual capacity, increasing the capacity from ${capacity} to ${group.desired}.`,
  ];
  for (let reached = capacity; reached < group.desired; ) {
    const plan = launchPlan(world, group);
    if (!hasRoomFor(regionOf(world, group.region), plan.type)) {
      failLaunch(world, group, plan, causes);
      return;
    }
    launch(world, group, plan, causes);
    reached += plan.weight ?? 1;
  }
}

function launch(world: World, group: Group, plan: LaunchPlan, causes: readonly string[]): void {
  const instance = addInstance(world, group, plan);
  const activity = addActivity(world, group, {
    instance,
    description: `Launching a new EC2 instance: ${instance.id}`,
    causes,
    status: 'PreInService',
    progress: 30,
  });
  const { launchMsByType, launchMs } = world.provisioning;
  after(world, jittered(world, launchMsByType[plan.type] ?? launchMs), () => {
    if (instance.lifecycle !== 'Pending') {
      finish(world, activity, 'Cancelled');
      return;
    }
    instance.lifecycle = 'InService';
    finish(world, activity, 'Successful');
  });
}

function failLaunch(world: World, group: Group, plan: LaunchPlan, causes: readonly string[]): void {
  const others = group.zones.filter((zone) => zone !== plan.zone);
  const message =
    `We currently do not have sufficient ${plan.type} capacity in the Availability Zone you requested (${plan.zone}). ` +
    'Our system will be working on provisioning additional capacity. ' +
    `You can currently get ${plan.type} capacity by not specifying an Availability Zone in your request or choosing ${others.join(', ')}. ` +
    'Launching EC2 instance failed.';
  const activity = addActivity(world, group, {
    instance: undefined,
    description: `Launching a new EC2 instance.  Status Reason: ${message}`,
    causes,
    status: 'PreInService',
    progress: 100,
    zone: plan.zone,
  });
  activity.statusMessage = message;
  finish(world, activity, 'Failed');
  group.isLaunchRetryPlanned = true;
  after(world, world.provisioning.retryMs, () => {
    group.isLaunchRetryPlanned = false;
    if (isCurrent(world, group)) reconcile(world, group);
  });
}

function scaleIn(world: World, group: Group, capacity: number): void {
  const isDeleting = group.status !== undefined;
  if (group.suspended.has('Terminate') && !isDeleting) return;
  const victims = isDeleting ? activeInstances(group) : chooseVictims(group, capacity);
  if (victims.length === 0) return;
  const now = seconds(world.clock.now());
  const causes = [
    ...takeCauses(group),
    `At ${now} an instance was taken out of service in response to a difference between desired and actual capacity, shrinking the capacity from ${capacity} to ${capacity - capacityOf(victims)}.`,
    ...victims.map(({ id }) => `At ${now} instance ${id} was selected for termination.`),
  ];
  for (const victim of victims) terminate(world, group, victim, causes);
}

/** The zone with most instances first, in it the oldest (or the newest, when the group says so); never a protected one. */
function chooseVictims(group: Group, capacity: number): Instance[] {
  const newestFirst = group.terminationPolicies[0] === 'NewestInstance';
  const victims: Instance[] = [];
  let remaining = activeInstances(group);
  for (let reached = capacity; reached > group.desired; ) {
    const inZone = (zone: string): number => remaining.filter((other) => other.zone === zone).length;
    const candidates = remaining
      .filter((one) => !one.isProtected && reached - (one.weight ?? 1) >= group.desired)
      .sort((a, b) => {
        const byAge = newestFirst ? b.launchedAt - a.launchedAt : a.launchedAt - b.launchedAt;
        return inZone(b.zone) - inZone(a.zone) || byAge;
      });
    const victim = candidates[0];
    if (victim === undefined) break;
    victims.push(victim);
    remaining = remaining.filter((one) => one !== victim);
    reached -= victim.weight ?? 1;
  }
  return victims;
}

export function terminate(
  world: World,
  group: Group,
  instance: Instance,
  causes: readonly string[],
): Activity {
  instance.lifecycle = 'Terminating';
  const activity = addActivity(world, group, {
    instance,
    description: `Terminating EC2 instance: ${instance.id}`,
    causes,
    status: 'InProgress',
    progress: 50,
  });
  after(world, jittered(world, world.provisioning.terminateMs), () => {
    instance.lifecycle = 'Terminated';
    group.instances = group.instances.filter((one) => one !== instance);
    finish(world, activity, 'Successful');
    const region = regionOf(world, group.region);
    if (group.status !== undefined && group.instances.length === 0 && isCurrent(world, group)) {
      region.groups.delete(group.name);
    }
    after(world, TERMINATED_SHOWN_MS, () => region.instances.delete(instance.id));
  });
  return activity;
}

function addInstance(world: World, group: Group, plan: LaunchPlan): Instance {
  const instance: Instance = {
    id: `i-${hexId(world, 17)}`,
    type: plan.type,
    zone: plan.zone,
    weight: plan.weight,
    groupName: group.name,
    launchedAt: world.clock.now(),
    launchTemplate: group.launchTemplate,
    lifecycle: 'Pending',
    health: 'Healthy',
    isProtected: group.protectNewInstances,
  };
  group.instances.push(instance);
  regionOf(world, group.region).instances.set(instance.id, instance);
  return instance;
}

function addActivity(
  world: World,
  group: Group,
  facts: {
    readonly instance: Instance | undefined;
    readonly description: string;
    readonly causes: readonly string[];
    readonly status: Activity['status'];
    readonly progress: number;
    readonly zone?: string;
  },
): Activity {
  const activity: Activity = {
    id: uuidFrom(world),
    order: world.nextOrder++,
    groupName: group.name,
    groupArn: group.arn,
    instanceId: facts.instance?.id,
    description: facts.description,
    cause: facts.causes.join('  '),
    details: JSON.stringify({ 'Availability Zone': facts.instance?.zone ?? facts.zone }),
    startedAt: world.clock.now(),
    status: facts.status,
    statusMessage: undefined,
    progress: facts.progress,
    endedAt: undefined,
  };
  const region = regionOf(world, group.region);
  region.activities.push(activity);
  if (region.activities.length > ACTIVITIES_KEPT * 1.1) {
    region.activities = region.activities.slice(-ACTIVITIES_KEPT);
  }
  group.lastActivity = activity;
  return activity;
}

function finish(world: World, activity: Activity, status: Activity['status']): void {
  activity.status = status;
  activity.progress = 100;
  activity.endedAt = world.clock.now();
}

function takeCauses(group: Group): string[] {
  const causes = group.pendingCauses;
  group.pendingCauses = [];
  return causes;
}

function hasRoomFor(region: Region, type: string): boolean {
  const limit = region.capacityLimits.get(type);
  if (limit === undefined) return true;
  const running = [...region.instances.values()].filter(
    (one) => one.type === type && one.lifecycle !== 'Terminated',
  );
  return running.length < limit;
}

/** False once the group was deleted, or deleted and made anew under the same name. */
export function isCurrent(world: World, group: Group): boolean {
  return regionOf(world, group.region).groups.get(group.name) === group;
}

function after(world: World, milliseconds: number, event: () => void): void {
  world.clock.at(world.clock.now() + milliseconds, event);
}

function jittered(world: World, milliseconds: number): number {
  return milliseconds * (1 + (world.random() * 2 - 1) * world.provisioning.jitter);
}

function seconds(virtualMs: number): string {
  return `${new Date(virtualMs).toISOString().slice(0, 19)}Z`;
}
