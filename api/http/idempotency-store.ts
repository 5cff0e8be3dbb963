import type { Idempotency } from '../../shared/db/jobs-store.ts';
import type { Queryable } from '../../shared/db/pool.ts';
import { InvariantBroken } from '../../shared/errors.ts';

/** The response stored under an idempotency key. */
export interface StoredResponse {
  readonly status: number;
  readonly body: unknown;
  readonly headers: Readonly<Record<string, string>>;
}

export type Claim =
  /** The key was free: this request owns it until its response is stored or the claim is released. */
  | { readonly kind: 'claimed' }
  | { readonly kind: 'answered'; readonly response: StoredResponse }
  | { readonly kind: 'in_progress' }
  | { readonly kind: 'body_mismatch' };

/** An older claim without a response was left by a process that died. */
const claimTimeoutSeconds = 60;

/**
 * Claims a key for a request that starts no job. Commits at once, so the handler runs without holding a connection.
 */
export async function claimIdempotencyKey(db: Queryable, idempotency: Idempotency): Promise<Claim> {
  const key = [idempotency.key_id, idempotency.route, idempotency.key];
  const claimed = await db.query({
    name: 'claim_idempotency_key',
    text: `insert into idempotency_keys as k (key_id, route, idempotency_key, body_hash) values ($1, $2, $3, $4)
      on conflict (key_id, route, idempotency_key) do update set created_at = now()
        where k.response_status is null and k.job_id is null and k.body_hash = $4
          and k.created_at < now() - $5 * interval '1 second'`,
    values: [...key, idempotency.body_hash, claimTimeoutSeconds],
  });
  if (claimed.rowCount === 1) return { kind: 'claimed' };
  const { rows } = await db.query<{
    body_hash: Buffer;
    response_status: number | null;
    response_body: unknown;
    response_headers: Record<string, string> | null;
  }>({
    name: 'read_idempotency_key',
    text: `select body_hash, response_status, response_body, response_headers from idempotency_keys
      where key_id = $1 and route = $2 and idempotency_key = $3`,
    values: key,
  });
  const row = rows[0];
  // Released between the two statements: the client's retry will claim it.
  if (row === undefined) return { kind: 'in_progress' };
  if (!row.body_hash.equals(idempotency.body_hash)) return { kind: 'body_mismatch' };
  if (row.response_status === null) return { kind: 'in_progress' };
  const { response_status: status, response_body: body, response_headers: headers } = row;
  return { kind: 'answered', response: { status, body, headers: headers ?? {} } };
}

/** Stores the response that later requests with this key get. */
export async function storeResponse(
  db: Queryable,
  idempotency: Idempotency,
  response: StoredResponse,
): Promise<void> {
  await db.query({
    name: 'store_idempotent_answer',
    text: `update idempotency_keys set response_status = $4, response_body = $5, response_headers = $6
      where key_id = $1 and route = $2 and idempotency_key = $3`,
    values: [
      idempotency.key_id,
      idempotency.route,
      idempotency.key,
      response.status,
      JSON.stringify(response.body ?? null),
      JSON.stringify(response.headers),
    ],
  });
}

/** Frees the key of a request that was refused or failed, and so changed nothing. */
export async function releaseIdempotencyKey(db: Queryable, idempotency: Idempotency): Promise<void> {
  await db.query({
    name: 'release_idempotency_key',
    text: `delete from idempotency_keys where key_id = $1 and route = $2 and idempotency_key = $3
      and response_status is null and job_id is null`,
    values: [idempotency.key_id, idempotency.route, idempotency.key],
  });
}

/**
 * Inserts the key of a request that starts jobs. Waits for a concurrent transaction with the same key to end.
 * @returns null when the key was free, else what is stored under it; `same`: with the same body.
 */
export async function insertIdempotencyKey(
  tx: Queryable,
  idempotency: Idempotency,
  jobId: string | null,
  body: unknown,
): Promise<{ same: boolean; jobId: string | null; body: unknown } | null> {
  const key = [idempotency.key_id, idempotency.route, idempotency.key];
  const inserted = await tx.query({
    name: 'insert_idempotency_key',
    text: `insert into idempotency_keys (key_id, route, idempotency_key, body_hash, job_id, response_body)
      values ($1, $2, $3, $4, $5, $6) on conflict do nothing`,
    values: [...key, idempotency.body_hash, jobId, body === null ? null : JSON.stringify(body)],
  });
  if (inserted.rowCount === 1) return null;
  const { rows } = await tx.query<{ body_hash: Buffer; job_id: string | null; response_body: unknown }>({
    name: 'find_idempotency_key',
    text: `select body_hash, job_id, response_body from idempotency_keys
      where key_id = $1 and route = $2 and idempotency_key = $3`,
    values: key,
  });
  const row = rows[0];
  if (row === undefined) throw new InvariantBroken('an idempotency key vanished between two statements');
  return { same: row.body_hash.equals(idempotency.body_hash), jobId: row.job_id, body: row.response_body };
}

/** Links an inserted key to another job: the one that was running already. */
export async function linkIdempotencyKey(
  tx: Queryable,
  idempotency: Idempotency,
  jobId: string,
): Promise<void> {
  await tx.query({
    name: 'link_idempotency_key',
    text: 'update idempotency_keys set job_id = $4 where key_id = $1 and route = $2 and idempotency_key = $3',
    values: [idempotency.key_id, idempotency.route, idempotency.key, jobId],
  });
}
