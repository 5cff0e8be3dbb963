import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { vi } from 'vitest';
import { freePort } from '../../deploy/local/free-port.ts';
import { type GuardedProcess, startGuarded } from '../../deploy/local/guarded-process.ts';
import { findRedis, type RedisBinary } from '../../deploy/local/redis-binary.ts';
import { errorMessage } from '../../shared/errors.ts';
import { projectRoot } from '../../shared/project-root.ts';
import { parseRedisUrl } from '../../shared/queues/redis-url.ts';

/** Every server asks for it. */
const password = 'secret of the tests';
/** A user that may do what the service needs, and no more: docs/how-to/run.md names the same. */
const user = { name: 'scaler', password: 'p@ss/word:%', rules: '+@all -@dangerous +info +client|list' };
const clusterByName = [
  'cluster-enabled yes',
  'cluster-announce-hostname localhost',
  'cluster-preferred-endpoint-type hostname',
];
const hostOf = (tls: boolean) => (tls ? 'localhost' : '127.0.0.1');
const credentials = `${user.name}:${encodeURIComponent(user.password)}@`;

export interface RedisServer {
  readonly port: number;
  /** As its administrator. */
  call(command: string, ...args: (string | number)[]): Promise<unknown>;
  /** With SIGKILL. */
  kill(): Promise<void>;
  /** With SIGSTOP: its lines stay open, and nobody answers. */
  pause(): void;
  /** After `kill`, with the port and the files it had. */
  restart(): Promise<void>;
}

/** Redis servers in the shapes that people run them in, from the program that the service itself would start. */
export class RedisServers {
  readonly #binary: RedisBinary;
  readonly #folder = mkdtempSync(join(tmpdir(), 'scaler-redis-'));
  readonly #running = new Set<GuardedProcess>();
  readonly #prefix: string;

  private constructor(binary: RedisBinary, prefix: string) {
    this.#binary = binary;
    this.#prefix = prefix;
  }

  /** @param prefix of the keys that the user may touch. */
  static async find(prefix: string): Promise<RedisServers> {
    const cacheDir = process.env.SCALER_CACHE_DIR ?? join(projectRoot(), '.cache');
    return new RedisServers(await findRedis(cacheDir, console.error), prefix);
  }

  /** Where the own CA is. @throws Error when there is no openssl, or the program knows no TLS. */
  async makeCertificate(): Promise<string> {
    const { key, certificate } = this.#tlsFiles;
    // To a name alone, as usual: a client that looks it up and asks for the address is refused.
    const names = 'subjectAltName=DNS:localhost';
    const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'];
    const subject = ['-subj', '/CN=scaler-test', '-addext', names];
    execFileSync(
      'openssl',
      ['req', '-x509', ...curve, '-nodes', '-days', '2', ...subject, '-keyout', key, '-out', certificate],
      { stdio: 'pipe' },
    );
    await this.start({ tls: true, settings: clusterByName });
    await this.stop();
    return certificate;
  }

