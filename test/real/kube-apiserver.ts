import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../../deploy/local/free-port.ts';

/** The user that workers are, and what an administrator is. */
const tokens = { worker: 'worker-token', admin: 'admin-token' } as const;

/** An unmodified kube-apiserver on an etcd of its own, without any controller. */
export interface KubeApiserver {
  /** Of the worker's user. */
  readonly kubeconfig: string;
  /** What an administrator asks. @throws with the server's words when the status is not 2xx. */
  admin(method: string, path: string, body?: unknown): Promise<unknown>;
  /** kill -9. */
  kill(): Promise<void>;
  start(): Promise<void>;
  close(): Promise<void>;
}

/**
 * KUBE_APISERVER and ETCD name the programs, else they are looked for on the PATH.
 * @throws Error naming what is missing.
 */
export async function startKubeApiserver(): Promise<KubeApiserver> {
  const programs = {
    apiserver: process.env.KUBE_APISERVER ?? 'kube-apiserver',
    etcd: process.env.ETCD ?? 'etcd',
  };
  for (const [name, program] of Object.entries(programs))
    if (spawnSync(program, ['--version'], { stdio: 'ignore' }).error !== undefined)
      throw new Error(`${name}: no program ${JSON.stringify(program)}`);
  const folder = mkdtempSync(join(tmpdir(), 'scaler-kube-'));
  const [client, peer, port] = [await freePort(), await freePort(), await freePort()];
  const write = (name: string, text: string): string => {
    const file = join(folder, name);
    writeFileSync(file, text, { mode: 0o600 });
    return file;
  };
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2_048 });
  const key = write('sa.key', privateKey.export({ type: 'pkcs8', format: 'pem' }) as string);
  const tokenFile = write(
    'tokens.csv',
    `${tokens.admin},admin,admin,system:masters\n${tokens.worker},scaler-worker,scaler-worker\n`,
  );
  const url = `https://127.0.0.1:${port}`;
  const etcd = spawn(
    programs.etcd,
    [
      ...['--data-dir', join(folder, 'etcd'), '--log-level', 'error', '--unsafe-no-fsync'],
      ...['--listen-client-urls', `http://127.0.0.1:${client}`],
      ...['--advertise-client-urls', `http://127.0.0.1:${client}`],
      ...['--listen-peer-urls', `http://127.0.0.1:${peer}`],
      ...['--initial-advertise-peer-urls', `http://127.0.0.1:${peer}`],
      ...['--initial-cluster', `default=http://127.0.0.1:${peer}`],
    ],
    { stdio: 'ignore' },
  );
  mkdirSync(join(folder, 'certs'));
  let server: ChildProcess | undefined;

  const start = async (): Promise<void> => {
    server = spawn(
      programs.apiserver,
      [
        `--etcd-servers=http://127.0.0.1:${client}`,
        ...['--bind-address=127.0.0.1', `--secure-port=${port}`, `--cert-dir=${join(folder, 'certs')}`],
        ...[`--service-account-key-file=${key}`, `--service-account-signing-key-file=${key}`],
        '--service-account-issuer=https://kubernetes.default.svc',
        ...[`--token-auth-file=${tokenFile}`, '--authorization-mode=RBAC'],
        ...['--service-cluster-ip-range=10.0.0.0/24', '--disable-admission-plugins=ServiceAccount'],
      ],
      { stdio: 'ignore' },
    );
    const end = performance.now() + 60_000;
    for (;;) {
      const ready = await ask(`${url}/readyz`, 'GET').catch(() => null);
      if (ready?.status === 200) return;
      if (server.exitCode !== null) throw new Error(`kube-apiserver ended with status ${server.exitCode}`);
      if (performance.now() > end) throw new Error('kube-apiserver was not ready within a minute');
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  };
  const kill = async (): Promise<void> => {
    const running = server;
    if (running === undefined || running.exitCode !== null) return;
    const ended = new Promise((resolve) => running.once('exit', resolve));
    running.kill('SIGKILL');
    await ended;
  };
  const close = async (): Promise<void> => {
    await kill();
    etcd.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await start();
  } catch (error) {
    await close();
    throw error;
  }
  const kubeconfig = write(
    'kubeconfig',
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'real',
      clusters: [{ name: 'real', cluster: { server: url, 'insecure-skip-tls-verify': true } }],
      users: [{ name: 'worker', user: { token: tokens.worker } }],
      contexts: [{ name: 'real', context: { cluster: 'real', user: 'worker' } }],
    }),
  );
  return {
    kubeconfig,
    async admin(method, path, body) {
      const { status, text } = await ask(`${url}${path}`, method, body);
      if (status < 200 || status > 299) throw new Error(`${method} ${path}: ${status} ${text}`);
      return JSON.parse(text);
    },
    kill,
    start,
    close,
  };
}

const agent = new Agent({ rejectUnauthorized: false });

/** Its certificate is its own: nobody else can vouch for it. */
async function ask(url: string, method: string, body?: unknown): Promise<{ status: number; text: string }> {
  return await new Promise((resolve, reject) => {
    const asked = request(
      url,
      {
        method,
        agent,
        headers: {
          authorization: `Bearer ${tokens.admin}`,
          'content-type': method === 'PATCH' ? 'application/merge-patch+json' : 'application/json',
        },
      },
      (response) => {
        let text = '';
        response.on('data', (chunk: Buffer) => {
          text += chunk.toString();
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      },
    );
    asked.on('error', reject);
    asked.end(body === undefined ? undefined : JSON.stringify(body));
  });
}
