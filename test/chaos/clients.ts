import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { type Random, seededRandom } from '../simulators/core/seeded-random.ts';
import { levelAt, type PlannedResource } from './fleet-plan.ts';
import type { Journal } from './journal.ts';
import type { ServiceCaller } from './service-caller.ts';

/** A resource as registered with the service. */
export type RegisteredResource = PlannedResource & { readonly id: string };

export interface ClientsOptions {
  readonly caller: ServiceCaller;
  readonly resources: readonly RegisteredResource[];
  readonly log: Journal;
  readonly seed: number;
  /** Jobs a second that the clients try to have accepted. */
  readonly rate: number;
}

interface SeenJob {
  readonly id: string;
  readonly status: string;
  readonly outcome: string | null;
  readonly result: { readonly id?: string; readonly decision_type?: string } | null;
}

/** Samples are sent this far ahead, as the service ignores those of the future until their time comes. */
const sampleEveryMs = 2_000;
const samplesAhead = 30;
const staleByMs = 240_000;
const targetCpu = 70;
const waveSize = 20;
const wavesAtOnce = 12;
/** Then the job is left to the checker. */
const followMs = 25_000;

/** The platform and its users: samples, decisions, executions, polls; everything that was promised goes to the log. */
export class Clients {
  readonly #options: ClientsOptions;
  readonly #random: Random;
  readonly #sweepMs: number;
  readonly #waves = new Set<Promise<void>>();
  /** Resources of a wave under way: two decisions from the same size would only contradict each other. */
  readonly #engaged = new Set<string>();
  #stopped = false;
  #next = 0;
  #loops: Promise<unknown> = Promise.resolve();
  /** Jobs promised to us so far, repeats of an Idempotency-Key not counted. */
  accepted = 0;
  /** The same, moved on over outages. */
  #paced = 0;

  constructor(options: ClientsOptions) {
    this.#options = options;
    this.#random = seededRandom(options.seed + 7);
    const busy = this.#deciding().length;
    // About one level between two decisions of a resource: every second job is a decision.
    this.#sweepMs = Math.max(20_000, (22 * busy * 2_000) / options.rate);
  }

  start(): void {
    this.#loops = Promise.all([this.#sampling(), this.#deciding_loop()]);
  }

