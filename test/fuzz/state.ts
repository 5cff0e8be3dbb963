import type pg from 'pg';

/**
 * Not compared as a whole, for a refused request is to be written down. What `audit_log` says besides refusals and counts of
 * requests is compared: no refused request may be recorded as done. `audit_heads` is the end of its chain, and follows it.
 */
const written = new Set(['audit_heads', 'audit_log']);
const requestRows = `('request.refused', 'requests.refused', 'requests.accepted')`;

/**
 * Every table's row count and a hash of its contents and of the transactions that wrote them, so that a row written again
 * as it was shows, too. A key's row only counts by what it says but for when it was last used: that is written for
 * refused requests as well. `idempotency_keys` is in it: a refused request keeps no key.
 */
export async function stateOf(pool: pg.Pool): Promise<Readonly<Record<string, string>>> {
  const { rows } = await pool.query<{ name: string }>(
    `select tablename as name from pg_tables where schemaname = 'public' order by tablename`,
  );
  const tables = rows.map((row) => row.name).filter((name) => !written.has(name));
  const parts = [
    ...tables.map((name) => hashOf(name, `from "${name}" t`)),
    hashOf('audit_log', `from audit_log t where action not in ${requestRows}`),
  ];
  const states = await pool.query<{ name: string; state: string }>(parts.join(' union all '));
  return Object.fromEntries(states.rows.map((row) => [row.name, row.state]));
}

function hashOf(name: string, from: string): string {
  const writer = name === 'api_keys' ? '' : ` || ' ' || t.xmin::text`;
  return `select '${name}' as name, count(*)::text || ' ' ||
    coalesce(sum(hashtextextended((to_jsonb(t) - 'last_used_at')::text${writer}, 7))::text, '') as state ${from}`;
}

/** The tables that two states do not agree on. */
export function changedTables(
  before: Readonly<Record<string, string>>,
  after: Readonly<Record<string, string>>,
): string[] {
  return Object.keys(after).filter((name) => before[name] !== after[name]);
}

/** How many rows the table had in that state. */
export function rowsIn(state: Readonly<Record<string, string>>, table: string): number {
  return Number(state[table]?.split(' ')[0]);
}
