import type { Queryable } from '../../shared/db/pool.ts';
import { coveredBy } from '../../shared/db/selectors-store.ts';

/**
 * Whether the key that asked for a job may still touch the resource: it is neither revoked nor expired by the
 * database's clock, and its selectors cover the resource as it is now. Asked again when the job is carried out.
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
