import { createWriteStream, type WriteStream } from 'node:fs';
import { Agent, request } from 'node:http';
import { seededRandom } from '../simulators/core/seeded-random.ts';
import { emptyCounts, type TrafficCounts } from './counts.ts';
import { Histogram } from './histogram.ts';
import { type Answer, Mix, type MixSetup, type Operation } from './mix.ts';

/** Open-loop load in a process of its own: what is due is sent, whether or not earlier answers have come. */
export type TrafficOrder =
  | {
      readonly type: 'setup';
      readonly setup: MixSetup;
      readonly urls: readonly string[];
      readonly seed: number;
      /** Every promised job's id, one a line. */
      readonly acceptedFile: string;
    }
  | { readonly type: 'run'; readonly steps: readonly Step[] };

/** Steps follow each other without a pause: late answers of one do not hold back the next. */
export interface Step {
  readonly perSecond: number;
  readonly seconds: number;
}

export type TrafficMessage =
  | {
      readonly type: 'second';
      /** Which step's requests were answered. */
      readonly step: number;
      readonly counts: TrafficCounts;
      readonly accept: [number, number][];
      readonly other: [number, number][];
      readonly shed: [number, number][];
    }
  | { readonly type: 'done' }
  | { readonly type: 'ready' };

const timeoutMs = 15_000;
/** Requests that wait for a free connection here are not offered: with too few the load would not be open. */
const mostSockets = 8_000;
/** A sender that cannot keep up gives up the rest of its step instead of moving it into the next. */
const lateLimitMs = 200;

let mix: Mix;
let urls: readonly string[] = [];
let accepted: WriteStream;
let turn = 0;
let inFlight = 0;
const agent = new Agent({ keepAlive: true, maxSockets: mostSockets, maxFreeSockets: mostSockets });

interface StepStatistics {
  counts: TrafficCounts;
  accept: Histogram;
  other: Histogram;
  shed: Histogram;
}
const emptyStatistics = (): StepStatistics => ({
  counts: emptyCounts(),
  accept: new Histogram(),
  other: new Histogram(),
  shed: new Histogram(),
});
let statistics: StepStatistics[] = [];

async function run(steps: readonly Step[]): Promise<void> {
  statistics = steps.map(emptyStatistics);
  const pending = new Set<Promise<void>>();
  const reporting = setInterval(report, 1_000);
  let startedAt = performance.now();
  for (const [index, { perSecond, seconds }] of steps.entries()) {
    await sendStep(index, startedAt, perSecond, seconds, pending);
    startedAt += seconds * 1_000;
  }
  await Promise.all(pending);
  clearInterval(reporting);
  report();
}

