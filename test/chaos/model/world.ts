import { randomUUID } from 'node:crypto';
import type { Job } from 'bullmq';
import type { Scheduler } from 'fast-check';
import type { Redis } from 'ioredis';
import type pg from 'pg';
import type { CloudProvider } from '../../../shared/domain/resource.ts';
import { createLogger } from '../../../shared/observability/logger.ts';
import { createMetrics } from '../../../shared/observability/metrics.ts';
import type { Queues } from '../../../shared/queues/queues.ts';
import { createExecuteProcessor } from '../../../worker/execute/processor.ts';
import { ProviderError } from '../../../worker/providers/provider-error.ts';
import type {
  CapacityState,
  ProviderTarget,
  ScalingProvider,
} from '../../../worker/providers/scaling-provider.ts';
import { seedResource } from '../../support/seed.ts';

/** What becomes of the next write to an object. `late`: the client gives up, and the change comes some time after. */
export type WriteFate = 'applied' | 'timeout-applied' | 'timeout-lost' | 'late' | 'throttled' | 'rejected';

/** One change of a cloud object. */
export interface LedgerEntry {
  readonly resourceId: string;
  readonly from: number;
  readonly to: number;
  /** Virtual epoch ms. */
  readonly at: number;
  /** The attempt that asked for it; null for somebody else's change. */
  readonly attemptId: string | null;
  readonly decisionId: string | null;
}

interface CloudObject {
  readonly resourceId: string;
  readonly provider: CloudProvider;
  size: number;
  version: number;
  generation: number;
  fate: WriteFate;
}

/** A request that has left a worker and not arrived yet. */
interface Flight {
  readonly object: CloudObject;
  readonly to: number;
  readonly version: number;
  readonly intentAt: number;
  readonly attemptId: string;
  readonly decisionId: string;
}

/** A worker process: what it does stops while it is paused, and for good when it is dead. */
export class Actor {
  readonly id: string;
  dead = false;
  #paused: { readonly woken: Promise<void>; readonly wake: () => void } | null = null;
  /** Its write under way, if any. */
  flight: Flight | null = null;

  constructor(id: string) {
    this.id = id;
  }

  pause(): void {
    if (this.#paused !== null) return;
    let wake = () => {};
    const woken = new Promise<void>((resolve) => {
      wake = resolve;
    });
    this.#paused = { woken, wake };
  }

  wake(): void {
    this.#paused?.wake();
    this.#paused = null;
  }

  get paused(): Promise<void> | null {
    return this.#paused?.woken ?? null;
  }
}

/** The times of the real adapters: an AWS signature's life, our waits for what may still land, a client's patience. */
const signatureMs = 300_000;
const settleMs: Record<CloudProvider, number> = { aws: 330_000, kubernetes: 15_000 };
const clientPatienceMs = 10_000;

/**
 * The real execute path on a real PostgreSQL, with its clouds and its time in our hand. Every statement or transaction,
 * every request to a cloud and every answer waits for the scheduler's turn; between two turns nothing else runs.
 */
export class World {
  readonly pool: pg.Pool;
  readonly objects = new Map<string, CloudObject>();
  readonly ledger: LedgerEntry[] = [];
  readonly actors: Actor[] = [];
  readonly jobs: string[] = [];
  readonly surprises: string[] = [];
  /** Virtual minus real time, ms. */
  offsetMs = 0;
  readonly #scheduler: Scheduler;
  readonly #ticks: { readonly at: number; readonly ms: number }[] = [];
  readonly #running = new Set<Promise<void>>();
  readonly #late: Flight[] = [];
  #busy = 0;
  #quiet: (() => void)[] = [];

  constructor(pool: pg.Pool, scheduler: Scheduler) {
    this.pool = pool;
    this.#scheduler = scheduler;
    for (const id of ['worker-1', 'worker-2']) this.actors.push(new Actor(id));
  }

  now(): number {
    return Date.now() + this.offsetMs;
  }

