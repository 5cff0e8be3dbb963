import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { openBackends } from '../../deploy/local/backends.ts';
import { ensureFirstKey } from '../../deploy/local/first-key.ts';
import { freePort } from '../../deploy/local/free-port.ts';
import { startProcess, waitUntilReady } from '../../deploy/local/processes.ts';
import { migrate } from '../../shared/db/migrate.ts';
import { errorMessage } from '../../shared/errors.ts';
import { createClosers, onSignals } from '../../shared/lifecycle/closers.ts';
import { projectRoot } from '../../shared/project-root.ts';
import { startAwsSimulator } from '../simulators/aws/server.ts';
import { startKubernetesSimulator } from '../simulators/kubernetes/server.ts';
import { showAutopilot } from './autopilot.ts';
import { reconcile } from './reconcile.ts';
import { ScaledWorkload } from './scaled-workload.ts';
import { ServiceClient } from './service-client.ts';
import { summary, tableHead, tableRow } from './table.ts';
import { readTrace } from './trace.ts';

const help = `Usage: npm run demo -- [--steps N] [--step-ms N] [--keep]

  Replays two real workloads against an Auto Scaling group and a Deployment, both served by simulators on this machine
  that speak the clouds' own protocols: nothing real is attached. Then the service scales two others by itself, from a
  forecast, through an outage; and their last days are compared with what an HPA would have run.

  --steps N      trace steps of 5 minutes to replay (default 144: 12 hours)
  --step-ms N    real time per step (default 400)
  --keep         leave everything running at the end, for a look around; Ctrl-C ends it
  --help         this text`;

const stepHours = 5 / 60;
const stepsPerDay = 288;
/** What ran all the time in the history that the forecast learns from. */
const historyInstances = 36;
const historyReplicas = 24;

/** Where the replay begins: the morning of the second day, so that there is a yesterday to predict from. */
const firstStep = stepsPerDay + 72;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      steps: { type: 'string' },
      'step-ms': { type: 'string' },
      keep: { type: 'boolean' },
      help: { type: 'boolean' },
    },
  });
  if (values.help === true) {
    console.log(help);
    return;
  }
  const steps = positive('--steps', values.steps ?? '144');
  const stepMs = positive('--step-ms', values['step-ms'] ?? '400');
  const closers = createClosers();
  onSignals(async () => await closers.closeAll(20_000));
  try {
    await run(steps, stepMs, values.keep === true, closers);
  } finally {
    await closers.closeAll(20_000);
  }
}

