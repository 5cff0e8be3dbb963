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

export const scenarios: readonly Scenario[] = [
  { name: 'success', place: 'group', ...scaling, outcomes: ['succeeded'], together: true },
  { name: 'deployment', place: 'deployment', ...scaling, outcomes: ['succeeded'] },
  { name: 'statefulset', place: 'statefulset', ...scaling, outcomes: ['succeeded'] },
  { name: 'floor', place: 'floor', ...scaling, outcomes: ['succeeded'] },
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
  {
    name: 'already-satisfied',
    place: 'group',
    ...scaling,
    outcomes: ['succeeded'],
    arrange: (rig, { name }) => rig.aws.changeExternally(name, { desired: 6 }),
  },
  {
    name: 'conflict',
    place: 'group',
    ...scaling,
    outcomes: ['superseded'],
    arrange: (rig, { name }) => rig.aws.changeExternally(name, { desired: 9 }),
  },
  {
    name: 'blocked',
    place: 'group',
    ...scaling,
    outcomes: ['rejected'],
    arrange: (rig, { name }) => rig.aws.changeExternally(name, { suspend: ['Launch'] }),
  },
  {
    name: 'out-of-bounds',
    place: 'group',
    ...scaling,
    outcomes: ['rejected'],
    resource: { max_instances: 5 },
  },
  {
    name: 'throttled',
    place: 'group',
    ...scaling,
    outcomes: ['succeeded'],
    arrange: awsFault(awsWrite, { kind: 'throttle' }),
  },
  {
    name: 'unknown-applied',
    place: 'group',
    ...scaling,
    outcomes: ['succeeded'],
    arrange: awsFault(awsWrite, { kind: 'error', status: 500, code: 'InternalFailure', applied: true }),
  },
  {
    name: 'unknown-lost',
    place: 'group',
    ...scaling,
    outcomes: ['superseded'],
    arrange: awsFault(awsWrite, lost),
  },
  {
    name: 'unknown-lost-of-a-workload',
    place: 'deployment',
    ...scaling,
    outcomes: ['succeeded'],
    arrange: kubernetesFault({ kind: 'reset', applied: false }),
  },
  {
    name: 'unknown-late',
    place: 'group',
    ...scaling,
    outcomes: ['succeeded'],
    arrange: awsFault(awsWrite, { kind: 'apply-late', delayMs: 60, status: 500 }),
  },
  {
    name: 'unknown-reset',
    place: 'deployment',
    ...scaling,
    outcomes: ['succeeded'],
    arrange: kubernetesFault({ kind: 'reset', applied: true }),
  },
  {
    name: 'unknown-then-gone',
    place: 'group',
    ...scaling,
    outcomes: ['succeeded', 'superseded', 'rejected'],
    disturbance: 'removed-after-write',
    arrange: awsFault(awsWrite, lost),
    followUp: false,
  },
  {
    name: 'unknown-then-changed',
    place: 'group',
    ...scaling,
    outcomes: ['succeeded', 'superseded'],
    disturbance: 'changed-after-write',
    arrange: awsFault(awsWrite, lost),
  },
  {
    name: 'unknown-then-expired',
    place: 'deployment',
    ...scaling,
    outcomes: ['succeeded', 'expired'],
    disturbance: 'expired-after-write',
    arrange: kubernetesFault({ kind: 'reset', applied: false }),
  },
  {
    name: 'write-conflict',
    place: 'deployment',
    ...scaling,
    outcomes: ['superseded'],
    arrange: kubernetesFault({ kind: 'external', change: { replicas: 9 }, when: 'before' }),
  },
  {
    name: 'refused-by-the-cloud',
    place: 'group',
    ...scaling,
    outcomes: ['rejected'],
    arrange: awsFault(awsWrite, { kind: 'error', status: 400, code: 'ValidationError' }, 1_000),
  },
  {
    name: 'forbidden-to-read',
    place: 'group',
    ...scaling,
    outcomes: ['rejected'],
    arrange: awsFault(awsRead, { kind: 'error', status: 403, code: 'AccessDenied' }, 1_000),
  },
  {
    name: 'unreadable-once',
    place: 'group',
    ...scaling,
    outcomes: ['succeeded'],
    arrange: awsFault(awsRead, lost),
  },
  {
    name: 'unreadable-for-ever',
    place: 'group',
    ...scaling,
    outcomes: ['dead'],
    arrange: awsFault(awsRead, lost, 1_000),
  },
  {
    name: 'expired',
    place: 'group',
    ...scaling,
    outcomes: ['expired'],
    arrange: sql(
      `update scaling_decisions set expires_at = now() - interval '1 second' where resource_id = $1`,
    ),
  },
  {
    name: 'superseded',
    place: 'group',
    ...scaling,
    outcomes: ['superseded'],
    arrange: sql(`update scaling_decisions set state = 'superseded' where resource_id = $1`),
  },
  { name: 'noaction', place: 'group', step: 'execute', from: 4, target: 4, outcomes: ['noop'] },
  {
    name: 'decision-gone',
    place: 'group',
    ...scaling,
    outcomes: ['rejected'],
    arrange: sql('delete from scaling_decisions where resource_id = $1'),
  },
  {
    name: 'resource-gone',
    place: 'group',
    ...scaling,
    outcomes: ['superseded'],
    arrange: sql('delete from resources where id = $1'),
    followUp: false,
  },
  {
    name: 'repeated',
    place: 'group',
    ...scaling,
    outcomes: ['succeeded'],
    arrange: sql(`update scaling_decisions set state = 'executed', executed = true where resource_id = $1`),
  },
  {
    name: 'resolved-elsewhere',
    place: 'group',
    ...scaling,
    outcomes: ['succeeded'],
    disturbance: 'resolved-elsewhere',
  },
  {
    name: 'database-cut-after-write',
    place: 'group',
    ...scaling,
    outcomes: ['succeeded'],
    disturbance: 'cut-after-write',
  },
  {
    name: 'database-cut-in-outcome',
    place: 'group',
    ...scaling,
    outcomes: ['succeeded'],
    disturbance: 'cut-in-outcome',
  },
  { name: 'too-slow-to-send', place: 'group', ...scaling, outcomes: ['succeeded'], disturbance: 'slow' },
  {
    name: 'expired-in-between',
    place: 'group',
    ...scaling,
    outcomes: ['succeeded', 'expired'],
    disturbance: 'expired-after-describe',
  },
  {
    name: 'claims-blocked',
    place: 'group',
    ...scaling,
    outcomes: ['succeeded'],
    disturbance: 'claim-locked',
    together: true,
  },
  {
    name: 'database-cut-after-describe',
    place: 'group',
    ...scaling,
    outcomes: ['succeeded'],
    disturbance: 'cut-after-describe',
  },
  {
    name: 'nonsense-from-the-cloud',
    place: 'group',
    ...scaling,
    outcomes: ['succeeded', 'dead'],
    disturbance: 'nonsense',
  },
  {
    name: 'circuit-closes',
    place: 'group',
    ...scaling,
    outcomes: ['succeeded'],
    disturbance: 'circuit-open',
  },
  { name: 'leases-renewed', place: 'group', ...scaling, outcomes: ['succeeded'], disturbance: 'long' },
  {
    name: 'crowded',
    place: 'group',
    ...scaling,
    outcomes: ['succeeded'],
    together: true,
    concurrency: 1,
    arrange: awsFault(awsRead, { kind: 'slow', delayMs: 150 }),
  },
  { name: 'relay', place: 'group', ...scaling, step: 'sweep', outcomes: ['succeeded'], arrange: abandon },
  {
    name: 'observe-groups',
    place: 'group',
    ...scaling,
    step: 'observe',
    outcomes: ['superseded'],
    arrange: (rig, { name }) => rig.aws.changeExternally(name, { desired: 9 }),
  },
  {
    name: 'observe-workloads',
    place: 'deployment',
    ...scaling,
    step: 'observe',
    outcomes: ['superseded'],
    arrange: (rig, { name }) => rig.kubernetes.changeExternally('default', name, { replicas: 9 }),
  },
  {
    name: 'chores',
    place: 'group',
    ...scaling,
    step: 'chores',
    outcomes: ['succeeded'],
    resource: { mode: 'auto' },
    arrange: sql(
      `update scaling_decisions set created_at = now() - interval '1 hour' where resource_id = $1`,
    ),
  },
];

/** A worker took the job and died; the queue has lost what it had. */
async function abandon(rig: Rig, { jobId }: Subject): Promise<void> {
  await rig.pool.query(
    `update jobs set status = 'active', fence = 1, attempts = 1, lease_until = now() - interval '1 second' where id = $1`,
    [jobId],
  );
}
