import type { Request, Response } from 'express';
import { InvalidInput } from '../../shared/errors.ts';
import { maxHeaders } from '../http/create-server.ts';

/** Given twice, Node takes the first or joins both, and a proxy may do otherwise: request smuggling. */
const singletons = new Set([
  'authorization',
  'content-length',
  'content-type',
  'host',
  'idempotency-key',
  'if-match',
  'prefer',
  'transfer-encoding',
]);

/** Refuses (400, 431) duplicate singleton headers, a missing Host, and more headers than Node reads. */
export function rejectAmbiguousHeaders(
  request: Request,
  _response: Response,
  next: (error?: unknown) => void,
) {
  const { rawHeaders } = request;
  if (rawHeaders.length > maxHeaders * 2) {
    next(
      // The same code as for the server's own refusal (create-server.ts), which newer versions of Node make first.
      new InvalidInput('headers_too_large', `The request has more than ${maxHeaders} headers: send fewer.`, {
        httpStatus: 431,
      }),
    );
    return;
  }
  const seen = new Set<string>();
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = (rawHeaders[index] as string).toLowerCase();
    if (!singletons.has(name)) continue;
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
