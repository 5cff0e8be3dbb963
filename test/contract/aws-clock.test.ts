import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { projectRoot } from '../../shared/project-root.ts';
import { type AwsSimulator, startAwsSimulator } from '../simulators/aws/server.ts';

let simulator: AwsSimulator;
beforeAll(async () => {
  simulator = await startAwsSimulator({
    timeScale: 0,
    groups: [{ name: 'web', min: 1, max: 9, desired: 3 }],
  });
});
afterAll(async () => {
  await simulator.close();
});

const built = (file: string) => pathToFileURL(join(projectRoot(), 'dist', file)).href;

/** Reads twice and writes once, in a process whose clock is off. @returns what came of each. */
async function withClockOff(skewMs: number, instances: number): Promise<string[]> {
  const script = `
    const { AwsAutoScaling } = await import('${built('worker/providers/aws-auto-scaling.js')}');
    const provider = new AwsAutoScaling({ defaultRegion: 'us-east-1', settleMs: 1_000 });
    const target = { provider: 'aws', scope: null, name: 'web' };
    const signal = AbortSignal.timeout(10_000);
    const told = (work) => work.then(() => console.log('done'), (error) => console.log(error.fault));
    await told(provider.describe(target, signal));
    await told(provider.describe(target, signal));
    const state = await provider.describe(target, signal);
    // PostgreSQL's time, which is right.
    const intentAtMs = ${Date.now()};
    await told(provider.setCapacity(target, ${instances}, state, { intentAtMs, signal }));
    await provider.close();`;
  const child = spawn(
    process.execPath,
    ['--import', built('test/chaos/skewed-clock.js'), '--input-type=module', '-e', script],
    {
      env: {
        ...process.env,
        CHAOS_CLOCK_SKEW_MS: String(skewMs),
        AWS_ENDPOINT_URL_AUTO_SCALING: simulator.endpoint,
        AWS_ENDPOINT_URL_EC2: simulator.endpoint,
        AWS_ACCESS_KEY_ID: 'AKIA',
        AWS_SECRET_ACCESS_KEY: 'secret',
        AWS_EC2_METADATA_DISABLED: 'true',
      },
      stdio: ['ignore', 'pipe', 'ignore'],
    },
  );
  let out = '';
  child.stdout.on('data', (text) => {
    out += text;
  });
  await once(child, 'close');
  return out.trim().split('\n');
}

describe('a worker whose clock is ten minutes off', () => {
  it.each([
    ['ahead', 600_000, 5],
    ['behind', -600_000, 4],
  ])('and %s is refused once by AWS, and works from then on', async (_name, skewMs, instances) => {
    expect(await withClockOff(skewMs, instances)).toEqual(['fenced', 'done', 'done']);
    expect(simulator.group('web')?.desired).toBe(instances);
  });
});
