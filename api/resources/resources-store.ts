import { iso } from '../../shared/db/iso-column.ts';
import { constraintOf, type Queryable } from '../../shared/db/pool.ts';
import { coveredBy, selectorsParameter } from '../../shared/db/selectors-store.ts';
import type { Selectors } from '../../shared/domain/api-key.ts';
import type { Resource } from '../../shared/domain/resource.ts';
import { Conflict, NotFound } from '../../shared/errors.ts';
import { findOr404 } from '../http/find-or-404.ts';
import { decodeTimestampCursor, nextCursor } from '../http/page-cursor.ts';

const columns = `id, name, resource_type, cloud_provider, min_instances, max_instances, current_instances,
  target_cpu, target_memory, cooldown_period, ${iso('created_at')}, region, cluster, max_scale_up_step,
  max_scale_down_step, scale_down_cooldown, max_actions_per_hour, max_reversals_per_half_hour, tolerance,
  stabilization_window, provisioning_delay, decision_interval, hourly_price::text, instance_type, cpu_request::text,
  memory_request::text, mode, actuation, planning, max_utilization, tolerated_risk, shortage_price,
  ${iso('scale_up_paused_until')}, ${iso('scale_down_paused_until')}, version, ${iso('updated_at')},
  ${iso('observed_at')}, observed_ready, observed_state,
  utilization_unit, max_sample_age, scale_to_zero_after`;

/** The columns a client may set: the only names that are ever put into SQL text. */
const writable = new Set([
  'name',
  'resource_type',
  'cloud_provider',
  'region',
  'cluster',
  'min_instances',
  'max_instances',
  'current_instances',
  'target_cpu',
  'target_memory',
  'cooldown_period',
  'max_scale_up_step',
  'max_scale_down_step',
  'scale_down_cooldown',
  'max_actions_per_hour',
  'max_reversals_per_half_hour',
  'tolerance',
  'stabilization_window',
  'provisioning_delay',
  'decision_interval',
  'hourly_price',
  'instance_type',
  'mode',
  'actuation',
  'planning',
  'max_utilization',
  'tolerated_risk',
  'shortage_price',
  'scale_up_paused_until',
  'scale_down_paused_until',
  'utilization_unit',
  'max_sample_age',
  'scale_to_zero_after',
]);

function writableEntries(values: Readonly<Record<string, unknown>>): [string, unknown][] {
  return Object.entries(values).filter(([name, value]) => writable.has(name) && value !== undefined);
}

/** @throws Conflict when another resource names the same cloud object. */
export async function createResource(
  db: Queryable,
  values: Readonly<Record<string, unknown>>,
): Promise<Resource> {
  const entries = writableEntries(values);
  const names = entries.map(([name]) => name).join(', ');
  const placeholders = entries.map((_, index) => `$${index + 1}`).join(', ');
  try {
    const { rows } = await db.query<Resource>(
      `insert into resources (${names}) values (${placeholders}) returning ${columns}`,
      entries.map(([, value]) => value),
    );
    return rows[0] as Resource;
  } catch (error) {
    if (constraintOf(error)?.constraint !== 'resources_object') throw error;
    throw new Conflict(
      'resource_exists',
      'Another resource names the same cloud object: change that one instead.',
      { fields: [{ field: 'name', message: 'already registered' }] },
    );
  }
}

export async function findResource(db: Queryable, id: string): Promise<Resource | null> {
  const { rows } = await db.query<Resource>({
    name: 'find_resource',
    text: `select ${columns} from resources where id = $1`,
    values: [id],
  });
  return rows[0] ?? null;
}

/** @throws NotFound */
export async function getResource(db: Queryable, id: string): Promise<Resource> {
  return await findOr404(findResource(db, id), () => resourceNotFound(id));
}

