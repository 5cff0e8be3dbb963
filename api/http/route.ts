import type { Request } from 'express';
import type { z } from 'zod';
import type { Scope, Selectors } from '../../shared/domain/api-key.ts';
import type { SelectableKind } from '../keys/selectors-store.ts';

/** A parsed, validated and authenticated request, with ids for logs and rows. */
export interface RouteRequest<P = unknown, Q = unknown, B = unknown> {
  readonly params: P;
  readonly query: Q;
  readonly body: B;
  readonly keyId: string;
  /** The resources the key covers: lists are filtered with them, in SQL. */
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

/** What a handler returns; `sendResponse` writes it. */
export interface RouteResponse {
  readonly status: number;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

/**
 * The resources a route touches, for keys with selectors. `resource`, `decision`, `job`: the one named by `id` in the
 * path, else by `<kind>_id` in the body; checked before the handler runs. `filtered`: the handler passes
 * `request.selectors` to its SQL. `nothing`: no resource. `fleet`: all of them, for keys without selectors only; the
 * default.
 */
export type Touches = SelectableKind | 'filtered' | 'nothing' | 'fleet';

/** A route: what it validates, who may call it, how it is documented and handled. */
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
  /** Bytes; 64 KiB by default. */
  readonly bodyLimit?: number;
  /** Submits jobs: refused while too many wait, and stores its Idempotency-Key with the job. */
  readonly startsJob?: boolean;
  /** Its response holds a secret: it is not stored for the Idempotency-Key, and cannot be replayed. */
  readonly answersSecret?: boolean;
  /** Schema by success status. */
  readonly responses: Readonly<Record<number, { readonly description: string; readonly schema?: z.ZodType }>>;
  readonly handle: (
    request: RouteRequest<z.output<P>, z.output<Q>, z.output<B>>,
  ) => Promise<RouteResponse> | RouteResponse;
}

export type Route = RouteSpec<z.ZodType, z.ZodType, z.ZodType>;

/** Types a handler by its route's schemas. */
export function route<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType>(
  spec: RouteSpec<P, Q, B>,
): Route {
  return spec as unknown as Route;
}
