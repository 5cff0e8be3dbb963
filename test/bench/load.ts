import { Agent, request } from 'node:http';

/** What the load process is asked to do. */
export interface LoadTask {
  readonly url: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Bodies, taken in turn. */
  readonly bodies: readonly string[];
  readonly seconds: number;
  /** Requests in flight at once, each client sending its next when it has its answer. */
  readonly clients?: number;
  /** Instead: requests a second, sent whether or not answers have come. */
  readonly perSecond?: number;
  /** After each 202, ask for its job every 20 ms until it is finished. */
  readonly poll?: boolean;
}

export interface LoadReport {
  readonly sent: number;
  /** Answers that were not 200 or 202, by status. */
  readonly failures: Readonly<Record<string, number>>;
  readonly elapsedMs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

const pollEveryMs = 20;

/** Runs in a process of its own, so that it does not take the measured ones' event loop. */
async function run(task: LoadTask): Promise<LoadReport> {
  const agent = new Agent({ keepAlive: true, maxSockets: task.clients ?? 256 });
  const latencies: number[] = [];
  const failures: Record<string, number> = {};
  let turn = 0;
  const startedAt = performance.now();
  const endAt = startedAt + task.seconds * 1_000;
  const once = async () => {
    const at = performance.now();
    const body = task.bodies[turn++ % task.bodies.length] as string;
    const answer = await send(agent, 'POST', task.url + task.path, task.headers, body);
    const { status } = answer;
    if (status !== 200 && status !== 202) failures[status] = (failures[status] ?? 0) + 1;
    else if (task.poll === true && status === 202) await untilFinished(agent, task, answer.text);
    latencies.push(performance.now() - at);
  };
  if (task.perSecond !== undefined) await openLoop(task.perSecond, endAt, once);
  else await Promise.all(Array.from({ length: task.clients ?? 1 }, () => closedLoop(endAt, once)));
  const elapsedMs = performance.now() - startedAt;
  agent.destroy();
  latencies.sort((a, b) => a - b);
  const quantile = (share: number) =>
    latencies[Math.min(latencies.length - 1, Math.floor(share * latencies.length))] ?? 0;
  return { sent: latencies.length, failures, elapsedMs, p50Ms: quantile(0.5), p99Ms: quantile(0.99) };
}

async function closedLoop(endAt: number, once: () => Promise<void>): Promise<void> {
  while (performance.now() < endAt) await once();
}

async function openLoop(perSecond: number, endAt: number, once: () => Promise<void>): Promise<void> {
  const pending: Promise<void>[] = [];
  const startedAt = performance.now();
  let sent = 0;
  while (performance.now() < endAt) {
    const due = Math.floor(((performance.now() - startedAt) / 1_000) * perSecond);
    for (; sent < due; sent++) pending.push(once());
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await Promise.all(pending);
}

async function untilFinished(agent: Agent, task: LoadTask, accepted: string): Promise<void> {
  const { status_url } = JSON.parse(accepted) as { status_url: string };
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, pollEveryMs));
    const { text } = await send(agent, 'GET', task.url + status_url, task.headers);
    if (/"status":"(completed|failed)"/.test(text)) return;
  }
}

function send(
  agent: Agent,
  method: string,
  url: string,
  headers: Readonly<Record<string, string>>,
  body?: string,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve) => {
    const outgoing = request(
      url,
      {
        method,
        agent,
        headers: {
          ...headers,
          ...(body === undefined
            ? {}
            : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
        },
      },
      (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      },
    );
    outgoing.on('error', () => resolve({ status: 0, text: '' }));
    outgoing.end(body);
  });
}

process.on('message', (task: LoadTask) => {
  void run(task).then((report) => process.send?.(report));
});
