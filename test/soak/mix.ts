import { randomUUID } from 'node:crypto';
import type { Random } from '../simulators/core/seeded-random.ts';

/** What its latency and its answer count as. */
export type OperationClass = 'decide' | 'execute' | 'wait' | 'other' | 'refused';

export interface Operation {
  readonly name: string;
  readonly class: OperationClass;
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly key: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Answers that are right besides 429 and 503 with Retry-After. */
  readonly allowed: readonly number[];
}

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
}

export interface MixSetup {
  readonly resourceIds: readonly string[];
  /** Full keys; the first is twice as busy as each other. */
  readonly keys: readonly string[];
  readonly readOnlyKey: string;
}

const keptJobs = 2_000;
const keptDecisions = 500;
const keptKeys = 200;
const batchSize = 10;
const agentSeconds = 15;
const loadPeriodMs = 240_000;

/** Shares of the requests, in thousandths. */
const shares = {
  decide: 250,
  decideOnce: 60,
  decideWait: 50,
  decideAhead: 60,
  decideBatch: 15,
  sample: 180,
  samples: 20,
  execute: 40,
  poll: 200,
  history: 40,
  forecast: 20,
  decisions: 15,
  resource: 10,
  cost: 15,
  simulate: 1,
  verify: 1,
  refused: 23,
} as const;
type Share = keyof typeof shares;
const shareList = Object.entries(shares) as [Share, number][];
const shareSum = shareList.reduce((sum, [, share]) => sum + share, 0);

/** Jobs a request makes, on average: what a rate of requests means for the workers. */
export const jobsPerRequest =
  (shares.decide +
    shares.decideOnce * 0.75 +
    shares.decideWait +
    shares.decideAhead +
    shares.decideBatch * batchSize +
    shares.execute) /
  shareSum;

/** The clients of a service in use: agents that post samples, callers that decide, poll and execute, and some that err. */
export class Mix {
  readonly #setup: MixSetup;
  readonly #random: Random;
  readonly #jobs: string[] = [];
  readonly #decisions: string[] = [];
  readonly #keys: { key: string; idempotencyKey: string; body: string }[] = [];

  constructor(setup: MixSetup, random: Random) {
    this.#setup = setup;
    this.#random = random;
  }

  next(): Operation {
    let left = this.#random() * shareSum;
    for (const [name, share] of shareList) {
      left -= share;
      if (left < 0) return this.#make(name);
    }
    return this.#make('poll');
  }

