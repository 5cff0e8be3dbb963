import type pg from 'pg';

/** What requests leave behind even when they are refused, on purpose. */
const bookkeeping = new Set(['audit_heads', 'audit_log', 'idempotency_keys', 'schema_migrations']);

/** Every table's row count and a hash of its contents; when a key was last used is bookkeeping, too. */
export async function stateOf(pool: pg.Pool): Promise<Readonly<Record<string, string>>> {
  const { rows } = await pool.query<{ name: string }>(
    `select tablename as name from pg_tables where schemaname = 'public' order by tablename`,
  );
  const tables = rows.map((row) => row.name).filter((name) => !bookkeeping.has(name));
  const parts = tables.map(
    (name) =>
      `select '${name}' as name, count(*)::text || ' ' || coalesce(sum(hashtextextended((to_jsonb(t) - 'last_used_at')::text, 7))::text, '') as state from "${name}" t`,
  );
  const states = await pool.query<{ name: string; state: string }>(parts.join(' union all '));
  return Object.fromEntries(states.rows.map((row) => [row.name, row.state]));
}

export function changedTables(
  before: Readonly<Record<string, string>>,
  after: Readonly<Record<string, string>>,
): string[] {
  return Object.keys(after).filter((name) => before[name] !== after[name]);
}
