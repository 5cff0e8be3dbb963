export const scopes = ['read', 'decide', 'execute', 'admin'] as const;
export type Scope = (typeof scopes)[number];

/**
 * Names resources: all that fit every field given. `scope` is a region or a cluster; in `name` a `*` stands for any
 * number of characters. The rule itself is the function selectors_cover in PostgreSQL, so that lists and single ids
 * agree.
 */
export interface Selector {
  readonly provider?: 'aws' | 'kubernetes' | undefined;
  readonly scope?: string | undefined;
  readonly name?: string | undefined;
  readonly resource_id?: string | undefined;
}

/** What a key may touch; null: everything. */
export type Selectors = readonly Selector[] | null;
