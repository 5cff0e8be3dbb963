import { createHmac, randomBytes } from 'node:crypto';
import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { ExpressAdapter } from '@bull-board/express';
import express, { type Express } from 'express';
import { sameHash } from '../../shared/domain/api-key.ts';
import { errorMessage } from '../../shared/errors.ts';
import type { Authenticator } from '../middleware/authenticate.ts';
import { outsideSelectors } from '../middleware/guard-selectors.ts';
import type { Deps } from './deps.ts';

const path = '/admin/queues';
const cookieName = 'scaler_board';
const sessionMs = 15 * 60_000;

/**
 * Bull Board, which has no authentication of its own. Browsers cannot send our header, so an admin key posted to
 * `/admin/queues/login` buys a 15-minute cookie that goes nowhere else and comes from no other site.
 */
export function mountDashboard(app: Express, deps: Deps, authenticator: Authenticator): void {
  const sessionKey = randomBytes(32);
  const sign = (expires: string) => createHmac('sha256', sessionKey).update(expires).digest();
  const hasSession = (cookies: string | undefined): boolean => {
    const value = new RegExp(`(?:^|; )${cookieName}=(\\d{13})\\.([0-9a-f]{64})(?:;|$)`).exec(cookies ?? '');
    return (
      value !== null &&
      Number(value[1]) > Date.now() &&
      sameHash(Buffer.from(value[2] as string, 'hex'), sign(value[1] as string))
    );
  };

  app.post(
    `${path}/login`,
    express.urlencoded({ extended: false, limit: '4kb' }),
    async (request, response) => {
      try {
        const header =
          request.get('authorization') ??
          `Bearer ${String((request.body as { key?: unknown } | undefined)?.key ?? '')}`;
        const key = await authenticator.authorize(header, 'admin');
        if (key.selectors !== null) throw outsideSelectors('The queues hold the jobs of every resource');
      } catch (error) {
        response
          .status(401)
          .type('html')
          .send(loginPage(errorMessage(error)));
        return;
      }
      const expires = String(Date.now() + sessionMs);
      const secure = request.secure ? '; Secure' : '';
      response.setHeader(
        'Set-Cookie',
        `${cookieName}=${expires}.${sign(expires).toString('hex')}; Path=${path}; Max-Age=${sessionMs / 1_000}; HttpOnly; SameSite=Strict${secure}`,
      );
      response.redirect(303, path);
    },
  );

  const board = new ExpressAdapter();
  board.setBasePath(path);
  const readOnlyMode = deps.config.BULL_BOARD_WRITABLE !== 'true';
  createBullBoard({
    queues: Object.values(deps.queues).map((queue) => new BullMQAdapter(queue, { readOnlyMode })),
    serverAdapter: board,
  });
  app.use(path, (request, response, next) => {
    if (hasSession(request.headers.cookie)) {
      next();
      return;
    }
    response.status(401).type('html').send(loginPage());
  });
  app.use(path, board.getRouter());
}

function loginPage(problem?: string): string {
  const words = problem === undefined ? '' : `<p role="alert">${problem.replace(/[<>&"]/g, '')}</p>`;
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>Queues</title><main><h1>Queues</h1>${words}<form method="post" action="${path}/login"><label>Admin key <input name="key" type="password" autocomplete="off" required></label> <button>Log in</button></form></main></html>`;
}
