import { type ApiResource, qualifiedKind, qualifiedName } from './api-resources.ts';
import type { JsonObject } from './json.ts';

/** What the server refuses a request with: mostly a Status object, at a few measured places plain text. */
export class ApiError extends Error {
  readonly status: number;
  readonly reason: string;
  readonly body: JsonObject | string;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: number,
    reason: string,
    message: string,
    more: { details?: JsonObject; body?: JsonObject | string; headers?: Record<string, string> } = {},
  ) {
    super(message);
    this.name = 'ApiError';
    this.status = status;
    this.reason = reason;
    this.body = more.body ?? statusObject(status, reason, message, more.details);
    this.headers = more.headers ?? {};
  }
}

export interface StatusCause {
  readonly reason: string;
  readonly message: string;
  readonly field: string;
}

function statusObject(code: number, reason: string, message: string, details?: JsonObject): JsonObject {
  return {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message,
    ...(reason === '' ? {} : { reason }),
    ...(details === undefined ? {} : { details }),
    code,
  };
}

function detailsOf(resource: ApiResource, name: string): JsonObject {
  return {
    ...(name === '' ? {} : { name }),
    ...(resource.group === '' ? {} : { group: resource.group }),
    kind: resource.plural,
  };
}

export function notFound(resource: ApiResource, name: string): ApiError {
  return new ApiError(404, 'NotFound', `${qualifiedName(resource)} "${name}" not found`, {
    details: detailsOf(resource, name),
  });
}

/** An API group or resource nobody registered: no Status object, just what Go's mux says. */
export function pageNotFound(): ApiError {
  return new ApiError(404, 'NotFound', '404 page not found', { body: '404 page not found\n' });
}

export function alreadyExists(resource: ApiResource, name: string): ApiError {
  return new ApiError(409, 'AlreadyExists', `${qualifiedName(resource)} "${name}" already exists`, {
    details: detailsOf(resource, name),
  });
}

export const MODIFIED_MESSAGE =
  'the object has been modified; please apply your changes to the latest version and try again';

export function conflict(resource: ApiResource, name: string, why = MODIFIED_MESSAGE): ApiError {
  return new ApiError(
    409,
    'Conflict',
    `Operation cannot be fulfilled on ${qualifiedName(resource)} "${name}": ${why}`,
    { details: detailsOf(resource, name) },
  );
}

/** A uid sent along is a precondition; the storage layer words its failure. */
export function uidConflict(
  resource: ApiResource,
  object: { namespace: string | null; name: string; sentUid: string; uid: string },
): ApiError {
  const { namespace, name, sentUid, uid } = object;
  const key = ['/registry', resource.plural, ...(namespace === null ? [] : [namespace]), name].join('/');
  return conflict(
    resource,
    name,
    `StorageError: invalid object, Code: 4, Key: ${key}, ResourceVersion: 0, AdditionalErrorMsg: ` +
      `Precondition failed: UID in precondition: ${sentUid}, UID in object meta: ${uid}`,
  );
}

export function applyConflict(causes: readonly StatusCause[], message: string): ApiError {
  return new ApiError(409, 'Conflict', message, {
    details: { causes: causes.map((cause) => ({ ...cause })) },
  });
}

export function invalid(
  resource: Pick<ApiResource, 'group' | 'kind'>,
  name: string,
  causes: readonly StatusCause[],
): ApiError {
  const errors = causes.map((cause) => `${cause.field}: ${cause.message}`);
  const list = errors.length === 1 ? errors[0] : `[${errors.join(', ')}]`;
  const what = qualifiedKind({ ...(resource as ApiResource) });
  return new ApiError(422, 'Invalid', `${what} "${name}" is invalid: ${list}`, {
    details: {
      name,
      ...(resource.group === '' ? {} : { group: resource.group }),
      kind: resource.kind,
      causes: causes.map((cause) => ({ ...cause })),
    },
  });
}

/** What a failed `test` operation of a JSON patch is answered with. */
export function rejectedPatch(): ApiError {
  const message = 'the server rejected our request due to an error in our request';
  return new ApiError(422, 'Invalid', message, { details: {} });
}

export function badRequest(message: string): ApiError {
  return new ApiError(400, 'BadRequest', message);
}

export function unauthorized(): ApiError {
  return new ApiError(401, 'Unauthorized', 'Unauthorized');
}

export interface DeniedRequest {
  readonly user: string;
  readonly verb: string;
  readonly resource: ApiResource;
  readonly subresource: string | null;
  readonly namespace: string | null;
  readonly name: string | null;
}

export function forbidden(denied: DeniedRequest): ApiError {
  const { resource, subresource, namespace, name } = denied;
  const what = subresource === null ? resource.plural : `${resource.plural}/${subresource}`;
  const where = namespace === null ? 'at the cluster scope' : `in the namespace "${namespace}"`;
  const subject = name === null ? qualifiedName(resource) : `${qualifiedName(resource)} "${name}"`;
  return new ApiError(
    403,
    'Forbidden',
    `${subject} is forbidden: User "${denied.user}" cannot ${denied.verb} resource "${what}" ` +
      `in API group "${resource.group}" ${where}`,
    { details: detailsOf(resource, name ?? '') },
  );
}

export function forbiddenPath(user: string, verb: string, path: string): ApiError {
  return new ApiError(403, 'Forbidden', `forbidden: User "${user}" cannot ${verb} path "${path}"`, {
    details: {},
  });
}

export function methodNotAllowed(): ApiError {
  const message = 'the server does not allow this method on the requested resource';
  return new ApiError(405, 'MethodNotAllowed', message, { details: {} });
}

export function notAcceptable(): ApiError {
  const message =
    'only the following media types are accepted: application/json, ' +
    'application/json;as=Table;v=v1;g=meta.k8s.io';
  return new ApiError(406, 'NotAcceptable', message);
}

export function unsupportedMediaType(accepted: readonly string[]): ApiError {
  return new ApiError(
    415,
    'UnsupportedMediaType',
    `the body of the request was in an unknown format - accepted media types include: ${accepted.join(', ')}`,
  );
}

/** In a watch this is an ERROR event inside a 200; in a list it is the answer itself. */
export function expired(sent: number, oldest: number): ApiError {
  return new ApiError(410, 'Expired', `too old resource version: ${sent} (${oldest})`);
}

/** Flow control rejecting under overload. Measured: no Status object, and always the same Retry-After. */
export function tooManyRequests(retryAfterSeconds = 1): ApiError {
  const message = 'Too many requests, please try again later.';
  return new ApiError(429, 'TooManyRequests', message, {
    body: `${message}\n`,
    headers: { 'retry-after': String(retryAfterSeconds), 'x-content-type-options': 'nosniff' },
  });
}

/** etcd is away. Measured: text/plain, and a Status whose kind and apiVersion are missing. */
export function gatewayTimeout(): ApiError {
  const message = 'Timeout: request did not complete within the allotted timeout';
  const status = { metadata: {}, status: 'Failure', message, reason: 'Timeout', details: {}, code: 504 };
  return new ApiError(504, 'Timeout', message, { body: JSON.stringify(status) });
}

export function internalError(why: string): ApiError {
  return new ApiError(500, 'InternalError', `Internal error occurred: ${why}`, {
    details: { causes: [{ message: why }] },
  });
}
