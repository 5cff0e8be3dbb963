import type { Queryable } from '../../shared/db/pool.ts';
import { coveredBy, selectorsParameter } from '../../shared/db/selectors-store.ts';
import type { Selectors } from '../../shared/domain/api-key.ts';

/** What a route can name by id; each belongs to one resource. */
export type SelectableKind = 'resource' | 'decision' | 'job';

const resourceOf: Readonly<Record<SelectableKind, string>> = {
  resource: 'select id as resource_id from resources where id = $1',
  decision: 'select resource_id from scaling_decisions where id = $1',
  job: 'select resource_id from jobs where id = $1',
};

/** Whether it exists and the selectors cover the resource it belongs to. */
export async function selectorsCover(
  db: Queryable,
  selectors: Selectors,
  kind: SelectableKind,
  id: string,
): Promise<boolean> {
  const { rowCount } = await db.query({
    name: `covers_${kind}`,
    text: `select 1 from (${resourceOf[kind]}) as found where ${coveredBy('$2', 'found.resource_id')}`,
    values: [id, selectorsParameter(selectors)],
  });
  return rowCount === 1;
}

/** Whether the selectors would cover a resource that is about to be created. */
export async function selectorsCoverNew(
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
