import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type pg from 'pg';
import { afterAll, describe, expect, it } from 'vitest';
import { exportHeads, exportRows } from '../../api/audit/audit-export-store.ts';
import { rowHash } from '../../api/audit/hash-chain.ts';
import { verifyDatabase } from '../../api/audit/verify.ts';
import { readHeads } from '../../api/audit/verify-export.ts';
import { audit } from '../../shared/db/audit-store.ts';
import { withTransaction } from '../../shared/db/pool.ts';
import { appendEvent } from '../../worker/execute/events-store.ts';
import { forFile } from '../support/for-file.ts';
import { openTestPool } from '../support/test-database.ts';

const { pool, url } = forFile(await openTestPool());
const folder = mkdtempSync(join(tmpdir(), 'scaler-audit-'));
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

async function event(db: Pick<pg.Pool, 'query'>, resource: string, n = 0): Promise<void> {
  await appendEvent(db, {
    resource_id: resource,
    phase: 'observed',
    previous_instances: n,
    new_instances: n + 1,
    error_message: `größer, "${n}"`,
    epoch: '9007199254740993',
    actor: 'worker-1',
  });
}

const entry = (resource: string | null, detail: Record<string, unknown> = {}) => ({
  actor: 'key',
  action: 'resource.updated',
  resource_id: resource,
  request_id: 'r-1',
  remote_address: '127.0.0.1',
  detail,
});

/** A resource with five events. */
async function seedChain(): Promise<string> {
  const resource = randomUUID();
  for (let n = 0; n < 5; n++) await event(pool, resource, n);
  return resource;
}

/** Changes history as somebody can who owns everything and switches off every guard. */
async function tamper(sql: string): Promise<void> {
  await withTransaction(pool, async (tx) => {
    await tx.query('alter table scaling_events disable trigger all');
    await tx.query('alter table audit_log disable trigger all');
    await tx.query(`set local timezone = 'UTC'`);
    await tx.query(sql);
    await tx.query('alter table scaling_events enable trigger all');
    await tx.query(
      'alter table scaling_events enable always trigger scaling_events_append_only, enable always trigger scaling_events_no_truncate',
    );
    await tx.query('alter table audit_log enable trigger all');
    await tx.query(
      'alter table audit_log enable always trigger audit_log_append_only, enable always trigger audit_log_no_truncate',
    );
  });
}

const rehash = `audit_hash('scaling_events', to_jsonb(e) - 'hash' || jsonb_build_object('prev_hash', encode(e.prev_hash, 'hex')))`;

/** Writes the chain's hashes again from a position on, and its head: everything the database itself can check agrees. */
async function rewriteTail(resource: string, from: number): Promise<void> {
  await tamper(`do $$ declare e scaling_events; before bytea; begin
    select hash into before from scaling_events where resource_id = '${resource}' and chain_no = ${from - 1};
    for e in select * from scaling_events where resource_id = '${resource}' and chain_no >= ${from} order by chain_no loop
      e.prev_hash := coalesce(before, e.prev_hash);
      e.hash := ${rehash};
      update scaling_events set prev_hash = e.prev_hash, hash = e.hash where id = e.id;
      before := e.hash;
    end loop;
    update audit_heads set hash = before where chain = 'events:${resource}';
  end $$`);
}

const faultsOf = async (resource: string) =>
  (await verifyDatabase(url, { resource })).findings.map(({ chain, position, fault }) =>
    `${chain === `events:${resource}` ? '' : chain} ${position} ${fault}`.trim(),
  );

