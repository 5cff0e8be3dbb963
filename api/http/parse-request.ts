import { createHash } from 'node:crypto';
import express, { type Request, type Response } from 'express';
import { InvalidInput } from '../../shared/errors.ts';
import type { KeyRow } from '../keys/keys-store.ts';
import { invalidRequest } from '../middleware/problem-response.ts';
import type { Route, RouteRequest } from './route.ts';
import { parseStrictJson } from './strict-json.ts';

const defaultBodyLimit = 64 * 1024;

/** What of a key its request carries on. */
export type Principal = Pick<KeyRow, 'id' | 'selectors'>;

export type RequestParser = (
  request: Request,
  response: Response,
  principal: Principal,
) => Promise<RouteRequest>;

/**
 * Parses and validates a route's requests with its schemas.
 * @returns a parser that throws InvalidInput (400, 413, 415) naming the fields. It expects
 *   `response.locals.requestId`.
 */
export function createRequestParser(route: Route): RequestParser {
  const readBody = express.raw({
    type: () => true,
    limit: route.bodyLimit ?? defaultBodyLimit,
    inflate: false,
  });
  return async (request, response, principal) => {
    const params = validate('path', route.params, rejectNul('path', request.params));
    const query = validate('query', route.query, rejectNul('query', request.query));
    const bytes = route.body === undefined ? Buffer.alloc(0) : await bytesOf(request, response, readBody);
    const body = route.body === undefined ? undefined : validate('body', route.body, parseStrictJson(bytes));
    return {
      params,
      query,
      body,
      keyId: principal.id,
      selectors: principal.selectors,
      scope: route.scope,
      requestId: response.locals.requestId as string,
      remoteAddress: request.ip ?? null,
      idempotency: idempotencyOf(route, request, principal.id, bytes),
      raw: request,
    };
  };
}

async function bytesOf(
  request: Request,
  response: Response,
  readBody: ReturnType<typeof express.raw>,
): Promise<Buffer> {
  const type = request.get('content-type') ?? '';
  if (!/^application\/(json|merge-patch\+json)\s*(;\s*charset=utf-8\s*)?$/i.test(type)) {
    throw new InvalidInput('wrong_content_type', 'Send the body as application/json.', {
      httpStatus: 415,
      fields: [{ field: 'Content-Type', message: 'must be application/json' }],
    });
  }
  await new Promise<void>((resolve, reject) =>
    readBody(request, response, (error?: unknown) => (error === undefined ? resolve() : reject(error))),
  );
  return Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
}

/** PostgreSQL stores no NUL in text; strict JSON refuses it in bodies. @throws InvalidInput naming the field. */
function rejectNul<T extends object>(part: string, values: T): T {
  for (const [name, value] of Object.entries(values))
    if (`${name}${value}`.includes('\0'))
      throw new InvalidInput('invalid_text', `The ${part} has a NUL in it.`, {
        fields: [{ field: name.replaceAll('\0', ''), message: 'has a NUL in it' }],
      });
  return values;
}

function validate(part: string, schema: Route['body'], value: unknown): unknown {
  if (schema === undefined) return value;
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw invalidRequest(part, parsed.error.issues as Parameters<typeof invalidRequest>[1]);
}

/** Only POST has an idempotency key; the other methods are idempotent by themselves. */
function idempotencyOf(
  route: Route,
  request: Request,
  keyId: string,
  bytes: Buffer,
): RouteRequest['idempotency'] {
  const key = request.get('idempotency-key');
  if (key === undefined || route.method !== 'post') return null;
  if (!/^[\x21-\x7e]{1,255}$/.test(key)) {
    throw new InvalidInput(
      'invalid_idempotency_key',
      'Idempotency-Key must be 1 to 255 printable ASCII characters.',
      { fields: [{ field: 'Idempotency-Key', message: 'not 1 to 255 printable ASCII characters' }] },
    );
  }
  return {
    key_id: keyId,
    route: `POST ${request.path}`,
    key,
    body_hash: createHash('sha256').update(bytes).digest(),
  };
}
