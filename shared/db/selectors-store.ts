import type { Selectors } from '../domain/api-key.ts';

/** As a jsonb parameter: null stays SQL's null, and means everything. */
export function selectorsParameter(selectors: Selectors | undefined): string | null {
  return selectors === null || selectors === undefined ? null : JSON.stringify(selectors);
}

/**
 * SQL: true when the selectors (a jsonb parameter) cover the resource whose id is in `column`. What belongs to a
 * deleted resource is covered only where there are no selectors, for nobody can tell any more what it was.
 */
export function coveredBy(parameter: string, column: string): string {
  return `(${parameter}::jsonb is null or ${column} in (select r.id from resources r
    where selectors_cover(${parameter}::jsonb, r.cloud_provider, coalesce(r.region, r.cluster), r.name, r.id)))`;
}
