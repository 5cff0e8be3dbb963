import type { IncomingMessage, ServerResponse } from 'node:http';
import { type Answer, htmlAnswer } from '../core/answer.ts';
import { errorAnswer, send, throttled, truncate, wordsFor } from './answer.ts';
import { AwsError } from './aws-error.ts';
import { type Exchange, openExchange, record, targetsOf } from './exchange.ts';
import { changeExternally } from './external.ts';
import type { AwsEffect } from './faults.ts';
import { type Service, successBody } from './query-answer.ts';
import { actionOf } from './services.ts';
import { authenticate } from './signature.ts';
import type { Simulation } from './simulation.ts';
import { regionOf } from './state.ts';

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

/** Signature first, then the fault script, then throttling, then the action: nothing unsigned meets a fault. */
function carryOut(exchange: Exchange): void {
  const { simulation, action, region } = exchange;
  const refusal = refusalOf(exchange);
  if (refusal !== undefined) {
    send(exchange, errorAnswer(exchange, refusal));
    return;
  }
  const effect = simulation.faults.effectOn({
    action,
    scope: region,
    target: targetsOf(exchange.parameters),
  });
  if (effect !== undefined) {
    try {
      suffer(exchange, effect);
    } catch (error) {
      send(
        exchange,
        errorAnswer(exchange, bug(`the fault ${JSON.stringify(effect)} failed: ${String(error)}`)),
      );
    }
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
      send(exchange, errorAnswer(exchange, scriptedError(effect)));
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
    return errorAnswer(exchange, bug(String(error)));
  }
}

function scriptedError({ code, message, status }: Extract<AwsEffect, { kind: 'error' }>): AwsError {
  return new AwsError(code, message ?? wordsFor(code), status);
}

function bug(message: string): AwsError {
  return new AwsError('InternalFailure', `Bug in the simulator or its script: ${message}`, 500);
}

function unknownAction(service: Service, action: string): AwsError {
  const message =
    service === 'ec2'
      ? `The action ${action} is not valid for this web service.`
      : `Could not find operation ${action} for version ${service === 'sts' ? '2011-06-15' : '2011-01-01'}`;
  return new AwsError(action === '' ? 'MissingAction' : 'InvalidAction', message);
}
