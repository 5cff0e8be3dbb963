import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createKey, hasLiveKey } from '../../api/keys/keys-store.ts';
import { createPool } from '../../shared/db/pool.ts';
import { scopes } from '../../shared/domain/api-key.ts';

/** API_KEY_PEPPER, or one of our own, kept beside the data and readable by us alone. */
export function pepperOf(environment: Readonly<Record<string, string | undefined>>, dataDir: string): string {
  if (environment.API_KEY_PEPPER) return environment.API_KEY_PEPPER;
  const file = join(dataDir, 'api-key-pepper');
  if (existsSync(file)) return readFileSync(file, 'utf8').trim();
  const pepper = randomBytes(32).toString('hex');
  writeFileSync(file, `${pepper}\n`, { mode: 0o600 });
  return pepper;
}

/** Makes an admin key when there is no live key yet. @returns it, or null. */
export async function ensureFirstKey(databaseUrl: string, pepper: string): Promise<string | null> {
  const pool = createPool(databaseUrl, { name: 'scaler-start', size: 2 });
  try {
    if (await hasLiveKey(pool)) return null;
    return (await createKey(pool, pepper, { name: 'first', scopes, days: 90 })).key;
  } finally {
    await pool.end();
  }
}
