import { type Answer, htmlAnswer } from '../core/answer.ts';
import { asApiError, errorAnswer, send, truncate } from './answer.ts';
import {
  ApiError,
  conflict,
  expired,
  forbidden,
  gatewayTimeout,
  internalError,
  notFound,
  tooManyRequests,
  unauthorized,
} from './api-status.ts';
import { type Exchange, isResource, record, targetName } from './exchange.ts';
import { changeExternally } from './external.ts';
import { perform } from './perform.ts';
import { serveWatch } from './serve-watch.ts';
import type { KubernetesEffect } from './simulation.ts';

/** The fault script stands in front of the server, as a broken network does: it is asked before authentication. */
export function serve(exchange: Exchange): void {
  const { simulation, action } = exchange;
  record(exchange, 'received', 'received');
  simulation.clock.runDue();
  const effect = simulation.faults.effectOn({
    action,
    scope: exchange.requester.user,
    target: targetName(exchange),
  });
  const { from, to } = simulation.latencyMs;
  const carryOut = (): void => (effect === undefined ? answer(exchange) : suffer(exchange, effect));
  if (to === 0) carryOut();
  else simulation.later(from + simulation.random() * (to - from), carryOut);
}

function answer(exchange: Exchange): void {
  const { target } = exchange;
  if (isResource(target) && target.verb === 'watch') serveWatch(exchange, target);
  else send(exchange, perform(exchange));
}

function suffer(exchange: Exchange, effect: KubernetesEffect): void {
  try {
    applyEffect(exchange, effect);
  } catch (error) {
    send(exchange, errorAnswer(asApiError(error)));
  }
}

function applyEffect(exchange: Exchange, effect: KubernetesEffect): void {
  const { simulation, target, response } = exchange;
  if ('applied' in effect && effect.applied === true) perform(exchange);
  switch (effect.kind) {
    case 'throttle':
      send(exchange, errorAnswer(tooManyRequests(effect.retryAfterSeconds)));
      return;
    case 'error':
      send(exchange, scriptedError(exchange, effect));
      return;
    case 'html':
      send(exchange, htmlAnswer(effect.status));
      return;
    case 'reset':
      record(exchange, 'answered', 'reset');
      response.socket?.resetAndDestroy();
      return;
    case 'truncate':
      if (isResource(target) && target.verb === 'watch') serveWatch(exchange, target, true);
      else truncate(exchange, perform(exchange));
      return;
    case 'hang':
      record(exchange, 'answered', 'hang');
      return;
    case 'apply-late':
      applyLate(exchange, effect);
      return;
    case 'slow': {
      const early = effect.applied === 'first' ? perform(exchange) : undefined;
      simulation.later(effect.delayMs, () =>
        early === undefined ? answer(exchange) : send(exchange, early),
      );
      return;
    }
    case 'stale-read':
      send(exchange, perform(exchange, simulation.store.asOf(Date.now() - effect.staleMs)));
      return;
    case 'external': {
      const early = effect.when === 'after' ? perform(exchange) : undefined;
      if (!isResource(target) || target.name === null)
        throw new Error('this request names no object to change');
      const { resource, namespace, name } = target;
      changeExternally(simulation, { resource, namespace: namespace ?? '', name }, effect.change);
      if (early === undefined) answer(exchange);
      else send(exchange, early);
      return;
    }
    case 'compact':
      simulation.store.compact();
      answer(exchange);
      return;
  }
}

function applyLate(exchange: Exchange, effect: Extract<KubernetesEffect, { kind: 'apply-late' }>): void {
  const { status } = effect;
  if (status === undefined) record(exchange, 'answered', 'hang');
  else send(exchange, scriptedError(exchange, { status, code: '' }));
  exchange.simulation.later(effect.delayMs, () => {
    record(exchange, 'answered', `late ${perform(exchange).outcome}`);
  });
}

type ScriptedError = Pick<Extract<KubernetesEffect, { kind: 'error' }>, 'status' | 'code' | 'message'>;

/** With `message` those words; without, the server's own for that status. */
function scriptedError(exchange: Exchange, { status, code, message }: ScriptedError): Answer {
  if (message !== undefined) return errorAnswer(new ApiError(status, code, message));
  return errorAnswer(
    ownWords(exchange, status) ?? new ApiError(status, code, `${code}, as the fault script says.`),
  );
}

function ownWords({ target, requester, simulation }: Exchange, status: number): ApiError | undefined {
  switch (status) {
    case 401:
      return unauthorized();
    case 403:
      return isResource(target)
        ? forbidden({ ...target, user: requester.user ?? 'system:anonymous' })
        : undefined;
    case 404:
      return isResource(target) ? notFound(target.resource, target.name ?? '') : undefined;
    case 409:
      return isResource(target) ? conflict(target.resource, target.name ?? '') : undefined;
    case 410:
      return expired(1, simulation.store.resourceVersion());
    case 429:
      return tooManyRequests();
    case 500:
      return internalError('etcdserver: leader changed');
    case 502:
      return undefined;
    case 503:
      return new ApiError(503, 'ServiceUnavailable', 'the server is currently unable to handle the request');
    case 504:
      return gatewayTimeout();
    default:
      return undefined;
  }
}