  async addResource(provider: CloudProvider): Promise<string> {
    const name = provider === 'aws' ? `m-${randomUUID()}` : `deployment:default/m-${randomUUID()}`;
    const id = await seedResource(this.pool, {
      name,
      resource_type: provider === 'aws' ? 'ec2' : 'kubernetes',
      cloud_provider: provider,
      // Alone in its region or cluster: circuits and budgets there are its own.
      ...(provider === 'aws' ? {} : { cluster: name }),
      region: provider === 'aws' ? name : null,
      current_instances: 4,
      min_instances: 1,
      max_instances: 9,
      cooldown_period: 30,
      max_actions_per_hour: 3_600,
    });
    this.objects.set(name, { resourceId: id, provider, size: 4, version: 1, generation: 1, fate: 'applied' });
    return id;
  }

  objectOf(resourceId: string): CloudObject {
    return [...this.objects.values()].find((object) => object.resourceId === resourceId) as CloudObject;
  }

  /** Rings the doorbell of a job at a worker; does not wait for what comes of it. */
  deliver(actor: Actor, jobId: string, provider: CloudProvider): void {
    this.start(async () => {
      const processor = createExecuteProcessor(this.#depsOf(actor), `execute-${provider}`);
      await processor({ data: { ids: [jobId], v: 1 } } as Job).catch(() => {});
    });
  }

  /** The reconciler's look: what it read is stored a turn later. */
  observe(
    actor: Actor,
    work: (pool: pg.Pool, read: (target: ProviderTarget) => Promise<CapacityState>) => Promise<void>,
  ): void {
    this.start(() =>
      work(this.#poolOf(actor), (target) =>
        this.#providerOf(actor, target.provider).describe(target, new AbortController().signal),
      ),
    );
  }

  start(work: () => Promise<void>): void {
    this.#busy++;
    const run: Promise<void> = work()
      .catch((error: unknown) => {
        this.surprises.push(String(error));
      })
      .finally(() => {
        this.#running.delete(run);
        this.#rest();
      });
    this.#running.add(run);
  }

  /** The process ends now; what it had sent may arrive all the same. */
  crash(index: number, arrives: boolean): void {
    const actor = this.actors[index] as Actor;
    actor.dead = true;
    if (actor.flight !== null && arrives) this.#land(actor.flight);
    actor.flight = null;
    actor.wake();
    this.actors[index] = new Actor(`${actor.id}+`);
  }

  /** A write whose client has given up arrives, the oldest first. */
  landLate(): void {
    const flight = this.#late.shift();
    if (flight !== undefined) this.#land(flight);
  }

  /** Somebody else's write. */
  changeExternally(object: CloudObject, size: number): void {
    if (object.size === size) return;
    this.#change(object, size, null);
  }

  /** Time passes everywhere at once: in PostgreSQL, in the workers' monotonic clock, in the clouds. */
  async tick(ms: number): Promise<void> {
    this.#ticks.push({ at: Date.now(), ms });
    this.offsetMs += ms;
    const ids = [...this.objects.values()].map(({ resourceId }) => resourceId);
    const by = `$2 * interval '1 millisecond'`;
    const values = [ids, ms];
    await this.pool.query(
      `update jobs set available_at = available_at - ${by}, lease_until = lease_until - ${by}, deadline_at = deadline_at - ${by},
        dispatched_at = dispatched_at - ${by} where resource_id = any ($1::uuid[]) and not finished`,
      values,
    );
    await this.pool.query(
      `update scaling_decisions set expires_at = expires_at - ${by}, created_at = created_at - ${by} where resource_id = any ($1::uuid[])`,
      values,
    );
    await this.pool.query(
      `update resources set last_effect_at = last_effect_at - ${by} where id = any ($1::uuid[])`,
      values,
    );
    await this.pool.query(
      `update circuits set open_until = open_until - ${by}, probe_until = probe_until - ${by} where scope = any ($1::text[])`,
      [[...this.objects].map(([name, { provider }]) => `scope:${provider}:${name}`), ms],
    );
    // The oldest first, so that no two ranges ever overlap on the way.
    const { rows } = await this.pool.query<{ id: string }>(
      'select id from attempts where resource_id = any ($1::uuid[]) order by intent_at',
      [ids],
    );
    for (const { id } of rows) {
      await this.pool.query(
        `update attempts set intent_at = intent_at - ${by}, settle_after = settle_after - ${by}, effect_at = effect_at - ${by},
          blocked = case when isempty(blocked) then blocked else tstzrange(lower(blocked) - ${by}, upper(blocked) - ${by}) end where id = $1`,
        [id, ms],
      );
    }
  }

  /** Resolves once every process waits for its turn, is paused, dead or done. */
  async quiet(): Promise<void> {
    // Whoever was just given its turn takes it now.
    await new Promise((resolve) => setImmediate(resolve));
    if (this.#busy === 0) return;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve, reject) => {
      timer = setTimeout(() => reject(new Error('a process neither ends nor waits for its turn')), 20_000);
      this.#quiet.push(resolve);
    });
    clearTimeout(timer);
  }

