import fc from 'fast-check';
import { insertJobs } from '../../../shared/db/jobs-store.ts';
import type { CloudProvider } from '../../../shared/domain/resource.ts';
import { recordObservation } from '../../../worker/execute/execution-store.ts';
import { claimJobs, releaseAbandonedJobs } from '../../../worker/queue/jobs-store.ts';
import { newJob, seedDecision } from '../../support/seed.ts';
import type { World, WriteFate } from './world.ts';

/** What the world must come to: a register a resource has, and the jobs that were accepted. */
export interface Model {
  readonly resources: { readonly id: string; readonly provider: CloudProvider }[];
  readonly jobs: Map<string, { readonly resource: number; readonly decisionId: string }>;
  /** Virtual times at which a resource's executions were stopped and let go again. */
  readonly stops: { readonly resource: number; readonly from: number; until: number }[];
}

export type Command = fc.AsyncCommand<Model, World>;

/** @param name said in a failure's report, with the values. */
function command(
  name: string,
  check: (model: Readonly<Model>) => boolean,
  run: (model: Model, world: World) => Promise<void> | void,
): Command {
  return { check, run: async (model, world) => await run(model, world), toString: () => name };
}

const always = () => true;
const hasJobs = (model: Readonly<Model>) => model.jobs.size > 0;

function jobAt(model: Readonly<Model>, index: number): [string, { resource: number; decisionId: string }] {
  const jobs = [...model.jobs];
  return jobs[index % jobs.length] as [string, { resource: number; decisionId: string }];
}

/** A decision from what is stored as the current size, and its job. */
function post(resource: number, change: number, shortLived: boolean): Command {
  return command(`post(${resource}, ${change}, ${shortLived})`, always, async (model, world) => {
    const { id, provider } = model.resources[resource] as Model['resources'][number];
    const { rows } = await world.pool.query<{ current_instances: number }>(
      'select current_instances from resources where id = $1',
      [id],
    );
    const from = rows[0]?.current_instances ?? 0;
    const target = Math.min(9, Math.max(1, from + change));
    if (target === from) return;
    const decisionId = await seedDecision(world.pool, id, from, target, {
      expiresInSeconds: shortLived ? 10 : 900,
    });
    const job = newJob('execute', id, decisionId, { queue: `execute-${provider}` });
    await insertJobs(world.pool, [job]);
    model.jobs.set(job.id, { resource, decisionId });
  });
}

/** The same decision is asked for again. */
function repost(index: number): Command {
  return command(`repost(${index})`, hasJobs, async (model, world) => {
    const [, { resource, decisionId }] = jobAt(model, index);
    const { id, provider } = model.resources[resource] as Model['resources'][number];
    const job = newJob('execute', id, decisionId, { queue: `execute-${provider}` });
    const inserted = await insertJobs(world.pool, [job]);
    if (inserted.has(job.id)) model.jobs.set(job.id, { resource, decisionId });
  });
}

/** At least once, in any order, to anybody: what a queue may do. */
function deliver(index: number, worker: number): Command {
  return command(`deliver(${index}, ${worker})`, hasJobs, async (model, world) => {
    const [jobId, { resource }] = jobAt(model, index);
    const { provider } = model.resources[resource] as Model['resources'][number];
    world.deliver(world.actors[worker] as World['actors'][number], jobId, provider);
  });
}

/** A claim whose worker dies before it does anything. */
function claimAndDie(index: number): Command {
  return command(`claimAndDie(${index})`, hasJobs, async (model, world) => {
    await claimJobs(world.pool, [jobAt(model, index)[0]], 30_000);
  });
}

function fate(resource: number, next: WriteFate): Command {
  return command(`fate(${resource}, ${next})`, always, (model, world) => {
    world.objectOf((model.resources[resource] as Model['resources'][number]).id).fate = next;
  });
}

function flip(resource: number): Command {
  return command(`flip(${resource})`, always, async (model, world) => {
    const { id } = model.resources[resource] as Model['resources'][number];
    const open = model.stops.find((stop) => stop.resource === resource && stop.until === Infinity);
    await world.pool.query(
      `insert into controls (scope, stopped, reason, actor) values ($1, $2, 'a model run', 'model')
        on conflict (scope) do update set stopped = excluded.stopped`,
      [`resource:${id}`, open === undefined],
    );
    if (open === undefined) model.stops.push({ resource, from: world.now(), until: Infinity });
    else open.until = world.now();
  });
}

function external(resource: number, size: number): Command {
  return command(`external(${resource}, ${size})`, always, (model, world) => {
    world.changeExternally(
      world.objectOf((model.resources[resource] as Model['resources'][number]).id),
      size,
    );
  });
}

