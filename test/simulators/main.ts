import { writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startAwsSimulator } from './aws/server.ts';
import { startKubernetesSimulator } from './kubernetes/server.ts';

const HELP = `Starts simulators of AWS Auto Scaling (with EC2 and STS) and of a Kubernetes API server on 127.0.0.1.
Nothing real is attached: no account, no cluster, no cost. Everything is forgotten at the end.

npm run simulate -- [options]

  --only aws|kubernetes     start just this one (default: both)
  --aws-port N              port of the AWS simulator (default: 4566; 0 = any free port)
  --kubernetes-port N       port of the Kubernetes simulator (default: 6480; 0 = any free port)
  --time-scale N            simulated seconds per real second (default: 1; 0 = frozen)
  --seed N                  uids, jitter and chances; the same seed gives the same world (default: 1)
  --kubeconfig FILE         where to write the kubeconfig (default: a file in the temporary folder)
  --help                    this text

Seeded: the Auto Scaling group "web-asg" (us-east-1, 1 to 20, desired 3) and the Deployment "default/web" (3 replicas).
Both answer under /_simulator/ too: GET ledger, GET state, POST faults, DELETE faults, POST clock.
`;

interface Choice {
  readonly aws: boolean;
  readonly kubernetes: boolean;
  readonly awsPort: number;
  readonly kubernetesPort: number;
  readonly timeScale: number;
  readonly seed: number;
  readonly kubeconfig: string;
}

function readChoice(args: readonly string[]): Choice | 'help' {
  const { values } = parseArgs({
    args: [...args],
    options: {
      only: { type: 'string' },
      'aws-port': { type: 'string', default: '4566' },
      'kubernetes-port': { type: 'string', default: '6480' },
      'time-scale': { type: 'string', default: '1' },
      seed: { type: 'string', default: '1' },
      kubeconfig: { type: 'string', default: join(tmpdir(), `simulator-kubeconfig-${process.pid}.json`) },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return 'help';
  const { only } = values;
  if (only !== undefined && only !== 'aws' && only !== 'kubernetes') {
    throw new Error(`--only takes aws or kubernetes, not "${only}"`);
  }
  return {
    aws: only !== 'kubernetes',
    kubernetes: only !== 'aws',
    awsPort: wholeNumber('--aws-port', values['aws-port'], 65_535),
    kubernetesPort: wholeNumber('--kubernetes-port', values['kubernetes-port'], 65_535),
    timeScale: timeScaleFrom(values['time-scale']),
    seed: wholeNumber('--seed', values.seed, 2 ** 32 - 1),
    kubeconfig: values.kubeconfig,
  };
}

function wholeNumber(option: string, text: string, most: number): number {
  const value = Number(text);
  if (text.trim() !== '' && Number.isInteger(value) && value >= 0 && value <= most) return value;
  throw new Error(`${option} takes a whole number from 0 to ${most}, not "${text}"`);
}

function timeScaleFrom(text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && Number.isFinite(value) && value >= 0) return value;
  throw new Error(`--time-scale takes a number that is 0 or more, not "${text}"`);
}

interface Running {
  readonly lines: readonly string[];
  close(): Promise<void>;
}

async function startAws({ awsPort, timeScale, seed }: Choice): Promise<Running> {
  const groups = [{ name: 'web-asg', min: 1, max: 20, desired: 3 }];
  const { endpoint, close } = await startAwsSimulator({ port: awsPort, timeScale, seed, groups });
  const lines = [
    `export AWS_ENDPOINT_URL_AUTO_SCALING=${endpoint}`,
    `export AWS_ENDPOINT_URL_EC2=${endpoint}`,
    `export AWS_ENDPOINT_URL_STS=${endpoint}`,
    'export AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1',
    'export AWS_ACCESS_KEY_ID=simulated AWS_SECRET_ACCESS_KEY=simulated',
    'export AWS_EC2_METADATA_DISABLED=true',
  ];
  return { lines, close };
}

async function startKubernetes({ kubernetesPort, timeScale, seed, kubeconfig }: Choice): Promise<Running> {
  const deployments = [{ name: 'web', replicas: 3, requests: { cpu: '250m', memory: '256Mi' } }];
  const simulator = await startKubernetesSimulator({ port: kubernetesPort, timeScale, seed, deployments });
  writeFileSync(kubeconfig, simulator.kubeconfig, { mode: 0o600 });
  return { lines: [`export KUBECONFIG=${kubeconfig}`], close: () => simulator.close() };
}

async function main(): Promise<void> {
  const choice = readChoice(process.argv.slice(2));
  if (choice === 'help') {
    process.stdout.write(HELP);
    return;
  }
  const running: Running[] = [];
  const stop = async (): Promise<void> => {
    for (const simulator of running) await simulator.close();
    process.exit(0);
  };
  try {
    if (choice.aws) running.push(await startAws(choice));
    if (choice.kubernetes) running.push(await startKubernetes(choice));
  } catch (error) {
    for (const simulator of running) await simulator.close();
    throw error;
  }
  // Only the exports go to standard output, so that a script can take them from there.
  process.stderr.write('Simulated clouds on 127.0.0.1. NOTHING REAL IS ATTACHED. In another shell:\n\n');
  process.stdout.write(`${running.flatMap(({ lines }) => lines).join('\n')}\n`);
  process.stderr.write('\nEnd with Ctrl+C.\n');
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      stop().catch(fail);
    });
  }
}

function fail(error: unknown): void {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\nSee --help.\n`);
  process.exit(1);
}

main().catch(fail);