  /** @returns ids of the jobs this answer promises. */
  learn(operation: Operation, answer: Answer): readonly string[] {
    if (answer.status !== 202 && answer.status !== 200 && answer.status !== 424) return [];
    if (operation.class === 'other' || operation.class === 'refused') return [];
    const ids = promised(answer);
    for (const id of ids) remember(this.#jobs, id, keptJobs);
    if (operation.name === 'decideWait' && answer.status === 200) {
      const decision = JSON.parse(answer.text) as { id: string; decision_type: string };
      if (decision.decision_type !== 'noaction') remember(this.#decisions, decision.id, keptDecisions);
    }
    return ids;
  }

  #make(name: Share): Operation {
    const key = this.#key();
    const id = this.#pick(this.#setup.resourceIds);
    const get = (path: string, allowed = [200]): Operation => ({
      name,
      class: 'other',
      method: 'GET',
      path,
      key,
      headers: {},
      allowed,
    });
    const post = (
      path: string,
      body: unknown,
      kind: OperationClass,
      allowed: readonly number[],
      headers: Record<string, string> = {},
    ): Operation => ({
      name,
      class: kind,
      method: 'POST',
      path,
      key,
      headers,
      body: JSON.stringify(body),
      allowed,
    });
    const decide = { resource_id: id, use_prediction: false };
    switch (name) {
      case 'decide':
        return post('/scale/decide', decide, 'decide', [202]);
      case 'decideAhead':
        return post('/scale/decide', { ...decide, use_prediction: true }, 'decide', [202]);
      case 'decideOnce':
        return this.#once(key, decide);
      case 'decideWait':
        return post('/scale/decide', decide, 'wait', [200, 202], { prefer: 'wait=5' });
      case 'decideBatch': {
        const resource_ids = Array.from({ length: batchSize }, () => this.#pick(this.#setup.resourceIds));
        return post('/scale/decide/batch', { resource_ids, use_prediction: false }, 'decide', [202]);
      }
      case 'sample':
        return post(`/resources/${id}/metrics`, this.#sample(0), 'other', [200]);
      case 'samples': {
        const samples = Array.from({ length: 5 }, (_, index) => this.#sample(index));
        return post(`/resources/${id}/metrics`, { samples }, 'other', [200]);
      }
      case 'execute': {
        const decision_id = this.#decisions.shift();
        if (decision_id === undefined) return this.#make('decideWait');
        // Over by now, overtaken, or held by a guard: answers, not errors.
        return post('/scale/execute', { decision_id }, 'execute', [200, 202, 409, 424]);
      }
      case 'poll':
        return this.#jobs.length === 0 ? get('/jobs?limit=10') : get(`/jobs/${this.#pick(this.#jobs)}`);
      case 'history':
        return get(`/scale/history?resource_id=${id}&limit=20`);
      case 'forecast':
        return get(`/resources/${id}/forecast`);
      case 'decisions':
        return get(`/scale/decisions?resource_id=${id}&limit=20`);
      case 'resource':
        return get(`/resources/${id}`);
      case 'cost':
        return post('/cost/estimate', { resource_id: id, instance_count: 12 }, 'other', [200]);
      case 'simulate': {
        const [from, to] = [Date.now() - 3_600_000, Date.now()].map((ms) => new Date(ms).toISOString());
        return post('/simulations', { resource_id: id, from, to }, 'decide', [202]);
      }
      case 'verify': {
        const seen = this.#decisions[0];
        if (seen === undefined) return this.#make('poll');
        return { ...get(`/scale/decisions/${seen}/replay`, [200, 202]), class: 'wait' };
      }
      case 'refused':
        return this.#refused(key, id);
    }
  }

  /** A quarter of these repeat an earlier request: they get its answer, and no second job. */
  #once(key: string, decide: object): Operation {
    const earlier = this.#random() < 0.25 && this.#keys.length > 0 ? this.#pick(this.#keys) : undefined;
    const used = earlier ?? { key, idempotencyKey: randomUUID(), body: JSON.stringify(decide) };
    if (earlier === undefined) remember(this.#keys, used, keptKeys);
    return {
      name: 'decideOnce',
      class: 'decide',
      method: 'POST',
      path: '/scale/decide',
      key: used.key,
      headers: { 'idempotency-key': used.idempotencyKey },
      body: used.body,
      allowed: [202],
    };
  }

  #refused(key: string, id: string): Operation {
    const base = { name: 'refused', class: 'refused', method: 'POST', path: '/scale/decide', key } as const;
    const kinds = [
      { ...base, headers: {}, body: JSON.stringify({ resource_id: randomUUID() }), allowed: [404] },
      { ...base, headers: {}, body: JSON.stringify({ resource_id: id, surprise: 1 }), allowed: [400] },
      { ...base, headers: {}, body: '{"resource_id":', allowed: [400] },
      {
        ...base,
        key: this.#setup.readOnlyKey,
        headers: {},
        body: JSON.stringify({ resource_id: id }),
        allowed: [403],
      },
    ];
    return this.#pick(kinds);
  }

  /** As an agent sends them: one for every 15 s, and the same again when it is not sure. */
  #sample(back: number) {
    const now = Date.now();
    const at = Math.floor(now / 1_000 / agentSeconds) - back;
    const wave = Math.sin((now / loadPeriodMs) * 2 * Math.PI);
    return {
      timestamp: new Date(at * agentSeconds * 1_000).toISOString(),
      cpu: Math.round((62 + 30 * wave + 6 * this.#random()) * 10) / 10,
      memory: 45,
    };
  }

  #key(): string {
    const { keys } = this.#setup;
    const slot = Math.floor(this.#random() * (keys.length + 1));
    return keys[Math.max(0, slot - 1)] as string;
  }

  #pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.#random() * list.length)] as T;
  }
}

function promised(answer: Answer): string[] {
  const location = answer.headers['content-location'];
  if (typeof location === 'string') return [location.slice('/jobs/'.length)];
  if (answer.status !== 202) return [];
  const body = JSON.parse(answer.text) as { job_id?: string; job_ids?: string[] };
  return body.job_ids ?? (body.job_id === undefined ? [] : [body.job_id]);
}

function remember<T>(list: T[], item: T, most: number): void {
  list.push(item);
  if (list.length > most) list.shift();
}