  get #tlsFiles() {
    return { key: join(this.#folder, 'key.pem'), certificate: join(this.#folder, 'certificate.pem') };
  }

  /** One that stores what it is told. @param clientCertificate whether it asks for one. */
  async start(
    options: {
      readonly settings?: readonly string[];
      readonly tls?: boolean;
      readonly clientCertificate?: boolean;
    } = {},
  ): Promise<RedisServer> {
    return await this.#start('redis', options, (port) => [
      ...this.#common(port, options.tls ?? false, options.clientCertificate ?? false),
      `requirepass "${password}"`,
      `masterauth "${password}"`,
      `user ${user.name} on ">${user.password}" ~${this.#prefix}:* &${this.#prefix}:* ${user.rules}`,
      'appendonly yes',
      'maxmemory-policy noeviction',
      ...(options.settings ?? []),
    ]);
  }

  /** Three primaries and a replica of the one that has the keys of `prefix`. */
  async startCluster({
    tls = false,
    nodeTimeoutMs = 2_000,
  } = {}): Promise<{ url: string; nodes: RedisServer[]; owner: RedisServer }> {
    const settings = [
      'cluster-enabled yes',
      `cluster-node-timeout ${nodeTimeoutMs}`,
      'repl-diskless-sync-delay 0',
    ];
    if (tls) settings.push('tls-cluster yes', 'tls-replication yes', ...clusterByName);
    const nodes = await Promise.all(Array.from({ length: 4 }, () => this.start({ tls, settings })));
    const [first, second, third, replica] = nodes as [RedisServer, RedisServer, RedisServer, RedisServer];
    const primaries = [first, second, third];
    const slot = Number(await first.call('cluster', 'keyslot', `${this.#prefix}:`));
    const ownerIndex = Math.floor((slot * 3) / 16_384);
    for (const [index, primary] of primaries.entries()) {
      const slots = Array.from({ length: 16_384 }, (_, n) => n).filter(
        (n) => Math.floor((n * 3) / 16_384) === index,
      );
      await primary.call('cluster', 'addslots', ...slots);
      await primary.call('cluster', 'set-config-epoch', index + 1);
    }
    for (const node of nodes.slice(1)) await first.call('cluster', 'meet', '127.0.0.1', node.port);
    const owner = primaries[ownerIndex] as RedisServer;
    const ownerId = String(await owner.call('cluster', 'myid'));
    await vi.waitFor(() => replica.call('cluster', 'replicate', ownerId), { timeout: 10_000, interval: 100 });
    await vi.waitFor(
      async () => {
        for (const node of nodes)
          if (
            !/cluster_state:ok[\s\S]*cluster_known_nodes:4/.test(String(await node.call('cluster', 'info')))
          )
            throw new Error('the cluster has not formed');
        if (!/master_link_status:up/.test(String(await replica.call('info', 'replication'))))
          throw new Error('the replica has not followed');
      },
      { timeout: 20_000, interval: 100 },
    );
    const hosts = nodes.slice(0, 3).map(({ port }) => `${hostOf(tls)}:${port}`);
    return { url: this.#url('-cluster', hosts.join(), tls), nodes, owner };
  }

  /** A primary, a replica and a Sentinel; the first that the URL names takes connections and says nothing. */
  async startSentinel({
    tls = false,
    downAfterMs = 1_000,
  } = {}): Promise<{ url: string; primary: RedisServer; sentinel: RedisServer }> {
    const settings = tls ? ['tls-replication yes', 'replica-announce-ip localhost'] : [];
    const primary = await this.start({ tls, settings });
    const replicaOf = `replicaof ${hostOf(tls)} ${primary.port}`;
    const replica = await this.start({
      tls,
      settings: [...settings, replicaOf, 'repl-diskless-sync-delay 0'],
    });
    await vi.waitFor(
      async () => {
        if (!/master_link_status:up/.test(String(await replica.call('info', 'replication'))))
          throw new Error('the replica has not followed');
      },
      { timeout: 20_000, interval: 100 },
    );
    const sentinel = await this.#start('sentinel', { tls }, (port) => [
      ...this.#common(port, tls, false),
      ...(tls
        ? ['tls-replication yes', 'sentinel resolve-hostnames yes', 'sentinel announce-hostnames yes']
        : []),
      `requirepass "${password}"`,
      `sentinel monitor mymaster ${hostOf(tls)} ${primary.port} 1`,
      `sentinel auth-pass mymaster "${password}"`,
      `sentinel down-after-milliseconds mymaster ${downAfterMs}`,
      'sentinel failover-timeout mymaster 10000',
    ]);
    await vi.waitFor(
      async () => {
        if (!/slaves=1/.test(String(await sentinel.call('info', 'sentinel'))))
          throw new Error('the Sentinel knows no replica');
      },
      { timeout: 20_000, interval: 100 },
    );
    const hosts = `${hostOf(tls)}:${await this.#startMute()},${hostOf(tls)}:${sentinel.port}/mymaster`;
    const extra = `sentinel_password=${encodeURIComponent(password)}`;
    return { url: this.#url('-sentinel', hosts, tls, extra), primary, sentinel };
  }

  /** Of a single server. */
  urlOf(server: RedisServer, tls = false, clientCertificate = false): string {
    const { key, certificate } = this.#tlsFiles;
    const extra = clientCertificate ? `ssl_certfile=${certificate}&ssl_keyfile=${key}` : '';
    return this.#url('', `${hostOf(tls)}:${server.port}`, tls, extra);
  }

  /** Ends all. */
  async stop(): Promise<void> {
    await Promise.all([...this.#running].map((server) => server.stop(1_000)));
    this.#running.clear();
  }

  /** What they stored. */
  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #startMute(): Promise<number> {
    const server = createServer(() => {});
    server.unref();
    await once(server.listen(0, '127.0.0.1'), 'listening');
    return (server.address() as AddressInfo).port;
  }

  #url(kind: string, hosts: string, tls: boolean, extra = ''): string {
    const query = [tls ? `ssl_ca_certs=${this.#tlsFiles.certificate}` : '', extra].filter(
      (text) => text !== '',
    );
    return `redis${tls ? 's' : ''}${kind}://${credentials}${hosts}${query.length > 0 ? `?${query.join('&')}` : ''}`;
  }

  #common(port: number, tls: boolean, clientCertificate: boolean): string[] {
    const { key, certificate } = this.#tlsFiles;
    return [
      'bind 127.0.0.1',
      ...(tls
        ? [
            'port 0',
            `tls-port ${port}`,
            `tls-cert-file ${certificate}`,
            `tls-key-file ${key}`,
            `tls-ca-cert-file ${certificate}`,
            `tls-auth-clients ${clientCertificate ? 'yes' : 'no'}`,
          ]
        : [`port ${port}`]),
    ];
  }

  async #start(
    kind: 'redis' | 'sentinel',
    { tls = false, clientCertificate = false }: { tls?: boolean; clientCertificate?: boolean },
    settings: (port: number) => string[],
  ): Promise<RedisServer> {
    const port = await busPort();
    const directory = join(this.#folder, String(port));
    mkdirSync(directory);
    const file = join(directory, 'redis.conf');
    writeFileSync(file, `dir ${directory}\n${settings(port).join('\n')}\n`, { mode: 0o600 });
    const url = this.urlOf({ port } as RedisServer, tls, clientCertificate).replace(
      credentials,
      `:${encodeURIComponent(password)}@`,
    );
    const { options } = parseRedisUrl(url);
    let running: GuardedProcess;
    const launch = async () => {
      running = await startGuarded({
        command: this.#binary.path,
        args: [file, ...(kind === 'sentinel' ? ['--sentinel'] : [])],
        environment: this.#binary.environment,
        directory,
        logFile: join(directory, 'log'),
        signals: ['SIGTERM', 'SIGKILL'],
      });
      this.#running.add(running);
      await vi.waitFor(
        async () => {
          const ending = running.ending();
          if (ending === null) await call('ping');
          else throw new Error(`it ended (${ending}): ${running.logTail().split('\n').slice(-3).join(' ')}`);
        },
        { timeout: 10_000, interval: 50 },
      );
    };
    const call = async (command: string, ...args: (string | number)[]): Promise<unknown> => {
      const client = new Redis({ ...options, lazyConnect: true, retryStrategy: () => null });
      client.on('error', () => {});
      try {
        await client.connect();
        return await client.call(command, ...args);
      } catch (error) {
        throw new Error(`${command} ${String(args[0] ?? '')}: ${errorMessage(error)}`, { cause: error });
      } finally {
        client.disconnect();
      }
    };
    await launch();
    return {
      port,
      call,
      async kill() {
        process.kill(running.pid, 'SIGKILL');
        await running.stop(1_000);
      },
      pause: () => void process.kill(running.pid, 'SIGSTOP'),
      restart: launch,
    };
  }
}

/** A free one that leaves room for a Cluster's bus, 10,000 above. */
async function busPort(): Promise<number> {
  for (;;) {
    const port = await freePort();
    if (port < 55_000) return port;
  }
}
