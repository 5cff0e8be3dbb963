import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { projectRoot } from '../../shared/project-root.ts';

/** Runs a program of ours to its end. */
async function run(
  program: string,
  args: readonly string[],
): Promise<{ code: number | null; output: string }> {
  const child = spawn(process.execPath, [join(projectRoot(), 'dist', program), ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
  const code = await new Promise<number | null>((resolve) => child.once('exit', resolve));
  return { code, output };
}

describe('the demo', () => {
  it('decides and executes on both clouds, forecasts, and its books agree with the clouds', async () => {
    const { code, output } = await run('test/demo/main.js', ['--steps', '30', '--step-ms', '250']);
    expect(output).not.toContain('demo: ');
    expect(code).toBe(0);
    expect(output).toMatch(
      /web-asg .* Measured CPU: \d+%, Memory: \d+% on \d+ instances: scaling up from \d+ to \d+/,
    );
    expect(output).toMatch(/checkout .* Predicted CPU: \d+%, Memory: \d+% on \d+ instances/);
    for (const name of ['web-asg', 'checkout'])
      expect(output).toMatch(
        new RegExp(
          `${name} +· \\d+ of 30 steps above 90 % utilisation · [\\d.]+ instance-hours · \\$[\\d.]+ · \\d+ actions`,
        ),
      );
    expect(output).toMatch(/\d+ jobs in \d+ s · decide p50 [\d.]+ ms, p99 [\d.]+ ms · execute p50/);
    expect(output).toMatch(/api-asg: Predicted CPU: \d+% on \d+ instances: scaling down from \d+ to \d+/);
    expect(output).toMatch(/shop\/api: Predicted CPU: \d+% on \d+ instances: scaling down from \d+ to \d+/);
    expect(output).toMatch(/retrying +The cluster did not answer properly/);
    expect(output).toMatch(/completed +when the server was back, \d+ s after it went/);
    for (const name of ['api-asg', 'shop/api'])
      for (const rules of ['HPA, target 70 %', 'scaler, tolerated risk 2 %'])
        expect(output).toMatch(new RegExp(`${name}: ${rules} +[\\d.]+ % +\\d+ +[\\d.]+`));
    const changes = Number(/tell of the same (\d+) changes/.exec(output)?.[1]);
    const actions = [...output.matchAll(/· (\d+) actions/g)].reduce(
      (sum, [, count]) => sum + Number(count),
      0,
    );
    // What the service executed by itself is in both ledgers, too.
    expect(changes).toBeGreaterThan(actions);
    expect(actions).toBeGreaterThan(0);
    expect(output).toMatch(/Key +as_live_/);
  }, 90_000);

  it('refuses options it does not know, without starting anything', async () => {
    const { code, output } = await run('test/demo/main.js', ['--steps', 'many']);
    expect(code).toBe(1);
    expect(output).toContain('demo: --steps must be a whole number of at least 1, not "many"');
    expect(output).not.toContain('Starting');
  });
});
