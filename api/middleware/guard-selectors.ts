import type { Queryable } from '../../shared/db/pool.ts';
import type { Selectors } from '../../shared/domain/api-key.ts';
import { InvariantBroken, ScalerError } from '../../shared/errors.ts';
import { decisionNotFound } from '../decisions/decisions-store.ts';
import type { Route, RouteRequest } from '../http/route.ts';
import { jobNotFound } from '../jobs/jobs-store.ts';
import { type SelectableKind, selectorsCover } from '../keys/selectors-store.ts';
import { resourceNotFound } from '../resources/resources-store.ts';

const notFound = { resource: resourceNotFound, decision: decisionNotFound, job: jobNotFound };

/**
 * Before the request is parsed.
 * @throws ScalerError 403 when a key with selectors asks for a route that touches the whole fleet.
 */
export function requireFleetAccess(route: Route, selectors: Selectors): void {
  if (selectors !== null && route.scope !== 'public' && (route.touches ?? 'fleet') === 'fleet')
    throw forbiddenBySelectors('This reaches every resource, and the key only some');
}

/**
 * Limits a key with selectors to the resources they cover, before the handler runs.
 * @throws NotFound for the id of another resource: the client cannot tell it from one that does not exist.
 */
export async function enforceSelectors(db: Queryable, route: Route, request: RouteRequest): Promise<void> {
  if (request.selectors === null || route.scope === 'public') return;
  const touches = route.touches ?? 'fleet';
  if (touches === 'nothing' || touches === 'filtered' || touches === 'fleet') return;
  const id = idOf(request, touches);
  if (!(await selectorsCover(db, request.selectors, touches, id))) throw notFound[touches](id);
}

/** 403, where refusing reveals nothing about single resources. */
export function forbiddenBySelectors(what: string): ScalerError {
  return new ScalerError({
    code: 'outside_selectors',
    message: `${what}: use a key whose selectors allow it.`,
    retry: 'never',
    httpStatus: 403,
  });
}

function idOf(request: RouteRequest, kind: SelectableKind): string {
  const params = request.params as { readonly id?: string } | undefined;
  const body = request.body as Readonly<Record<string, unknown>> | undefined;
  const id = params?.id ?? body?.[`${kind}_id`];
  if (typeof id !== 'string') throw new InvariantBroken(`a route says it touches a ${kind} and names none`);
  return id;
}
