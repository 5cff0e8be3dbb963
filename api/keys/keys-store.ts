import type { Queryable } from '../../shared/db/pool.ts';
import { selectorsParameter } from '../../shared/db/selectors-store.ts';
import type { Scope, Selectors } from '../../shared/domain/api-key.ts';
import { generateKey, hashSecret } from './api-key.ts';

/** A key as the API shows it: never with its secret. */
export interface KeyRow {
  readonly id: string;
  readonly name: string;
  readonly scopes: readonly Scope[];
  /** The resources it covers; null: all. Immutable. */
  readonly selectors: Selectors;
  readonly created_at: string;
  readonly expires_at: string;
  readonly revoked_at: string | null;
  /** Within about a minute; null: never. */
  readonly last_used_at: string | null;
}

const columns =
  'id, name, scopes, selectors, created_at::text, expires_at::text, revoked_at::text, last_used_at::text';

/** Creates a key that is valid for `days`. @returns it with the only copy of its secret. */
export async function createKey(
  db: Queryable,
  pepper: string,
  values: {
    readonly name: string;
    readonly scopes: readonly Scope[];
    readonly selectors?: Selectors | undefined;
    readonly days: number;
  },
): Promise<{ key: string; row: KeyRow }> {
  const { id, secret, key } = generateKey();
  const { rows } = await db.query<KeyRow>(
    `insert into api_keys (id, name, secret_hash, scopes, selectors, expires_at)
      values ($1, $2, $3, $4, $5, now() + $6 * interval '1 day') returning ${columns}`,
    [
      id,
      values.name,
      hashSecret(secret, pepper),
      values.scopes,
      selectorsParameter(values.selectors),
      values.days,
    ],
  );
  return { key, row: rows[0] as KeyRow };
}

/** A key that is neither revoked nor expired, with the hash of its secret; null when there is none. */
export async function findLiveKey(
  db: Queryable,
  id: string,
): Promise<(KeyRow & { secret_hash: Buffer }) | null> {
  const { rows } = await db.query<KeyRow & { secret_hash: Buffer }>({
    name: 'find_live_key',
    text: `select ${columns}, secret_hash from api_keys where id = $1 and revoked_at is null and expires_at > now()`,
    values: [id],
  });
  return rows[0] ?? null;
}

/** Oldest first, with the revoked and expired ones. */
export async function listKeys(db: Queryable): Promise<KeyRow[]> {
  return (await db.query<KeyRow>(`select ${columns} from api_keys order by api_keys.created_at`)).rows;
}

/**
 * Creates the successor of a key: same name, scopes and selectors, valid for as many days. The old one stays valid
 * for `overlapSeconds`, so that clients can change over.
 * @returns null when there is no such live key.
 */
export async function rotateKey(
  db: Queryable,
  pepper: string,
  id: string,
  overlapSeconds: number,
): Promise<{ key: string; row: KeyRow } | null> {
  const { id: newId, secret, key } = generateKey();
  const { rows } = await db.query<KeyRow>(
    `with old as (
        select id, name, scopes, selectors, expires_at - created_at as life from api_keys
        where id = $1 and revoked_at is null and expires_at > now() for update),
      ended as (
        update api_keys k set expires_at = least(k.expires_at, now() + $4 * interval '1 second')
        from old where k.id = old.id)
    insert into api_keys (id, name, secret_hash, scopes, selectors, expires_at, rotated_from)
      select $2, old.name, $3, old.scopes, old.selectors, now() + old.life, old.id from old returning ${columns}`,
    [id, newId, hashSecret(secret, pepper), overlapSeconds],
  );
  return rows[0] === undefined ? null : { key, row: rows[0] };
}

/** @returns false when there is no such live key. */
export async function revokeKey(db: Queryable, id: string): Promise<boolean> {
  return (
    (await db.query('update api_keys set revoked_at = now() where id = $1 and revoked_at is null', [id]))
      .rowCount === 1
  );
}

/** Whether there is any key that is neither revoked nor expired. */
export async function hasLiveKey(db: Queryable): Promise<boolean> {
  return (
    (await db.query('select 1 from api_keys where revoked_at is null and expires_at > now() limit 1'))
      .rowCount === 1
  );
}

/** Sets when a key was last used, at most every 50 s. */
export async function recordKeyUse(db: Queryable, id: string): Promise<void> {
  await db.query({
    name: 'touch_key',
    text: `update api_keys set last_used_at = now()
      where id = $1 and (last_used_at is null or last_used_at < now() - interval '50 seconds')`,
    values: [id],
  });
}