describe('the chain of history', () => {
  it('numbers the rows of each resource without gaps and links each to the one before, whatever the application says', async () => {
    const resource = randomUUID();
    await pool.query(
      `insert into scaling_events (resource_id, phase, actor, chain_no, prev_hash, hash) values ($1, 'control', 'liar', 7, $2, $2)`,
      [resource, Buffer.alloc(32, 1)],
    );
    await event(pool, resource);
    const { rows } = await pool.query(
      `select chain_no::integer, encode(prev_hash, 'hex') as prev_hash, encode(hash, 'hex') as hash from scaling_events
        where resource_id = $1 order by chain_no`,
      [resource],
    );
    expect(rows.map((row) => row.chain_no)).toEqual([1, 2]);
    expect(rows[0].prev_hash).toBe('0'.repeat(64));
    expect(rows[1].prev_hash).toBe(rows[0].hash);
  });

  it('gives the same hash in PostgreSQL and here, over every column and awkward value', async () => {
    const resource = randomUUID();
    await event(pool, resource, 3);
    await audit(
      pool,
      entry(resource, {
        text: 'a "b" \n ü 𝄞',
        number: 1.5,
        big: 12345678901234567890n.toString(),
        none: null,
        list: [1, [2]],
      }),
    );
    await pool.query(
      `insert into audit_log (actor, action, detail) values ('k', 'x', '{"exact": 1.00, "large": 123456789012345678901234567890}')`,
    );
    for (const table of ['scaling_events', 'audit_log'] as const) {
      for await (const rows of exportRows(pool, { table, after: '0', limit: 10_000 })) {
        for (const row of rows) expect(rowHash(row)).toBe(row.hash);
      }
    }
    const columns = await pool.query(
      `select distinct data_type from information_schema.columns where table_name in ('scaling_events', 'audit_log')`,
    );
    // Others may be written differently under other settings, and so hash differently: see docs/explanation/audit.md before adding one.
    expect(columns.rows.map((row) => row.data_type).sort()).toEqual(
      ['bigint', 'boolean', 'bytea', 'integer', 'jsonb', 'text', 'timestamp with time zone', 'uuid'].sort(),
    );
  });

  it('hashes the same whatever the session that writes has set', async () => {
    const resource = randomUUID();
    await withTransaction(pool, async (tx) => {
      await tx.query(`set local timezone = 'Asia/Kathmandu'`);
      await tx.query(`set local datestyle = 'German'`);
      await tx.query(`set local bytea_output = 'escape'`);
      await tx.query(
        'create temporary table audit_heads (chain text primary key, length bigint, hash bytea) on commit drop',
      );
      await event(tx, resource);
    });
    expect(await faultsOf(resource)).toEqual([]);
  });

  it('stays one chain under many writers at once, in transactions that touch several resources in either order', async () => {
    const resources = [randomUUID(), randomUUID(), randomUUID()];
    await Promise.all(
      Array.from({ length: 60 }, async (_, n) => {
        const order = resources.toSorted();
        await withTransaction(pool, async (tx) => {
          for (const resource of order) await event(tx, resource, n);
          await audit(tx, entry(null));
          if (n % 7 === 0) throw new Error('rolled back');
        }).catch((error: Error) => {
          if (error.message !== 'rolled back') throw error;
        });
      }),
    );
    const { rows } = await pool.query(
      `select count(*)::integer as n, max(chain_no)::integer as last, count(distinct chain_no)::integer as places from scaling_events
        where resource_id = any ($1) group by resource_id`,
      [resources],
    );
    expect(rows).toEqual(Array.from({ length: 3 }, () => ({ n: 51, last: 51, places: 51 })));
    const result = await verifyDatabase(url);
    expect(result).toMatchObject({ ok: true, findings: [] });
  });

  it('leaves no gap for a row that a statement did not insert after all', async () => {
    const resource = randomUUID();
    await event(pool, resource);
    await pool.query(
      `insert into scaling_events (id, resource_id, phase, actor) select coalesce(e.id, gen_random_uuid()), $1::uuid, 'control', 'w'
        from generate_series(1, 4) n left join scaling_events e on e.resource_id = $1 and n = 2 on conflict do nothing`,
      [resource],
    );
    await event(pool, resource);
    const result = await verifyDatabase(url, { resource });
    expect(result).toMatchObject({ ok: true, rows: 5 });
  });

  it('numbers the rows of one statement in their order', async () => {
    const resource = randomUUID();
    await pool.query(
      `insert into scaling_events (resource_id, phase, actor, new_instances) select $1, 'observed', 'w', n from generate_series(1, 2500) n`,
      [resource],
    );
    const result = await verifyDatabase(url, { resource });
    expect(result).toMatchObject({ ok: true, rows: 2500, chains: 1 });
    // The chain of rows without a resource finds its end in the index as well: else this takes minutes.
    await pool.query(
      `insert into audit_log (actor, action) select 'key', 'refused' from generate_series(1, 2500)`,
    );
    expect(await verifyDatabase(url, { resource: 'global' })).toMatchObject({ ok: true });
  });
});

