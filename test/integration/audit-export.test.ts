import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { get, type IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { verifyFile } from '../../api/audit/verify-export.ts';
import { audit } from '../../shared/db/audit-store.ts';
import { projectRoot } from '../../shared/project-root.ts';
import { forFile } from '../support/for-file.ts';
import { startTestApi } from '../support/test-api.ts';

const api = forFile(await startTestApi());
const { pool } = api;
const client = await api.client(['read', 'admin']);
const folder = mkdtempSync(join(tmpdir(), 'scaler-export-'));
const resource = randomUUID();

beforeAll(async () => {
  for (let n = 0; n < 3; n++) await events(resource, 2);
  await events(randomUUID(), 2);
  const who = { actor: 'k1', subject: 's', request_id: 'r', remote_address: '::1' };
  for (const resource_id of [null, resource, null, randomUUID()])
    await audit(pool, { ...who, resource_id, action: 'test.done', detail: { n: 1.5, text: 'größer' } });
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

async function events(id: string, n: number, db: Pick<pg.Pool, 'query'> = pool, length = 60): Promise<void> {
  await db.query(
    `insert into scaling_events (resource_id, phase, actor, new_instances, error_message)
      select $1, 'observed', 'w', n, repeat('x', $3) from generate_series(1, $2::integer) n`,
    [id, n, length],
  );
}

async function textOf(path: string) {
  const answer = await fetch(api.url + path, { headers: { authorization: `Bearer ${client.key}` } });
  return { status: answer.status, headers: answer.headers, text: await answer.text() };
}

async function exported(query: string) {
  const answer = await textOf(`/audit/export?${query}`);
  const lines = answer.status === 200 ? answer.text.split('\n').filter((line) => line !== '') : [];
  return { ...answer, rows: lines.map((line) => JSON.parse(line)) };
}

function fileOf(text: string): string {
  const file = join(folder, `${randomUUID()}.ndjson`);
  writeFileSync(file, text);
  return file;
}

/** The command as it is run. */
async function verify(args: readonly string[], url = ''): Promise<{ status: number; output: string }> {
  return await new Promise((resolve) => {
    const program = join(projectRoot(), 'dist/api/audit/verify.js');
    const env = { ...process.env, DATABASE_URL: url };
    execFile(process.execPath, [program, ...args], { env }, (error, stdout, stderr) =>
      resolve({ status: error === null ? 0 : Number(error.code), output: stdout + stderr }),
    );
  });
}

describe('GET /audit/export', () => {
  it('gives every row with its hashes, so that a file verifies without the database', async () => {
    for (const [table, prefix] of [
      ['events', 'events'],
      ['audit', 'audit'],
    ]) {
      const { status, headers, rows, text } = await exported(`table=${table}`);
      expect(status).toBe(200);
      expect(headers.get('content-type')).toBe('application/x-ndjson; charset=utf-8');
      const { rows: stored } = await pool.query(
        `select count(*)::integer as n from ${table === 'events' ? 'scaling_events' : 'audit_log'}`,
      );
      expect(rows.length).toBe(stored[0].n);
      expect(rows[0].chain).toMatch(new RegExp(`^${prefix}:`));
      expect(await verifyFile(fileOf(text))).toMatchObject({ ok: true, rows: rows.length });
    }
  });

  it('goes on after a row, stops at a limit, and keeps to one resource or to the rows without one', async () => {
    const all = (await exported('table=events')).rows.map((row) => row.row.seq);
    const part = await exported(`table=events&after=${all[2]}&limit=3`);
    expect(part.rows.map((row) => row.row.seq)).toEqual(all.slice(3, 6));
    expect((await exported(`table=events&after=${all.at(-1)}`)).rows).toEqual([]);

    const one = await exported(`table=events&resource_id=${resource}`);
    expect(one.rows.map((row) => row.row.chain_no)).toEqual(['1', '2', '3', '4', '5', '6']);
    const rest = await exported(`table=events&resource_id=${resource}&after=${one.rows[3].row.seq}`);
    expect(rest.rows).toEqual(one.rows.slice(4));
    expect(await verifyFile(fileOf(rest.text))).toMatchObject({ ok: true, rows: 2 });

    const global = await exported('table=audit&resource_id=global');
    expect(global.rows.length).toBeGreaterThanOrEqual(2);
    expect(
      global.rows.every((row) => row.chain === 'audit:global' && row.row.resource_id === undefined),
    ).toBe(true);
  });

  it('misses nothing that commits late: it waits for whoever holds a lower number', async () => {
    const writer = await pool.connect();
    try {
      await writer.query('begin');
      const late = randomUUID();
      await events(late, 1, writer);
      const early = randomUUID();
      await events(early, 1);
      let done = false;
      const answer = exported('table=events').finally(() => {
        done = true;
      });
      // It looks at the writer again and again: once it has done so, it did not begin without it.
      const looks = vi.spyOn(pool, 'query');
      await expect
        .poll(() => looks.mock.calls.filter(([sql]) => String(sql).includes('pg_locks')).length)
        .toBeGreaterThan(3);
      looks.mockRestore();
      expect(done).toBe(false);
      await writer.query('commit');
      const chains = (await answer).rows.map((row) => row.chain);
      expect(chains.slice(-2)).toEqual([`events:${late}`, `events:${early}`]);
    } finally {
      writer.release();
    }
  });

  it.each([
    ['table=users', 400],
    ['', 400],
    ['table=events&after=-1', 400],
    ['table=events&limit=0', 400],
    ['table=events&resource_id=nobody', 400],
    ['table=events&bogus=1', 400],
  ])('refuses %j', async (query, status) => {
    expect((await exported(query)).status).toBe(status);
  });
});

describe('npm run audit:verify', () => {
  it('tells a sound export, a changed one, a cut one and a file that is none apart by its status', async () => {
    const { text, rows } = await exported(`table=events&resource_id=${resource}`);
    const sound = await verify(['--file', fileOf(text), '--json']);
    expect(sound.status).toBe(0);
    expect(JSON.parse(sound.output)).toMatchObject({ ok: true, rows: 6, chains: 1, findings: [] });

    const changed = await verify([
      '--file',
      fileOf(text.replace('"new_instances":"2"', '"new_instances":"3"')),
    ]);
    expect(changed).toMatchObject({
      status: 1,
      output: expect.stringContaining(`events:${resource} position 2 (row ${rows[1].row.id}): changed`),
    });
    const without = text
      .split('\n')
      .filter((_, n) => n !== 2)
      .join('\n');
    expect(await verify(['--file', fileOf(without)])).toMatchObject({
      status: 1,
      output: expect.stringContaining('position 4'),
    });
    expect(await verify(['--file', fileOf(text.slice(0, -30))])).toMatchObject({ status: 2 });
    expect(await verify(['--file', join(folder, 'nothing')])).toMatchObject({ status: 2 });
    expect(await verify([])).toMatchObject({ status: 2, output: expect.stringContaining('DATABASE_URL') });
    expect(await verify(['--resource', 'x', '--file', fileOf(text)])).toMatchObject({ status: 2 });
    expect(await verify(['--help'])).toMatchObject({ status: 0, output: expect.stringContaining('Usage') });
  });

  it('compares the database, or an export, with heads that were kept elsewhere', async () => {
    const heads = (await textOf('/audit/heads')).text;
    const kept = fileOf(heads);
    expect(heads).toContain(`"events:${resource}"`);
    expect(await verify(['--head', kept], api.environment.DATABASE_URL)).toMatchObject({ status: 0 });
    const { text } = await exported('table=events');
    expect(await verify(['--file', fileOf(text), '--head', kept])).toMatchObject({ status: 0 });
    const short = text
      .trimEnd()
      .split('\n')
      .filter((line) => !line.includes(`"events:${resource}"`) || !line.includes('"chain_no":"6"'))
      .join('\n');
    expect(await verify(['--file', fileOf(short)])).toMatchObject({ status: 0 });
    expect(await verify(['--file', fileOf(short), '--head', kept])).toMatchObject({
      ...{ status: 1, output: expect.stringContaining(`events:${resource} position 6: truncated`) },
    });
    const forged = fileOf(heads.replace(/"hash":"[0-9a-f]{8}/g, '"hash":"00000000'));
    expect(await verify(['--head', forged], api.environment.DATABASE_URL)).toMatchObject({
      ...{ status: 1, output: expect.stringContaining('rewritten') },
    });
  });
});

describe('GET /audit', () => {
  it('lists entries newest first, page by page, by resource, actor and action', async () => {
    const seen: number[] = [];
    let cursor: string | null = '';
    do {
      const path: string = `/audit?limit=2${cursor === '' ? '' : `&cursor=${cursor}`}`;
      const { body } = await client.get(path);
      for (const entry of body.entries) seen.push(entry.id);
      cursor = body.cursor;
    } while (cursor !== null);
    expect(seen).toEqual(seen.toSorted((a, b) => b - a));
    expect(new Set(seen).size).toBe(seen.length);
    expect(seen.length).toBeGreaterThanOrEqual(4);
    const { body } = await client.get(`/audit?resource_id=${resource}&action=test.done&actor=k1`);
    expect(body).toMatchObject({
      ...{ count: 1, cursor: null },
      entries: [{ resource_id: resource, actor: 'k1', chain_no: 1, detail: { n: 1.5, text: 'größer' } }],
    });
    expect((await client.get('/audit?actor=nobody')).body).toMatchObject({ count: 0 });
  });

  it.each(['/audit', '/audit/export?table=events', '/audit/heads', '/settings/min-worker-version'])(
    '%s is for admins who may see everything',
    async (path) => {
      const reader = await api.key(['read', 'decide', 'execute']);
      expect((await api.as(reader).get(path)).status).toBe(403);
      const some = await api
        .as(await api.key(['admin']))
        .post('/keys', { name: 'some', scopes: ['admin'], selectors: [{ resource_id: resource }] });
      expect(some.status).toBe(201);
      expect((await api.as(some.body.key).get(path)).status).toBeGreaterThanOrEqual(403);
    },
  );
});

describe('a long export', () => {
  it('reads on only as fast as it is read, and stops when the reader goes', async () => {
    await events(randomUUID(), 6_000, pool, 4_000);
    const pages = vi.spyOn(pool, 'connect');
    const open = async () =>
      await new Promise<IncomingMessage>((resolve, reject) => {
        const options = { headers: { authorization: `Bearer ${client.key}` } };
        get(`${api.url}/audit/export?table=events`, options, resolve).on('error', reject);
      });
    const settled = async () => {
      let before = -1;
      await expect
        .poll(
          () => {
            const same = pages.mock.calls.length === before;
            before = pages.mock.calls.length;
            return same;
          },
          { interval: 300, timeout: 20_000 },
        )
        .toBe(true);
      return pages.mock.calls.length;
    };
    const slow = await open();
    slow.pause();
    const whilePaused = await settled();
    let bytes = 0;
    for await (const chunk of slow) bytes += (chunk as Buffer).length;
    const whole = pages.mock.calls.length;
    expect(bytes).toBeGreaterThan(10_000_000);
    expect(whole).toBeGreaterThanOrEqual(12);
    expect(whilePaused).toBeLessThan(whole * 0.75);

    pages.mockClear();
    const gone = await open();
    gone.on('error', () => {});
    gone.destroy();
    expect(await settled()).toBeLessThan(whole * 0.75);
    expect(await pool.query('select 1')).toBeDefined();
    pages.mockRestore();
  });
});
