import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import pg from 'pg';
import type { RegisteredResource } from './clients.ts';
import { effectOf } from './cloud-control.ts';
import { type FaultKind, type PlannedFault, victimsOf } from './fault-plan.ts';
import type { FaultProxy, LinkMode } from './fault-proxy.ts';
import type { World } from './world.ts';

/** What became of an injected fault, for the log; `recovery` says from when on which recovery is to be measured. */
export interface InjectionResult {
  readonly injected: boolean;
  readonly note?: string;
  readonly recovery?: {
    readonly of: 'redis_back' | 'postgres_back' | 'aws_credentials_back';
    readonly sinceAt: number;
  };
  /** Ids of jobs that were made up. */
  readonly forged?: readonly string[];
  /** True when a change of the audit trail was not refused. */
  readonly tampered?: boolean;
  readonly times?: number;
}

type Injector = (world: World, fault: PlannedFault, over: Promise<unknown>) => Promise<InjectionResult>;

const done: InjectionResult = { injected: true };

/** Injects a kind of fault, heals it after its time and says what happened. `over` resolves at the end of the run. */
const injectors: Readonly<Record<FaultKind, Injector>> = {
  'worker-kill': (world, fault) => signal(world, fault.target, 'SIGKILL'),
  'worker-term': (world, fault) => signal(world, fault.target, 'SIGTERM'),
  'worker-stop': freeze,
  'worker-stop-past-lock': freeze,
  'worker-stop-past-lease': freeze,
  'api-kill': (world, fault) => signal(world, fault.target, 'SIGKILL'),
  'api-term': (world, fault) => signal(world, fault.target, 'SIGTERM'),
  'api-stop': freeze,
  'redis-kill': takeRedisAway,
  'redis-away': takeRedisAway,
  'redis-away-long': takeRedisAway,
  'redis-stop': async ({ redis }, fault, over) => {
    const pid = redis.pid();
    process.kill(pid, 'SIGSTOP');
    await lasting(fault, over);
    process.kill(pid, 'SIGCONT');
    return { injected: true, recovery: { of: 'redis_back', sinceAt: Date.now() } };
  },
  'redis-flush': (world) => withRedis(world, async (redis) => void (await redis.flushall())),
  'redis-client-kill': (world, fault) =>
    withRedis(world, async (redis) => {
      // In the order they came: ids only grow.
      const clients = String(await redis.call('CLIENT', 'LIST'))
        .split('\n')
        .flatMap((line) => /^id=(\d+) /.exec(line)?.[1] ?? [])
        .sort((a, b) => Number(a) - Number(b));
      for (const id of victimsOf(fault.detail, clients)) await redis.call('CLIENT', 'KILL', 'ID', id);
    }),
  'redis-out-of-memory': async (world, fault, over) => {
    const result = await withRedis(
      world,
      async (redis) => void (await redis.config('SET', 'maxmemory', '1mb')),
    );
    await lasting(fault, over);
    await withRedis(world, async (redis) => void (await redis.config('SET', 'maxmemory', '0')));
    return result;
  },
  'redis-forge': forge,
  'postgres-kill': async ({ postgres }, fault, over) => {
    process.kill(postgres.pid(), 'SIGKILL');
    await lasting(fault, over);
    await postgres.start();
    return { injected: true, recovery: { of: 'postgres_back', sinceAt: Date.now() } };
  },
  'postgres-restart': async ({ postgres }, fault, over) => {
    await postgres.stop();
    await lasting(fault, over);
    await postgres.start();
    return { injected: true, recovery: { of: 'postgres_back', sinceAt: Date.now() } };
  },
  'postgres-terminate': async ({ pool }, fault) => {
    const times = await endBackends(pool, fault);
    return { injected: times > 0, times };
  },
  'postgres-crowd': crowd,
  'postgres-read-only': async ({ postgres, pool }, fault, over) => {
    await setReadOnly(postgres.url, true);
    await pool.query(
      `select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'scaler%'`,
    );
    await lasting(fault, over);
    // Sessions that began meanwhile stay as they are: whoever holds one has to notice.
    await setReadOnly(postgres.url, false);
    return { injected: true, recovery: { of: 'postgres_back', sinceAt: Date.now() } };
  },
  'postgres-lock': async ({ pool }, fault, over) => {
    const client = await pool.connect();
    try {
      await client.query('begin');
      await client.query(`set local lock_timeout = '5s'`);
      await client.query(`lock table ${fault.detail.table} in access exclusive mode`);
      await lasting(fault, over);
      return done;
    } finally {
      await client.query('rollback').catch(() => {});
      client.release(true);
    }
  },
  link: async (world, fault, over) => {
    const proxy = world.links.get(fault.target) as FaultProxy;
    const { mode, ...rest } = fault.detail;
    proxy.set({ kind: mode, ...rest } as unknown as LinkMode);
    await lasting(fault, over);
    proxy.heal();
    return done;
  },
  'cloud-write': (world, fault, over) => disturb(world, fault, over, 'write'),
  'cloud-read': (world, fault, over) => disturb(world, fault, over, 'read'),
  'aws-credentials': async ({ clouds }, fault, over) => {
    const id = await clouds.addFaultToAll('aws', effectOf('aws', String(fault.detail.mode), 0, 0));
    await lasting(fault, over);
    const times = await clouds.removeFault('aws', id);
    return times > 0
      ? { injected: true, times, recovery: { of: 'aws_credentials_back', sinceAt: Date.now() } }
      : { injected: false };
  },
  'object-resized': async (world, fault) => {
    const resource = resourceOf(world, fault);
    const size = await sizeOf(world, resource);
    const next = Math.min(30, Math.max(1, size + Number(fault.detail.by)));
    await world.clouds.change(resource, resource.provider === 'aws' ? { desired: next } : { replicas: next });
    return done;
  },
  'object-bounds': async (world, fault, over) => {
    const resource = resourceOf(world, fault);
    const size = await sizeOf(world, resource);
    const room = Number(fault.detail.room);
    await world.clouds.change(resource, { min: Math.max(0, size - room), max: size + room });
    await lasting(fault, over);
    await world.clouds.change(resource, { min: 0, max: 40 });
    return done;
  },
  'object-recreated': async (world, fault) => {
    await world.clouds.change(resourceOf(world, fault), { recreate: true });
    return done;
  },
  'operator-stop': async (world, fault, over) => ({
    injected: await world.operator.stopFor(fault.target, fault.durationMs, over),
  }),
  'operator-stop-resource': async (world, fault, over) => ({
    injected: await world.operator.stopFor(`resource:${resourceOf(world, fault).id}`, fault.durationMs, over),
  }),
  'operator-freeze': (world, fault, over) => freezeScope(world, fault, fault.target, over),
  'operator-freeze-resource': (world, fault, over) =>
    freezeScope(world, fault, `resource:${resourceOf(world, fault).id}`, over),
  'operator-pause': async (world, fault) => ({
    injected: await world.operator.patch(resourceOf(world, fault).id, {
      [`${fault.detail.action}_paused_until`]: new Date(Date.now() + fault.durationMs).toISOString(),
    }),
  }),
  'operator-bounds': async (world, fault, over) => {
    const { id, policy } = resourceOf(world, fault);
    const injected = await world.operator.patch(id, {
      max_instances: Math.max(policy.min_instances, Number(fault.detail.max)),
    });
    await lasting(fault, over);
    await world.operator.patch(id, { max_instances: policy.max_instances });
    return { injected };
  },
  'operator-reversals': async (world, fault, over) => {
    const { id, policy } = resourceOf(world, fault);
    const injected = await world.operator.patch(id, {
      max_reversals_per_half_hour: Number(fault.detail.max),
    });
    await lasting(fault, over);
    await world.operator.patch(id, { max_reversals_per_half_hour: policy.max_reversals_per_half_hour });
    return { injected };
  },
  'audit-tamper': tamper,
};

