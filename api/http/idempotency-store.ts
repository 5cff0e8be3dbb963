import type { Idempotency } from '../../shared/db/jobs-store.ts';
import type { Queryable } from '../../shared/db/pool.ts';
import { InvariantBroken } from '../../shared/errors.ts';

export interface StoredResponse {
  readonly status: number;
  readonly body: unknown;
  readonly headers: Readonly<Record<string, string>>;
}

export type Claim =
  /** Nobody used the key: it is ours now, until the answer is stored or the claim is given up. */
  | { readonly kind: 'claimed' }
  | { readonly kind: 'answered'; readonly answer: StoredResponse }
  | { readonly kind: 'in_progress' }
  | { readonly kind: 'body_mismatch' };

/** A claim without an answer that is older than this was left by a process that died. */
const abandonedSeconds = 60;

/** Claims a key for a request whose effect is not a job. Committed at once, so no connection is held meanwhile. */
export async function claimIdempotencyKey(db: Queryable, idempotency: Idempotency): Promise<Claim> {
  const key = [idempotency.key_id, idempotency.route, idempotency.key];
  const claimed = await db.query({
    name: 'claim_idempotency_key',
    text: `insert into idempotency_keys as k (key_id, route, idempotency_key, body_hash) values ($1, $2, $3, $4)
      on conflict (key_id, route, idempotency_key) do update set created_at = now()
        where k.response_status is null and k.job_id is null and k.body_hash = $4
          and k.created_at < now() - $5 * interval '1 second'`,
    values: [...key, idempotency.body_hash, abandonedSeconds],
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
  // Given up between the two statements: whoever held it is done with it.
  if (row === undefined) return { kind: 'in_progress' };
  if (!row.body_hash.equals(idempotency.body_hash)) return { kind: 'body_mismatch' };
  if (row.response_status === null) return { kind: 'in_progress' };
  const { response_status: status, response_body: body, response_headers: headers } = row;
  return { kind: 'answered', answer: { status, body, headers: headers ?? {} } };
}

export async function storeResponse(
  db: Queryable,
  idempotency: Idempotency,
  answer: StoredResponse,
): Promise<void> {
  await db.query({
    name: 'store_idempotent_answer',
    text: `update idempotency_keys set response_status = $4, response_body = $5, response_headers = $6
      where key_id = $1 and route = $2 and idempotency_key = $3`,
    values: [
      idempotency.key_id,
      idempotency.route,
      idempotency.key,
      answer.status,
      JSON.stringify(answer.body ?? null),
      JSON.stringify(answer.headers),
    ],
  });
}

/** For a request that was refused or failed: it changed nothing, so the key is free again. */
export async function releaseIdempotencyKey(db: Queryable, idempotency: Idempotency): Promise<void> {
  await db.query({
    name: 'give_up_idempotency_key',
    text: `delete from idempotency_keys where key_id = $1 and route = $2 and idempotency_key = $3 and response_status is null and job_id is null`,
    values: [idempotency.key_id, idempotency.route, idempotency.key],
  });
}

/** Stores the key, or answers what is stored under it. Waits for a concurrent request with the same key to commit. */
export async function insertIdempotencyKey(
  tx: Queryable,
  idempotency: Idempotency,
  jobId: string | null,
  body: unknown,
): Promise<{ same: boolean; jobId: string | null; body: unknown } | null> {
  const key = [idempotency.key_id, idempotency.route, idempotency.key];
  const inserted = await tx.query({
    name: 'remember_idempotency_key',
    text: `insert into idempotency_keys (key_id, route, idempotency_key, body_hash, job_id, response_body)
      values ($1, $2, $3, $4, $5, $6) on conflict do nothing`,
    values: [...key, idempotency.body_hash, jobId, body === null ? null : JSON.stringify(body)],
  });
  if (inserted.rowCount === 1) return null;
  const { rows } = await tx.query<{ body_hash: Buffer; job_id: string | null; response_body: unknown }>({
    name: 'find_idempotency_key',
    text: 'select body_hash, job_id, response_body from idempotency_keys where key_id = $1 and route = $2 and idempotency_key = $3',
    values: key,
  });
  const row = rows[0];
  if (row === undefined) throw new InvariantBroken('an idempotency key vanished between two statements');
  return { same: row.body_hash.equals(idempotency.body_hash), jobId: row.job_id, body: row.response_body };
}

/** Makes a remembered key stand for the job that was running already. */
export async function linkIdempotencyKey(
  tx: Queryable,
  idempotency: Idempotency,
  jobId: string,
): Promise<void> {
  await tx.query({
    name: 'point_idempotency_key',
    text: 'update idempotency_keys set job_id = $4 where key_id = $1 and route = $2 and idempotency_key = $3',
    values: [idempotency.key_id, idempotency.route, idempotency.key, jobId],
  });
}
