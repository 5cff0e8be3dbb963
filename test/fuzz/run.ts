import { createServer } from 'node:net';
import { Client, dawdle, type Reply, sendBytes } from './client.ts';
import { Dice } from './dice.ts';
import { type Shot, ShotMaker } from './make-shot.ts';
import { type Api, readApi } from './openapi.ts';
import { pipelined, rawShapes } from './raw-shapes.ts';
import { changedTables, stateOf } from './state.ts';
import type { Target } from './target.ts';
import { type Complaint, judge } from './verdict.ts';

export interface FuzzReport {
  readonly seed: number;
  readonly requests: number;
  readonly seconds: number;
  readonly operations: number;
  readonly by_status: Readonly<Record<string, number>>;
  readonly by_code: Readonly<Record<string, number>>;
  readonly no_answer: number;
  readonly server_errors: number;
  readonly overload_503: number;
  readonly state_changes_by_refused: number;
  readonly refused_batches_compared: number;
  readonly refused_requests_compared: number;
  readonly slowest_ms: number;
  readonly over_2s: number;
  readonly rss_start_mb: number;
  readonly rss_end_mb: number;
  /** Least squares over the samples after the first third. */
  readonly rss_slope_mb_per_10k: number;
  readonly invalid_problem_bodies: number;
  readonly invalid_responses: number;
  readonly injected_headers: number;
  readonly smuggled_answers: number;
  readonly canary_connections: number;
  readonly slow_clients: number;
  readonly slow_clients_not_cut: number;
  readonly process_died: boolean;
  readonly schemathesis: string;
  /** The first of each kind. */
  readonly examples: readonly string[];
}

export interface FuzzOptions {
  readonly requests: number;
  readonly seed: number;
  /** Stops earlier than after all requests when so much time has passed. */
  readonly maxSeconds?: number;
  /** How long the API lets a client take for its request, at most. */
  readonly cutOffMs: number;
  readonly say?: (line: string) => void;
}

const batchSize = 25;
const inFlight = 8;

/** Sends everything, and counts what should not have happened. One seed sends the same requests (ids are random). */
export async function fuzz(target: Target, options: FuzzOptions): Promise<FuzzReport> {
  const run = await Run.start(target, options);
  try {
    return await run.all();
  } finally {
    run.close();
  }
}

class Run {
  readonly #target: Target;
  readonly #options: FuzzOptions;
  readonly #dice: Dice;
  readonly #api: Api;
  readonly #maker: ShotMaker;
  readonly #client: Client;
  readonly #canary: Canary;
  readonly #counts = new Map<string, number>();
  readonly #statuses = new Map<string, number>();
  readonly #codes = new Map<string, number>();
  readonly #examples: string[] = [];
  readonly #memory: [requests: number, mb: number][] = [];
  /** What the present batch was answered, refusals apart. */
  readonly #answered: string[] = [];
  #sent = 0;
  #slowestMs = 0;

  private constructor(target: Target, options: FuzzOptions, api: Api, canary: Canary) {
    this.#target = target;
    this.#options = options;
    this.#api = api;
    this.#canary = canary;
    this.#dice = new Dice(options.seed);
    this.#client = new Client(target.port);
    this.#maker = new ShotMaker(this.#dice, api, target.pools, target.keys, canary.address);
  }

  static async start(target: Target, options: FuzzOptions): Promise<Run> {
    const response = await fetch(`http://127.0.0.1:${target.port}/openapi.json`);
    return new Run(target, options, readApi(await response.text()), await startCanary());
  }

  close(): void {
    this.#client.close();
    this.#canary.close();
  }

