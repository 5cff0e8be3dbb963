import type pg from 'pg';
import { databaseError } from '../../shared/db/pool.ts';
import { Conflict } from '../../shared/errors.ts';
import { claimKey, giveUpKey, storeAnswer } from '../http/idempotency-store.ts';
import type { Answer, Call, Route } from '../http/route.ts';
import { reusedKey } from '../jobs/submit.ts';

/**
 * Runs a POST that starts no job at most once per Idempotency-Key (routes that start one keep the key with the job). The
 * answer is stored right after the effect: a process that dies between the two leaves a key that is free after a minute.
 */
export async function answerOnce(pool: pg.Pool, route: Route, call: Call): Promise<Answer> {
  const { idempotency } = call;
  if (idempotency === null) return await route.handle(call);
  const claim = await claimKey(pool, idempotency).catch((error: unknown) => {
    throw databaseError(error);
  });
  switch (claim.kind) {
    case 'body_mismatch':
      throw reusedKey();
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
    const answer = await route.handle(call);
    const { status, headers = {} } = answer;
    await storeAnswer(pool, idempotency, {
      status,
      body: route.answersSecret === true ? null : answer.body,
      headers,
    });
    return answer;
  } catch (error) {
    await giveUpKey(pool, idempotency).catch(() => {});
    throw error;
  }
}

function replayed(route: Route, answer: { status: number; body: unknown; headers: object }): Answer {
  if (route.answersSecret === true) {
    throw new Conflict(
      'secret_shown_once',
      'This Idempotency-Key has made its key already, and the secret is shown once: revoke that key, and make another with a new Idempotency-Key.',
    );
  }
  return { ...answer, headers: { ...answer.headers, 'Idempotent-Replayed': 'true' } };
}
