import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { Queue, Worker } from 'bullmq';
import express from 'express';
import helmet from 'helmet';
import { Redis } from 'ioredis';
import pg from 'pg';
import pino from 'pino';
import { Histogram, Registry } from 'prom-client';
import { z } from 'zod';
import { createMatchedServer } from '../../api/http/create-server.ts';
import { createPool } from '../../shared/db/pool.ts';
import { Batcher } from '../../shared/jobs/batcher.ts';
import { createLogger } from '../../shared/observability/logger.ts';
import { createMetrics } from '../../shared/observability/metrics.ts';
import { createConsumerConnection, createProducerConnection } from '../../shared/queues/connections.ts';
import { createQueues } from '../../shared/queues/queues.ts';
import { Claims } from '../../worker/queue/claims.ts';
import { finishJobs } from '../../worker/queue/jobs-store.ts';
import { type JobEnd, reportFinished, runEntry } from '../../worker/queue/run-job.ts';

/** What the service is measured against, each a process of its own: the role is the first argument. */
const role = process.argv[2] ?? '';
const environment = process.env as Record<string, string>;
const bodySchema = z.strictObject({ resource_id: z.uuid(), use_prediction: z.boolean().default(false) });
const queueName = 'bench';

const redis = () => new Redis(environment.REDIS_URL as string, { maxRetriesPerRequest: null });
const prefix = () => environment.QUEUE_PREFIX as string;

function listening(server: ReturnType<typeof createServer>): void {
  server.listen(0, '127.0.0.1', () => {
    const address = server.address();
    process.send?.({ port: typeof address === 'object' ? address?.port : 0 });
  });
}

/** BullMQ alone: a worker that does nothing. */
function bareWorker(): void {
  const worker = new Worker(queueName, async () => {}, {
    connection: redis(),
    prefix: prefix(),
    concurrency: 200,
    removeOnComplete: { count: 0 },
  });
  let done = 0;
  worker.on('completed', () => done++);
  process.on('message', () => process.send?.({ done }));
  void worker.waitUntilReady().then(() => process.send?.({ port: 0 }));
}

/** The service's own claims, fences and batched results, with nothing to decide: the durable machinery alone. */
function durableWorker(): void {
  const pool = createPool(environment.DATABASE_URL as string, { size: 8, name: 'bench' });
  const publisher = createProducerConnection(environment.REDIS_URL as string, () => {});
  const deps = {
    pool,
    publisher,
    prefix: prefix(),
    queues: createQueues(publisher, prefix(), () => {}),
    logger: createLogger({ level: 'silent', name: 'bench' }),
    metrics: createMetrics(),
  };
  const claims = new Claims(deps, 'decide');
  const results = new Batcher<Parameters<typeof reportFinished>[2][number], boolean>(async (jobs) => {
    const done = await finishJobs(
      pool,
      jobs.map((job) => job.completion),
    );
    reportFinished(deps, 'decide', jobs);
    return jobs.map(({ job }) => done.has(job.id));
  });
  const worker = new Worker(
    'decide',
    (entry) =>
      runEntry(entry, claims, async (job): Promise<JobEnd> => {
        const { id } = job;
        const completion = {
          id,
          fence: job.fence,
          status: 'completed',
          outcome: 'noop',
          result: { done: true },
          error: null,
        } as const;
        const kept = await results.add({ job, completion, startedAt: performance.now() });
        return { id, state: kept ? 'finished' : 'skipped' };
      }),
    {
      connection: createConsumerConnection(environment.REDIS_URL as string, () => {}),
      prefix: prefix(),
      concurrency: 200,
    },
  );
  void worker.waitUntilReady().then(() => process.send?.({ port: 0 }));
}

/** What one writes on the first day: plain Express, a statement a job, an entry a job. */
function naiveApi(): void {
  const pool = new pg.Pool({ connectionString: environment.DATABASE_URL, max: 8 });
  const queue = new Queue(queueName, { connection: redis(), prefix: prefix() });
  const app = express();
  app.use(express.json());
  app.post('/scale/decide', async (request, response) => {
    const body = bodySchema.parse(request.body);
    const id = randomUUID();
    await pool.query('insert into naive_jobs (id, resource_id) values ($1, $2)', [id, body.resource_id]);
    await queue.add('decide', { id }, { jobId: id, removeOnComplete: true });
    response.status(202).json({ job_id: id });
  });
  listening(createServer(app));
}

function naiveWorker(): void {
  const pool = new pg.Pool({ connectionString: environment.DATABASE_URL, max: 8 });
  const worker = new Worker(
    queueName,
    async (job) => {
      await pool.query(`update naive_jobs set status = 'completed', result = $2 where id = $1`, [
        job.data.id,
        { done: true },
      ]);
    },
    { connection: redis(), prefix: prefix(), concurrency: 50 },
  );
  void worker.waitUntilReady().then(() => process.send?.({ port: 0 }));
}

/** The shipped HTTP server in front of BullMQ, with no PostgreSQL behind it. */
function queueApi(): void {
  const queue = new Queue(queueName, { connection: redis(), prefix: prefix() });
  const app = express();
  app.use(express.json());
  app.post('/scale/decide', async (request, response) => {
    const body = bodySchema.parse(request.body);
    const id = randomUUID();
    await queue.add('decide', { id, resource_id: body.resource_id }, { jobId: id, removeOnComplete: true });
    response.status(202).json({ job_id: id });
  });
  listening(createMatchedServer(app).on('request', app));
}

function nodeHttp(): void {
  listening(
    createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        bodySchema.parse(JSON.parse(Buffer.concat(chunks).toString('utf8')));
        response.writeHead(202, { 'content-type': 'application/json' }).end('{"job_id":"x"}');
      });
    }),
  );
}

/** Express with nothing but a body parser; or with what the service ships: security headers, a log line, a measurement. */
function expressServer(matched: boolean, full: boolean): void {
  const app = express();
  if (full) {
    const log = pino({ level: 'info' }, pino.destination({ dest: '/dev/null', sync: false }));
    const durations = new Histogram({
      name: 'duration_seconds',
      help: 'HTTP requests',
      labelNames: ['status'],
      registers: [new Registry()],
    });
    app.disable('x-powered-by');
    app.disable('etag');
    app.use(helmet());
    app.use((_request, response, next) => {
      const startedAt = performance.now();
      response.on('finish', () => {
        durations.observe({ status: response.statusCode }, (performance.now() - startedAt) / 1_000);
        log.info({ event: 'http.request', status: response.statusCode });
      });
      next();
    });
  }
  app.use(express.json());
  app.post('/scale/decide', (request, response) => {
    bodySchema.parse(request.body);
    response.status(202).json({ job_id: 'x' });
  });
  listening(matched ? createMatchedServer(app).on('request', app) : createServer(app));
}

const roles: Readonly<Record<string, () => void>> = {
  'bare-worker': bareWorker,
  'durable-worker': durableWorker,
  'naive-api': naiveApi,
  'naive-worker': naiveWorker,
  'queue-api': queueApi,
  'node-http': nodeHttp,
  'plain-express': () => expressServer(false, false),
  'matched-express': () => expressServer(true, false),
  'shipped-express': () => expressServer(true, true),
};
const start = roles[role];
if (start === undefined) throw new Error(`rivals: there is no role ${JSON.stringify(role)}`);
start();
// The bench went away: so do we.
process.on('disconnect', () => process.exit(0));