/** Somebody else sets a size that an attempt of ours knows of: the one it asks for, or the one it started from. */
function meddle(name: string, column: 'target_instances' | 'from_instances'): (resource: number) => Command {
  return (resource) =>
    command(`${name}(${resource})`, always, async (model, world) => {
      const { id } = model.resources[resource] as Model['resources'][number];
      const { rows } = await world.pool.query<{ size: number }>(
        `select ${column} as size from attempts where resource_id = $1 and state in ('open', 'unknown')`,
        [id],
      );
      const size = rows[0]?.size;
      if (size !== undefined) world.changeExternally(world.objectOf(id), size);
    });
}

const imitate = meddle('imitate', 'target_instances');
const restore = meddle('restore', 'from_instances');

/** The reconciler: jobs of dead workers go back, and the clouds are looked at. */
function reconcile(resource: number, worker: number): Command {
  return command(`reconcile(${resource}, ${worker})`, always, async (model, world) => {
    await releaseAbandonedJobs(world.pool, 5);
    observe(model, world, resource, worker);
  });
}

/** Looks at one cloud object and, a turn later, stores what it saw. */
export function observe(model: Model, world: World, resource: number, worker: number): void {
  const { id, provider } = model.resources[resource] as Model['resources'][number];
  const actor = world.actors[worker] as World['actors'][number];
  const name = [...world.objects].find(([, object]) => object.resourceId === id)?.[0] ?? '';
  world.observe(actor, async (pool, read) => {
    const { rows } = await pool.query<{ epoch: string }>('select epoch::text from resources where id = $1', [
      id,
    ]);
    const state = await read({ provider, scope: null, name });
    await recordObservation(pool, { id, epoch: rows[0]?.epoch ?? '0' }, state, actor.id);
  });
}

/** Every command, by its name in a failure's report. */
export const commands = {
  post,
  repost,
  deliver,
  claimAndDie,
  fate,
  flip,
  external,
  imitate,
  restore,
  /** The object's version moves, as with each change of its status, and nothing else. */
  stir: (resource: number) =>
    command(`stir(${resource})`, always, (model, world) => {
      world.objectOf((model.resources[resource] as Model['resources'][number]).id).version++;
    }),
  reconcile,
  crash: (worker: number, arrives: boolean) =>
    command(`crash(${worker}, ${arrives})`, always, (_model, world) => world.crash(worker, arrives)),
  pause: (worker: number) =>
    command(`pause(${worker})`, always, (_model, world) => world.actors[worker]?.pause()),
  land: () => command('land()', always, (_model, world) => world.landLate()),
  wake: (worker: number) =>
    command(`wake(${worker})`, always, (_model, world) => world.actors[worker]?.wake()),
  tick: (ms: number) => command(`tick(${ms})`, always, (_model, world) => world.tick(ms)),
};

const resource = fc.nat(1);
const worker = fc.nat(1);
const job = fc.nat(7);
const fates: readonly WriteFate[] = [
  'timeout-applied',
  'timeout-lost',
  'late',
  'throttled',
  'rejected',
  'applied',
];

/** Every command with the weight that makes the interesting ones meet. */
export const anyCommand: fc.Arbitrary<Command>[] = [
  ...Array<fc.Arbitrary<Command>>(3).fill(
    fc.tuple(resource, fc.constantFrom(-2, -1, 1, 2, 3), fc.boolean()).map((values) => post(...values)),
  ),
  ...Array<fc.Arbitrary<Command>>(6).fill(fc.tuple(job, worker).map((values) => deliver(...values))),
  fc.tuple(job).map((values) => repost(...values)),
  fc.tuple(job).map((values) => claimAndDie(...values)),
  ...Array<fc.Arbitrary<Command>>(2).fill(
    fc.tuple(resource, fc.constantFrom(...fates)).map((values) => fate(...values)),
  ),
  fc.tuple(resource).map((values) => flip(...values)),
  fc.tuple(resource, fc.integer({ min: 1, max: 9 })).map((values) => external(...values)),
  fc.tuple(resource).map((values) => imitate(...values)),
  fc.tuple(resource).map((values) => restore(...values)),
  fc.tuple(resource).map((values) => commands.stir(...values)),
  fc.tuple(resource, worker).map((values) => reconcile(...values)),
  fc.constant(null).map(() => commands.land()),
  fc.tuple(worker, fc.boolean()).map((values) => commands.crash(...values)),
  fc.tuple(worker).map((values) => commands.pause(...values)),
  fc.tuple(worker).map((values) => commands.wake(...values)),
  ...Array<fc.Arbitrary<Command>>(2).fill(
    fc.constantFrom(1_000, 6_000, 20_000, 40_000, 310_000, 340_000).map((ms) => commands.tick(ms)),
  ),
];