describe('history that was tampered with', () => {
  const row = (no: number) => `where resource_id = $1 and chain_no = ${no}`;
  const changed = (no: number, set: string) => `update scaling_events set ${set} ${row(no)}`;
  const deleted = (no: number) => `delete from scaling_events ${row(no)}`;

  it.each<[string, string, string[]]>([
    ['a field', changed(3, 'new_instances = 99'), ['3 changed']],
    ['a field to null', changed(3, 'epoch = null'), ['3 changed']],
    [
      'a time by a microsecond',
      changed(2, `created_at = created_at + interval '1 microsecond'`),
      ['2 changed'],
    ],
    ['a row in the middle deleted', deleted(3), ['4 missing']],
    ['the first row deleted', deleted(1), ['2 missing']],
    ['the last row deleted', deleted(5), ['5 truncated']],
    ['all rows deleted', `delete from scaling_events where resource_id = $1`, ['5 truncated']],
    [
      'two rows swapped',
      `update scaling_events set chain_no = chain_no + 1000 where resource_id = $1 and chain_no in (2, 3);
      update scaling_events set chain_no = 1005 - chain_no where resource_id = $1 and chain_no > 1000`,
      ['2 changed', '2 broken_link', '3 reordered', '3 changed', '3 broken_link', '4 broken_link'],
    ],
    [
      'a row put in',
      `update scaling_events set chain_no = chain_no + 1000 where resource_id = $1 and chain_no >= 3;
      update scaling_events set chain_no = chain_no - 999 where resource_id = $1 and chain_no > 1000;
      insert into scaling_events (resource_id, phase, actor, chain_no, prev_hash, hash) select $1, 'control', 'ghost', 3, hash, hash
        from scaling_events where resource_id = $1 and chain_no = 2`,
      ['3 changed', '4 reordered', '4 changed', '5 changed', '6 changed', '6 head_mismatch'],
    ],
    [
      'one row changed and hashed again',
      `update scaling_events e set actor = 'nobody', hash = ${rehash.replace('to_jsonb(e)', `(to_jsonb(e) || '{"actor": "nobody"}')`)} where resource_id = $1 and chain_no = 3`,
      ['4 broken_link'],
    ],
    [
      'a row beyond the head',
      `insert into scaling_events (resource_id, phase, actor, chain_no, prev_hash, hash) select $1, 'control', 'ghost', 6, hash, hash
        from scaling_events where resource_id = $1 and chain_no = 5`,
      ['6 changed', '6 head_mismatch'],
    ],
    [
      'the head cut short',
      `update audit_heads set length = 4 where chain = 'events:' || $1::uuid`,
      ['5 head_mismatch'],
    ],
    ['the head gone', `delete from audit_heads where chain = 'events:' || $1::uuid`, ['5 head_mismatch']],
    ['a row given to another resource', changed(5, 'resource_id = gen_random_uuid()'), ['5 truncated']],
  ])('is found: %s', async (_, sql, expected) => {
    const resource = await seedChain();
    await tamper(sql.replaceAll('$1', `'${resource}'::uuid`));
    expect(await faultsOf(resource)).toEqual(expected);
  });
});

it.each([
  ['alter table audit_log disable trigger audit_log_append_only', 'audit:*'],
  ['alter table scaling_events enable replica trigger scaling_events_chain', 'events:*'],
  ['alter table scaling_events enable trigger scaling_events_append_only', 'events:*'],
  ['drop trigger audit_log_no_truncate on audit_log', 'audit:*'],
])('is told before it happens: %s', async (sql, chain) => {
  const own = await openTestPool();
  expect(await verifyDatabase(own.url)).toMatchObject({ ok: true });
  await own.pool.query(sql);
  expect((await verifyDatabase(own.url)).findings).toMatchObject([{ chain, fault: 'unguarded' }]);
  await own.close();
});

it('is found among everything else as well, and said of the right chain', async () => {
  const resource = await seedChain();
  const before = (await verifyDatabase(url)).findings_total;
  await tamper(`update scaling_events set actor = 'x' where resource_id = '${resource}' and chain_no = 2`);
  const after = await verifyDatabase(url);
  expect(after).toMatchObject({ ok: false, findings_total: before + 1 });
  expect(after.findings.filter((finding) => finding.chain === `events:${resource}`)).toHaveLength(1);
});

/** A copy of the heads, as an operator keeps it elsewhere. */
async function keepHeads(): Promise<string> {
  const lines: string[] = [];
  for await (const heads of exportHeads(pool))
    for (const head of heads) lines.push(JSON.stringify({ ...head, length: Number(head.length) }));
  const file = join(folder, `${randomUUID()}.ndjson`);
  writeFileSync(file, lines.join('\n'));
  return file;
}

describe('a chain written again as a whole', () => {
  it('is sound in itself, and is found by the heads kept elsewhere', async () => {
    const resource = await seedChain();
    const kept = await readHeads(await keepHeads());
    await event(pool, resource, 5);
    await tamper(
      `update scaling_events set actor = 'nobody' where resource_id = '${resource}' and chain_no = 2`,
    );
    await rewriteTail(resource, 2);
    expect(await verifyDatabase(url, { resource })).toMatchObject({ ok: true, rows: 6 });
    const { findings } = await verifyDatabase(url, { resource, known: kept });
    expect(findings).toMatchObject([{ chain: `events:${resource}`, position: '5', fault: 'rewritten' }]);
  });

  it('is found when it is gone with its head', async () => {
    const resource = await seedChain();
    const kept = await readHeads(await keepHeads());
    await tamper(
      `delete from scaling_events where resource_id = '${resource}'; delete from audit_heads where chain = 'events:${resource}'`,
    );
    expect(await verifyDatabase(url, { resource })).toMatchObject({ ok: true, rows: 0 });
    const { findings } = await verifyDatabase(url, { resource, known: kept });
    expect(findings).toMatchObject([{ chain: `events:${resource}`, position: '5', fault: 'truncated' }]);
  });
});
