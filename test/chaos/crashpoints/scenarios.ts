import type { ChildTask, Disturbance } from './child.ts';
import type { Rig, Subject } from './rig.ts';

type JobOutcome = 'succeeded' | 'noop' | 'rejected' | 'expired' | 'superseded' | 'dead';

/** A way through the code, taken by two resources one after the other. */
export interface Scenario {
  readonly name: string;
  readonly place: 'group' | 'deployment' | 'statefulset' | 'floor';
  readonly step: ChildTask['step'];
  readonly from: number;
  readonly target: number;
  /** How its jobs may end, whatever dies when. */
  readonly outcomes: readonly JobOutcome[];
  readonly disturbance?: Disturbance;
  readonly resource?: Readonly<Record<string, unknown>>;
  readonly arrange?: (rig: Rig, subject: Subject) => Promise<unknown> | unknown;
  /** Both jobs, and each of them twice, are delivered at the same moment. */
  readonly together?: boolean;
  readonly concurrency?: number;
  /** False where the object is gone or nothing more can be done with it. */
  readonly followUp?: boolean;
}

const scaling = { step: 'execute', from: 4, target: 6 } as const;
const awsWrite = 'SetDesiredCapacity';
const awsRead = 'DescribeAutoScalingGroups';

function awsFault(action: string, effect: Parameters<Rig['aws']['faults']['add']>[0]['effect'], count = 1) {
  return (rig: Rig, { name }: Subject) => rig.aws.faults.add({ action, target: name, count, effect });
}

function kubernetesFault(effect: Parameters<Rig['kubernetes']['faults']['add']>[0]['effect']) {
  return (rig: Rig, { name }: Subject) =>
    rig.kubernetes.faults.add({
      action: 'update deployments/scale',
      target: `default/${name}`,
      count: 1,
      effect,
    });
}

function sql(text: string) {
  return (rig: Rig, { resourceId }: Subject) => rig.pool.query(text, [resourceId]);
}

const lost = { kind: 'error', status: 503, code: 'ServiceUnavailable' } as const;

/** A change from 4 to 6 that is carried out. */
const execution = (
  name: string,
  place: Scenario['place'],
  outcomes: Scenario['outcomes'],
  more: Partial<Scenario> = {},
): Scenario => ({ name, place, ...scaling, outcomes, ...more });

