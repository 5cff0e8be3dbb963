import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { AwsError } from './aws-error.ts';
import { changeExternally } from './external.ts';
import type { AwsEffect } from './faults.ts';
import { errorBody, type Service, successBody } from './query-answer.ts';
import { type Parameters, parametersOf, parseForm } from './query-form.ts';
import { actionOf } from './services.ts';
import { authenticate, readIdentity, type SignedIdentity, type SignedRequest } from './signature.ts';
import type { Simulation } from './simulation.ts';
import { regionOf } from './state.ts';
import type { Requester } from './writes.ts';

/** One request, read and on its way to an answer. */
interface Exchange {
  readonly simulation: Simulation;
  readonly response: ServerResponse;
  readonly signed: SignedRequest;
  readonly identity: SignedIdentity | undefined;
  readonly requestId: string;
  readonly service: Service;
  readonly region: string;
  readonly action: string;
  readonly parameters: Parameters;
  readonly requester: Requester;
}

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly contentType: string;
  /** For the ledger: `200`, `400 ValidationError`. */
  readonly outcome: string;
  readonly headers?: Readonly<Record<string, string>>;
}

export function answerQuery(
  simulation: Simulation,
  request: IncomingMessage,
  response: ServerResponse,
  body: string,
): void {
  const exchange = openExchange(simulation, request, response, body);
  record(exchange, 'received', 'received');
  simulation.world.clock.runDue();
  const { from, to } = simulation.latencyMs;
  if (to === 0) carryOut(exchange);
  else simulation.later(from + simulation.world.random() * (to - from), () => carryOut(exchange));
}

function openExchange(
  simulation: Simulation,
  request: IncomingMessage,
  response: ServerResponse,
  body: string,
): Exchange {
  const identity = readIdentity(request.headers);
  const parameters = parametersOf(parseForm(body));
  const action = parameters.text('Action') ?? '';
  const service = serviceOf(identity?.service, parameters.text('Version'));
  const requestId = randomUUID();
  const [path = '/', query = ''] = (request.url ?? '/').split('?');
  return {
    simulation,
    response,
    identity,
    parameters,
    action,
    service,
    requestId,
    region: identity?.region ?? 'unknown',
    signed: { method: request.method ?? '', path, query, headers: request.headers, body, action },
    requester: {
      requestId,
      service,
      action,
      receivedAt: Date.now(),
      accessKeyId: identity?.accessKeyId ?? null,
      invocationId: headerText(request.headers['amz-sdk-invocation-id']),
      userAgent: headerText(request.headers['user-agent']),
    },
  };
}

/** Never by host: with an endpoint override every service has the same one. */
function serviceOf(scopeService: string | undefined, version: string | undefined): Service {
  if (scopeService === 'ec2' || version === '2016-11-15') return 'ec2';
  if (scopeService === 'sts' || version === '2011-06-15') return 'sts';
  return 'autoscaling';
}

/** Signature first, then the fault script, then throttling, then the action: nothing unsigned meets a fault. */
function carryOut(exchange: Exchange): void {
  const { simulation, action, region } = exchange;
  const refusal = refusalOf(exchange);
  if (refusal !== undefined) {
    send(exchange, errorAnswer(exchange, refusal));
    return;
  }
  const effect = simulation.faults.strike({ action, scope: region, target: targetsOf(exchange.parameters) });
  if (effect !== undefined) {
    suffer(exchange, effect);
  } else if (simulation.rateLimits.admits(region, action)) {
    send(exchange, perform(exchange));
  } else {
    send(exchange, throttled(exchange));
  }
}

function suffer(exchange: Exchange, effect: AwsEffect): void {
  const { simulation } = exchange;
  if ('applied' in effect && effect.applied === true) perform(exchange);
  switch (effect.kind) {
    case 'throttle':
      send(exchange, throttled(exchange, effect.retryAfterSeconds));
      return;
    case 'error':
      send(
        exchange,
        errorAnswer(
          exchange,
          new AwsError(effect.code, effect.message ?? wordsFor(effect.code), effect.status),
        ),
      );
      return;
    case 'html':
      send(exchange, htmlAnswer(effect.status));
      return;
    case 'reset':
      record(exchange, 'answered', 'reset');
      exchange.response.socket?.resetAndDestroy();
      return;
    case 'truncate':
      truncate(exchange, perform(exchange));
      return;
    case 'hang':
      record(exchange, 'answered', 'hang');
      return;
    case 'apply-late':
      applyLate(exchange, effect);
      return;
    case 'slow': {
      const early = effect.applied === 'first' ? perform(exchange) : undefined;
      simulation.later(effect.delayMs, () => send(exchange, early ?? perform(exchange)));
      return;
    }
    case 'stale-read':
      send(exchange, perform(exchange, effect.staleMs));
      return;
    case 'external': {
      const early = effect.when === 'after' ? perform(exchange) : undefined;
      const group = effect.group ?? [targetsOf(exchange.parameters)].flat()[0] ?? '';
      changeExternally(simulation.world, exchange.region, group, effect.change);
      send(exchange, early ?? perform(exchange));
      return;
    }
  }
}

