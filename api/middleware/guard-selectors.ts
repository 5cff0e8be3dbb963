import type { Queryable } from '../../shared/db/pool.ts';
import type { Selectors } from '../../shared/domain/api-key.ts';
import { InvariantBroken, ScalerError } from '../../shared/errors.ts';
import { decisionNotFound } from '../decisions/decisions-store.ts';
import type { Call, Route } from '../http/route.ts';
import { jobNotFound } from '../jobs/jobs-store.ts';
import { type Covered, covers } from '../keys/selectors-store.ts';
import { resourceNotFound } from '../resources/resources-store.ts';

const notFound = { resource: resourceNotFound, decision: decisionNotFound, job: jobNotFound };

/** Before the request is even read. @throws ScalerError 403 when a key with selectors asks for a route that reaches the whole fleet. */
export function refuseFleet(route: Route, selectors: Selectors): void {
  if (selectors !== null && route.scope !== 'public' && (route.touches ?? 'fleet') === 'fleet')
    throw outsideSelectors('This reaches every resource, and the key only some');
}

/**
 * Holds a key with selectors to them, before the handler runs. What it may not touch is answered like what does not exist.
 * @throws NotFound for a foreign id.
 */
export async function guardSelectors(db: Queryable, route: Route, call: Call): Promise<void> {
  if (call.selectors === null || route.scope === 'public') return;
  const touches = route.touches ?? 'fleet';
  if (touches === 'nothing' || touches === 'filtered' || touches === 'fleet') return;
  const id = idOf(call, touches);
  if (!(await covers(db, call.selectors, touches, id))) throw notFound[touches](id);
}

/** 403: for what is refused as a whole, so that nothing is given away by it. */
export function outsideSelectors(what: string): ScalerError {
  return new ScalerError({
    code: 'outside_selectors',
    message: `${what}: use a key whose selectors allow it.`,
    retry: 'never',
    httpStatus: 403,
  });
}

function idOf(call: Call, kind: Covered): string {
  const params = call.params as { readonly id?: string } | undefined;
  const body = call.body as Readonly<Record<string, unknown>> | undefined;
  const id = params?.id ?? body?.[`${kind}_id`];
  if (typeof id !== 'string') throw new InvariantBroken(`a route says it touches a ${kind} and names none`);
  return id;
}