  /** All that still runs, except what is paused or dead. */
  async settled(): Promise<void> {
    for (let turns = 0; this.#scheduler.count() > 0 || this.#busy > 0; turns++) {
      if (turns > 5_000) throw new Error('the world does not come to rest');
      await this.quiet();
      await this.#scheduler.waitAll();
      await this.quiet();
    }
  }

  /** No write fails any more, none is under way, nobody is paused. */
  heal(): void {
    while (this.#late.length > 0) this.landLate();
    for (const object of this.objects.values()) object.fate = 'applied';
    for (const actor of this.actors) actor.wake();
  }

  #depsOf(actor: Actor) {
    const pool = this.#poolOf(actor);
    const providers = new Map<CloudProvider, ScalingProvider>([
      ['aws', this.#providerOf(actor, 'aws')],
      ['kubernetes', this.#providerOf(actor, 'kubernetes')],
    ]);
    return {
      pool,
      queues: silentQueues,
      publisher: { publish: async () => 0 } as unknown as Redis,
      prefix: '{model}',
      logger,
      metrics,
      providers,
      workerId: actor.id,
      shutdown: new AbortController().signal,
      stopped: false,
      onUnclassified: (error: unknown) => this.surprises.push(`unclassified: ${String(error)}`),
    };
  }

  /** One statement, or one whole transaction, is one turn: who holds a lock never waits for us. */
  #poolOf(actor: Actor): pg.Pool {
    const world = this;
    return {
      async query(...parameters: Parameters<pg.Pool['query']>) {
        await world.#turn(actor, 'statement');
        return await world.pool.query(...parameters);
      },
      async connect() {
        await world.#turn(actor, 'transaction');
        const client = await world.pool.connect();
        return {
          on() {},
          off() {},
          async query(...parameters: Parameters<pg.PoolClient['query']>) {
            const result = await client.query(...parameters);
            // Done in the database; whether the worker ever hears of it is another turn.
            if ((parameters[0] as unknown) === 'commit')
              await world.#turn(actor, 'committed', () => client.release());
            return result;
          },
          release: (error?: Error) => client.release(error),
        };
      },
    } as unknown as pg.Pool;
  }

  #providerOf(actor: Actor, provider: CloudProvider): ScalingProvider {
    const world = this;
    return {
      name: provider,
      settleMs: settleMs[provider],
      async describe(target) {
        await world.#turn(actor, 'read');
        const object = world.objects.get(target.name) as CloudObject;
        const state: CapacityState = {
          desired: object.size,
          ready: object.size,
          min: 0,
          max: null,
          blocks: [],
          fence:
            provider === 'aws'
              ? {}
              : { uid: 'u', resourceVersion: String(object.version), generation: object.generation },
          instanceType: null,
          cpuRequest: null,
          memoryRequest: null,
        };
        await world.#turn(actor, 'answer of read');
        return state;
      },
      describeMany: async () => [],
      setCapacity: (target, instances, expected, { intentAtMs }) =>
        world.#write(actor, world.objects.get(target.name) as CloudObject, instances, expected, intentAtMs),
      close: async () => {},
    };
  }

