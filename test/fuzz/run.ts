import { createServer } from 'node:net';
import { Client, exchangeBytes, type Reply, sendSlowly } from './client.ts';
import { type FuzzRequest, RequestMaker } from './make-request.ts';
import { allowedMb, judgeMemory } from './memory.ts';
import { type Api, readApi } from './openapi.ts';
import { RandomGenerator } from './random-generator.ts';
import { mayEndUnanswered, pipelined, rawShapes } from './raw-shapes.ts';
import type { FuzzReport } from './report.ts';
import { CutShort, sequences } from './sequences.ts';
import { changedTables, rowsIn, stateOf } from './state.ts';
import type { Target } from './target.ts';
import { type Finding, type Judged, judge } from './verdict.ts';

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
/** Each makes the API collect garbage once. */
const requestsPerMeasurement = 100;
/** What was refused is sent alone so often at most: a few find their way free by then, and the others need another look. */
const roundsAlone = 3;
const refreshEveryMs = 20_000;

type Kind = 'valid' | 'hostile' | 'refusable' | 'raw' | 'sequence';
type State = Readonly<Record<string, string>>;

/** What a batch came to. */
interface Batch {
  /** Whether something in it was accepted that may have changed something. */
  changed: boolean;
  /** To be sent once more, alone, when something else in the batch may have changed something. */
  readonly refused: FuzzRequest[];
  /** Of raw bytes, which are never accepted with an effect. */
  refusedRaw: number;
  /** Accepted with an Idempotency-Key that is kept now. */
  keysKept: number;
}

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
  readonly #random: RandomGenerator;
  readonly #api: Api;
  readonly #maker: RequestMaker;
  readonly #client: Client;
  readonly #canary: Canary;
  readonly #counts = new Map<string, number>();
  readonly #statuses = new Map<string, number>();
  readonly #codes = new Map<string, number>();
  readonly #examples: string[] = [];
  readonly #live: [requests: number, mb: number][] = [];
  readonly #rss: [requests: number, mb: number][] = [];
  #sent = 0;
  #slowestMs = 0;

  private constructor(target: Target, options: FuzzOptions, api: Api, canary: Canary) {
    this.#target = target;
    this.#options = options;
    this.#api = api;
    this.#canary = canary;
    this.#random = new RandomGenerator(options.seed);
    this.#client = new Client(target.port);
    this.#maker = new RequestMaker(this.#random, api, target.pools, target.keys, canary.address);
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
    const slowClients = this.#sendSlowly();
    const endAt = startedAt + (this.#options.maxSeconds ?? Number.POSITIVE_INFINITY) * 1_000;
    const kinds = ['refusable', 'refusable', 'hostile', 'hostile', 'valid', 'raw'] as const;
    let state = await stateOf(this.#target.pool);
    let [refreshedAt, said, measured] = [startedAt, 0, 0];
    while (this.#sent < this.#options.requests && performance.now() < endAt && !this.#died()) {
      if (performance.now() - refreshedAt > refreshEveryMs) {
        refreshedAt = performance.now();
        if (await this.#target.refreshJobs()) state = await stateOf(this.#target.pool);
      }
      const isFirst = this.#sent === 0;
      state = await this.#compared(
        isFirst || this.#random.chance(0.05) ? 'sequence' : this.#random.pick(kinds),
        state,
      );
      if (isFirst || this.#sent - measured >= requestsPerMeasurement) {
        measured = this.#sent;
        await this.#measure();
      }
      if (this.#sent - said >= 2_000) {
        said = this.#sent;
        this.#options.say?.(`${this.#sent} requests, ${Math.round(this.#rss.at(-1)?.[1] ?? 0)} MB`);
      }
    }
    const slow = await slowClients;
    return this.#report((performance.now() - startedAt) / 1_000, slow);
  }

  async #measure(): Promise<void> {
    if (this.#died()) return;
    const { liveMb, rssMb } = await this.#target.liveMemory();
    this.#live.push([this.#sent, liveMb]);
    this.#rss.push([this.#sent, rssMb]);
  }

  /**
   * Sends a batch, and sees to it that what was refused in it is compared: with what the database said before, or, when
   * something else in it may have changed something, sent once more and alone.
   * @returns what the database says afterwards.
   */
  async #compared(kind: Kind, before: State): Promise<State> {
    const batch = newBatch();
    await this.#send(this.#tasks(kind, batch), kind === 'raw' ? batchSize : inFlight);
    this.#add('refused_requests', batch.refused.length + batch.refusedRaw);
    let state = await stateOf(this.#target.pool);
    if (!batch.changed) {
      this.#compare(kind, before, state, batch.refused.length + batch.refusedRaw);
      return state;
    }
    this.#compareKeys(before, state, batch.keysKept);
    let requests = batch.refused;
    for (let round = 0; round < roundsAlone && requests.length > 0 && !this.#died(); round++) {
      const alone = newBatch();
      await this.#send(
        requests.map((request) => async () => {
          this.#add('requests_sent_again');
          await this.#http(request, alone);
        }),
        inFlight,
      );
      const after = await stateOf(this.#target.pool);
      if (!alone.changed) this.#compare(`${kind}, alone`, state, after, alone.refused.length);
      state = after;
      if (!alone.changed) break;
      requests = alone.refused;
    }
    return state;
  }

  #compare(kind: string, before: State, after: State, refused: number): void {
    for (const table of changedTables(before, after))
      this.#addFinding('state_changes_by_refused', `${table} changed in a refused batch of ${kind} requests`);
    this.#add('refused_requests_compared', refused);
  }

  /** Sent again, a refused request would find the key it had left: so those that were kept are counted at once. */
  #compareKeys(before: State, after: State, kept: number): void {
    const more = rowsIn(after, 'idempotency_keys') - rowsIn(before, 'idempotency_keys');
    if (more > kept)
      this.#addFinding(
        'state_changes_by_refused',
        `${more} idempotency keys kept of ${kept} accepted requests`,
      );
  }

  async #send(tasks: (() => Promise<void>)[], atOnce: number): Promise<void> {
    const next = async () => {
      for (let task = tasks.pop(); task !== undefined; task = tasks.pop()) await task();
    };
    // Raw ones mostly wait for a connection to end.
    await Promise.all(Array.from({ length: atOnce }, next));
  }

  #tasks(kind: Kind, batch: Batch): (() => Promise<void>)[] {
    if (kind === 'sequence') return Object.keys(sequences).map((name) => () => this.#sequence(name, batch));
    return Array.from({ length: batchSize }, () => {
      if (kind === 'raw') return this.#rawRequest(batch);
      const request = this.#maker[kind]();
      return async () => {
        this.#sent++;
        await this.#http(request, batch);
      };
    });
  }

  async #sequence(name: string, batch: Batch): Promise<void> {
    this.#add('sequences');
    try {
      await sequences[name]?.({
        random: this.#random,
        api: this.#api,
        keys: this.#target.keys,
        send: async (request) => {
          this.#sent++;
          return await this.#http(request, batch);
        },
        addFinding: (detail) => this.#addFinding('wrong_answers', `${name}: ${detail}`),
      });
    } catch (error) {
      if (!(error instanceof CutShort)) throw error;
      this.#add('sequences_cut_short');
    }
  }

  async #http(request: FuzzRequest, batch: Batch): Promise<Reply> {
    // Some wait for their job where nobody says otherwise, and nobody works on the jobs here.
    const headers = /\/(replay|frontier)/.test(request.path)
      ? { ...request.headers, prefer: 'wait=1' }
      : request.headers;
    const reply = await this.#client.send({ ...request, headers });
    const askedToWaitMs = headers.prefer?.includes('wait=1') === true ? 1_000 : 0;
    this.#take(
      reply,
      { ...request, askedToWaitMs },
      `${request.method} ${request.path.slice(0, 120)} (${request.label})`,
    );
    const accepted = reply.status >= 200 && reply.status < 300;
    this.#learn(request, reply);
    if (reply.status >= 400) batch.refused.push(request);
    else if (keepsKey(request, reply)) batch.keysKept++;
    const reads = request.method === 'GET' || request.method === 'HEAD' || request.method === 'OPTIONS';
    // A GET that is answered 202 has started a job.
    if ((accepted && (!reads || reply.status === 202)) || reply.status === 0) batch.changed = true;
    return reply;
  }

  #rawRequest(batch: Batch): () => Promise<void> {
    const random = this.#random;
    const target = { key: this.#target.keys.full, resourceId: random.pick(this.#target.pools.own.resource) };
    const several = random.chance(0.05);
    const name = random.pick(Object.keys(rawShapes));
    const made = several
      ? pipelined(target)
      : (rawShapes[name] as (typeof rawShapes)[string])(target, random);
    const bytes = typeof made === 'string' ? Buffer.from(made, 'latin1') : made;
    const label = `raw: ${several ? 'pipelined' : name}`;
    const request: Judged = {
      operation: null,
      method: 'RAW',
      // Of a request that is not whole the end is waited for, and we make it after a second.
      askedToWaitMs: several || mayEndUnanswered[name] === undefined ? 0 : 1_000,
      mayEndUnanswered: !several && mayEndUnanswered[name] !== undefined,
    };
    return async () => {
      this.#sent++;
      const { replies, ms } = await exchangeBytes(
        this.#target.port,
        bytes,
        request.mayEndUnanswered !== true,
      );
      if (replies.length === 0) this.#take({ status: 0, headers: {}, text: '', ms }, request, label);
      for (const reply of replies) this.#take(reply, request, label);
      if (replies.every(({ status }) => status >= 400)) batch.refusedRaw++;
      if (!several && replies.length > 1)
        this.#addFinding('smuggled_answers', `${label} got ${replies.length} answers`);
      if (several && replies.length !== 10)
        this.#addFinding('invalid_responses', `${replies.length} of 10 pipelined`);
    };
  }

  #take(reply: Reply, request: Judged, label: string): void {
    for (const finding of judge(reply, request, this.#api))
      this.#addFinding(countOf[finding.kind], `${label}: ${finding.detail}`);
    if (reply.status === 0) {
      if (request.mayEndUnanswered === true) this.#add('no_answer_allowed');
      return;
    }
    increase(this.#statuses, String(reply.status));
    if (reply.status >= 400) increase(this.#codes, /"code":"(\w+)"/.exec(reply.text)?.[1] ?? 'none');
    if (reply.status === 503 && reply.headers['retry-after'] !== undefined) this.#add('overload_503');
    this.#slowestMs = Math.max(this.#slowestMs, reply.ms);
  }

  /** Remembers what was made, so that later requests can name it. */
  #learn(request: FuzzRequest, reply: Reply): void {
    if (reply.status !== 201 && reply.status !== 202) return;
    const { pools } = this.#target;
    try {
      const body = JSON.parse(reply.text) as { id?: string; job_id?: string; job_ids?: string[] };
      if (request.operation?.operationId === 'createResource' && body.id !== undefined)
        pools.expendable.push(body.id);
      const job = body.job_id ?? body.job_ids?.[0];
      if (job !== undefined && pools.own.job.length < 500) pools.own.job.push(job);
    } catch {
      // The verdict has said so already.
    }
  }

  async #sendSlowly(): Promise<(number | null)[]> {
    const { port, keys } = this.#target;
    const { key } = { key: keys.full };
    const head = 'POST /scale/decide HTTP/1.1\r\nHost: a\r\n';
    const patience = this.#options.cutOffMs + 4_000;
    const clients = Array.from({ length: 4 }, () => [
      sendSlowly(port, head, 'X: a\r\n', patience),
      sendSlowly(port, 'G', 'E', patience),
      sendSlowly(
        port,
        `${head}Authorization: Bearer ${key}\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{"a":"`,
        'a',
        patience,
      ),
      sendSlowly(
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

  #addFinding(name: string, detail: string): void {
    this.#add(name);
    if ((this.#counts.get(name) ?? 0) <= 8) this.#examples.push(`${name}: ${detail.slice(0, 400)}`);
  }

  #report(seconds: number, slow: readonly (number | null)[]): FuzzReport {
    const count = (name: string) => this.#counts.get(name) ?? 0;
    const sorted = (map: ReadonlyMap<string, number>) =>
      Object.fromEntries([...map].sort(([a], [b]) => a.localeCompare(b)));
    const [refused, compared] = [count('refused_requests'), count('refused_requests_compared')];
    return {
      seed: this.#options.seed,
      requests: this.#sent,
      seconds: round(seconds),
      operations: this.#api.operations.length,
      by_status: sorted(this.#statuses),
      by_code: sorted(this.#codes),
      no_answer: count('no_answer'),
      no_answer_allowed: count('no_answer_allowed'),
      server_errors: count('server_errors'),
      overload_503: count('overload_503'),
      state_changes_by_refused: count('state_changes_by_refused'),
      refused_requests: refused,
      refused_requests_compared: compared,
      requests_sent_again: count('requests_sent_again'),
      compared: refused === 0 ? 1 : Math.round((compared / refused) * 1_000) / 1_000,
      slowest_ms: round(this.#slowestMs),
      over_2s: count('over_2s'),
      live_memory: judgeMemory(this.#live, allowedMb.live),
      rss: judgeMemory(this.#rss, allowedMb.rss),
      sequences: count('sequences'),
      sequences_cut_short: count('sequences_cut_short'),
      wrong_answers: count('wrong_answers'),
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

const countOf: Readonly<Record<Finding['kind'], string>> = {
  no_answer: 'no_answer',
  wrong_answer: 'wrong_answers',
  server_error: 'server_errors',
  over_2s: 'over_2s',
  invalid_problem: 'invalid_problem_bodies',
  invalid_response: 'invalid_responses',
  injected_header: 'injected_headers',
};

function keepsKey(request: FuzzRequest, reply: Reply): boolean {
  return (
    request.headers['idempotency-key'] !== undefined && reply.headers['idempotent-replayed'] === undefined
  );
}

function newBatch(): Batch {
  return { changed: false, refused: [], refusedRaw: 0, keysKept: 0 };
}

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

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