/** Every way through the code that a crash is tried in. */
export const scenarios: readonly Scenario[] = [
  execution('success', 'group', ['succeeded'], { together: true }),
  execution('deployment', 'deployment', ['succeeded']),
  execution('statefulset', 'statefulset', ['succeeded']),
  execution('floor', 'floor', ['succeeded']),
  { name: 'scale-in', place: 'group', step: 'execute', from: 6, target: 5, outcomes: ['succeeded'] },
  {
    name: 'correlated',
    place: 'group',
    step: 'execute',
    from: 6,
    target: 5,
    outcomes: ['rejected'],
    arrange: (rig) =>
      rig.pool.query(
        `insert into fleet_limits (scope, correlated_percent, correlated_minimum, scale_in_floor, change_floor, reason, actor)
          values ('scope:aws:us-east-1', 10, 2, 100000, 1000000, 'two are many here', 'test') on conflict do nothing`,
      ),
  },
  { name: 'from-zero', place: 'group', step: 'execute', from: 0, target: 2, outcomes: ['succeeded'] },
  execution('already-satisfied', 'group', ['succeeded'], {
    arrange: (rig, { name }) => rig.aws.changeExternally(name, { desired: 6 }),
  }),
  execution('conflict', 'group', ['superseded'], {
    arrange: (rig, { name }) => rig.aws.changeExternally(name, { desired: 9 }),
  }),
  execution('blocked', 'group', ['rejected'], {
    arrange: (rig, { name }) => rig.aws.changeExternally(name, { suspend: ['Launch'] }),
  }),
  execution('out-of-bounds', 'group', ['rejected'], { resource: { max_instances: 5 } }),
  execution('throttled', 'group', ['succeeded'], { arrange: awsFault(awsWrite, { kind: 'throttle' }) }),
  execution('unknown-applied', 'group', ['succeeded'], {
    arrange: awsFault(awsWrite, { kind: 'error', status: 500, code: 'InternalFailure', applied: true }),
  }),
  execution('unknown-lost', 'group', ['superseded'], { arrange: awsFault(awsWrite, lost) }),
  execution('unknown-lost-of-a-workload', 'deployment', ['succeeded'], {
    arrange: kubernetesFault({ kind: 'reset', applied: false }),
  }),
  execution('unknown-late', 'group', ['succeeded'], {
    arrange: awsFault(awsWrite, { kind: 'apply-late', delayMs: 60, status: 500 }),
  }),
  execution('unknown-reset', 'deployment', ['succeeded'], {
    arrange: kubernetesFault({ kind: 'reset', applied: true }),
  }),
  execution('unknown-then-gone', 'group', ['succeeded', 'superseded', 'rejected'], {
    disturbance: 'removed-after-write',
    arrange: awsFault(awsWrite, lost),
    followUp: false,
  }),
  execution('unknown-then-changed', 'group', ['succeeded', 'superseded'], {
    disturbance: 'changed-after-write',
    arrange: awsFault(awsWrite, lost),
  }),
  execution('unknown-then-expired', 'deployment', ['succeeded', 'expired'], {
    disturbance: 'expired-after-write',
    arrange: kubernetesFault({ kind: 'reset', applied: false }),
  }),
  execution('write-conflict', 'deployment', ['superseded'], {
    arrange: kubernetesFault({ kind: 'external', change: { replicas: 9 }, when: 'before' }),
  }),
  execution('refused-by-the-cloud', 'group', ['rejected'], {
    arrange: awsFault(awsWrite, { kind: 'error', status: 400, code: 'ValidationError' }, 1_000),
  }),
  execution('forbidden-to-read', 'group', ['rejected'], {
    arrange: awsFault(awsRead, { kind: 'error', status: 403, code: 'AccessDenied' }, 1_000),
  }),
  execution('unreadable-once', 'group', ['succeeded'], { arrange: awsFault(awsRead, lost) }),
  execution('unreadable-until-expired', 'group', ['expired'], {
    arrange: async (rig, subject) => {
      await awsFault(awsRead, lost, 1_000)(rig, subject);
      await sql(
        `update scaling_decisions set expires_at = now() + interval '500 milliseconds' where resource_id = $1`,
      )(rig, subject);
    },
  }),
  execution('contended-for-ever', 'group', ['dead'], {
    arrange: awsFault(
      awsWrite,
      { kind: 'error', status: 400, code: 'ScalingActivityInProgressFault' },
      1_000,
    ),
  }),
  execution('expired', 'group', ['expired'], {
    arrange: sql(
      `update scaling_decisions set expires_at = now() - interval '1 second' where resource_id = $1`,
    ),
  }),
  execution('superseded', 'group', ['superseded'], {
    arrange: sql(`update scaling_decisions set state = 'superseded' where resource_id = $1`),
  }),
  { name: 'noaction', place: 'group', step: 'execute', from: 4, target: 4, outcomes: ['noop'] },
  execution('decision-gone', 'group', ['rejected'], {
    arrange: sql('delete from scaling_decisions where resource_id = $1'),
  }),
  execution('resource-gone', 'group', ['superseded'], {
    arrange: sql('delete from resources where id = $1'),
    followUp: false,
  }),
  execution('repeated', 'group', ['succeeded'], {
    arrange: sql(`update scaling_decisions set state = 'executed', executed = true where resource_id = $1`),
  }),
  execution('resolved-elsewhere', 'group', ['succeeded'], { disturbance: 'resolved-elsewhere' }),
  execution('database-cut-after-write', 'group', ['succeeded'], { disturbance: 'cut-after-write' }),
  execution('database-cut-in-outcome', 'group', ['succeeded'], { disturbance: 'cut-in-outcome' }),
  execution('too-slow-to-send', 'group', ['succeeded'], { disturbance: 'slow' }),
  execution('expired-in-between', 'group', ['succeeded', 'expired'], {
    disturbance: 'expired-after-describe',
  }),
  execution('claims-blocked', 'group', ['succeeded'], { disturbance: 'claim-locked', together: true }),
  execution('database-cut-after-describe', 'group', ['succeeded'], { disturbance: 'cut-after-describe' }),
  execution('nonsense-from-the-cloud', 'group', ['succeeded', 'dead'], { disturbance: 'nonsense' }),
  execution('circuit-closes', 'group', ['succeeded'], { disturbance: 'circuit-open' }),
  execution('leases-renewed', 'group', ['succeeded'], { disturbance: 'long' }),
  execution('crowded', 'group', ['succeeded'], {
    together: true,
    concurrency: 1,
    arrange: awsFault(awsRead, { kind: 'slow', delayMs: 150 }),
  }),
  execution('relay', 'group', ['succeeded'], { step: 'sweep', arrange: abandon }),
  execution('observe-groups', 'group', ['superseded'], {
    step: 'observe',
    arrange: (rig, { name }) => rig.aws.changeExternally(name, { desired: 9 }),
  }),
  execution('observe-workloads', 'deployment', ['superseded'], {
    step: 'observe',
    arrange: (rig, { name }) => rig.kubernetes.changeExternally('default', name, { replicas: 9 }),
  }),
  execution('chores', 'group', ['succeeded'], {
    step: 'chores',
    resource: { mode: 'auto' },
    arrange: sql(
      `update scaling_decisions set created_at = now() - interval '1 hour' where resource_id = $1`,
    ),
  }),
];

/** A worker took the job and died; the queue has lost what it had. */
async function abandon(rig: Rig, { jobId }: Subject): Promise<void> {
  await rig.pool.query(
    `update jobs set status = 'active', fence = 1, attempts = 1, lease_until = now() - interval '1 second' where id = $1`,
    [jobId],
  );
}
