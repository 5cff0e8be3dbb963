import type { Selectors } from '../domain/api-key.ts';
import type { Queryable } from './pool.ts';

/** As a jsonb parameter: null stays SQL's null, and means everything. */
export function selectorsParameter(selectors: Selectors | undefined): string | null {
  return selectors === null || selectors === undefined ? null : JSON.stringify(selectors);
}

/**
 * SQL: true when the selectors (a jsonb parameter) cover the resource whose id is in `column`. What belongs to a deleted
 * resource is covered only where there are no selectors, for nobody can tell any more what it was.
 */
export function coveredBy(parameter: string, column: string): string {
  return `(${parameter}::jsonb is null or ${column} in (select r.id from resources r
    where selectors_cover(${parameter}::jsonb, r.cloud_provider, coalesce(r.region, r.cluster), r.name, r.id)))`;
}

export type Covered = 'resource' | 'decision' | 'job';

const lookups: Readonly<Record<Covered, string>> = {
  resource: 'select id as resource_id from resources where id = $1',
  decision: 'select resource_id from scaling_decisions where id = $1',
  job: 'select resource_id from jobs where id = $1',
};

/** True when it exists, and the selectors cover the resource it belongs to. */
export async function covers(
  db: Queryable,
  selectors: Selectors,
  kind: Covered,
  id: string,
): Promise<boolean> {
  const { rowCount } = await db.query({
    name: `covers_${kind}`,
    text: `select 1 from (${lookups[kind]}) as found where ${coveredBy('$2', 'found.resource_id')}`,
    values: [id, selectorsParameter(selectors)],
  });
  return rowCount === 1;
}

/** Whether a resource that is about to be created would be covered. */
export async function coversNew(
  db: Queryable,
  selectors: Selectors,
  resource: { readonly provider: string; readonly scope: string | null; readonly name: string },
): Promise<boolean> {
  const { rows } = await db.query<{ covered: boolean }>({
    name: 'covers_new',
    text: 'select selectors_cover($1::jsonb, $2, $3, $4, null) as covered',
    values: [selectorsParameter(selectors), resource.provider, resource.scope, resource.name],
  });
  return rows[0]?.covered === true;
}

/**
 * Whether the key that asked for a job may still touch the resource: it is neither revoked nor expired by the database's
 * clock, and its selectors cover the resource as it is now. Asked again when the job is carried out.
 * @param actorKeyId `jobs.actor_key_id`; 'auto' and null are the service itself.
 * @returns null when it may; else the reason in plain words, for an error with the code `forbidden`.
 */
export async function refusalOfActor(
  db: Queryable,
  actorKeyId: string | null,
  resourceId: string,
): Promise<string | null> {
  if (actorKeyId === null || actorKeyId === 'auto') return null;
  const { rows } = await db.query<{ live: boolean; covered: boolean }>({
    name: 'refusal_of_actor',
    text: `select k.revoked_at is null and k.expires_at > clock_timestamp() as live, ${coveredBy('k.selectors', '$2::uuid')} as covered
      from api_keys k where k.id = $1`,
    values: [actorKeyId, resourceId],
  });
  const key = rows[0];
  if (key === undefined) return `There is no key ${actorKeyId}, which asked for this.`;
  if (!key.live) return `The key ${actorKeyId}, which asked for this, has been revoked or has expired.`;
  return key.covered ? null : `The key ${actorKeyId}, which asked for this, may not touch this resource.`;
}