/** The request was under way for `delayMs`: so its signature is judged when it arrives, and may have become too old. */
function applyLate(exchange: Exchange, effect: Extract<AwsEffect, { kind: 'apply-late' }>): void {
  if (effect.status === undefined) record(exchange, 'answered', 'hang');
  else send(exchange, htmlAnswer(effect.status));
  exchange.simulation.later(effect.delayMs, () => {
    const refusal = refusalOf(exchange);
    const answer = refusal === undefined ? perform(exchange) : errorAnswer(exchange, refusal);
    record(exchange, 'answered', `late ${answer.outcome}`);
  });
}

function refusalOf({ signed, identity, simulation }: Exchange): AwsError | undefined {
  try {
    authenticate(signed, identity, simulation.signatures);
    return undefined;
  } catch (error) {
    if (error instanceof AwsError) return error;
    throw error;
  }
}

/** Runs the action. Its changes are applied when this returns; what it throws becomes an answer. */
function perform(exchange: Exchange, staleMs?: number): Answer {
  const { simulation, service, action, requestId, parameters, requester } = exchange;
  const { world } = simulation;
  try {
    const run = actionOf(service, action);
    if (run === undefined) throw unknownAction(service, action);
    world.clock.runDue();
    const region = regionOf(world, exchange.region);
    const result = run({ world, region, parameters, requester, staleMs });
    const body = successBody(service, action, requestId, result);
    return { status: 200, body, contentType: 'text/xml', outcome: '200' };
  } catch (error) {
    if (error instanceof AwsError) return errorAnswer(exchange, error);
    const bug = new AwsError('InternalFailure', `Bug in the simulator: ${String(error)}`, 500);
    return errorAnswer(exchange, bug);
  }
}

function unknownAction(service: Service, action: string): AwsError {
  const message =
    service === 'ec2'
      ? `The action ${action} is not valid for this web service.`
      : `Could not find operation ${action} for version ${service === 'sts' ? '2011-06-15' : '2011-01-01'}`;
  return new AwsError(action === '' ? 'MissingAction' : 'InvalidAction', message);
}

function errorAnswer({ service, requestId }: Exchange, error: AwsError): Answer {
  return {
    status: error.status,
    body: errorBody(service, requestId, error),
    contentType: 'text/xml',
    outcome: `${error.status} ${error.code}`,
  };
}

function throttled(exchange: Exchange, retryAfterSeconds?: number): Answer {
  const error =
    exchange.service === 'ec2'
      ? new AwsError('RequestLimitExceeded', 'Request limit exceeded.', 503)
      : new AwsError('Throttling', 'Rate exceeded');
  const answer = errorAnswer(exchange, error);
  if (retryAfterSeconds === undefined) return answer;
  return { ...answer, headers: { 'retry-after': String(retryAfterSeconds) } };
}

function htmlAnswer(status: number): Answer {
  const body = `<html>\r\n<head><title>${status}</title></head>\r\n<body><center><h1>${status}</h1></center></body>\r\n</html>\r\n`;
  return { status, body, contentType: 'text/html', outcome: `${status} html` };
}

function wordsFor(code: string): string {
  switch (code) {
    case 'InternalFailure':
      return 'The request processing has failed because of an unknown error, exception or failure.';
    case 'ResourceContention':
      return 'You already have a pending update to an Amazon EC2 Auto Scaling resource.';
    case 'ServiceUnavailable':
      return 'The request has failed due to a temporary failure of the server.';
    case 'ExpiredToken':
      return 'The security token included in the request is expired';
    default:
      return `${code}, as the fault script says.`;
  }
}

function send(exchange: Exchange, answer: Answer): void {
  if (exchange.response.destroyed) {
    record(exchange, 'answered', `client gone before ${answer.outcome}`);
    return;
  }
  record(exchange, 'answered', answer.outcome);
  writeHead(exchange, answer);
  exchange.response.end(answer.body);
}

function truncate(exchange: Exchange, answer: Answer): void {
  record(exchange, 'answered', `truncated ${answer.outcome}`);
  writeHead(exchange, answer);
  const half = answer.body.slice(0, Math.ceil(answer.body.length / 2));
  exchange.response.write(half, () => exchange.response.socket?.resetAndDestroy());
}

function writeHead({ response, requestId }: Exchange, answer: Answer): void {
  response.writeHead(answer.status, {
    'content-type': answer.contentType,
    'content-length': Buffer.byteLength(answer.body),
    'x-amzn-requestid': requestId,
    ...answer.headers,
  });
}

function record(exchange: Exchange, event: 'received' | 'answered', outcome: string): void {
  const { simulation, region, parameters, requester } = exchange;
  const group = [targetsOf(parameters)].flat()[0] ?? null;
  const to = Number(parameters.text('DesiredCapacity') ?? Number.NaN);
  simulation.world.ledger.append(event, {
    ...requester,
    appliedAt: null,
    virtualAt: simulation.world.clock.now(),
    region,
    group,
    bounds: null,
    from: null,
    to: Number.isInteger(to) ? to : null,
    outcome,
  });
}

function targetsOf(parameters: Parameters): readonly string[] {
  const name = parameters.text('AutoScalingGroupName');
  return name === undefined ? parameters.texts('AutoScalingGroupNames') : [name];
}

function headerText(header: string | string[] | undefined): string | null {
  return header === undefined ? null : String(header);
}
