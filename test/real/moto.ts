import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { freePort } from '../../deploy/local/free-port.ts';
import { projectRoot } from '../../shared/project-root.ts';

const run = promisify(execFile);
const version = '5.2.2';

/** An unmodified moto, which answers as AWS does; kept in `.cache/` between runs. */
export interface Moto {
  readonly endpoint: string;
  close(): void;
}

/** @throws Error saying what is missing, when there is no Python or its packages cannot be fetched. */
export async function startMoto(): Promise<Moto> {
  const folder = join(projectRoot(), '.cache', `moto-${version}`);
  const server = join(folder, 'bin', 'moto_server');
  if (!existsSync(server)) {
    await run('python3', ['-m', 'venv', folder]);
    await run(join(folder, 'bin', 'pip'), ['install', '--quiet', `moto[server]==${version}`]);
  }
  const port = await freePort();
  const child = spawn(server, ['-H', '127.0.0.1', '-p', String(port)], { stdio: 'ignore' });
  const endpoint = `http://127.0.0.1:${port}`;
  await untilAnswered(endpoint, child);
  return { endpoint, close: () => void child.kill() };
}

async function untilAnswered(endpoint: string, child: ChildProcess): Promise<void> {
  const end = performance.now() + 30_000;
  for (;;) {
    if (child.exitCode !== null) throw new Error(`moto_server ended with status ${child.exitCode}`);
    try {
      await fetch(`${endpoint}/moto-api/`);
      return;
    } catch (error) {
      if (performance.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}
