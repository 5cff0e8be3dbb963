import { createHmac, randomBytes } from 'node:crypto';
import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { ExpressAdapter } from '@bull-board/express';
import express, { type Express, type Request, type Response } from 'express';
import { audit } from '../../shared/db/audit-store.ts';
import { ScalerError } from '../../shared/errors.ts';
import type { Deps } from '../http/deps.ts';
import { equalInConstantTime } from '../keys/api-key.ts';
import type { Admission } from '../middleware/admission.ts';
import { forbiddenBySelectors } from '../middleware/guard-selectors.ts';
import { problemOf, sendProblem } from '../middleware/problem-response.ts';

const path = '/admin/queues';
const cookieName = 'scaler_board';
const sessionMs = 15 * 60_000;

/**
 * Bull Board, which has no authentication of its own. Browsers do not send an Authorization header, so an admin key
 * posted to `/admin/queues/login` is exchanged for a 15-minute session cookie, which also ends with its key.
 */
export function mountDashboard(app: Express, deps: Deps, admission: Admission): void {
  const sessions = new Sessions(deps.config.API_KEY_PEPPER);
  const refuse = (request: Request, response: Response, error: unknown) => {
    const requestId = response.locals.requestId as string;
    const problem = problemOf(error, deps.logger, requestId);
    if (request.accepts(['json', 'html']) !== 'html') sendProblem(response, problem, requestId);
    else sendLoginPage(response, problem);
  };

  app.use(path, (request, response, next) => {
    if (isCrossSite(request)) refuse(request, response, crossSiteRefused());
    else next();
  });
  app.post(
    `${path}/login`,
    express.urlencoded({ extended: false, limit: '4kb' }),
    async (request, response) => {
      try {
        const keyId = await logIn(deps, admission, request, response);
        response.setHeader('Set-Cookie', sessions.cookie(keyId, request.secure));
        response.redirect(303, path);
      } catch (error) {
        refuse(request, response, error);
      }
    },
  );
  app.use(path, async (request, response, next) => {
    try {
      const keyId = sessions.keyOf(request.headers.cookie);
      if (keyId === null || !(await admission.isLive(keyId))) throw sessionRequired();
      response.locals.keyId = keyId;
      dropExternalFonts(response);
      next();
    } catch (error) {
      refuse(request, response, error);
    }
  });

  const board = new ExpressAdapter();
  board.setBasePath(path);
  const readOnlyMode = deps.config.BULL_BOARD_WRITABLE !== 'true';
  createBullBoard({
    queues: Object.values(deps.queues).map((queue) => new BullMQAdapter(queue, { readOnlyMode })),
    serverAdapter: board,
  });
  app.use(path, board.getRouter());
}

/**
 * Authenticates the key in the form or the Authorization header.
 * @returns its id.
 * @throws ScalerError 401, 403, 429.
 */
async function logIn(
  deps: Deps,
  admission: Admission,
  request: Request,
  response: Response,
): Promise<string> {
  const { key: formKey = '' } = (request.body ?? {}) as { key?: unknown };
  const header = request.get('authorization') ?? `Bearer ${String(formKey)}`;
  response.locals.scope = 'admin';
  const key = await admission.admit(header, request.ip, 'admin', (keyId) => {
    response.locals.keyId = keyId;
  });
  if (key.selectors !== null) throw forbiddenBySelectors('The queues hold the jobs of every resource');
  await audit(deps.pool, {
    actor: key.id,
    action: 'board.opened',
    request_id: response.locals.requestId as string,
    remote_address: request.ip ?? null,
    detail: { scope: 'admin' },
  });
  return key.id;
}

/** Session cookies, signed and not stored: every API process with the same pepper accepts them. */
class Sessions {
  readonly #secret: Buffer;

  constructor(pepper: string) {
    this.#secret =
      pepper === ''
        ? randomBytes(32)
        : createHmac('sha256', pepper).update('scaler: sessions of the board').digest();
  }

  cookie(keyId: string, secure: boolean): string {
    const session = `${keyId}.${Date.now() + sessionMs}`;
    const value = `${session}.${this.#sign(session).toString('hex')}`;
    const attributes = `Path=${path}; Max-Age=${sessionMs / 1_000}; HttpOnly; SameSite=Strict`;
    return `${cookieName}=${value}; ${attributes}${secure ? '; Secure' : ''}`;
  }

  /** The key's id in a cookie with a valid signature that has not expired; else null. */
  keyOf(cookies: string | undefined): string | null {
    const pattern = new RegExp(
      `(?:^|; )${cookieName}=(([0-9A-Za-z]{12})\\.(\\d{13}))\\.([0-9a-f]{64})(?:;|$)`,
    );
    const [, session = '', keyId = '', expires = '', signature = ''] = pattern.exec(cookies ?? '') ?? [];
    const genuine = equalInConstantTime(Buffer.from(signature, 'hex'), this.#sign(session));
    return genuine && Number(expires) > Date.now() ? keyId : null;
  }

  #sign(session: string): Buffer {
    return createHmac('sha256', this.#secret).update(session).digest();
  }
}

/** CSRF protection for browsers that do not know SameSite=Strict. */
function isCrossSite(request: Request): boolean {
  if (request.method === 'GET' || request.method === 'HEAD') return false;
  // Preferred to Origin, which is `null` for our own form, because no referrer is sent.
  const site = request.get('sec-fetch-site');
  if (site !== undefined) return site !== 'same-origin' && site !== 'none';
  const origin = request.get('origin');
  return origin !== undefined && origin.replace(/^https?:\/\//, '') !== request.get('host');
}

/**
 * Drops the page's links to Google Fonts: they would tell a third party who is there, and there may be no network.
 */
function dropExternalFonts(response: Response): void {
  const send = response.send.bind(response);
  response.send = (body: unknown) =>
    send(typeof body === 'string' ? body.replace(/<link href="https?:[^>]*>/g, '') : body);
}

function crossSiteRefused(): ScalerError {
  return new ScalerError({
    code: 'cross_site',
    message: 'This came from a page of another site.',
    retry: 'never',
    httpStatus: 403,
  });
}

function sessionRequired(): ScalerError {
  return new ScalerError({
    code: 'no_session',
    message: 'Log in with an admin key.',
    retry: 'never',
    httpStatus: 401,
  });
}

/** The login page, with the problem, unless that is just a missing session. */
function sendLoginPage(response: Response, problem: ScalerError): void {
  response.locals.problemCode = problem.code;
  if (problem.retryAfterMs !== undefined)
    response.setHeader('Retry-After', String(Math.ceil(problem.retryAfterMs / 1_000)));
  const alert = problem.code === 'no_session' ? '' : `<p role="alert">${escapeHtml(problem.message)}</p>`;
  response
    .status(problem.httpStatus)
    .type('html')
    .setHeader('Cache-Control', 'no-store')
    .send(
      '<!doctype html><html lang="en"><meta charset="utf-8"><title>Queues</title><main><h1>Queues</h1>' +
        `${alert}<form method="post" action="${path}/login"><label>Admin key ` +
        '<input name="key" type="password" autocomplete="off" required></label> ' +
        '<button>Log in</button></form></main></html>',
    );
}

function escapeHtml(text: string): string {
  return text.replace(/[<>&"]/g, (char) => `&#${char.charCodeAt(0)};`);
}
