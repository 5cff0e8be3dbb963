import type { Request, Response } from 'express';
import { InvalidInput } from '../../shared/errors.ts';
import { maxHeaders } from '../http/create-server.ts';

/** Of these Node takes the first or joins all: what stands before us may have taken another. */
const once = new Set([
  'authorization',
  'content-length',
  'content-type',
  'host',
  'idempotency-key',
  'if-match',
  'prefer',
  'transfer-encoding',
]);

/** Refuses headers that can be read in two ways, and more of them than are read at all. */
export function rejectAmbiguousHeaders(
  request: Request,
  _response: Response,
  next: (error?: unknown) => void,
) {
  const { rawHeaders } = request;
  if (rawHeaders.length > maxHeaders * 2) {
    next(
      // Newer Node counts them itself, and that answer has this code, too.
      new InvalidInput('headers_too_large', `The request has more than ${maxHeaders} headers: send fewer.`, {
        httpStatus: 431,
      }),
    );
    return;
  }
  const seen = new Set<string>();
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = (rawHeaders[index] as string).toLowerCase();
    if (!once.has(name)) continue;
    if (seen.has(name)) {
      const fields = [{ field: name, message: 'given twice' }];
      next(new InvalidInput('duplicate_header', `The request has the header ${name} twice.`, { fields }));
      return;
    }
    seen.add(name);
  }
  if (!seen.has('host') && request.httpVersion === '1.1') {
    next(new InvalidInput('no_host', 'The request has no Host.'));
    return;
  }
  next();
}
