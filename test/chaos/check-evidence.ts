import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readJournal } from './journal.ts';

/**
 * What a run left behind, as the checker reads it. Nothing here is taken from the code under test: the shapes are those
 * of the clients' log, of the tables as dumped, and of the clouds' own ledgers. Times are epoch milliseconds.
 */
export interface Evidence {
  readonly run: RunFacts;
  readonly calls: readonly Call[];
  readonly reported: readonly ReportedEnd[];
  readonly effects: readonly Effect[];
  readonly resources: readonly ResourceRow[];
  readonly jobs: readonly JobRow[];
  readonly decisions: readonly DecisionRow[];
  readonly attempts: readonly AttemptRow[];
  readonly events: readonly EventRow[];
  readonly samples: ReadonlyMap<string, readonly number[]>;
  readonly forged: readonly string[];
  /** Changes of the audit trail that were not refused. */
  readonly tampered: readonly string[];
}

export interface RunFacts {
  readonly seed: number;
  readonly minutes: number;
  readonly commit: string;
  /** How long a signed request may take to arrive. */
  readonly signatureMaxAgeMs: number;
  /** A worker that was told to stop sends nothing later than this. */
  readonly lastWriteMs: number;
  /** Limits on the sum of changes in a window; absent when the service has none. */
  readonly budgets?: readonly Budget[];
}

export interface Budget {
  /** `global`, `provider:aws` or `scope:aws:us-east-1`. */
  readonly scope: string;
  readonly direction: 'in' | 'out' | 'both';
  readonly windowMs: number;
  /** Instances. */
  readonly limit: number;
}

export interface Call {
  readonly sentAt: number;
  readonly answeredAt: number;
  readonly op: string;
  readonly route: string;
  readonly key: string | null;
  readonly body: unknown;
  /** 0 when no answer came. */
  readonly status: number;
  readonly jobIds: readonly string[];
  /** The id of what was made, when it is no job. */
  readonly made?: string | null;
}

/** A job that a client was told is over. */
export interface ReportedEnd {
  readonly jobId: string;
  readonly status: string;
  readonly outcome: string | null;
}

/** A change in a cloud's ledger, ours or not. */
export interface Effect {
  readonly provider: 'aws' | 'kubernetes';
  /** As `objectOf` names the resource's object. */
  readonly object: string;
  readonly ours: boolean;
  readonly receivedAt: number;
  readonly appliedAt: number;
  /** Null where there was, or is, no object. */
  readonly from: number | null;
  readonly to: number | null;
  /** AWS: the second the signature carries. */
  readonly signedAt: number | null;
  /** Kubernetes: what the write was conditional on. */
  readonly uid: string | null;
  readonly sentResourceVersion: string | null;
  readonly bounds: { readonly min: number; readonly max: number } | null;
}

export interface ResourceRow {
  readonly id: string;
  readonly name: string;
  readonly provider: 'aws' | 'kubernetes';
  readonly region: string | null;
  readonly cluster: string | null;
  readonly min: number;
  readonly max: number;
  readonly up_step: number;
  readonly down_step: number;
  /** Seconds. */
  readonly cooldown: number;
  /** Seconds. */
  readonly down_cooldown: number;
  readonly hourly: number;
  /** Changes of direction in half an hour beyond which nothing is scaled in. */
  readonly reversals: number;
  /** Seconds. */
  readonly decision_interval: number;
}

export interface JobRow {
  readonly id: string;
  readonly kind: string;
  readonly resource_id: string;
  readonly decision_id: string | null;
  readonly status: string;
  readonly outcome: string | null;
  /** How often it was claimed or taken back. */
  readonly fence: number;
  readonly request_id: string | null;
  readonly code: string | null;
}

export interface DecisionRow {
  readonly id: string;
  readonly job_id: string;
  readonly resource_id: string;
  readonly seq: string | number;
  readonly type: 'scaleup' | 'scaledown' | 'noaction';
  /** The code of what bound it. */
  readonly reason: string;
  readonly from: number;
  readonly target: number;
  readonly state: string;
  readonly executed: boolean;
  readonly created: number;
  readonly expires: number;
}

export interface AttemptRow {
  readonly id: string;
  readonly decision_id: string;
  readonly resource_id: string;
  readonly from: number;
  readonly target: number;
  readonly action: 'ScaleUp' | 'ScaleDown';
  readonly state: string;
  readonly intent: number;
  readonly settle: number;
  readonly effect: number | null;
  readonly fence: { readonly uid?: string; readonly resourceVersion?: string };
}