/** Injects a fault. @param over resolves at the end of the run, which ends the fault early. @returns once it is healed. @throws when what it needs is away. */
export async function injectFault(
  world: World,
  fault: PlannedFault,
  over: Promise<unknown>,
): Promise<InjectionResult> {
  return await injectors[fault.kind](world, fault, over);
}

/** The fault's time, or less when the run is over. */
async function lasting(fault: PlannedFault, over: Promise<unknown>): Promise<void> {
  await Promise.race([delay(fault.durationMs), over]);
}

async function signal(world: World, name: string, what: NodeJS.Signals): Promise<InjectionResult> {
  return { injected: world.members.get(name)?.signal(what) === true };
}

async function takeRedisAway(
  { redis }: World,
  fault: PlannedFault,
  over: Promise<unknown>,
): Promise<InjectionResult> {
  process.kill(redis.pid(), 'SIGKILL');
  await lasting(fault, over);
  await redis.start();
  return { injected: true, recovery: { of: 'redis_back', sinceAt: Date.now() } };
}

async function freeze(world: World, fault: PlannedFault, over: Promise<unknown>): Promise<InjectionResult> {
  const member = world.members.get(fault.target);
  const pid = member?.pid;
  const injected = member?.signal('SIGSTOP') === true;
  await lasting(fault, over);
  // Another process by now: that one was never frozen.
  if (member?.pid === pid) member?.signal('SIGCONT');
  return { injected };
}

