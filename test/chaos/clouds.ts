import { join } from 'node:path';
import { startAwsSimulator } from '../simulators/aws/server.ts';
import { startKubernetesSimulator } from '../simulators/kubernetes/server.ts';
import { namespace, type PlannedResource } from './fleet-plan.ts';
import { Journal } from './journal.ts';

/** What the process of the clouds is told to start. */
export interface CloudsTask {
  readonly directory: string;
  readonly seed: number;
  readonly fleet: readonly PlannedResource[];
  readonly latencyMs: { readonly from: number; readonly to: number };
  /** How long a signed request may be on its way. */
  readonly signatureMaxAgeMs: number;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly kubernetesToken: string;
}

export interface CloudsReady {
  readonly awsPort: number;
  readonly kubernetesPort: number;
}

const cloudMinimum = 0;
const cloudMaximum = 40;

/** Actions whose requests are worth keeping; reads by the thousand are not. */
const writes = new Set(['SetDesiredCapacity', 'update deployments/scale']);

/**
 * Both simulated clouds, in a process of their own that no fault touches: their ledgers go to files line by line. The
 * Kubernetes clock stands still: no pods come and go, which costs nothing and changes no answer we ask for.
 */
async function start(task: CloudsTask): Promise<CloudsReady> {
  const aws = await startAwsSimulator({
    seed: task.seed,
    latencyMs: task.latencyMs,
    timeScale: 60,
    provisioning: { launchMs: 5_000, terminateMs: 2_000 },
    credentials: { [task.accessKeyId]: { secretAccessKey: task.secretAccessKey } },
    signatureMaxAgeMs: task.signatureMaxAgeMs,
    ledgerSink: keepWrites(new Journal(join(task.directory, 'ledger-aws.ndjson'))),
    groups: task.fleet
      .filter(({ provider }) => provider === 'aws')
      .map(({ object, region, start: desired }) => ({
        name: object,
        region: region as string,
        min: cloudMinimum,
        max: cloudMaximum,
        desired,
      })),
  });
  const kubernetes = await startKubernetesSimulator({
    seed: task.seed,
    latencyMs: task.latencyMs,
    timeScale: 0,
    hpaSyncPeriodMs: false,
    tokens: { [task.kubernetesToken]: { user: 'scaler' } },
    ledgerSink: keepWrites(new Journal(join(task.directory, 'ledger-kubernetes.ndjson'))),
    deployments: task.fleet
      .filter(({ provider }) => provider === 'kubernetes')
      .map(({ object, start: replicas }) => ({ namespace, name: object, replicas })),
  });
  return { awsPort: aws.port, kubernetesPort: kubernetes.port };
}

function keepWrites(journal: Journal): (entry: { readonly event: string; readonly action: string }) => void {
  return (entry) => {
    if (entry.event === 'applied' || writes.has(entry.action)) journal.write(entry);
  };
}

process.once('message', (task: CloudsTask) => {
  start(task).then(
    (ready) => process.send?.(ready),
    (error: unknown) => {
      console.error(error);
      process.exit(1);
    },
  );
});
// The harness is gone: so are the clouds.
process.once('disconnect', () => process.exit(0));
