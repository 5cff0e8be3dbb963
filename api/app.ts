import { randomUUID } from 'node:crypto';
import express, { type Express, type Request, type Response } from 'express';
import helmet from 'helmet';
import { Histogram } from 'prom-client';
import { NotFound, ScalerError } from '../shared/errors.ts';
import { auditRoutes } from './audit/routes.ts';
import { costRoutes } from './costs/routes.ts';
import { decisionRoutes } from './decisions/routes.ts';
import { eventRoutes } from './events/routes.ts';
import { executionRoutes } from './executions/routes.ts';
import { forecastRoutes } from './forecasts/routes.ts';
import type { Deps } from './http/deps.ts';
import { createRequestParser, type Principal } from './http/parse-request.ts';
import { RequestQueue } from './http/request-queue.ts';
import type { Route } from './http/route.ts';
import { sendResponse } from './http/send-response.ts';
import { jobRoutes } from './jobs/routes.ts';
import { preferredWaitSeconds } from './jobs/submit.ts';
import { keyRoutes } from './keys/routes.ts';
import { Admission } from './middleware/admission.ts';
import { auditRequests } from './middleware/audit-requests.ts';
import { enforceSelectors, requireFleetAccess } from './middleware/guard-selectors.ts';
import { withIdempotencyKey } from './middleware/idempotency.ts';
import { OverloadGuard } from './middleware/overload-guard.ts';
import { problemOf, sendProblem } from './middleware/problem-response.ts';
import { type Lane, QueueGate } from './middleware/queue-gate.ts';
import { rejectAmbiguousHeaders } from './middleware/refuse-ambiguous.ts';
import { openApiDocument } from './openapi/document.ts';
import { mountSwaggerUi } from './openapi/swagger-ui.ts';
import { mountDashboard } from './operations/dashboard.ts';
import { fleetRoutes } from './operations/fleet.ts';
import { operationRoutes } from './operations/routes.ts';
import { protectionRoutes } from './protection/routes.ts';
import { resourceRoutes } from './resources/routes.ts';

/**
 * The whole API without a port, so that tests can call it. Requests come in through `line`.
 * @throws Error at boot for a route without a scope.
 */
export function buildApp(
  deps: Deps,
  more: readonly Route[] = [],
): { app: Express; routes: readonly Route[]; line: RequestQueue } {
  const routes = [
    ...decisionRoutes(deps),
    ...executionRoutes(deps),
    ...eventRoutes(deps),
    ...costRoutes(deps),
    ...jobRoutes(deps),
    ...resourceRoutes(deps),
    ...forecastRoutes(deps),
    ...keyRoutes(deps),
    ...operationRoutes(deps),
    ...protectionRoutes(deps),
    ...auditRoutes(deps),
    ...fleetRoutes(deps),
    ...more,
  ];
  requireScopes(routes);
  const app = express();
  const line = new RequestQueue(app);
  app.disable('x-powered-by');
  app.disable('etag');
  app.set('trust proxy', deps.config.TRUST_PROXY_HOPS);
  app.set('query parser', 'simple');
  app.use(securityHeaders());
  app.use(observeRequests(deps, line));
  app.use(auditRequests(deps.auditTrail));
  app.use(rejectAmbiguousHeaders);
  const guards: Guards = {
    line,
    admission: new Admission(deps),
    overload: new OverloadGuard(() => line.length),
    gate: new QueueGate(deps.pool, deps.config.MAX_WAITING_JOBS, () => deps.intake.accepted),
  };
  for (const route of routes) {
    const expressPath = route.path.replace(/\{(\w+)\}/g, ':$1');
    app[route.method](expressPath, routeHandler(deps, route, guards));
  }
  const document = JSON.stringify(openApiDocument(routes));
  app.get('/openapi.json', (_request, response) => {
    response.type('json').send(document);
  });
  mountSwaggerUi(app);
  if (deps.config.BULL_BOARD === 'true') mountDashboard(app, deps, guards.admission);
  app.use((request: Request, response: Response) => sendNotFound(routes, request, response));
  app.use((error: unknown, _request: Request, response: Response, _next: unknown) => {
    const requestId = (response.locals.requestId as string | undefined) ?? randomUUID();
    sendProblem(response, problemOf(error, deps.logger, requestId), requestId);
  });
  return { app, routes, line };
}

function requireScopes(routes: readonly Route[]): void {
  for (const route of routes) {
    if (route.scope === undefined)
      throw new Error(`${route.method.toUpperCase()} ${route.path} declares no scope: every route must.`);
  }
}

/** What a request passes before its handler; shared by all routes. */
interface Guards {
  readonly line: RequestQueue;
  readonly admission: Admission;
  readonly overload: OverloadGuard;
  readonly gate: QueueGate;
}

const anonymous: Principal = { id: 'anonymous', selectors: null };