async function freezeScope(
  world: World,
  { detail, durationMs }: PlannedFault,
  scope: string,
  over: Promise<unknown>,
): Promise<InjectionResult> {
  const { direction, mode, zone } = detail as Record<string, string>;
  const plan = { scope, direction: String(direction), mode: String(mode), zone: String(zone) };
  return { injected: await world.operator.freezeFor(plan, durationMs, over) };
}

async function withRedis(world: World, work: (redis: Redis) => Promise<void>): Promise<InjectionResult> {
  const redis = new Redis(world.redis.url, {
    lazyConnect: true,
    retryStrategy: null,
    maxRetriesPerRequest: 0,
    commandTimeout: 2_000,
    connectTimeout: 2_000,
  });
  redis.on('error', () => {});
  try {
    await redis.connect();
    await work(redis);
    return done;
  } catch (error) {
    return { injected: false, note: (error as Error).message };
  } finally {
    redis.disconnect();
  }
}

const queueNames = ['decide', 'execute-aws', 'execute-kubernetes', 'forecast', 'upkeep'] as const;

/** Entries nobody of the service made: about jobs that never were, are over, run just now, or belong to another queue. */
async function forge(world: World, fault: PlannedFault): Promise<InjectionResult> {
  const mode = String(fault.detail.mode);
  const ids =
    mode === 'unknown' ? Array.from({ length: 5 }, () => randomUUID()) : await existingJobs(world.pool, mode);
  const junk: unknown[] = [
    {},
    { ids: 'all', v: 1 },
    { ids: [], v: 1 },
    { ids: ['1'], v: 2 },
    null,
    'x'.repeat(5_000),
  ];
  const result = await withRedis(world, async (redis) => {
    for (const name of queueNames) {
      const queue = new Queue(name, { connection: redis, prefix: world.queuePrefix });
      const entries = mode === 'junk' ? junk : [{ ids, v: 1 }, ...ids.map((id) => ({ ids: [id], v: 1 }))];
      if (mode === 'junk' || ids.length > 0)
        await queue.addBulk(entries.map((data) => ({ name: 'forged', data, opts: { removeOnFail: true } })));
    }
  });
  return mode === 'unknown' ? { ...result, forged: ids } : result;
}

async function existingJobs(pool: pg.Pool, mode: string): Promise<string[]> {
  const which: Readonly<Record<string, string>> = {
    finished: 'finished',
    doubled: 'not finished',
    executions: `not finished and kind = 'execute'`,
  };
  const condition = which[mode];
  if (condition === undefined) return [];
  const { rows } = await pool.query<{ id: string }>(
    `select id from jobs where ${condition} order by created_at desc limit 10`,
  );
  return rows.map(({ id }) => id);
}

