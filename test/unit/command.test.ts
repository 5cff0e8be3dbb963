import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { projectRoot } from '../../shared/project-root.ts';

const module = JSON.stringify(join(projectRoot(), 'dist/test/support/command.js'));

/** A command as our programs are one, with this for its work. */
function command(work: string, ...options: string[]) {
  const script = `
    import { inTemporaryFolder, readCommandLine } from ${module};
    const { values, number, wholeNumber, say } = readCommandLine('trial', 'Usage: trial', {
      minutes: { type: 'string', default: '1' },
      runs: { type: 'string', default: '1' },
    });
    ${work}`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script, '--', ...options]);
  const seen = { out: '', err: '' };
  child.stdout.on('data', (text) => (seen.out += text));
  child.stderr.on('data', (text) => (seen.err += text));
  const ended = once(child, 'close').then(([status]) => ({ status, ...seen }));
  return { child, ended };
}

describe('a command', () => {
  const numbers = "console.log(number('minutes', 0.5, 10), wholeNumber('runs', 1))";

  it.each([
    [[], '1 1\n'],
    [['--minutes', '2.5', '--runs', '7'], '2.5 7\n'],
  ])('reads %j', async (options, out) => {
    expect(await command(numbers, ...options).ended).toEqual({ status: 0, out, err: '' });
  });

  it.each([
    [['--minutes', '11'], 'trial: --minutes must be a number from 0.5 to 10, not "11"\n'],
    [['--minutes', 'Infinity'], 'trial: --minutes must be a number from 0.5 to 10, not "Infinity"\n'],
    [['--minutes', ''], 'trial: --minutes must be a number from 0.5 to 10, not ""\n'],
    [['--runs', '1.5'], 'trial: --runs must be a whole number of at least 1, not "1.5"\n'],
    [['--runs', '0'], 'trial: --runs must be a whole number of at least 1, not "0"\n'],
  ])('refuses %j with status 2 and one line', async (options, err) => {
    expect(await command(numbers, ...options).ended).toEqual({ status: 2, out: '', err });
  });

  it('refuses an option it does not know, and tells how it is used', async () => {
    const unknown = await command(numbers, '--what', 'ever').ended;
    expect(unknown).toMatchObject({ status: 2, out: '' });
    expect(unknown.err).toContain("'--what'");
    expect(await command(numbers, '--help').ended).toEqual({ status: 0, out: 'Usage: trial\n', err: '' });
  });

  it.each([
    ['gone', ''],
    ['gone after a failure, too', "throw new Error('the work failed')"],
  ])('has a folder that is %s', async (_name, end) => {
    const work = `await inTemporaryFolder('trial', async (folder) => { console.log(folder); ${end} }).catch(() => {})`;
    const { status, out } = await command(work).ended;
    expect(status).toBe(0);
    expect(out).toContain('scaler-trial-');
    expect(existsSync(out.trim())).toBe(false);
  });

  it('keeps the folder when asked to, and says where', async () => {
    const work = `import { rmSync, existsSync } from 'node:fs'; let kept;
      await inTemporaryFolder('trial', async (folder) => { kept = folder; }, true);
      console.log(existsSync(kept)); rmSync(kept, { recursive: true });`;
    const { out, err } = await command(work).ended;
    expect(out).toBe('true\n');
    expect(err).toContain('are kept in');
  });

  it('that is interrupted leaves no folder, and status 130: it has shown nothing', async () => {
    const { child, ended } = command(`await inTemporaryFolder('trial', async (folder) => {
      console.log(folder); await new Promise((resolve) => setTimeout(resolve, 30_000)); })`);
    const [folder] = await once(child.stdout, 'data');
    child.kill('SIGINT');
    expect((await ended).status).toBe(130);
    expect(existsSync(String(folder).trim())).toBe(false);
  });
});
