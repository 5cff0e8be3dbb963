import type pg from 'pg';
import { databaseError } from '../../shared/db/pool.ts';
import { Conflict } from '../../shared/errors.ts';
import { claimIdempotencyKey, releaseIdempotencyKey, storeResponse } from '../http/idempotency-store.ts';
import type { Route, RouteRequest, RouteResponse } from '../http/route.ts';
import { idempotencyKeyReused } from '../jobs/submit.ts';

/**
 * Runs a POST that starts no job at most once per Idempotency-Key (routes that start one keep the key with the job). The
 * answer is stored right after the effect: a process that dies between the two leaves a key that is free after a minute.
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
      return replayed(route, claim.answer);
    case 'claimed':
      break;
  }
  try {
    const answer = await route.handle(request);
    const { status, headers = {} } = answer;
    await storeResponse(pool, idempotency, {
      status,
      body: route.answersSecret === true ? null : answer.body,
      headers,
    });
    return answer;
  } catch (error) {
    await releaseIdempotencyKey(pool, idempotency).catch(() => {});
    throw error;
  }
}

function replayed(route: Route, answer: { status: number; body: unknown; headers: object }): RouteResponse {
  if (route.answersSecret === true) {
    throw new Conflict(
      'secret_shown_once',
      'This Idempotency-Key has made its key already, and the secret is shown once: revoke that key, and make another with a new Idempotency-Key.',
    );
  }
  return { ...answer, headers: { ...answer.headers, 'Idempotent-Replayed': 'true' } };
}
