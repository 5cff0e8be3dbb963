import type pg from 'pg';
import { databaseError } from '../../shared/db/pool.ts';
import { Conflict } from '../../shared/errors.ts';
import { claimIdempotencyKey, releaseIdempotencyKey, storeResponse } from '../http/idempotency-store.ts';
import type { Route, RouteRequest, RouteResponse } from '../http/route.ts';
import { idempotencyKeyReused } from '../jobs/submit.ts';

/**
 * Runs a POST that starts no job at most once per Idempotency-Key (for routes that start one, the key is stored with
 * the job). The response is stored after the handler's commit: a process that dies in between leaves a claim that
 * expires after a minute, and a retry then runs the handler again.
 * @throws InvalidInput (422) for another body under the same key; Conflict while the first request is in progress.
 */
export async function withIdempotencyKey(
  pool: pg.Pool,
  route: Route,
  request: RouteRequest,
): Promise<RouteResponse> {
  const { idempotency } = request;
  if (idempotency === null) return await route.handle(request);
  const claim = await claimIdempotencyKey(pool, idempotency).catch((error: unknown) => {
    throw databaseError(error);
  });
  switch (claim.kind) {
    case 'body_mismatch':
      throw idempotencyKeyReused();
    case 'in_progress':
      throw new Conflict(
        'request_in_progress',
        'A request with this Idempotency-Key is being answered just now: ask again in a second.',
        { retryAfterMs: 1_000 },
      );
    case 'answered':
      return replay(route, claim.response);
    case 'claimed':
      break;
  }
  try {
    const response = await route.handle(request);
    const { status, headers = {}, body } = response;
    await storeResponse(pool, idempotency, {
      status,
      body: route.answersSecret === true ? null : body,
      headers,
    });
    return response;
  } catch (error) {
    await releaseIdempotencyKey(pool, idempotency).catch(() => {});
    throw error;
  }
}

function replay(route: Route, stored: { status: number; body: unknown; headers: object }): RouteResponse {
  if (route.answersSecret === true) {
    throw new Conflict(
      'secret_shown_once',
      'This Idempotency-Key has made its key already, and the secret is shown once: ' +
        'revoke that key, and make another with a new Idempotency-Key.',
    );
  }
  return { ...stored, headers: { ...stored.headers, 'Idempotent-Replayed': 'true' } };
}
