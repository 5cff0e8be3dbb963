import fc from 'fast-check';
import type pg from 'pg';
import { releaseAbandonedJobs } from '../../../worker/queue/jobs-store.ts';
import { anyCommand, type Command, type Model, observe } from './commands.ts';
import { brokenInvariants } from './invariants.ts';
import { World } from './world.ts';

export interface ModelRunOptions {
  readonly runs: number;
  readonly seed?: number | undefined;
  readonly path?: string | undefined;
  readonly maxCommands?: number;
  /** One history instead of random ones; only its interleaving is left to chance. */
  readonly story?: readonly Command[];
  /** Each command begins when all before it have come to rest. */
  readonly calm?: boolean;
  /** Told after each run, shrinking included. */
  readonly onRun?: (commands: number) => void;
}

/** Plays histories of commands, interleaved by the scheduler, against the real code. */
export async function checkModel(pool: pg.Pool, options: ModelRunOptions): Promise<fc.RunDetails<unknown>> {
  let world: World | null = null;
  const scheduler = fc.scheduler({
    // One turn at a time: the next is chosen when nothing moves, so that a seed tells the same story again.
    act: async (turn) => {
      await turn();
      await world?.quiet();
    },
  });
  const commands: fc.Arbitrary<Iterable<Command>> =
    options.story === undefined
      ? fc.commands(anyCommand, { maxCommands: options.maxCommands ?? 30, size: 'max' })
      : fc.constant(options.story);
  const property = fc.asyncProperty(scheduler, commands, async (turns, story) => {
    const own = new World(pool, turns);
    world = own;
    const restore = followVirtualTime(own);
    try {
      const model: Model = { resources: [], jobs: new Map(), stops: [] };
      for (const provider of ['aws', 'kubernetes'] as const)
        model.resources.push({ id: await own.addResource(provider), provider });
      if (options.calm === true) await tellCalmly(model, own, story);
      else await fc.scheduledModelRun(turns, () => ({ model, real: own }), story);
      await comeToRest(model, own);
      const broken = await brokenInvariants(model, own);
      if (broken.length > 0) throw new Error(broken.join('\n'));
      options.onRun?.([...story].length);
    } finally {
      restore();
      await forget(own);
    }
  });
  return (await fc.check(property, {
    numRuns: options.runs,
    endOnFailure: options.path !== undefined,
    ...(options.seed === undefined ? {} : { seed: options.seed }),
    ...(options.path === undefined ? {} : { path: options.path }),
  })) as fc.RunDetails<unknown>;
}

async function tellCalmly(model: Model, world: World, story: Iterable<Command>): Promise<void> {
  for (const command of story) {
    await command.run(model, world);
    await world.settled();
  }
}

/** Faults end, time passes, everything is delivered again: then every job must be over. */
async function comeToRest(model: Model, world: World): Promise<void> {
  world.heal();
  await world.settled();
  await world.pool.query(`update controls set stopped = false where scope = any ($1::text[])`, [
    model.resources.map(({ id }) => `resource:${id}`),
  ]);
  for (const stop of model.stops) stop.until = Math.min(stop.until, world.now());
  const before = await finished(model, world);
  for (let round = 0; round < 40; round++) {
    const { rows } = await world.pool.query<{ id: string }>(
      'select id from jobs where id = any ($1::uuid[]) and not finished order by created_at',
      [[...model.jobs.keys()]],
    );
    if (rows.length === 0) break;
    await world.tick(round % 4 === 3 ? 340_000 : 61_000);
    await releaseAbandonedJobs(world.pool, 5);
    for (const { id } of rows) {
      const { resource } = model.jobs.get(id) as { resource: number };
      const { provider } = model.resources[resource] as Model['resources'][number];
      world.deliver(world.actors[round % 2] as World['actors'][number], id, provider);
    }
    await world.settled();
  }
  for (const index of model.resources.keys()) observe(model, world, index, 0);
  await world.settled();
  const after = await finished(model, world);
  for (const [id, row] of before)
    if (after.get(id) !== row) world.surprises.push(`I2: job ${id} changed after it was over`);
}

async function finished(model: Model, world: World): Promise<Map<string, string>> {
  const { rows } = await world.pool.query<{ id: string; row: string }>(
    `select id, jobs::text as row from jobs where id = any ($1::uuid[]) and finished`,
    [[...model.jobs.keys()]],
  );
  return new Map(rows.map(({ id, row }) => [id, row]));
}

/** The workers' monotonic clock jumps with the world's. @returns what undoes it. */
function followVirtualTime(world: World): () => void {
  const real = performance.now.bind(performance);
  performance.now = () => real() + world.offsetMs;
  return () => {
    performance.now = real;
  };
}

/** What later runs would stumble over; history stays. */
async function forget(world: World): Promise<void> {
  const ids = [...world.objects.values()].map(({ resourceId }) => resourceId);
  await world.pool.query('delete from jobs where resource_id = any ($1::uuid[])', [ids]);
  await world.pool.query('delete from resources where id = any ($1::uuid[])', [ids]);
}
