import type { ServiceClient } from './service-client.ts';
import type { TraceStep } from './trace.ts';

const stepMs = 300_000;
const days = 14;
const comparedDays = 6;
const patienceMs = 30_000;
/** The load jumps by this much while the cluster is away. */
const jump = 1.6;

interface Decision {
  readonly id: string;
  readonly reason: string;
  readonly confidence: number;
  readonly estimated_cost: number;
  readonly executed: boolean;
  readonly explanation: { readonly forecast: { readonly used: boolean; readonly why: string } };
}

interface Job {
  readonly status: string;
  readonly error: { readonly message: string } | null;
  readonly created_at: string;
  readonly finished_at: string | null;
}

interface Figures {
  readonly breach_percent: number;
  readonly instance_hours: number;
  readonly cost_usd: number;
}

interface Simulation {
  readonly actual: Figures;
  readonly hpa: Figures;
  readonly simulated: Figures;
}

export interface AutoWorkload {
  readonly name: string;
  readonly resourceId: string;
  /** What ran all the time in the history. */
  readonly instances: number;
  readonly trace: readonly TraceStep[];
}

/**
 * Two resources that the service decides for and executes by itself, from forecasts of two weeks of history; an outage of
 * the cluster in the middle of an execution; and what the last days would have been under the rules of an HPA. The
 * trace's steps keep their five minutes; its last one is now.
 * @param outage takes the cluster of the last workload away, and brings it back.
 * @returns the lines to show, and how many jobs were asked for.
 */
export async function showAutopilot(
  client: ServiceClient,
  workloads: readonly AutoWorkload[],
  outage: { begin(): void; end(): void },
): Promise<{ lines: string[]; jobs: number }> {
  const lines = [
    'In auto: the service decides and executes by itself, from a forecast of two weeks of history',
  ];
  for (const workload of workloads) lines.push(...(await handOver(client, workload)));
  lines.push(...(await showOutage(client, workloads.at(-1) as AutoWorkload, outage)));
  for (const { resourceId } of workloads) await setMode(client, resourceId, 'manual');
  lines.push('', `The same ${comparedDays} days of each history under other rules`);
  lines.push(`  ${''.padEnd(38)} ${'breach'.padStart(8)} ${'inst-h'.padStart(8)} ${'cost $'.padStart(10)}`);
  for (const workload of workloads) lines.push(...(await compare(client, workload)));
  return { lines, jobs: workloads.length };
}

/** Posts the history, waits for its forecast, and for the first change that nobody asked for. */
async function handOver(
  client: ServiceClient,
  { name, resourceId, instances, trace }: AutoWorkload,
): Promise<string[]> {
  const steps = historyOf(trace);
  const endMs = Date.now();
  const samples = steps.map(({ demand }, index) => ({
    timestamp: new Date(endMs - (steps.length - 1 - index) * stepMs).toISOString(),
    cpu: Math.round((demand / instances) * 10_000) / 100,
    instances,
  }));
  await client.call('POST', `/resources/${resourceId}/metrics`, { samples });
  await until('a forecast', async () => {
    const { body } = await client.call<Decision>(
      'POST',
      '/scale/decide',
      { resource_id: resourceId, use_prediction: true },
      { prefer: 'wait=20' },
    );
    return body.explanation.forecast.used ? body : null;
  });
  await setMode(client, resourceId, 'auto');
  const decision = await until(`a change of ${name}`, async () => {
    const { body } = await client.call<{ decisions: Decision[] }>(
      'GET',
      `/scale/decisions?resource_id=${resourceId}&limit=20`,
    );
    return body.decisions.find(({ executed }) => executed) ?? null;
  });
  return [
    `  ${name}: ${decision.reason}`,
    `  ${' '.repeat(name.length)}  confidence ${(decision.confidence * 100).toFixed(1)} %, $${decision.estimated_cost.toFixed(2)} an hour`,
  ];
}

async function showOutage(
  client: ServiceClient,
  { name, resourceId, instances, trace }: AutoWorkload,
  outage: { begin(): void; end(): void },
): Promise<string[]> {
  const demand = historyOf(trace).at(-1)?.demand ?? 0;
  outage.begin();
  const beganAt = Date.now();
  const cpu = Math.min(10_000, Math.round(((jump * demand) / instances) * 10_000) / 100);
  await client.call('POST', `/resources/${resourceId}/metrics`, {
    timestamp: new Date().toISOString(),
    cpu,
    instances,
  });
  const executions = async (): Promise<Job[]> =>
    (await client.call<{ jobs: Job[] }>('GET', `/jobs?resource_id=${resourceId}&kind=execute&limit=5`)).body
      .jobs;
  const retrying = await until(
    'an execution that waits for the cluster',
    async () => (await executions()).find(({ status }) => status === 'retrying') ?? null,
  );
  outage.end();
  const done = await until('the execution after the outage', async () => {
    const job = (await executions()).find(({ created_at }) => created_at === retrying.created_at);
    return job?.status === 'completed' ? job : null;
  });
  const seconds = (Date.parse(done.finished_at as string) - beganAt) / 1_000;
  return [
    '',
    `A fault: the API server of ${name}'s cluster goes away while its load rises by ${Math.round((jump - 1) * 100)} %`,
    `  retrying   ${retrying.error?.message ?? ''}`,
    `  completed  when the server was back, ${seconds.toFixed(0)} s after it went; nothing was lost or done twice`,
  ];
}

async function compare(
  client: ServiceClient,
  { name, resourceId, instances }: AutoWorkload,
): Promise<string[]> {
  const endMs = Date.now();
  const { body } = await client.call<Simulation>(
    'POST',
    '/simulations',
    {
      resource_id: resourceId,
      from: new Date(endMs - comparedDays * 86_400_000).toISOString(),
      to: new Date(endMs).toISOString(),
      policy: { planning: 'risk', max_scale_up_step: 100, max_scale_down_step: 100 },
    },
    { prefer: 'wait=25' },
  );
  const row = (rules: string, { breach_percent, instance_hours, cost_usd }: Figures) =>
    `  ${rules.padEnd(38)} ${breach_percent.toFixed(2).padStart(6)} % ${instance_hours.toFixed(0).padStart(8)} ${cost_usd.toFixed(2).padStart(10)}`;
  return [
    row(`${name}: ${instances} instances all the time`, body.actual),
    row(`${name}: HPA, target 70 %`, body.hpa),
    row(`${name}: scaler, tolerated risk 2 %`, body.simulated),
  ];
}

async function setMode(client: ServiceClient, resourceId: string, mode: 'auto' | 'manual'): Promise<void> {
  const { body } = await client.call<{ version: number }>('GET', `/resources/${resourceId}`);
  await client.call('PATCH', `/resources/${resourceId}`, { mode }, { 'if-match': `"${body.version}"` });
}

function historyOf(trace: readonly TraceStep[]): readonly TraceStep[] {
  return trace.slice(0, (days * 86_400_000) / stepMs);
}

/** @throws Error naming what did not come within half a minute. */
async function until<T>(what: string, find: () => Promise<T | null>): Promise<T> {
  const end = performance.now() + patienceMs;
  for (;;) {
    const found = await find();
    if (found !== null) return found;
    if (performance.now() > end) throw new Error(`${what} did not come within ${patienceMs / 1_000} s`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}