export interface EventRow {
  readonly resource_id: string;
  readonly decision_id: string | null;
  readonly attempt_id: string | null;
  readonly phase: string;
  readonly outcome: string | null;
  readonly next: number | null;
  readonly success: boolean | null;
  readonly at: number;
}

/** Of AWS the region and group, of Kubernetes kind, namespace and name. */
export function objectOf(resource: Pick<ResourceRow, 'provider' | 'region' | 'name'>): string {
  return resource.provider === 'aws'
    ? `aws:${resource.region ?? 'us-east-1'}:${resource.name}`
    : `kubernetes:${resource.name}`;
}

/** @throws Error naming the file that a run would have left there. */
export async function loadEvidence(directory: string): Promise<Evidence> {
  const runFile = join(directory, 'run.json');
  if (!existsSync(runFile)) throw new Error(`${directory} holds no chaos run: there is no run.json in it`);
  const file = (name: string) => join(directory, name);
  const table = <T>(name: string) => all<T>(file(`table-${name}.ndjson`));
  const logged = await all<{ kind: string }>(file('clients.ndjson'));
  const faults = await all<{ forged?: string[]; tampered?: boolean; note?: string }>(file('faults.ndjson'));
  const samples = await table<{ resource_id: string; at: number[] }>('samples');
  return {
    run: JSON.parse(readFileSync(runFile, 'utf8')) as RunFacts,
    calls: logged.filter(({ kind }) => kind === 'call') as unknown as Call[],
    reported: logged.filter(({ kind }) => kind === 'reported') as unknown as ReportedEnd[],
    effects: [
      ...(await all<AwsLine>(file('ledger-aws.ndjson'))).flatMap(awsEffect),
      ...(await all<KubernetesLine>(file('ledger-kubernetes.ndjson'))).flatMap(kubernetesEffect),
    ],
    resources: await table<ResourceRow>('resources'),
    jobs: await table<JobRow>('jobs'),
    decisions: await table<DecisionRow>('decisions'),
    attempts: await table<AttemptRow>('attempts'),
    events: await table<EventRow>('events'),
    samples: new Map(samples.map(({ resource_id, at }) => [resource_id, at])),
    forged: faults.flatMap(({ forged = [] }) => forged),
    tampered: faults.filter(({ tampered }) => tampered === true).map(({ note = '' }) => note),
  };
}

async function all<T>(path: string): Promise<T[]> {
  const values: T[] = [];
  for await (const value of readJournal<T>(path)) values.push(value);
  return values;
}

interface LedgerLine {
  readonly event: string;
  readonly requestId: string | null;
  readonly receivedAt: number;
  readonly appliedAt: number | null;
  readonly from: number | null;
  readonly to: number | null;
}

interface AwsLine extends LedgerLine {
  readonly region: string;
  readonly group: string | null;
  readonly signedAt: string | null;
  readonly bounds: { readonly min: number; readonly max: number } | null;
}

interface KubernetesLine extends LedgerLine {
  readonly resource: string | null;
  readonly namespace: string | null;
  readonly name: string | null;
  readonly uid: string | null;
  readonly sentResourceVersion: string | null;
}

function awsEffect(line: AwsLine): Effect[] {
  if (line.event !== 'applied' || line.appliedAt === null || line.group === null) return [];
  return [
    {
      provider: 'aws',
      object: `aws:${line.region}:${line.group}`,
      ...changeOf(line, line.appliedAt),
      signedAt:
        line.signedAt === null ? null : Date.parse(line.signedAt.replace(stamp, '$1-$2-$3T$4:$5:$6Z')),
      uid: null,
      sentResourceVersion: null,
      bounds: line.bounds,
    },
  ];
}

/** `20260102T030405Z` */
const stamp = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/;

function kubernetesEffect(line: KubernetesLine): Effect[] {
  if (line.event !== 'applied' || line.appliedAt === null || line.resource !== 'deployments') return [];
  return [
    {
      provider: 'kubernetes',
      object: `kubernetes:deployment:${line.namespace}/${line.name}`,
      ...changeOf(line, line.appliedAt),
      signedAt: null,
      uid: line.uid,
      sentResourceVersion: line.sentResourceVersion,
      bounds: null,
    },
  ];
}

function changeOf(line: LedgerLine, appliedAt: number) {
  const { requestId, receivedAt, from, to } = line;
  return { ours: requestId !== null, receivedAt, appliedAt, from, to };
}
