import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { generateKey, scopes } from '../../shared/domain/api-key.ts';
import { seedDecision, seedResource } from '../support/seed.ts';
import { startTestApi, type TestApi } from '../support/test-api.ts';

let api: TestApi;
let all: string;

beforeAll(async () => {
  api = await startTestApi();
  all = await api.key([...scopes]);
});
afterAll(async () => {
  await api.close();
});

const idOf = (key: string) => key.split('_')[2] as string;
const rowsOf = async (requestId: string) =>
  (await api.api.deps.pool.query('select * from audit_log where request_id = $1 order by id', [requestId]))
    .rows;

/** A request with an id of its own, and the audit rows that name it. */
async function audited(method: string, path: string, options: Parameters<TestApi['call']>[2] = {}) {
  const requestId = randomUUID();
  const { headers, ...rest } = options;
  const answer = await api.call(method, path, {
    ...rest,
    headers: { 'x-request-id': requestId, ...headers },
  });
  return { answer, requestId, rows: () => rowsOf(requestId) };
}

const group = () => ({
  name: `asg-${randomUUID()}`,
  resource_type: 'ec2',
  cloud_provider: 'aws',
  min_instances: 1,
  max_instances: 20,
  current_instances: 4,
});

describe('what changes something', () => {
  it('is in the audit log when it is answered: key, scope, address, request id', async () => {
    const who = { actor: idOf(all), remote_address: '127.0.0.1' };
    const made = await audited('POST', '/resources', { key: all, body: group() });
    const detail = { scope: 'admin' };
    const id = made.answer.body.id;
    expect(await made.rows()).toMatchObject([
      { ...who, action: 'resource.created', resource_id: id, detail },
    ]);
    const changed = await audited('PATCH', `/resources/${id}`, {
      key: all,
      body: { max_instances: 21 },
      headers: { 'if-match': '"1"' },
    });
    expect(await changed.rows()).toMatchObject([{ ...who, action: 'resource.updated', detail }]);
    const gone = await audited('DELETE', `/resources/${id}`, { key: all });
    expect(await gone.rows()).toMatchObject([{ ...who, action: 'resource.deleted', detail }]);
    const key = await audited('POST', '/keys', {
      key: all,
      body: { name: 'x', scopes: ['read'], selectors: [{ provider: 'aws' }] },
    });
    expect(await key.rows()).toMatchObject([
      { ...who, action: 'key.created', detail: { ...detail, selectors: [{ provider: 'aws' }] } },
    ]);
  });

  it('or starts a job, is in the row of the job', async () => {
    const { pool } = api.api.deps;
    const resource = await seedResource(pool);
    const decide = await audited('POST', '/scale/decide', { key: all, body: { resource_id: resource } });
    expect(
      (await pool.query('select * from jobs where id = $1', [decide.answer.body.job_id])).rows,
    ).toMatchObject([
      { actor_key_id: idOf(all), request_id: decide.requestId, remote_address: '127.0.0.1', kind: 'decide' },
    ]);
    const execute = await audited('POST', '/scale/execute', {
      key: all,
      body: { decision_id: await seedDecision(pool, resource, 4, 5) },
    });
    expect(await execute.rows()).toMatchObject([
      { action: 'execute.requested', actor: idOf(all), detail: { scope: 'execute' } },
    ]);
  });

  it('is undone with its audit row, never kept without one', async () => {
    const { pool } = api.api.deps;
    await pool.query(
      `create function no_audit() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
       create trigger no_audit before insert on audit_log for each row when (new.action = 'resource.created') execute function no_audit()`,
    );
    const body = group();
    expect((await api.call('POST', '/resources', { key: all, body })).status).toBe(500);
    await pool.query('drop trigger no_audit on audit_log');
    expect((await pool.query('select 1 from resources where name = $1', [body.name])).rowCount).toBe(0);
  });
});

describe('what is refused', () => {
  const refused = async (
    made: Awaited<ReturnType<typeof audited>>,
    expected: Record<string, unknown>,
    actor: string = idOf(all),
  ) => {
    await expect.poll(made.rows, { timeout: 3_000 }).toHaveLength(1);
    expect((await made.rows())[0]).toMatchObject({
      action: 'request.refused',
      actor,
      remote_address: '127.0.0.1',
      detail: { status: made.answer.status, ...expected },
    });
  };

  it('is in the log with its code, whatever the reason', async () => {
    const { pool } = api.api.deps;
    const foreign = await seedResource(pool);
    const limited = await api.key([...scopes], 1, [{ name: 'nothing' }]);
    const reader = await api.key(['read']);
    const stranger = generateKey();
    await refused(
      await audited('POST', '/keys', { key: stranger.key, body: {} }),
      { code: 'unauthenticated', presented_key: stranger.id, method: 'POST', route: '/keys', scope: 'admin' },
      'anonymous',
    );
    await refused(
      await audited('GET', '/jobs'),
      { code: 'unauthenticated', presented_key: null, scope: 'read' },
      'anonymous',
    );
    await refused(
      await audited('GET', '/keys', { key: reader }),
      { code: 'forbidden', scope: 'admin' },
      idOf(reader),
    );
    await refused(
      await audited('GET', `/resources/${foreign}`, { key: limited }),
      { code: 'resource_not_found', by_selectors: true, route: '/resources/:id' },
      idOf(limited),
    );
    await refused(await audited('POST', '/scale/decide', { key: all, body: {} }), {
      code: 'invalid_request',
    });
    await refused(await audited('POST', '/scale/decide', { key: all, body: { resource_id: randomUUID() } }), {
      code: 'resource_not_found',
      by_selectors: false,
    });
    const body = group();
    await api.call('POST', '/resources', { key: all, body });
    await refused(await audited('POST', '/resources', { key: all, body }), { code: 'resource_exists' });
    await refused(
      await audited('DELETE', '/nothing', { key: all }),
      { code: 'not_found', route: 'other' },
      'anonymous',
    );
    await refused(
      await audited('POST', '/admin/queues/login', { key: reader, raw: '' }),
      { code: 'forbidden' },
      idOf(reader),
    );
  });

  it('is not, when it only asked for what does not exist', async () => {
    const asked = await audited('GET', `/jobs/${randomUUID()}`, { key: all });
    expect(asked.answer.status).toBe(404);
    await refused(await audited('GET', '/jobs'), {}, 'anonymous');
    expect(await asked.rows()).toEqual([]);
  });

  it('is written when the API stops, with what was accepted', async () => {
    const other = await startTestApi();
    const key = await other.key([...scopes]);
    const { headers } = await other.call('POST', '/resources', { key, body: group() });
    await other.call('POST', '/resources', { key, body: {} });
    const { pool } = other.api.deps;
    await other.api.deps.auditTrail.close();
    const { rows } = await pool.query('select action, detail from audit_log order by id');
    expect(rows.map((row) => row.action)).toEqual([
      'resource.created',
      'request.refused',
      'requests.accepted',
    ]);
    expect(rows[2].detail).toMatchObject({
      requests: 1,
      by: [
        {
          key: idOf(key),
          scope: 'admin',
          address: '127.0.0.1',
          method: 'POST',
          route: '/resources',
          request_ids: [headers.get('x-request-id')],
        },
      ],
    });
    await other.close();
  });
});