  async all(): Promise<FuzzReport> {
    const startedAt = performance.now();
    const dawdling = this.#dawdle();
    let state: Readonly<Record<string, string>> | null = null;
    let lastSaid = 0;
    const endAt = startedAt + (this.#options.maxSeconds ?? Number.POSITIVE_INFINITY) * 1_000;
    while (this.#sent < this.#options.requests && performance.now() < endAt && !this.#died()) {
      const kind = this.#dice.pick(['refusable', 'refusable', 'hostile', 'hostile', 'valid', 'raw'] as const);
      if (state === null) {
        await this.#target.refreshJobs();
        state = await stateOf(this.#target.pool);
      }
      const changed = await this.#batch(kind);
      if (changed) state = null;
      else {
        const after = await stateOf(this.#target.pool);
        for (const table of changedTables(state, after))
          this.#complain(
            'state_changes_by_refused',
            `${table} changed in a refused batch of ${kind} requests`,
          );
        this.#add('refused_batches_compared');
        this.#add('refused_requests_compared', batchSize);
        state = after;
      }
      this.#memory.push([this.#sent, this.#target.rssMb()]);
      if (this.#sent - lastSaid >= 2_000) {
        lastSaid = this.#sent;
        this.#options.say?.(`${this.#sent} requests, ${Math.round(this.#memory.at(-1)?.[1] ?? 0)} MB`);
      }
    }
    const slow = await dawdling;
    return this.#report((performance.now() - startedAt) / 1_000, slow);
  }

  /** @returns whether something in it was accepted that may have changed something. */
  async #batch(kind: 'valid' | 'hostile' | 'refusable' | 'raw'): Promise<boolean> {
    let changed = false;
    this.#answered.length = 0;
    const shots = Array.from({ length: batchSize }, () =>
      kind === 'raw' ? this.#rawShot() : this.#httpShot(this.#maker[kind]()),
    );
    const next = async () => {
      for (let shot = shots.pop(); shot !== undefined; shot = shots.pop()) if (await shot()) changed = true;
    };
    // Raw ones mostly wait for a connection to end.
    await Promise.all(Array.from({ length: kind === 'raw' ? batchSize : inFlight }, next));
    return changed;
  }

  #httpShot(shot: Shot): () => Promise<boolean> {
    // Some wait for their job where nobody says otherwise, and nobody works on the jobs here.
    const headers = /\/(replay|frontier)/.test(shot.path)
      ? { ...shot.headers, prefer: 'wait=1' }
      : shot.headers;
    return async () => {
      const reply = await this.#client.send({ ...shot, headers });
      const askedToWaitMs = headers.prefer?.includes('wait=1') === true ? 1_000 : 0;
      this.#take(
        reply,
        { ...shot, askedToWaitMs },
        `${shot.method} ${shot.path.slice(0, 120)} (${shot.label})`,
      );
      if (reply.status < 400 || reply.status >= 500)
        this.#answered.push(`${reply.status} ${shot.method} ${shot.path.slice(0, 60)}`);
      const accepted = reply.status >= 200 && reply.status < 300;
      this.#learn(shot, reply);
      const reads = shot.method === 'GET' || shot.method === 'HEAD' || shot.method === 'OPTIONS';
      // A GET that is answered 202 has started a job.
      return (accepted && (!reads || reply.status === 202)) || reply.status === 0;
    };
  }

  #rawShot(): () => Promise<boolean> {
    const dice = this.#dice;
    const target = { key: this.#target.keys.full, resourceId: dice.pick(this.#target.pools.own.resource) };
    const several = dice.chance(0.05);
    const name = dice.pick(Object.keys(rawShapes));
    const made = several ? pipelined(target) : (rawShapes[name] as (typeof rawShapes)[string])(target, dice);
    const bytes = typeof made === 'string' ? Buffer.from(made, 'latin1') : made;
    return async () => {
      const replies = await sendBytes(this.#target.port, bytes);
      if (replies.length === 0) this.#add('no_answer_to_raw');
      const label = several ? 'pipelined' : name;
      for (const reply of replies) this.#take(reply, { operation: null, method: 'RAW' }, `raw: ${label}`);
      if (replies.length === 0) this.#sent++;
      if (!several && replies.length > 1)
        this.#complain('smuggled_answers', `raw: ${name} got ${replies.length} answers`);
      if (several && replies.length !== 10)
        this.#complain('invalid_responses', `${replies.length} of 10 pipelined`);
      return false;
    };
  }

  #take(
    reply: Reply,
    request: Pick<Shot, 'operation' | 'method'> & { readonly askedToWaitMs?: number },
    label: string,
  ): void {
    this.#sent++;
    if (reply.status === 0) {
      this.#add('no_answer');
      if (this.#examples.length < 40 && (this.#counts.get('no_answer') ?? 0) <= 3)
        this.#examples.push(`no_answer: ${label}`);
      return;
    }
    increase(this.#statuses, String(reply.status));
    if (reply.status >= 400) increase(this.#codes, /"code":"(\w+)"/.exec(reply.text)?.[1] ?? 'none');
    if (reply.status === 503 && reply.headers['retry-after'] !== undefined) this.#add('overload_503');
    this.#slowestMs = Math.max(this.#slowestMs, reply.ms);
    for (const complaint of judge(reply, request, this.#api))
      this.#complain(countOf[complaint.kind], `${label}: ${complaint.detail}`);
  }

  /** Remembers what was made, so that later requests can name it. */
  #learn(shot: Shot, reply: Reply): void {
    if (reply.status !== 201 && reply.status !== 202) return;
    const { pools } = this.#target;
    try {
      const body = JSON.parse(reply.text) as { id?: string; job_id?: string; job_ids?: string[] };
      if (shot.operation?.operationId === 'createResource' && body.id !== undefined)
        pools.expendable.push(body.id);
      const job = body.job_id ?? body.job_ids?.[0];
      if (job !== undefined && pools.own.job.length < 500) pools.own.job.push(job);
    } catch {
      // The verdict has said so already.
    }
  }

  async #dawdle(): Promise<(number | null)[]> {
    const { port, keys } = this.#target;
    const { key } = { key: keys.full };
    const head = 'POST /scale/decide HTTP/1.1\r\nHost: a\r\n';
    const patience = this.#options.cutOffMs + 4_000;
    const clients = Array.from({ length: 4 }, () => [
      dawdle(port, head, 'X: a\r\n', patience),
      dawdle(port, 'G', 'E', patience),
      dawdle(
        port,
        `${head}Authorization: Bearer ${key}\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{"a":"`,
        'a',
        patience,
      ),
      dawdle(
        port,
        `${head}Authorization: Bearer ${key}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n`,
        '1\r\na\r\n',
        patience,
      ),
    ]);
    return await Promise.all(clients.flat());
  }

  #died(): boolean {
    return this.#target.process.child.exitCode !== null || this.#target.process.child.signalCode !== null;
  }

  #add(name: string, by = 1): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + by);
  }

  #complain(name: string, detail: string): void {
    this.#add(name);
    if ((this.#counts.get(name) ?? 0) <= 8) this.#examples.push(`${name}: ${detail.slice(0, 400)}`);
  }

  #report(seconds: number, slow: readonly (number | null)[]): FuzzReport {
    const count = (name: string) => this.#counts.get(name) ?? 0;
    const sorted = (map: ReadonlyMap<string, number>) =>
      Object.fromEntries([...map].sort(([a], [b]) => a.localeCompare(b)));
    const settled = this.#memory.slice(Math.floor(this.#memory.length / 3));
    return {
      seed: this.#options.seed,
      requests: this.#sent,
      seconds: round(seconds),
      operations: this.#api.operations.length,
      by_status: sorted(this.#statuses),
      by_code: sorted(this.#codes),
      no_answer: count('no_answer'),
      server_errors: count('server_errors'),
      overload_503: count('overload_503'),
      state_changes_by_refused: count('state_changes_by_refused'),
      refused_batches_compared: count('refused_batches_compared'),
      refused_requests_compared: count('refused_requests_compared'),
      slowest_ms: round(this.#slowestMs),
      over_2s: count('over_2s'),
      rss_start_mb: round(settled[0]?.[1] ?? 0),
      rss_end_mb: round(settled.at(-1)?.[1] ?? 0),
      rss_slope_mb_per_10k: round(slopeOf(settled) * 10_000),
      invalid_problem_bodies: count('invalid_problem_bodies'),
      invalid_responses: count('invalid_responses'),
      injected_headers: count('injected_headers'),
      smuggled_answers: count('smuggled_answers'),
      canary_connections: this.#canary.connections(),
      slow_clients: slow.length,
      slow_clients_not_cut: slow.filter((ms) => ms === null).length,
      process_died: this.#died(),
      schemathesis: 'not run',
      examples: this.#examples,
    };
  }
}

const countOf: Readonly<Record<Complaint['kind'], string>> = {
  server_error: 'server_errors',
  over_2s: 'over_2s',
  invalid_problem: 'invalid_problem_bodies',
  invalid_response: 'invalid_responses',
  injected_header: 'injected_headers',
};

interface Canary {
  readonly address: string;
  connections(): number;
  close(): void;
}

/** Listens where the hostile URLs point to: nobody may come. */
async function startCanary(): Promise<Canary> {
  let connections = 0;
  const server = createServer((socket) => {
    connections++;
    socket.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  return { address: `127.0.0.1:${port}`, connections: () => connections, close: () => server.close() };
}

function increase(map: Map<string, number>, name: string): void {
  map.set(name, (map.get(name) ?? 0) + 1);
}

function slopeOf(points: readonly (readonly [number, number])[]): number {
  const n = points.length;
  if (n < 2) return 0;
  const meanX = points.reduce((sum, [x]) => sum + x, 0) / n;
  const meanY = points.reduce((sum, [, y]) => sum + y, 0) / n;
  const above = points.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0);
  const below = points.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0);
  return below === 0 ? 0 : above / below;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

/** What must be 0, or false, for a run to pass. Memory: no more than 40 MB every 10,000 requests, once it has run warm. */
export function breaksOf(report: FuzzReport): string[] {
  const counts = [
    'server_errors',
    'state_changes_by_refused',
    'over_2s',
    'invalid_problem_bodies',
    'invalid_responses',
    'injected_headers',
    'smuggled_answers',
    'canary_connections',
    'slow_clients_not_cut',
  ] as const;
  const steady = report.requests < 5_000 || report.rss_slope_mb_per_10k <= 40;
  return [
    ...counts.filter((name) => report[name] > 0).map((name) => `${name}: ${report[name]}`),
    ...(report.process_died ? ['the API process died'] : []),
    ...(steady ? [] : [`memory grows by ${report.rss_slope_mb_per_10k} MB every 10,000 requests`]),
  ];
}
