import { randomUUID } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { generateKey } from '../../api/keys/api-key.ts';
import { scopes } from '../../shared/domain/api-key.ts';
import { forFile } from '../support/for-file.ts';
import { seedDecision, seedResource } from '../support/seed.ts';
import { newGroup, startTestApi, type TestApi } from '../support/test-api.ts';

const api = forFile(await startTestApi());
const { pool } = api;
const all = await api.client();

const idOf = (key: string) => key.split('_')[2] as string;
const rowsOf = async (requestId: string) =>
  (await pool.query('select * from audit_log where request_id = $1 order by id', [requestId])).rows;

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

describe('what changes something', () => {
  it('is in the audit log when it is answered: key, scope, address, request id', async () => {
    const who = { actor: idOf(all.key), remote_address: '127.0.0.1' };
    const made = await audited('POST', '/resources', { key: all.key, body: newGroup() });
    const detail = { scope: 'admin' };
    const id = made.answer.body.id;
    expect(await made.rows()).toMatchObject([
      { ...who, action: 'resource.created', resource_id: id, detail },
    ]);
    const changed = await audited('PATCH', `/resources/${id}`, {
      key: all.key,
      body: { max_instances: 21 },
      headers: { 'if-match': '"1"' },
    });
    expect(await changed.rows()).toMatchObject([{ ...who, action: 'resource.updated', detail }]);
    const gone = await audited('DELETE', `/resources/${id}`, { key: all.key });
    expect(await gone.rows()).toMatchObject([{ ...who, action: 'resource.deleted', detail }]);
    const key = await audited('POST', '/keys', {
      key: all.key,
      body: { name: 'x', scopes: ['read'], selectors: [{ provider: 'aws' }] },
    });
    expect(await key.rows()).toMatchObject([
      { ...who, action: 'key.created', detail: { ...detail, selectors: [{ provider: 'aws' }] } },
    ]);
  });

  it('or starts a job, is in the row of the job', async () => {
    const resource = await seedResource(pool);
    const decide = await audited('POST', '/scale/decide', { key: all.key, body: { resource_id: resource } });
    const jobs = await pool.query('select * from jobs where id = $1', [decide.answer.body.job_id]);
    expect(jobs.rows).toMatchObject([
      {
        actor_key_id: idOf(all.key),
        request_id: decide.requestId,
        remote_address: '127.0.0.1',
        kind: 'decide',
      },
    ]);
    const execute = await audited('POST', '/scale/execute', {
      key: all.key,
      body: { decision_id: await seedDecision(pool, resource, 4, 5) },
    });
    expect(await execute.rows()).toMatchObject([
      { action: 'execute.requested', actor: idOf(all.key), detail: { scope: 'execute' } },
    ]);
  });

  it('is undone with its audit row, never kept without one', async () => {
    const scope = 'scope:aws:eu-west-1';
    const state = async () =>
      (
        await pool.query(
          `select (select jsonb_agg(r order by id) from resources r) as resources, (select jsonb_agg(f order by id) from freezes f) as freezes,
            (select jsonb_agg(to_jsonb(k) - 'last_used_at' order by id) from api_keys k) as keys, (select jsonb_agg(c order by scope) from controls c) as controls,
            (select jsonb_agg(l order by scope) from fleet_limits l) as limits, (select jsonb_agg(h order by scope) from fleet_holds h) as holds,
            (select jsonb_agg(s) from fleet_settings s) as settings`,
        )
      ).rows;
    await pool.query(
      `insert into fleet_holds (scope, held_until, quiet_until, wanting, resources) values ($1, now() + interval '1 hour', now() + interval '1 hour', 10, 10)`,
      [scope],
    );
    await pool.query(`create table no_audit_of (action text);
      create function no_audit() returns trigger language plpgsql as $$
        begin if exists (select 1 from no_audit_of where action = new.action) then raise exception 'no'; end if; return new; end $$;
      create trigger no_audit before insert on audit_log for each row execute function no_audit()`);
    const who = { actor: idOf(all.key), remote_address: '127.0.0.1' };
    /** Refused as long as it cannot be audited, and then done. @returns its answer. */
    const twice = async (action: string, method: string, path: string, body?: object) => {
      const headers = { 'if-match': '"1"' };
      const options = { key: all.key, ...(body === undefined ? {} : { body, headers }) };
      await pool.query('insert into no_audit_of values ($1)', [action]);
      const before = await state();
      expect({ action, status: (await api.call(method, path, options)).status }).toEqual({
        action,
        status: 500,
      });
      expect(await state()).toEqual(before);
      await pool.query('delete from no_audit_of');
      const done = await audited(method, path, options);
      expect(await done.rows()).toMatchObject([{ ...who, action, detail: { scope: 'admin' } }]);
      expect(await state()).not.toEqual(before);
      return done.answer.body;
    };
    const reason = { reason: 'a test' };
    const { id } = await twice('resource.created', 'POST', '/resources', newGroup());
    await twice('resource.updated', 'PATCH', `/resources/${id}`, { max_instances: 30 });
    await twice('resource.deleted', 'DELETE', `/resources/${id}`);
    const made = await twice('key.created', 'POST', '/keys', { name: 'x', scopes: ['read'] });
    const rotated = await twice('key.rotated', 'POST', `/keys/${made.id}/rotate`, { overlap_seconds: 60 });
    await twice('key.revoked', 'DELETE', `/keys/${rotated.id}`);
    const control = `/controls/${scope}`;
    await twice('control.stopped', 'PUT', control, { stopped: true, ...reason });
    const asked = await twice('control.release_asked', 'PUT', control, { stopped: false, ...reason });
    const { release_code } = asked;
    await twice('control.released', 'PUT', control, { stopped: false, release_code, ...reason });
    const window = { scope, schedule: '0 0 * * *', duration_minutes: 5, time_zone: 'Europe/Berlin' };
    const freeze = await twice('freeze.created', 'POST', '/freezes', { ...window, ...reason });
    await twice('freeze.deleted', 'DELETE', `/freezes/${freeze.id}?reason=a+test`);
    await twice('fleet_limits.set', 'PUT', `/fleet-limits/${scope}`, { scale_in_percent: 5, ...reason });
    await twice('fleet_limits.deleted', 'DELETE', `/fleet-limits/${scope}?reason=a+test`);
    await twice('fleet.released', 'POST', `/fleet-holds/${scope}/release`, reason);
    const setting = { min_worker_version: 1, ...reason };
    await twice('fleet.min_worker_version', 'PUT', '/settings/min-worker-version', setting);
  });
});

describe('what is refused', () => {
  const refused = async (
    made: Awaited<ReturnType<typeof audited>>,
    expected: Record<string, unknown>,
    actor: string = idOf(all.key),
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
    await refused(await audited('POST', '/scale/decide', { key: all.key, body: {} }), {
      code: 'invalid_request',
    });
    await refused(
      await audited('POST', '/scale/decide', { key: all.key, body: { resource_id: randomUUID() } }),
      { code: 'resource_not_found', by_selectors: false },
    );
    const body = newGroup();
    await all.post('/resources', body);
    await refused(await audited('POST', '/resources', { key: all.key, body }), { code: 'resource_exists' });
    await refused(
      await audited('DELETE', '/nothing', { key: all.key }),
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
    const asked = await audited('GET', `/jobs/${randomUUID()}`, { key: all.key });
    expect(asked.answer.status).toBe(404);
    await refused(await audited('GET', '/jobs'), {}, 'anonymous');
    expect(await asked.rows()).toEqual([]);
  });

  it('is written when the API stops, with what was accepted', async () => {
    const other = await startTestApi();
    const key = await other.key([...scopes]);
    const { headers } = await other.as(key).post('/resources', newGroup());
    await other.as(key).post('/resources', {});
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