  async #write(
    actor: Actor,
    object: CloudObject,
    to: number,
    expected: CapacityState,
    intentAtMs: number,
  ): Promise<void> {
    const { rows } = await this.pool.query<{
      id: string;
      decision_id: string;
      state: string;
      intents: number;
    }>(
      `select id::text, decision_id, state, (select count(*)::integer from scaling_events e where e.attempt_id = a.id and e.phase = 'intent') as intents
        from attempts a where resource_id = $1 order by a.id desc limit 1`,
      [object.resourceId],
    );
    const attempt = rows[0];
    if (attempt?.state !== 'open' || attempt.intents !== 1) {
      this.surprises.push(
        `I6: a write to ${to} is sent without a committed intent: ${JSON.stringify(attempt)}`,
      );
      return;
    }
    const flight: Flight = {
      object,
      to,
      version: Number(expected.fence.resourceVersion),
      intentAt: this.#virtual(intentAtMs),
      attemptId: attempt.id,
      decisionId: attempt.decision_id,
    };
    const sentAt = this.now();
    actor.flight = flight;
    await this.#turn(actor, 'write');
    actor.flight = null;
    const { fate } = object;
    object.fate = 'applied';
    if (fate === 'throttled') throw new ProviderError('throttled', 'throttled', 'Slow down.');
    if (fate === 'rejected') throw new ProviderError('permanent', 'validation', 'The cloud refuses.');
    if (this.now() - sentAt > clientPatienceMs) throw unknown();
    if (fate === 'timeout-lost') throw unknown();
    if (fate === 'late') {
      this.#late.push(flight);
      throw unknown();
    }
    const refusal = this.#land(flight);
    if (refusal !== null) throw refusal;
    if (fate === 'timeout-applied') throw unknown();
    await this.#turn(actor, 'answer of write');
  }

  /** The cloud takes the request up: each guards itself in its own way against old ones. */
  #land({ object, to, version, intentAt, attemptId, decisionId }: Flight): ProviderError | null {
    const age = this.now() - intentAt;
    if (object.provider === 'aws' && age > signatureMs)
      return new ProviderError('fenced', 'request_expired', 'The signature is too old.');
    if (object.provider === 'kubernetes' && (version !== object.version || age > settleMs.kubernetes))
      return new ProviderError('conflict', 'conflict', 'The object has been modified.');
    this.#change(object, to, { attemptId, decisionId });
    return null;
  }

  #change(
    object: CloudObject,
    to: number,
    by: { readonly attemptId: string; readonly decisionId: string } | null,
  ): void {
    const { resourceId, size: from } = object;
    object.size = to;
    object.version++;
    object.generation++;
    this.ledger.push({
      resourceId,
      from,
      to,
      at: this.now(),
      attemptId: by?.attemptId ?? null,
      decisionId: by?.decisionId ?? null,
    });
  }

  /** A moment of the past, told by the clock of then, in virtual time. */
  #virtual(realMs: number): number {
    const since = this.#ticks.filter(({ at }) => at > realMs).reduce((sum, { ms }) => sum + ms, 0);
    return realMs + this.offsetMs - since;
  }

  async #turn(actor: Actor, what: string, onDeath: () => void = () => {}): Promise<void> {
    this.#rest();
    if (!actor.dead) await this.#scheduler.schedule(Promise.resolve(), `${actor.id}: ${what}`);
    while (actor.paused !== null) await actor.paused;
    // A dead process goes no further, and nobody waits for it.
    if (actor.dead) {
      onDeath();
      await new Promise(() => {});
    }
    this.#busy++;
  }

  #rest(): void {
    this.#busy--;
    if (this.#busy > 0) return;
    for (const resolve of this.#quiet.splice(0)) resolve();
  }
}

function unknown(): ProviderError {
  return new ProviderError('unknown', 'timeout', 'The cloud did not answer.');
}

const logger = createLogger({ level: 'silent', name: 'model' });
const metrics = createMetrics();
const silentQueue = { opts: { connection: { status: 'ready' } }, addBulk: async () => [] };
const silentQueues = Object.fromEntries(
  ['decide', 'execute-aws', 'execute-kubernetes'].map((name) => [name, silentQueue]),
) as unknown as Queues;