/** Of these ids, those that do not exist or are not covered: a client cannot tell the two apart. */
export async function missingResources(
  db: Queryable,
  ids: readonly string[],
  selectors: Selectors,
): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>({
    name: 'missing_resources',
    text: `select distinct v.id::text as id from unnest($1::uuid[]) as v (id)
      where not exists (select 1 from resources r where r.id = v.id) or not ${coveredBy('$2', 'v.id')}`,
    values: [ids, selectorsParameter(selectors)],
  });
  return rows.map((row) => row.id);
}

/** Oldest first. Index: resources_created. */
export async function listResources(
  db: Queryable,
  filter: { readonly limit: number; readonly cursor?: string | undefined; readonly selectors: Selectors },
): Promise<{ resources: Resource[]; cursor: string | null }> {
  const [at, id] = decodeTimestampCursor(filter.cursor);
  const { rows } = await db.query<Resource & { exact_created_at: string }>(
    `select ${columns}, created_at::text as exact_created_at from resources
      where ($1::timestamptz is null or (resources.created_at, resources.id) > ($1, $2::uuid))
        and ($4::jsonb is null or selectors_cover($4::jsonb, cloud_provider, coalesce(region, cluster), name, id))
      order by resources.created_at, resources.id limit $3`,
    [at, id, filter.limit, selectorsParameter(filter.selectors)],
  );
  return {
    resources: rows.map(({ exact_created_at: _, ...row }) => row),
    cursor: nextCursor(rows, filter.limit, (row) => [row.exact_created_at, row.id]),
  };
}

/** @throws NotFound; Conflict (412) when somebody changed it since `version`. */
export async function updateResource(
  db: Queryable,
  id: string,
  version: number,
  values: Readonly<Record<string, unknown>>,
): Promise<Resource> {
  const entries = writableEntries(values);
  const sets = entries.map(([name], index) => `${name} = $${index + 3}`);
  const { rows } = await db.query<Resource>(
    `update resources set ${[...sets, 'version = version + 1', 'updated_at = now()'].join(', ')}
      where id = $1 and version = $2 returning ${columns}`,
    [id, version, ...entries.map(([, value]) => value)],
  );
  const row = rows[0];
  if (row !== undefined) return row;
  throw (await findResource(db, id)) === null
    ? resourceNotFound(id)
    : new Conflict(
        'version_mismatch',
        'The resource has changed since you read it: read it again and repeat the change.',
        { httpStatus: 412 },
      );
}

/** @throws NotFound; Conflict while an execution is unfinished, or (412) when `version` is not the present one. */
export async function deleteResource(db: Queryable, id: string, version: number | null): Promise<void> {
  const { rowCount } = await db.query(
    `delete from resources r where id = $1 and ($2::integer is null or version = $2)
      and not exists (select 1 from attempts a where a.resource_id = r.id and a.state in ('open', 'unknown'))
      and not exists (select 1 from jobs j where j.resource_id = r.id and j.kind = 'execute' and not j.finished)`,
    [id, version],
  );
  if (rowCount === 1) return;
  const present = await findResource(db, id);
  if (present === null) throw resourceNotFound(id);
  if (version !== null && present.version !== version)
    throw new Conflict('version_mismatch', 'The resource has changed since you read it: read it again.', {
      httpStatus: 412,
    });
  throw new Conflict(
    'resource_busy',
    'An execution of this resource is not finished: try again when its job is.',
  );
}

export function resourceNotFound(id: string): NotFound {
  return new NotFound(
    'resource_not_found',
    `There is no resource ${id}: check the id or create the resource first.`,
  );
}

/** Of a request that names many, and did nothing. @param fieldOf where the request names the one with this id. */
export function resourcesNotFound(missing: readonly string[], fieldOf: (id: string) => string): NotFound {
  return new NotFound(
    'resource_not_found',
    `${missing.length} of the resources do not exist, so nothing was done: correct the list.`,
    {
      fields: missing
        .slice(0, 1_000)
        .map((id) => ({ field: fieldOf(id), message: `there is no resource ${id}` })),
    },
  );
}
