import type { Request } from 'express';
import type { z } from 'zod';
import type { Scope, Selectors } from '../../shared/domain/api-key.ts';
import type { SelectableKind } from '../keys/selectors-store.ts';

/** What a handler gets: parsed, authenticated, with ids for logs and rows. */
export interface RouteRequest<P = unknown, Q = unknown, B = unknown> {
  readonly params: P;
  readonly query: Q;
  readonly body: B;
  readonly keyId: string;
  /** What the key may touch: lists are filtered with it, in SQL. */
  readonly selectors: Selectors;
  readonly scope: Scope | 'public';
  readonly requestId: string;
  readonly remoteAddress: string | null;
  /** Null when the request has no Idempotency-Key. */
  readonly idempotency: {
    readonly key_id: string;
    readonly route: string;
    readonly key: string;
    readonly body_hash: Buffer;
  } | null;
  readonly raw: Request;
}

export interface RouteResponse {
  readonly status: number;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

/**
 * What a route reaches for, as keys with selectors are concerned. A resource, decision or job is the one its id names (in
 * the path, else `<kind>_id` in the body), and is checked before the handler runs. `filtered`: the handler gives
 * `request.selectors` to its SQL. `nothing`: there are no resources in it. `fleet`: all of them, so that only keys without
 * selectors may; a route that does not say is taken for one of these.
 */
export type Touches = SelectableKind | 'filtered' | 'nothing' | 'fleet';

export interface RouteSpec<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType> {
  readonly method: 'get' | 'post' | 'put' | 'patch' | 'delete';
  /** OpenAPI style: `/jobs/{id}`. */
  readonly path: string;
  readonly scope: Scope | 'public';
  readonly touches?: Touches;
  readonly operationId: string;
  readonly summary: string;
  readonly params?: P;
  readonly query?: Q;
  readonly body?: B;
  /** Bytes; 64 KiB unless a route carries batches. */
  readonly bodyLimit?: number;
  /** Puts work on a queue: refused while too much waits, and keeps its Idempotency-Key with the job. */
  readonly startsJob?: boolean;
  /** Its answer holds a secret: it is never stored, and so never repeated. */
  readonly answersSecret?: boolean;
  /** Schema by success status. */
  readonly responses: Readonly<Record<number, { readonly description: string; readonly schema?: z.ZodType }>>;
  readonly handle: (
    request: RouteRequest<z.output<P>, z.output<Q>, z.output<B>>,
  ) => Promise<RouteResponse> | RouteResponse;
}

export type Route = RouteSpec<z.ZodType, z.ZodType, z.ZodType>;

/** Ties a handler's types to its schemas. */
export function route<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType>(
  spec: RouteSpec<P, Q, B>,
): Route {
  return spec as unknown as Route;
}
