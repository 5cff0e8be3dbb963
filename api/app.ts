import { createHash, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import express, { type Express, type Request, type Response } from 'express';
import helmet from 'helmet';
import { Histogram } from 'prom-client';
import { InvalidInput, NotFound, ScalerError } from '../shared/errors.ts';
import { auditRoutes } from './audit/routes.ts';
import { scalingRoutes } from './decisions/routes.ts';
import { forecastRoutes } from './forecasts/routes.ts';
import type { Deps } from './http/deps.ts';
import { RequestLine } from './http/request-line.ts';
import type { Answer, Call, Route } from './http/route.ts';
import { parseStrictJson } from './http/strict-json.ts';
import { preferredWait } from './jobs/submit.ts';
import type { KeyRow } from './keys/keys-store.ts';
import { keyRoutes } from './keys/routes.ts';
import { Admission } from './middleware/admission.ts';
import { auditRequests } from './middleware/audit-requests.ts';
import { guardSelectors, refuseFleet } from './middleware/guard-selectors.ts';
import { answerOnce } from './middleware/idempotency.ts';
import { OverloadGuard } from './middleware/overload-guard.ts';
import { invalidRequest, problemOf, sendProblem } from './middleware/problem-response.ts';
import { type Lane, QueueGate } from './middleware/queue-gate.ts';
import { refuseAmbiguous } from './middleware/refuse-ambiguous.ts';
import { openApiDocument } from './openapi/document.ts';
import { mountDashboard } from './operations/dashboard.ts';
import { fleetRoutes } from './operations/fleet.ts';
import { operationRoutes } from './operations/routes.ts';
import { protectionRoutes } from './protection/routes.ts';
import { resourceRoutes } from './resources/routes.ts';

const defaultBodyLimit = 64 * 1024;

/** The whole API without a port, so that tests can call it. Requests come in through `line`. @throws Error at boot for a route without a scope. */
export function buildApp(
  deps: Deps,
  more: readonly Route[] = [],
): { app: Express; routes: readonly Route[]; line: RequestLine } {
  const routes = [
    ...scalingRoutes(deps),
    ...resourceRoutes(deps),
    ...forecastRoutes(deps),
    ...keyRoutes(deps),
    ...operationRoutes(deps),
    ...protectionRoutes(deps),
    ...auditRoutes(deps),
    ...fleetRoutes(deps),
    ...more,
  ];
  for (const route of routes) {
    if (route.scope === undefined)
      throw new Error(`${route.method.toUpperCase()} ${route.path} declares no scope: every route must.`);
  }
  const app = express();
  const line = new RequestLine(app);
  app.disable('x-powered-by');
  app.disable('etag');
  app.set('trust proxy', deps.config.TRUST_PROXY_HOPS);
  app.set('query parser', 'simple');
  app.use(securityHeaders());
  app.use(observe(deps, line));
  app.use(auditRequests(deps.auditTrail));
  app.use(refuseAmbiguous);
  const admission = new Admission(deps);
  const overload = new OverloadGuard(() => line.length);
  const gate = new QueueGate(deps.pool, deps.config.MAX_WAITING_JOBS, () => deps.intake.accepted);
  for (const route of routes) {
    const bodyReader = express.raw({
      type: () => true,
      limit: route.bodyLimit ?? defaultBodyLimit,
      inflate: false,
    });
    const expressPath = route.path.replace(/\{(\w+)\}/g, ':$1');
    app[route.method](expressPath, async (request: Request, response: Response) => {
      const requestId = response.locals.requestId as string;
      response.locals.scope = route.scope;
      let leave = (_served: boolean) => {};
      let served = false;
      try {
        // First of all: whoever is refused here must not wait for anything.
        if (mayBeShed(route))
          leave = overload.enter(laneOf(route), waitsForJob(route, request), line.arrivalOf(request));
        const key =
          route.scope === 'public'
            ? anonymous
            : await admission.admit(request.get('authorization'), request.ip, route.scope, (keyId) => {
                response.locals.keyId = keyId;
              });
        if (route.startsJob === true) await gate.pass(laneOf(route));
        refuseFleet(route, key.selectors);
        const call = await parse(route, request, response, bodyReader, key, requestId);
        await guardSelectors(deps.pool, route, call).catch((error: unknown) => {
          response.locals.foreign = true;
          throw error;
        });
        served = true;
        send(
          response,
          route.startsJob === true ? await route.handle(call) : await answerOnce(deps.pool, route, call),
        );
      } catch (error) {
        sendProblem(response, problemOf(error, deps.logger, requestId), requestId);
      } finally {
        leave(served);
      }
    });
  }
  const document = JSON.stringify(openApiDocument(routes));
  app.get('/openapi.json', (_request, response) => {
    response.type('json').send(document);
  });
  mountDocs(app);
  if (deps.config.BULL_BOARD === 'true') mountDashboard(app, deps, admission);
  app.use((request: Request, response: Response) => refuseUnknown(routes, request, response));
  app.use((error: unknown, _request: Request, response: Response, _next: unknown) => {
    const requestId = (response.locals.requestId as string | undefined) ?? randomUUID();
    sendProblem(response, problemOf(error, deps.logger, requestId), requestId);
  });
  return { app, routes, line };
}

/**
 * Helmet's, but no page of ours may be framed, and nothing is sent to https on its own: TLS ends in front of us, and
 * where it does not (a laptop, a private network), the pages' scripts would not load.
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

/** One lean line and one measurement per request, from when it came; the request's id is the client's own when that is sane. */
function observe(deps: Deps, line: RequestLine) {
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

/** Carrying out, and replaying by hand, go on while decisions are refused. */
function laneOf({ scope }: Route): Lane {
  return scope === 'execute' || scope === 'admin' ? 'execute' : 'decide';
}

/** Never what one needs in an overload: health, metrics, and an operator's own requests, the kill switch first. */
function mayBeShed({ scope, path }: Route): boolean {
  return scope !== 'public' && scope !== 'admin' && path !== '/metrics';
}

/** Asked to wait, or a GET that does so by itself. */
function waitsForJob(route: Route, request: Request): boolean {
  return route.startsJob === true && (route.method === 'get' || preferredWait(request.get('prefer')) > 0);
}

type Admitted = Pick<KeyRow, 'id' | 'selectors'>;
const anonymous: Admitted = { id: 'anonymous', selectors: null };

async function parse(
  route: Route,
  request: Request,
  response: Response,
  readBody: ReturnType<typeof express.raw>,
  key: Admitted,
  requestId: string,
): Promise<Call> {
  const params = check('path', route.params, storable('path', request.params));
  const query = check('query', route.query, storable('query', request.query));
  const { body, bytes } = await bodyOf(route, request, response, readBody);
  return {
    params,
    query,
    body,
    keyId: key.id,
    selectors: key.selectors,
    scope: route.scope,
    requestId,
    remoteAddress: request.ip ?? null,
    idempotency: idempotencyOf(route, request, key.id, bytes),
    raw: request,
  };
}

async function bodyOf(
  route: Route,
  request: Request,
  response: Response,
  readBody: ReturnType<typeof express.raw>,
): Promise<{ body: unknown; bytes: Buffer }> {
  if (route.body === undefined) return { body: undefined, bytes: Buffer.alloc(0) };
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
  const bytes = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
  return { body: check('body', route.body, parseStrictJson(bytes)), bytes };
}

/** What a body is refused for, an address is refused for: PostgreSQL stores no NUL. @throws InvalidInput naming the field. */
function storable<T extends object>(part: string, values: T): T {
  for (const [name, value] of Object.entries(values))
    if (`${name}${value}`.includes('\0'))
      throw new InvalidInput('invalid_text', `The ${part} has a NUL in it.`, {
        fields: [{ field: name.replaceAll('\0', ''), message: 'has a NUL in it' }],
      });
  return values;
}

function check(part: string, schema: Route['body'], value: unknown): unknown {
  if (schema === undefined) return value;
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw invalidRequest(part, parsed.error.issues as Parameters<typeof invalidRequest>[1]);
}

function idempotencyOf(route: Route, request: Request, keyId: string, bytes: Buffer): Call['idempotency'] {
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

function send(response: Response, answer: Answer): void {
  response.status(answer.status);
  for (const [name, value] of Object.entries(answer.headers ?? {})) response.setHeader(name, value);
  if (answer.body === undefined) response.end();
  else if (typeof answer.body === 'string') response.end(answer.body);
  else {
    response.setHeader('Content-Type', 'application/json; charset=utf-8');
    response.end(JSON.stringify(answer.body));
  }
}

function refuseUnknown(routes: readonly Route[], request: Request, response: Response): void {
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

function mountDocs(app: Express): void {
  const folder = dirname(createRequire(import.meta.url).resolve('swagger-ui-dist/package.json'));
  const page = readFileSync(`${folder}/index.html`, 'utf8')
    .replaceAll('./', '/docs/')
    .replaceAll('href="index.css"', 'href="/docs/index.css"');
  app.get('/docs', (_request, response) => {
    response.type('html').send(page);
  });
  app.get('/docs/swagger-initializer.js', (_request, response) => {
    response
      .type('js')
      .send(
        "window.ui = SwaggerUIBundle({ url: '/openapi.json', dom_id: '#swagger-ui', presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset], layout: 'BaseLayout' });",
      );
  });
  app.use('/docs', express.static(folder, { index: false }));
}
