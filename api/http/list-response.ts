import { z } from 'zod';
import type { RouteResponse } from './route.ts';

type Items<N extends string> = Readonly<Record<N, readonly unknown[]>>;

/** Body of a list that is read as a whole: `{ [name]: [...], count }`. */
export function listSchema(name: string, item: z.ZodType): z.ZodObject {
  return z.object({ [name]: z.array(item), count: z.int() });
}

/** Answers 200 with what `listSchema` describes. */
export function listResponse<N extends string>(name: N, list: Items<N>): RouteResponse {
  const items = list[name];
  return { status: 200, body: { [name]: items, count: items.length } };
}

/** Body of one page of a list: `{ [name]: [...], count, ...extra, cursor }`. `cursor` is null on the last page. */
export function pageSchema(name: string, item: z.ZodType, extra: z.ZodRawShape = {}): z.ZodObject {
  return z.object({ [name]: z.array(item), count: z.int(), ...extra, cursor: z.string().nullable() });
}

/** Answers 200 with what `pageSchema` describes. */
export function pageResponse<N extends string>(
  name: N,
  page: Items<N> & { readonly cursor: string | null },
  extra: Readonly<Record<string, unknown>> = {},
): RouteResponse {
  const items = page[name];
  return { status: 200, body: { [name]: items, count: items.length, ...extra, cursor: page.cursor } };
}