async function sendStep(
  step: number,
  startedAt: number,
  perSecond: number,
  seconds: number,
  pending: Set<Promise<void>>,
): Promise<void> {
  const total = Math.round(perSecond * seconds);
  for (let sent = 0; sent < total; ) {
    const now = performance.now();
    const due = Math.min(total, Math.floor(((now - startedAt) / 1_000) * perSecond));
    const { counts } = statistics[step] as StepStatistics;
    if (now - startedAt > seconds * 1_000 + lateLimitMs) {
      counts.unsent += total - sent;
      return;
    }
    for (; sent < due; sent++) {
      const dueAt = startedAt + (sent / perSecond) * 1_000;
      counts.senderLateMs = Math.max(counts.senderLateMs, now - dueAt);
      const one = perform(mix.next(), dueAt, step).finally(() => pending.delete(one));
      pending.add(one);
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** The latency counts from when the request was due, not from when it could be sent: a stall is not left out. */
async function perform(operation: Operation, dueAt: number, step: number): Promise<void> {
  (statistics[step] as StepStatistics).counts.sent++;
  inFlight++;
  const url = urls[turn++ % urls.length] as string;
  const answer = await send(url, operation);
  inFlight--;
  judge(statistics[step] as StepStatistics, operation, answer, performance.now() - dueAt);
}

function judge(measured: StepStatistics, operation: Operation, answer: Answer, ms: number): void {
  const { counts } = measured;
  const { status } = answer;
  counts.answered++;
  if (operation.class === 'execute') counts.executes++;
  if (operation.class === 'decide') counts.decides++;
  if (status === 0) {
    const name = `${operation.name} ${answer.text}`;
    counts.noAnswer[name] = (counts.noAnswer[name] ?? 0) + 1;
    return;
  }
  if (status === 429 || status === 503) {
    measured.shed.add(ms);
    if (status === 429) counts.shed429++;
    else counts.shed503++;
    if (status === 503 && operation.class === 'execute') counts.shedExecutes503++;
    if (status === 503 && operation.class === 'decide') counts.shedDecides503++;
    if (status === 503 && answer.text.includes('"code":"database_unavailable"')) counts.shedDatabase503++;
    const retryAfter = Number(answer.headers['retry-after']);
    if (!(retryAfter >= 1)) counts.retryAfterMissing++;
    else counts.retryAfterSum += retryAfter;
    if (status === 503 && !/"code":"(queue_full|overloaded|database_unavailable)"/.test(answer.text))
      note(counts, operation, answer);
    return;
  }
  if (!operation.allowed.includes(status)) {
    note(counts, operation, answer);
    return;
  }
  if (operation.class === 'refused') counts.refused++;
  const ids = mix.learn(operation, answer);
  if (ids.length > 0) {
    counts.acceptedRequests++;
    counts.acceptedJobs += ids.length;
    accepted.write(`${ids.join('\n')}\n`);
  }
  if (operation.class === 'decide' || operation.class === 'execute') measured.accept.add(ms);
  else if (operation.class !== 'wait') measured.other.add(ms);
}

function note(counts: TrafficCounts, operation: Operation, answer: Answer): void {
  const code = /"code":"(\w+)"/.exec(answer.text)?.[1] ?? answer.text;
  const name = `${operation.name} ${answer.status} ${code}`;
  counts.errors[name] = (counts.errors[name] ?? 0) + 1;
}

function send(url: string, operation: Operation): Promise<Answer> {
  return new Promise((resolve) => {
    const fail = (text: string) => resolve({ status: 0, headers: {}, text });
    const outgoing = request(
      url + operation.path,
      {
        method: operation.method,
        agent,
        headers: {
          authorization: `Bearer ${operation.key}`,
          ...operation.headers,
          ...(operation.body === undefined
            ? {}
            : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(operation.body) }),
        },
      },
      (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('end', () => {
          clearTimeout(timer);
          resolve({ status: response.statusCode ?? 0, headers: response.headers, text });
        });
      },
    );
    const timer = setTimeout(() => {
      fail('no answer in time');
      outgoing.destroy();
    }, timeoutMs);
    outgoing.on('error', (error) => {
      clearTimeout(timer);
      fail((error as NodeJS.ErrnoException).code ?? error.message);
    });
    outgoing.end(operation.body);
  });
}

function report(): void {
  for (const [step, measured] of statistics.entries()) {
    if (measured.counts.sent + measured.counts.answered === 0) continue;
    const message: TrafficMessage = {
      type: 'second',
      step,
      counts: { ...measured.counts, inFlight },
      accept: measured.accept.buckets(),
      other: measured.other.buckets(),
      shed: measured.shed.buckets(),
    };
    statistics[step] = emptyStatistics();
    process.send?.(message);
  }
}

process.on('message', (order: TrafficOrder) => {
  if (order.type === 'setup') {
    mix ??= new Mix(order.setup, seededRandom(order.seed));
    accepted ??= createWriteStream(order.acceptedFile, { flags: 'a' });
    urls = order.urls;
    process.send?.({ type: 'ready' } satisfies TrafficMessage);
    return;
  }
  void run(order.steps).then(() =>
    accepted.write('', () => process.send?.({ type: 'done' } satisfies TrafficMessage)),
  );
});
process.on('disconnect', () => process.exit(0));