/** Whether sessions that begin from here on may write. */
async function setReadOnly(url: string, on: boolean): Promise<void> {
  const client = new pg.Client({ connectionString: url, application_name: 'chaos-settings' });
  await client.connect();
  try {
    await client.query('set default_transaction_read_only = off');
    const name = client.escapeIdentifier(client.database ?? '');
    await client.query(`alter database ${name} set default_transaction_read_only = ${on ? 'on' : 'off'}`);
  } finally {
    await client.end();
  }
}

/** Ends backends of the service, chosen by the fault from all in the order they began. @returns their number. */
async function endBackends(pool: pg.Pool, { detail }: PlannedFault): Promise<number> {
  const { rows } = await pool.query<{ pid: number }>(
    `select pid from pg_stat_activity where application_name like 'scaler%' order by application_name, backend_start, pid`,
  );
  const pids = victimsOf(detail, rows).map(({ pid }) => pid);
  const ended = await pool.query<{ ended: boolean }>(
    'select pg_terminate_backend(pid) as ended from unnest($1::integer[]) as pid',
    [pids],
  );
  return ended.rows.filter((row) => row.ended).length;
}

/** Ends backends of the service and takes every free place, so that its pools cannot grow again for a while. */
async function crowd(world: World, fault: PlannedFault, over: Promise<unknown>): Promise<InjectionResult> {
  await endBackends(world.pool, fault);
  const taken: pg.Client[] = [];
  try {
    for (let full = false; !full && taken.length < 100; ) {
      const client = new pg.Client({ connectionString: world.postgres.url, application_name: 'chaos-crowd' });
      client.on('error', () => {});
      try {
        await client.connect();
        taken.push(client);
      } catch {
        full = true;
      }
    }
    await lasting(fault, over);
    return { injected: taken.length > 0, times: taken.length };
  } finally {
    await Promise.all(taken.map((client) => client.end().catch(() => {})));
  }
}

async function disturb(
  world: World,
  fault: PlannedFault,
  over: Promise<unknown>,
  on: 'write' | 'read',
): Promise<InjectionResult> {
  const provider = fault.target as 'aws' | 'kubernetes';
  const { mode, count, delayMs } = fault.detail;
  const level = 3 + (Number(delayMs) % 18);
  const effect = effectOf(provider, String(mode), Number(delayMs), level);
  const id = await world.clouds.addFault(provider, on, effect, Number(count));
  await lasting(fault, over);
  const times = await world.clouds.removeFault(provider, id);
  return { injected: times > 0, times };
}

function resourceOf(world: World, fault: PlannedFault): RegisteredResource {
  return world.resources[Number(fault.target)] as RegisteredResource;
}

async function sizeOf(world: World, resource: RegisteredResource): Promise<number> {
  const { rows } = await world.pool.query<{ n: number }>(
    'select current_instances as n from resources where id = $1',
    [resource.id],
  );
  return rows[0]?.n ?? resource.start;
}

/** Tries to change what must never change. Only "refused" is an acceptable answer; PostgreSQL away is none. */
async function tamper({ pool }: World): Promise<InjectionResult> {
  const attempts = [
    `update scaling_events set actor = 'nobody' where seq = (select max(seq) from scaling_events)`,
    `delete from scaling_events where seq = (select max(seq) from scaling_events)`,
    'truncate scaling_events',
    `update audit_log set actor = 'nobody' where id = (select max(id) from audit_log)`,
    `delete from audit_log where id = (select max(id) from audit_log)`,
  ];
  let refused = 0;
  for (const sql of attempts) {
    try {
      const { rowCount } = await pool.query(sql);
      if (rowCount !== 0) return { injected: true, tampered: true, note: sql };
    } catch (error) {
      if ((error as { code?: string }).code === '23001') refused += 1;
    }
  }
  return { injected: refused > 0, times: refused };
}