  /** No new waves; resolves when those under way are over. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#options.caller.stop();
    await this.#loops;
    await Promise.all(this.#waves);
  }

  #deciding(): readonly RegisteredResource[] {
    return this.#options.resources.filter(({ role }) => role !== 'probe');
  }

  /** Keeps everybody's samples half a minute or more ahead; stale resources get old ones, silent ones none. */
  async #sampling(): Promise<void> {
    const periodMs = (samplesAhead * sampleEveryMs) / 2;
    const sampled = this.#options.resources.filter(({ role }) => role !== 'silent');
    while (!this.#stopped) {
      const startedAt = performance.now();
      for (let start = 0; start < sampled.length && !this.#stopped; start += 8)
        await Promise.all(sampled.slice(start, start + 8).map((resource) => this.#sendSamples(resource)));
      const left = periodMs - (performance.now() - startedAt);
      for (let waited = 0; waited < left && !this.#stopped; waited += 200) await delay(200);
    }
  }

  async #sendSamples(resource: RegisteredResource): Promise<void> {
    const now = Date.now();
    const samples = Array.from({ length: samplesAhead + 1 }, (_, index) => {
      const at =
        resource.role === 'stale'
          ? now - staleByMs - index * sampleEveryMs
          : Math.ceil(now / sampleEveryMs + index - 1) * sampleEveryMs;
      return {
        timestamp: new Date(at).toISOString(),
        cpu: targetCpu,
        // The level is what demand asks for: so many instances at exactly the target.
        instances: resource.role === 'stale' ? 1 : levelAt(resource, at, this.#sweepMs),
      };
    });
    await this.#options.caller.call({
      client: 'sampler',
      op: 'samples',
      method: 'POST',
      path: `/resources/${resource.id}/metrics`,
      body: { samples },
      patienceMs: 10_000,
    });
  }

  async #deciding_loop(): Promise<void> {
    const { rate } = this.#options;
    const startedAt = performance.now();
    while (!this.#stopped) {
      const due = ((performance.now() - startedAt) / 1_000) * rate;
      if (this.#paced > due || this.#waves.size >= wavesAtOnce) {
        await delay(20);
        continue;
      }
      // What could not be accepted in time is not caught up with: a burst after an outage would only be another fault.
      if (due - this.#paced > rate * 5) this.#paced = Math.floor(due - rate * 5);
      if (this.#engaged.size >= this.#deciding().length) {
        await delay(20);
        continue;
      }
      const wave = this.#wave().finally(() => this.#waves.delete(wave));
      this.#waves.add(wave);
      await delay((1_000 * waveSize) / rate / 2);
    }
  }

  async #wave(): Promise<void> {
    const client = `client-${1 + Math.floor(this.#random() * 4)}`;
    const members = this.#pickMembers();
    for (const { id } of members) this.#engaged.add(id);
    try {
      const jobIds =
        this.#random() < 0.7
          ? await this.#decideTogether(client, members)
          : await this.#decideAlone(client, members);
      const decided = await this.#follow(jobIds);
      const wanted = decided.filter(
        ({ result }) => result?.id !== undefined && this.#worthExecuting(result.decision_type),
      );
      await Promise.all(wanted.map(({ result }) => this.#execute(client, result?.id as string)));
    } finally {
      for (const { id } of members) this.#engaged.delete(id);
    }
  }

  /** The next ones in turn that are free, and now and then one that is not. */
  #pickMembers(): RegisteredResource[] {
    const all = this.#deciding();
    const members: RegisteredResource[] = [];
    for (let looked = 0; looked < all.length && members.length < waveSize; looked++) {
      const resource = all[this.#next++ % all.length] as RegisteredResource;
      if (!this.#engaged.has(resource.id) || this.#random() < 0.02) members.push(resource);
    }
    return members;
  }

  /** Now and then also a decision to do nothing: executing it must do nothing. */
  #worthExecuting(type: string | undefined): boolean {
    return type !== 'noaction' || this.#random() < 0.02;
  }

  async #decideTogether(client: string, members: readonly RegisteredResource[]): Promise<string[]> {
    const body = { resource_ids: members.map(({ id }) => id), use_prediction: false };
    const key = this.#random() < 0.9 ? randomUUID() : undefined;
    if (key === undefined) {
      // Without a key a lost answer cannot be asked for again: one try, and the loss is the client's own.
      return await this.#accept({
        client,
        op: 'decide-batch',
        path: '/scale/decide/batch',
        body,
        patienceMs: 0,
      });
    }
    return await this.#submit({ client, op: 'decide-batch', path: '/scale/decide/batch', body, key });
  }

  async #decideAlone(client: string, members: readonly RegisteredResource[]): Promise<string[]> {
    const ids = await Promise.all(
      members.map((member) =>
        this.#submit({
          client,
          op: 'decide',
          path: '/scale/decide',
          body: { resource_id: member.id, use_prediction: this.#random() < 0.05 },
          key: randomUUID(),
        }),
      ),
    );
    return ids.flat();
  }

  /** Some requests are sent in parallel with the same key, some again later, some with the same key and another body. */
  async #submit(request: {
    client: string;
    op: string;
    path: string;
    body: unknown;
    key: string;
  }): Promise<string[]> {
    const chance = this.#random();
    if (chance < 0.03) {
      const answers = await Promise.all(
        [0, 1, 2].map((first) => this.#accept({ ...request, first }, first === 0)),
      );
      return answers[0] ?? [];
    }
    const ids = await this.#accept(request);
    if (chance < 0.05) await this.#accept(request, false);
    if (chance > 0.98)
      await this.#accept({ ...request, op: 'mismatch', body: mismatched(request.body) }, false);
    return ids;
  }

  async #accept(
    request: {
      client: string;
      op: string;
      path: string;
      body: unknown;
      key?: string;
      first?: number;
      patienceMs?: number;
    },
    counts = true,
  ): Promise<string[]> {
    const answer = await this.#options.caller.call({ ...request, method: 'POST' });
    if (answer.status !== 202) return [];
    const { job_id, job_ids } = answer.body as { job_id?: string; job_ids?: string[] };
    const ids = job_ids ?? [job_id as string];
    if (counts) {
      this.accepted += ids.length;
      this.#paced += ids.length;
    }
    return ids;
  }

  /** Asks for lists first: one answer tells of a whole wave. What is not on the list is asked for by name. */
  async #follow(jobIds: readonly string[]): Promise<SeenJob[]> {
    const waiting = new Set(jobIds);
    const seen: SeenJob[] = [];
    const end = performance.now() + followMs;
    const note = (job: SeenJob) => {
      if (!waiting.has(job.id) || (job.status !== 'completed' && job.status !== 'failed')) return;
      waiting.delete(job.id);
      seen.push(job);
      this.#options.log.write({
        kind: 'reported',
        at: Date.now(),
        jobId: job.id,
        status: job.status,
        outcome: job.outcome,
      });
    };
    for (let round = 0; waiting.size > 0 && performance.now() < end && !this.#stopped; round++) {
      await delay(Math.min(1_000, 120 * (round + 1)));
      if (round % 4 < 3) for (const job of await this.#listJobs()) note(job);
      else for (const job of await this.#jobsByName([...waiting])) note(job);
    }
    return seen;
  }

  async #listJobs(): Promise<SeenJob[]> {
    const answer = await this.#read('/jobs?kind=decide&limit=100');
    return (answer?.jobs as SeenJob[] | undefined) ?? [];
  }

  async #jobsByName(ids: readonly string[]): Promise<SeenJob[]> {
    const jobs = await Promise.all(ids.slice(0, 20).map((id) => this.#read(`/jobs/${id}`)));
    return jobs.filter((job) => job !== null) as unknown as SeenJob[];
  }

  async #read(path: string): Promise<Record<string, unknown> | null> {
    const answer = await this.#options.caller.call({
      client: 'poller',
      op: 'poll',
      method: 'GET',
      path,
      timeoutMs: 3_000,
      patienceMs: 0,
    });
    return answer.status === 200 ? answer.body : null;
  }

  /** Some decisions are executed twice, by two clients at once: one of them must find the other's job. */
  async #execute(client: string, decisionId: string): Promise<void> {
    const request = { op: 'execute', path: '/scale/execute', body: { decision_id: decisionId } };
    const chance = this.#random();
    const first = this.#submit({ ...request, client, key: randomUUID() });
    const second =
      chance < 0.08 ? this.#accept({ ...request, client: `${client}-rival`, key: randomUUID() }, false) : [];
    const [ids] = await Promise.all([first, second]);
    if (chance > 0.9 && ids.length > 0) await this.#glance(ids[0] as string);
  }

  /** One look at an execution: what it says once it is over must still be true at the end. */
  async #glance(id: string): Promise<void> {
    await delay(500);
    const job = (await this.#read(`/jobs/${id}`)) as SeenJob | null;
    if (job?.status === 'completed' || job?.status === 'failed')
      this.#options.log.write({
        kind: 'reported',
        at: Date.now(),
        jobId: id,
        status: job.status,
        outcome: job.outcome,
      });
  }
}

function mismatched(body: unknown): unknown {
  const given = body as { resource_ids?: string[]; use_prediction?: boolean; decision_id?: string };
  if (given.decision_id !== undefined) return { decision_id: randomUUID() };
  return { ...given, use_prediction: given.use_prediction !== true };
}
