import type { ServiceClient } from './service-client.ts';
import type { TraceStep } from './trace.ts';

const stepMs = 300_000;
const days = 14;
const simulatedDays = 6;
const patienceMs = 20_000;

interface Decision {
  readonly id: string;
  readonly reason: string;
  readonly decision_type: string;
  readonly confidence: number;
  readonly explanation: { readonly forecast: { readonly used: boolean; readonly why: string } };
}

interface Figures {
  readonly breach_percent: number;
  readonly instance_hours: number;
  readonly cost_usd: number;
}

interface Simulation {
  readonly actual: Figures;
  readonly frontier: readonly (Figures & { readonly risk: number })[];
}

/**
 * What two weeks of history are good for: a decision from our own forecast, and what other tolerated risks would have
 * cost on the same history. The trace's steps keep their five minutes; its last one is now.
 */
export async function showForesight(options: {
  readonly client: ServiceClient;
  readonly resourceId: string;
  readonly instances: number;
  readonly trace: readonly TraceStep[];
  readonly executes: boolean;
}): Promise<{ lines: string[]; jobs: number }> {
  const { client, resourceId, instances } = options;
  const steps = options.trace.slice(0, (days * 86_400_000) / stepMs);
  const endMs = Date.now();
  const samples = steps.map(({ demand }, index) => ({
    timestamp: new Date(endMs - (steps.length - 1 - index) * stepMs).toISOString(),
    cpu: Math.round((demand / instances) * 10_000) / 100,
    instances,
  }));
  const posted = await client.call('POST', `/resources/${resourceId}/metrics`, { samples });
  const decision = await untilForecast(client, resourceId);
  let jobs = 1;
  if (options.executes && decision.decision_type !== 'noaction') {
    await client.call('POST', '/scale/execute', { decision_id: decision.id }, { prefer: 'wait=20' });
    jobs++;
  }
  const simulated = await client.call<Simulation>(
    'POST',
    '/simulations',
    {
      resource_id: resourceId,
      from: new Date(endMs - simulatedDays * 86_400_000).toISOString(),
      to: new Date(endMs).toISOString(),
      policy: { planning: 'risk', max_scale_up_step: 100, max_scale_down_step: 100 },
      risks: [0.005, 0.02, 0.1],
    },
    { prefer: 'wait=25' },
  );
  const { actual, frontier } = simulated.body;
  const row = (name: string, { breach_percent, instance_hours, cost_usd }: Figures) =>
    `  ${name.padEnd(34)} ${breach_percent.toFixed(2).padStart(6)} % ${instance_hours.toFixed(0).padStart(8)} ${cost_usd.toFixed(2).padStart(10)}`;
  const lines = [
    `Foresight: ${samples.length} samples of two weeks posted in ${posted.ms.toFixed(0)} ms, one decision from the forecast`,
    `  ${decision.reason}`,
    `  confidence ${(decision.confidence * 100).toFixed(1)} % that demand stays within 90 % utilisation`,
    `  What ${simulatedDays} days of that history would have cost (simulated in ${simulated.ms.toFixed(0)} ms)`,
    `  ${''.padEnd(34)} ${'breach'.padStart(8)} ${'inst-h'.padStart(8)} ${'cost $'.padStart(10)}`,
    row(`${instances} instances all the time`, actual),
    ...frontier.map((point) => row(`tolerated risk ${point.risk * 100} %`, point)),
  ];
  return { lines, jobs: jobs + 1 };
}

/** The forecaster is built in the background of the first decision. */
async function untilForecast(client: ServiceClient, resourceId: string): Promise<Decision> {
  const end = performance.now() + patienceMs;
  for (;;) {
    const { body } = await client.call<Decision>(
      'POST',
      '/scale/decide',
      { resource_id: resourceId, use_prediction: true },
      { prefer: 'wait=20' },
    );
    if (body.explanation.forecast.used) return body;
    if (performance.now() > end)
      throw new Error(`no forecast within ${patienceMs / 1_000} s: ${body.explanation.forecast.why}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
