import { Registry } from 'prom-client';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type AuditedRequest, AuditTrail } from '../../../api/audit/audit-trail.ts';
import type { Queryable } from '../../../shared/db/pool.ts';

interface Row {
  readonly actor: string;
  readonly action: string;
  readonly detail: ReturnType<typeof JSON.parse>;
}

/** Stands where PostgreSQL does; `answer` decides what a statement does. */
function fakeDatabase(answer: () => Promise<unknown> = async () => {}) {
  const rows: Row[] = [];
  let statements = 0;
  const query = async ({ values }: { values: string[][] }) => {
    statements++;
    await answer();
    const [actors = [], actions = [], , , , , details = []] = values;
    for (const [index, actor] of actors.entries())
      rows.push({ actor, action: actions[index] as string, detail: JSON.parse(details[index] as string) });
  };
  return { db: { query } as unknown as Queryable, rows, statements: () => statements };
}

const request = (values: Partial<AuditedRequest> = {}): AuditedRequest => ({
  keyId: null,
  presentedKey: null,
  scope: 'admin',
  method: 'POST',
  route: '/keys',
  status: 401,
  code: 'unauthenticated',
  address: '203.0.113.9',
  requestId: 'r',
  bySelectors: false,
  ...values,
});

const metric = async (registry: Registry, name: string) =>
  (await registry.getSingleMetric(name)?.get())?.values[0]?.value;

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

describe('a flood of refusals', () => {
  it('from one address becomes 30 rows and one summary, and every request is in one of them', async () => {
    const { db, rows } = fakeDatabase();
    const trail = new AuditTrail(db, new Registry(), () => {});
    for (let n = 0; n < 10_000; n++) trail.refused(request({ requestId: `r${n}` }), 0);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(rows).toHaveLength(30);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(rows).toHaveLength(31);
    expect(rows[30]).toMatchObject({
      actor: 'scaler',
      action: 'requests.refused',
      detail: {
        requests: 9_970,
        by_code: { unauthenticated: 9_970 },
        by_route: { 'POST /keys': 9_970 },
        first_request_id: 'r30',
        last_request_id: 'r9999',
        dropped_rows: 0,
      },
    });
    await vi.advanceTimersByTimeAsync(120_000);
    expect(rows).toHaveLength(31);
    await trail.close();
  });

  it('from everywhere becomes 300 rows and a summary of bounded size', async () => {
    const { db, rows } = fakeDatabase();
    const trail = new AuditTrail(db, new Registry(), () => {});
    for (let n = 0; n < 20_000; n++)
      trail.refused(request({ address: `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}` }), 0);
    await trail.close();
    expect(rows).toHaveLength(301);
    const { detail } = rows[300] as Row;
    expect(detail.requests).toBe(19_700);
    expect(Object.keys(detail.by_source)).toHaveLength(101);
    expect(detail.by_source['(others)']).toBe(19_600);
  });

  it('leaves rows for others, and comes to an end', async () => {
    const { db, rows } = fakeDatabase();
    const trail = new AuditTrail(db, new Registry(), () => {});
    for (let n = 0; n < 100; n++) trail.refused(request(), 0);
    trail.refused(request({ keyId: 'another' }), 0);
    trail.refused(request(), 2_000);
    await trail.close();
    expect(rows.filter((row) => row.action === 'request.refused')).toHaveLength(32);
    expect(rows.some((row) => row.actor === 'another')).toBe(true);
  });

  it('counts the whole of an IPv6 /56 as one', async () => {
    const { db, rows } = fakeDatabase();
    const trail = new AuditTrail(db, new Registry(), () => {});
    for (let n = 0; n < 200; n++) trail.refused(request({ address: `2001:db8::${n.toString(16)}` }), 0);
    await trail.close();
    expect(rows).toHaveLength(31);
  });
});

describe('accepted requests', () => {
  it('share rows, and each is in one of them with its key, scope, address and id', async () => {
    const { db, rows } = fakeDatabase();
    const trail = new AuditTrail(db, new Registry(), () => {});
    for (let n = 0; n < 450; n++)
      trail.accepted(request({ keyId: n % 2 === 0 ? 'even' : 'odd', status: 200, requestId: `r${n}` }));
    await vi.advanceTimersByTimeAsync(1_000);
    expect(rows.map(({ action, detail }) => [action, detail.requests])).toEqual([
      ['requests.accepted', 200],
      ['requests.accepted', 200],
    ]);
    await vi.advanceTimersByTimeAsync(6_000);
    expect(rows.map(({ detail }) => detail.requests)).toEqual([200, 200, 50]);
    const groups = rows.flatMap(({ detail }) => detail.by);
    expect(groups).toHaveLength(6);
    for (const { request_ids, ...named } of groups) {
      const key = Number(request_ids[0].slice(1)) % 2 === 0 ? 'even' : 'odd';
      expect(named).toEqual({ key, scope: 'admin', address: '203.0.113.9', method: 'POST', route: '/keys' });
    }
    const ids = groups.flatMap(({ request_ids }) => request_ids);
    expect(new Set(ids).size).toBe(450);
    expect(ids).toHaveLength(450);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(rows).toHaveLength(3);
    await trail.close();
  });
});

describe('while PostgreSQL hangs', () => {
  it('nothing waits, memory is bounded, and what is lost is counted', async () => {
    let open = () => {};
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const { db, rows, statements } = fakeDatabase(() => gate);
    const registry = new Registry();
    const trail = new AuditTrail(db, registry, () => {});
    // One a second from each of many addresses, so that no bucket is empty.
    for (let n = 0; n < 6_000; n++)
      trail.refused(request({ address: `10.0.${n >> 8}.${n & 255}` }), n * 1_000);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(statements()).toBe(1);
    expect(await metric(registry, 'scaler_audit_waiting')).toBe(5_000);
    expect(await metric(registry, 'scaler_audit_dropped_total')).toBe(1_000);
    open();
    await trail.close();
    expect(rows.filter((row) => row.action === 'request.refused')).toHaveLength(5_000);
    expect(rows.at(-1)).toMatchObject({ action: 'requests.refused', detail: { dropped_rows: 1_000 } });
  });

  it('rows are tried again when it fails', async () => {
    let away = true;
    const errors: unknown[] = [];
    const { db, rows } = fakeDatabase(async () => {
      if (away) throw new Error('away');
    });
    const trail = new AuditTrail(db, new Registry(), (error) => errors.push(error));
    trail.refused(request(), 0);
    await vi.advanceTimersByTimeAsync(5_000);
    expect(rows).toHaveLength(0);
    expect(errors.length).toBeGreaterThan(1);
    away = false;
    await vi.advanceTimersByTimeAsync(2_000);
    expect(rows).toHaveLength(1);
    await trail.close();
  });
});
