import { randomUUID } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { type RunningWorker, startWorker } from '../../worker/compose.ts';
import { readWorkerConfig } from '../../worker/config.ts';
import { forFile } from '../support/for-file.ts';
import { seedDecision, seedResource } from '../support/seed.ts';
import { refusal, startTestApi } from '../support/test-api.ts';
import { deadShares } from './dead-rows.ts';
import { Histogram } from './histogram.ts';
import { flatness, slopeOf } from './slope.ts';

const mostWaiting = 50;
const perMinute = 3_000;
const api = forFile(
  await startTestApi({
    MAX_WAITING_JOBS: String(mostWaiting),
    RATE_LIMIT_PER_MINUTE: String(perMinute),
    DATABASE_POOL: '4',
  }),
);
const client = await api.client(['read', 'decide', 'execute']);
const resourceId = await seedResource(api.pool);

const decide = () => client.post('/scale/decide', { resource_id: resourceId });
const rowsOf = async (sql: string): Promise<number> =>
  (await api.pool.query<{ n: number }>(sql)).rows[0]?.n ?? Number.NaN;

describe('an overload', () => {
  it('is refused with Retry-After, decisions before executions, and is over by itself; nothing accepted is lost', async () => {
    const accepted = new Set<string>();
    let refused = 0;
    // Nobody works yet, so this is more than can be carried, at whatever speed.
    for (let round = 0; round < 10; round++) {
      for (const answer of await Promise.all(Array.from({ length: 30 }, decide))) {
        if (answer.status === 202) accepted.add(answer.body.job_id);
        else {
          expect(answer).toMatchObject(refusal(503, 'queue_full'));
          expect(Number(answer.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
          refused++;
        }
      }
    }
    // What was under way when the limit was met may pass it, and no more.
    expect(accepted.size).toBeGreaterThanOrEqual(mostWaiting);
    expect(accepted.size).toBeLessThanOrEqual(mostWaiting + 30);
    expect(refused).toBe(300 - accepted.size);
    const decision_id = await seedDecision(api.pool, resourceId, 4, 5);
    const execution = await client.post('/scale/execute', { decision_id });
    expect(execution.status).toBe(202);

    let worker: RunningWorker | undefined;
    try {
      worker = await startWorker(
        readWorkerConfig({ ...api.environment, WORKER_QUEUES: 'decide', LOG_LEVEL: 'silent' }),
      );
      await expect.poll(async () => (await decide()).status, { timeout: 10_000 }).toBe(202);
      const unfinished = `select count(*)::integer as n from jobs where kind = 'decide' and not finished`;
      await expect.poll(() => rowsOf(unfinished), { timeout: 10_000 }).toBe(0);
    } finally {
      await worker?.close(5_000);
    }
    const { rows } = await api.pool.query<{ id: string }>(
      `select id from jobs where status = 'completed' and id = any ($1::uuid[])`,
      [[...accepted]],
    );
    expect(rows).toHaveLength(accepted.size);
  }, 30_000);

  it('of one key is answered 429, for seconds and not for the rest of a minute, and does not touch another key', async () => {
    const busy = await api.key(['read']);
    const get = async (of: string) => await api.as(of).get(`/jobs/${randomUUID()}`);
    const answers = [];
    for (let sent = 0; sent < perMinute / 6 + 200; sent += 50)
      answers.push(...(await Promise.all(Array.from({ length: 50 }, () => get(busy)))));
    const refused = answers.filter(({ status }) => status === 429);
    expect(refused.length).toBeGreaterThan(0);
    for (const { headers } of refused) {
      expect(Number(headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
      expect(Number(headers.get('retry-after'))).toBeLessThanOrEqual(13);
    }
    expect((await get(client.key)).status).toBe(404);
  }, 30_000);

  it('of a process whose database stands still is refused at once, and is over when it moves again', async () => {
    const another = await api.key(['read']);
    const lock = await api.pool.connect();
    const codes: string[] = [];
    const asked: Promise<unknown>[] = [];
    const ask = async () => {
      const answer = await api.as(another).get(`/resources/${resourceId}`);
      codes.push(answer.body.code ?? 'ok');
      if (answer.body.code === 'overloaded')
        expect(Number(answer.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
    };
    try {
      await lock.query('begin');
      await lock.query('lock table resources in access exclusive mode');
      await expect
        .poll(
          () => {
            for (let n = 0; n < 10; n++) asked.push(ask());
            return codes.includes('overloaded');
          },
          { timeout: 10_000, interval: 100 },
        )
        .toBe(true);
      // What one looks at in such a moment is not refused, though its key may have to be looked up in that database.
      expect((await api.get('/health')).status).toBe(200);
      const metrics = await client.get('/metrics');
      expect(metrics.body.code).not.toBe('overloaded');
    } finally {
      await lock.query('rollback').catch(() => {});
      lock.release();
    }
    await Promise.all(asked);
    const status = async () => (await api.as(another).get(`/resources/${resourceId}`)).status;
    await expect.poll(status, { timeout: 10_000 }).toBe(200);
  }, 30_000);
});

describe('slopes', () => {
  const points = (value: (at: number) => number, seconds = 600) =>
    Array.from({ length: seconds / 2 }, (_, index) => ({ at: index * 2, value: value(index * 2) }));
  /** Noise that is the same every time. */
  const noise = (at: number) => 5 * Math.sin(at * 12.9898) * Math.cos(at * 4.1414);

  it('tell a leak from noise', () => {
    const leak = slopeOf(points((at) => 100 + at / 20 + noise(at)));
    expect(leak?.perHour).toBeCloseTo(180, -1);
    expect(flatness(leak, 10)).toBe('growing');
    expect(flatness(slopeOf(points((at) => 100 + noise(at))), 10)).toBe('flat');
  });

  it('call growth within what is allowed flat, and say when a run was too short', () => {
    const slow = slopeOf(points((at) => 100 + at / 200));
    expect(flatness(slow, 10)).toBe('flat');
    expect(flatness(slow, 1)).toBe('flat');
    expect(flatness(slopeOf(points((at) => 20 + at / 200)), 1)).toBe('growing');
    expect(flatness(slopeOf(points((at) => at, 60)), 1)).toBe('too short to say');
  });

  it('follow a heap by what is left after it was collected', () => {
    const sawtooth = (at: number) => 50 + (at % 16) * 4;
    expect(flatness(slopeOf(points(sawtooth), 'minimum'), 5)).toBe('flat');
    expect(
      flatness(
        slopeOf(
          points((at) => sawtooth(at) + at / 20),
          'minimum',
        ),
        5,
      ),
    ).toBe('growing');
  });
});

describe('dead rows', () => {
  /** A table that takes 400 rows a second and changes each three times, vacuumed every `roundSeconds`. */
  const readings = (roundSeconds: number, seconds: number) =>
    Array.from({ length: seconds / 10 }, (_, index) => {
      const at = (index + 1) * 10;
      const sinceVacuum = at % roundSeconds;
      const [live, died] = [400 * at, 1_200 * at];
      const sizes = { inserted: live, totalBytes: 0, indexBytes: 0, autovacuums: 0 };
      return [{ at, name: 'jobs', live, dead: 1_200 * sinceVacuum, died, ...sizes }];
    });

  it('are no neglect before autovacuum can have looked, in however young a table', () => {
    const { jobs } = deadShares(readings(60, 600), ['jobs']);
    expect(jobs?.worst).toBeGreaterThan(0.5);
    expect(jobs?.left).toBe(0);
  });

  it('are distinguished from neglect', () => {
    const { jobs } = deadShares(readings(1_000_000, 600), ['jobs']);
    expect(jobs?.left).toBeGreaterThan(0.5);
  });

  it('of a table that is small, or was not watched for so long, are not judged', () => {
    expect(deadShares(readings(60, 110), ['jobs']).jobs?.left).toBeNull();
    expect(deadShares(readings(60, 600).slice(0, 1), ['jobs'])).toEqual({});
  });
});

describe('the histogram', () => {
  it('keeps quantiles within its 2 %, alone and put together', () => {
    const [one, other] = [new Histogram(), new Histogram()];
    for (let ms = 1; ms <= 1_000; ms++) (ms % 2 === 0 ? one : other).add(ms);
    one.merge(Histogram.from(other.buckets()));
    expect(one.total).toBe(1_000);
    for (const share of [0.5, 0.9, 0.99]) {
      expect(one.quantile(share)).toBeGreaterThanOrEqual(share * 1_000);
      expect(one.quantile(share)).toBeLessThanOrEqual(share * 1_000 * 1.03);
    }
    expect(new Histogram().quantile(0.5)).toBeNull();
  });
});