async function run(
  steps: number,
  stepMs: number,
  keep: boolean,
  closers: ReturnType<typeof createClosers>,
): Promise<void> {
  const say = (line: string) => console.log(`· ${line}`);
  const dataDir = mkdtempSync(join(tmpdir(), 'scaler-demo-'));
  closers.add('data', () => rmSync(dataDir, { recursive: true, force: true }));
  const logDir = join(projectRoot(), '.data', 'demo-logs');
  rmSync(logDir, { recursive: true, force: true });
  mkdirSync(logDir, { recursive: true });

  say('Starting PostgreSQL and Redis …');
  const backends = await openBackends({
    environment: process.env.DEMO_USE_ENVIRONMENT === '1' ? process.env : {},
    dataDir,
    closers,
    log: say,
  });
  await migrate(backends.databaseUrl);
  say('Starting the cloud simulators (nothing real is attached) …');
  const aws = await startAwsSimulator({ provisioning: { launchMs: stepMs, terminateMs: stepMs, jitter: 0 } });
  closers.add('AWS simulator', () => aws.close());
  const kubernetes = await startKubernetesSimulator({
    startDelayMs: stepMs,
    startJitter: 0,
    stopDelayMs: stepMs,
  });
  closers.add('Kubernetes simulator', () => kubernetes.close());
  aws.createGroup({
    name: 'web-asg',
    region: 'us-east-1',
    min: 1,
    max: 60,
    desired: 24,
    instanceType: 'm5.large',
  });
  aws.createGroup({
    name: 'api-asg',
    region: 'us-east-1',
    min: 1,
    max: 60,
    desired: historyInstances,
    instanceType: 'm5.large',
  });
  kubernetes.createDeployment({
    namespace: 'shop',
    name: 'checkout',
    replicas: 15,
    requests: { cpu: '500m', memory: '1Gi' },
  });
  kubernetes.createDeployment({
    namespace: 'shop',
    name: 'api',
    replicas: historyReplicas,
    requests: { cpu: '500m', memory: '1Gi' },
  });
  const kubeconfig = join(dataDir, 'kubeconfig');
  writeFileSync(kubeconfig, kubernetes.kubeconfig, { mode: 0o600 });

  say('Starting one API process and two workers …');
  const pepper = 'demo';
  const key = (await ensureFirstKey(backends.databaseUrl, pepper)) ?? '(this database has a key already)';
  const port = await freePort();
  const baseUrl = `http://127.0.0.1:${port}`;
  const environment = {
    DATABASE_URL: backends.databaseUrl,
    REDIS_URL: backends.redisUrl,
    HOST: '127.0.0.1',
    PORT: String(port),
    API_KEY_PEPPER: pepper,
    AWS_REGION: 'us-east-1',
    AWS_ACCESS_KEY_ID: 'AKIADEMODEMODEMODEMO',
    AWS_SECRET_ACCESS_KEY: 'simulated',
    AWS_ENDPOINT_URL_AUTO_SCALING: aws.endpoint,
    AWS_ENDPOINT_URL_EC2: aws.endpoint,
    AWS_EC2_METADATA_DISABLED: 'true',
    KUBECONFIG: kubeconfig,
    LOG_LEVEL: 'info',
    NODE_ENV: 'development',
    BULL_BOARD: 'true',
    RATE_LIMIT_PER_MINUTE: '100000',
    OBSERVE_INTERVAL_SECONDS: '5',
  };
  const apiLog = join(logDir, 'api.log');
  const api = startProcess({ name: 'api', program: 'api/main.js', environment, logFile: apiLog });
  closers.add('api', () => api.stop());
  for (const n of [1, 2]) {
    const worker = startProcess({
      name: `worker ${n}`,
      program: 'worker/main.js',
      environment,
      logFile: join(logDir, `worker-${n}.log`),
    });
    closers.add(`worker ${n}`, () => worker.stop());
  }
  await waitUntilReady(baseUrl, api, apiLog, 30_000);

  const client = new ServiceClient(baseUrl, key);
  const policy = {
    // The trace's 5 minutes pass in less than a second, so the policy's times are as much shorter.
    cooldown_period: 1,
    stabilization_window: 2,
    provisioning_delay: 1,
    decision_interval: 5,
    max_actions_per_hour: 3600,
    max_reversals_per_half_hour: 3600,
    target_cpu: 70,
    target_memory: 80,
    min_instances: 1,
    max_instances: 60,
  };
  /** Of the resources that the service scales by itself: their history keeps its five minutes. */
  const autoPolicy = {
    min_instances: 1,
    max_instances: 60,
    decision_interval: 5,
    cooldown_period: 1,
    provisioning_delay: 300,
    planning: 'risk',
    utilization_unit: 'percent',
  };
  // So is the time in which a region or cluster may give back a tenth.
  await client.call('PUT', '/fleet-limits/default', {
    window_seconds: 1,
    reason: 'the demo compresses time',
  });
  const [asg, deployment, group, pods] = await Promise.all([
    client.call<{ id: string }>('POST', '/resources', {
      name: 'web-asg',
      resource_type: 'ec2',
      cloud_provider: 'aws',
      region: 'us-east-1',
      current_instances: 24,
      ...policy,
    }),
    client.call<{ id: string }>('POST', '/resources', {
      name: 'deployment:shop/checkout',
      resource_type: 'kubernetes',
      cloud_provider: 'kubernetes',
      current_instances: 15,
      ...policy,
    }),
    client.call<{ id: string }>('POST', '/resources', {
      name: 'api-asg',
      resource_type: 'ec2',
      cloud_provider: 'aws',
      region: 'us-east-1',
      current_instances: historyInstances,
      ...autoPolicy,
    }),
    client.call<{ id: string }>('POST', '/resources', {
      name: 'deployment:shop/api',
      resource_type: 'kubernetes',
      cloud_provider: 'kubernetes',
      current_instances: historyReplicas,
      ...autoPolicy,
    }),
  ]);
  const folder = join(projectRoot(), 'test', 'demo');
  const workloads = [
    new ScaledWorkload({
      name: 'web-asg',
      client,
      resourceId: asg.body.id,
      trace: readTrace(join(folder, 'azvm_daily.csv.gz')),
      running: () => {
        const group = aws.group('web-asg');
        return { desired: group?.desired ?? 0, ready: group?.inService ?? 0 };
      },
      predicts: false,
      stepsPerDay,
    }),
    new ScaledWorkload({
      name: 'checkout',
      client,
      resourceId: deployment.body.id,
      trace: readTrace(join(folder, 'azvm_cron.csv.gz')),
      running: () => {
        const workload = kubernetes.workload('shop', 'checkout');
        return { desired: workload?.replicas ?? 0, ready: workload?.readyReplicas ?? 0 };
      },
      predicts: true,
      stepsPerDay,
    }),
  ];

  say(
    `Replaying ${steps} steps of 5 minutes, ${stepMs} ms each (about ${Math.ceil((steps * stepMs) / 1_000)} s) …\n`,
  );
  console.log(tableHead);
  const startedAt = performance.now();
  for (let index = 0; index < steps; index++) {
    const next = startedAt + (index + 1) * stepMs;
    const reports = await Promise.all(
      workloads.map((workload) => workload.step(firstStep + index, stepHours)),
    );
    for (const report of reports) {
      if (report.decision.decision_type !== 'noaction' || index % 12 === 0) console.log(tableRow(report));
    }
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, next - performance.now())));
  }
  console.log(
    `\n${summary(
      workloads.map((workload) => workload.totals),
      (performance.now() - startedAt) / 1_000,
    )}`,
  );
  say('Handing two resources over to the service …');
  const autopilot = await showAutopilot(
    client,
    [
      {
        name: 'api-asg',
        resourceId: group.body.id,
        instances: historyInstances,
        trace: readTrace(join(folder, 'azvm_daily.csv.gz')),
      },
      {
        name: 'shop/api',
        resourceId: pods.body.id,
        instances: historyReplicas,
        trace: readTrace(join(folder, 'azvm_cron.csv.gz')),
      },
    ],
    {
      begin: () => void kubernetes.faults.add({ target: 'shop/api', effect: { kind: 'reset' } }),
      end: () => kubernetes.faults.clear(),
    },
  );
  console.log(`\n${autopilot.lines.join('\n')}`);
  const resources = [
    { id: asg.body.id, object: 'web-asg' },
    { id: group.body.id, object: 'api-asg' },
    { id: deployment.body.id, object: 'shop/checkout' },
    { id: pods.body.id, object: 'shop/api' },
  ];
  const writes = [
    ...aws.ledger.writes().map((entry) => ({ ...entry, object: entry.group ?? '' })),
    ...kubernetes.ledger.writes().map((entry) => ({ ...entry, object: `${entry.namespace}/${entry.name}` })),
    // Writes without a request are the clouds' own: how the objects came to be.
  ].filter((entry) => entry.requestId !== null);
  const matched = await reconcile(client, resources, writes);
  console.log(
    `\nAudit: the clouds' own ledgers and the service's history tell of the same ${matched} changes, in the same order.`,
  );
  console.log(
    `\n  API documentation  ${baseUrl}/docs\n  Queues             ${baseUrl}/admin/queues (log in with the key)\n  Key                ${key}\n  Logs               ${logDir}`,
  );
  if (keep) {
    console.log('\nEverything is left running; Ctrl-C ends it.');
    await new Promise(() => {});
  }
  console.log('\nThe demo ends here and stops what it started; `npm run demo -- --keep` leaves it running.');
}

function positive(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1)
    throw new Error(`${name} must be a whole number of at least 1, not ${JSON.stringify(text)}`);
  return value;
}

if (!existsSync(join(projectRoot(), 'dist')))
  throw new Error('Run `npm run build` first, or start with `npm run demo`.');
main().then(
  () => process.exit(0),
  (error: unknown) => {
    console.error(`demo: ${errorMessage(error)}`);
    process.exit(1);
  },
);
