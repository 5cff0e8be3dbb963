import { spawn } from 'node:child_process';
import type { Target } from './target.ts';

/** Runs schemathesis against the target where it is installed. It is no dependency: without it the summary says so. */
export async function runSchemathesis(
  target: Target,
  seconds: number,
  say: (line: string) => void,
): Promise<{ summary: string; breaks: string[] }> {
  if (seconds === 0) return { summary: 'not asked for', breaks: [] };
  const version = await capture('schemathesis', ['--version'], 20_000);
  if (version === null)
    return { summary: 'not run: it is not on the PATH (pip install schemathesis)', breaks: [] };
  const name = version.output.trim().split('\n').at(-1) ?? 'schemathesis';
  say(`${name}, at most ${seconds} s`);
  const args = [
    'run',
    `http://127.0.0.1:${target.port}/openapi.json`,
    '--header',
    `Authorization: Bearer ${target.keys.full}`,
    '--checks',
    'all',
    // What a schema cannot say (min over max, ids that exist) is refused although the schema allows it; and a missing
    // If-Match is answered 428, as RFC 6585 has it, which the check does not know.
    '--exclude-checks',
    'positive_data_acceptance,missing_required_header',
    // The first two wait for workers, of which there are none here; the others would end the key that it uses.
    ...['replayDecision', 'getFrontier', 'revokeKey', 'rotateKey'].flatMap((id) => [
      '--exclude-operation-id',
      id,
    ]),
    '--request-timeout',
    '20',
    '--max-time',
    String(seconds),
    '--generation-database',
    'none',
    '--continue-on-failure',
    '--no-color',
  ];
  const refreshing = setInterval(() => void target.refreshJobs().catch(() => {}), 30_000);
  const run = await capture('schemathesis', args, (seconds + 60) * 1_000);
  clearInterval(refreshing);
  if (run === null) return { summary: `${name} could not be started`, breaks: [] };
  const last = run.output.trim().split('\n').slice(-25).join('\n');
  if (run.code === 0) return { summary: `${name}: no failures. ${last}`, breaks: [] };
  if (run.code === null)
    return { summary: `${name}: did not end in time`, breaks: ['schemathesis did not end in time'] };
  say(run.output.slice(-8_000));
  return { summary: last, breaks: [`schemathesis ended with status ${run.code}`] };
}

/** @returns null when there is no such program; `code` null when it was stopped. */
async function capture(
  program: string,
  args: readonly string[],
  timeoutMs: number,
): Promise<{ code: number | null; output: string } | null> {
  return await new Promise((resolve) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => {
        output += chunk.toString();
      });
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
    child.on('error', () => {
      clearTimeout(timer);
      resolve(null);
    });
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve({ code, output });
    });
  });
}
