import type { Request, Response } from 'express';
import type { AuditedRequest, AuditTrail } from '../audit/audit-trail.ts';
import { presentedKeyId } from './authenticate.ts';

const safeMethods = new Set(['GET', 'HEAD', 'OPTIONS']);

/** Audits every mutating request, and reads refused with 401, 403 or by selectors, once the response is sent. */
export function auditRequests(trail: AuditTrail) {
  return (request: Request, response: Response, next: () => void) => {
    response.on('close', () => {
      const { statusCode: status } = response;
      const { keyId, problemCode, foreign, scope } = response.locals as RequestLocals;
      const refused = status >= 400;
      const mutating = !safeMethods.has(request.method);
      if (!mutating && status !== 401 && status !== 403 && foreign !== true) return;
      const audited: AuditedRequest = {
        keyId: keyId ?? null,
        presentedKey: keyId === undefined ? presentedKeyId(request.get('authorization')) : null,
        scope: scope ?? null,
        method: request.method,
        route: (request.route as { path?: string } | undefined)?.path ?? 'other',
        status,
        code: problemCode ?? `http_${status}`,
        address: request.ip ?? null,
        requestId: response.locals.requestId as string,
        bySelectors: foreign === true,
      };
      if (refused) trail.refused(audited);
      else trail.accepted(audited);
    });
    next();
  };
}

/** What the request pipeline leaves in `response.locals`. */
interface RequestLocals {
  readonly keyId?: string;
  readonly problemCode?: string;
  readonly foreign?: boolean;
  readonly scope?: string;
}
