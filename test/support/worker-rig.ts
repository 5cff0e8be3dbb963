import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import type pg from 'pg';
import { vi } from 'vitest';
import { upsertSamples } from '../../api/resources/series-store.ts';
import { projectRoot } from '../../shared/project-root.ts';
import { type RunningWorker, startWorker } from '../../worker/compose.ts';
import { readWorkerConfig } from '../../worker/config.ts';
import { type AwsSimulator, startAwsSimulator } from '../simulators/aws/server.ts';
import { seedResource } from './seed.ts';

type Environment = Readonly<Record<string, string>>;

/** An AWS whose instances come and go at once. */
export async function startQuickAws(): Promise<AwsSimulator> {
  return await startAwsSimulator({ provisioning: { launchMs: 1, terminateMs: 1, jitter: 0 } });
}

/** What a worker needs to reach it. */
export function awsEnvironment({ endpoint }: AwsSimulator): Environment {
  return {
    AWS_REGION: 'us-east-1',
    AWS_ACCESS_KEY_ID: 'AKIATESTTESTTESTTEST',
    AWS_SECRET_ACCESS_KEY: 'simulated',
    AWS_ENDPOINT_URL_AUTO_SCALING: endpoint,
    AWS_ENDPOINT_URL_EC2: endpoint,
    AWS_EC2_METADATA_DISABLED: 'true',
  };
}

export interface WorkerProcess {
  readonly child: ChildProcess;
  /** Its exit code. */
  readonly ended: Promise<number | null>;
  output(): string;
}

/** The workers that a test starts. */
export class TestWorkers {
  readonly #environment: () => Environment;
  readonly #children: ChildProcess[] = [];
  readonly #running: RunningWorker[] = [];

  constructor(environment: () => Environment) {
    this.#environment = environment;
  }

  /** As it is run in production. */
  startProcess(
    options: {
      readonly args?: readonly string[];
      readonly extra?: Environment;
      readonly program?: string;
    } = {},
  ): WorkerProcess {
    const { args = [], extra = {}, program = join(projectRoot(), 'dist/worker/main.js') } = options;
    const child = spawn(process.execPath, [program, ...args], {
      env: { ...process.env, ...this.#environment(), ...extra },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#children.push(child);
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (chunk: Buffer) => {
        output += chunk.toString();
      });
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
    return { child, ended, output: () => output };
  }

  /** In this process, pointed at the simulated cloud. */
  async startHere(extra: Environment = {}): Promise<void> {
    const environment = this.#environment();
    for (const [name, value] of Object.entries(environment)) vi.stubEnv(name, value);
    this.#running.push(
      await startWorker(readWorkerConfig({ ...environment, LOG_LEVEL: 'silent', ...extra })),
    );
  }

  /** Leaves a process to its starter, to be ended by it. */
  letGo({ child }: WorkerProcess): void {
    this.#children.splice(this.#children.indexOf(child), 1);
  }

  /** To be called after each case. */
  async end(): Promise<void> {
    for (const child of this.#children.splice(0)) child.kill('SIGKILL');
    for (const worker of this.#running.splice(0)) await worker.close(5_000);
    vi.unstubAllEnvs();
  }
}

/** An Auto Scaling group, and the resource that stands for it. */
export async function seedGroup(
  pool: pg.Pool,
  aws: AwsSimulator,
  values: Readonly<Record<string, unknown>> = {},
  desired = 4,
): Promise<{ id: string; name: string }> {
  const name = `asg-${randomUUID().slice(0, 8)}`;
  aws.createGroup({ name, region: 'us-east-1', min: 1, max: 50, desired, instanceType: 'm5.large' });
  return { id: await seedResource(pool, { name, current_instances: desired, ...values }), name };
}

/** The last ten minutes at that many percent. */
export async function seedSamples(pool: pg.Pool, id: string, cpu: number, instances = 4): Promise<void> {
  const now = Date.now();
  const samples = Array.from({ length: 10 }, (_, n) => ({
    timestamp: new Date(now - n * 60_000).toISOString(),
    ...{ cpu, memory: null, requests: null, instances },
  }));
  await upsertSamples(pool, id, samples);
}

/** A worker in this process that serves the databases of a `TestApi`. */
export async function startTestWorker(
  environment: Environment,
  extra: Environment = {},
): Promise<{ close(): Promise<void> }> {
  const worker = await startWorker(
    readWorkerConfig({ ...environment, AWS_EC2_METADATA_DISABLED: 'true', ...extra }),
  );
  return { close: () => worker.close(5_000) };
}