/** Runs the guards, cheapest first, before anything is parsed; then parses, handles, and responds. */
function routeHandler(deps: Deps, route: Route, { line, admission, overload, gate }: Guards) {
  const parseRequest = createRequestParser(route);
  return async (request: Request, response: Response): Promise<void> => {
    const requestId = response.locals.requestId as string;
    response.locals.scope = route.scope;
    let leave = (_served: boolean) => {};
    let served = false;
    try {
      // Before authentication: a request that is shed must not wait for PostgreSQL or Redis.
      if (isSheddable(route))
        leave = overload.enter(laneOf(route), waitsForJob(route, request), line.arrivalOf(request));
      const key =
        route.scope === 'public'
          ? anonymous
          : await admission.admit(request.get('authorization'), request.ip, route.scope, (keyId) => {
              response.locals.keyId = keyId;
            });
      if (route.startsJob === true) await gate.pass(laneOf(route));
      requireFleetAccess(route, key.selectors);
      const parsed = await parseRequest(request, response, key);
      await enforceSelectors(deps.pool, route, parsed).catch((error: unknown) => {
        response.locals.foreign = true;
        throw error;
      });
      served = true;
      sendResponse(
        response,
        route.startsJob === true
          ? await route.handle(parsed)
          : await withIdempotencyKey(deps.pool, route, parsed),
      );
    } catch (error) {
      sendProblem(response, problemOf(error, deps.logger, requestId), requestId);
    } finally {
      leave(served);
    }
  };
}

/**
 * Helmet's defaults, except: no framing at all, and no `upgrade-insecure-requests`. TLS ends at the proxy, and
 * without one (a laptop, a private network) that directive would keep the pages' scripts from loading.
 */
function securityHeaders() {
  return helmet({
    contentSecurityPolicy: {
      directives: {
        'frame-ancestors': ["'none'"],
        'style-src': ["'self'", "'unsafe-inline'"],
        'font-src': ["'self'", 'data:'],
        'upgrade-insecure-requests': null,
      },
    },
    frameguard: { action: 'deny' },
  });
}

/** Logs and measures each request from its arrival. Takes over the client's X-Request-Id when it is well-formed. */
function observeRequests(deps: Deps, line: RequestQueue) {
  const durations = new Histogram({
    name: 'scaler_http_request_duration_seconds',
    help: 'HTTP requests',
    labelNames: ['route', 'method', 'status'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30],
    registers: [deps.metrics.registry],
  });
  return (request: Request, response: Response, next: () => void) => {
    const startedAt = line.arrivalOf(request);
    const given = request.get('x-request-id');
    const requestId = given !== undefined && /^[\w.:-]{1,100}$/.test(given) ? given : randomUUID();
    response.locals.requestId = requestId;
    response.setHeader('X-Request-Id', requestId);
    response.on('finish', () => {
      const ms = performance.now() - startedAt;
      const route = (request.route as { path?: string } | undefined)?.path ?? 'other';
      durations.observe({ route, method: request.method, status: response.statusCode }, ms / 1_000);
      deps.logger.info({
        event: 'http.request',
        requestId,
        method: request.method,
        route,
        status: response.statusCode,
        ms: Math.round(ms * 10) / 10,
        keyId: response.locals.keyId,
      });
    });
    next();
  };
}

/** Executions, and jobs replayed by hand, go on while decisions are refused. */
function laneOf({ scope }: Route): Lane {
  return scope === 'execute' || scope === 'admin' ? 'execute' : 'decide';
}

/** Never shed: what is needed in an overload, which is health, metrics, and an operator's requests (kill switch). */
function isSheddable({ scope, path }: Route): boolean {
  return scope !== 'public' && scope !== 'admin' && path !== '/metrics';
}

/** A GET that starts a job waits for it without being asked to. */
function waitsForJob(route: Route, request: Request): boolean {
  return (
    route.startsJob === true && (route.method === 'get' || preferredWaitSeconds(request.get('prefer')) > 0)
  );
}

/** 405 where another method would do, else 404. */
function sendNotFound(routes: readonly Route[], request: Request, response: Response): void {
  const requestId = response.locals.requestId as string;
  const allowed = routes
    .filter((route) => new RegExp(`^${route.path.replace(/\{\w+\}/g, '[^/]+')}/?$`).test(request.path))
    .map((route) => route.method.toUpperCase());
  if (allowed.length > 0) {
    response.setHeader('Allow', allowed.join(', '));
    sendProblem(
      response,
      new ScalerError({
        code: 'method_not_allowed',
        message: `Use ${allowed.join(' or ')} here.`,
        retry: 'never',
        httpStatus: 405,
      }),
      requestId,
    );
    return;
  }
  sendProblem(response, new NotFound('not_found', 'There is nothing at this address: see /docs.'), requestId);
}
