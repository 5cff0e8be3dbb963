import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Service } from './query-answer.ts';
import { type Parameters, parametersOf, parseForm } from './query-form.ts';
import { readIdentity, type SignedIdentity, type SignedRequest } from './signature.ts';
import type { Simulation } from './simulation.ts';
import type { Requester } from './writes.ts';

/** One request, read and on its way to an answer. */
export interface Exchange {
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

export function openExchange(
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
      signedAt: headerText(request.headers['x-amz-date']),
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

/** The groups a request names, for the fault script and the ledger. */
export function targetsOf(parameters: Parameters): readonly string[] {
  const name = parameters.text('AutoScalingGroupName');
  return name === undefined ? parameters.texts('AutoScalingGroupNames') : [name];
}

function headerText(header: string | string[] | undefined): string | null {
  return header === undefined ? null : String(header);
}

/** Writes down what happened to the request itself; its effects on groups are written by applyWrite. */
export function record(exchange: Exchange, event: 'received' | 'answered', outcome: string): void {
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
