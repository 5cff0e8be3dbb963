import { asApiError, errorAnswer, send } from './answer.ts';
import { type Exchange, record } from './exchange.ts';
import type { JsonObject, KubernetesObject } from './json.ts';
import { type AnswerShape, negotiateShape } from './media-types.ts';
import { authorize, callFrom } from './perform.ts';
import type { ResourceRequest } from './request-info.ts';
import { metadataOnly, tableOf } from './table.ts';
import { watch } from './watch.ts';

/** Streams a watch until the client leaves or its time is over. `cutAfterFirst` tears it in the middle of a line. */
export function serveWatch(exchange: Exchange, target: ResourceRequest, cutAfterFirst = false): void {
  const { simulation, request, response } = exchange;
  try {
    simulation.clock.runDue();
    authorize(exchange);
    const encode = encoderFor(exchange, target, negotiateShape(request.headers.accept));
    const call = callFrom(exchange, target);
    response.writeHead(200, {
      'audit-id': exchange.requester.requestId ?? '',
      'cache-control': 'no-cache, private',
      'content-type': 'application/json',
    });
    // A client that must wait for the first event to learn that its watch stands may hang for ever.
    response.flushHeaders();
    record(exchange, 'answered', cutAfterFirst ? 'truncated 200 watch' : '200 watch');
    const write = (type: string, object: JsonObject): void => {
      if (response.destroyed) return;
      const line = `${JSON.stringify({ type, object })}\n`;
      if (cutAfterFirst) response.write(line.slice(0, line.length / 2), () => response.socket?.destroy());
      else response.write(line);
    };
    const stop = watch(
      call,
      { send: write, sendObject: (type, object) => write(type, encode(object)), end: () => response.end() },
      simulation.bookmarkIntervalMs,
    );
    response.on('close', stop);
  } catch (error) {
    send(exchange, errorAnswer(asApiError(error)));
  }
}

function encoderFor(
  { simulation, url }: Exchange,
  { resource }: ResourceRequest,
  shape: AnswerShape,
): (object: KubernetesObject) => JsonObject {
  if (shape === 'object') return (object) => object;
  if (shape === 'metadata') return metadataOnly;
  const includeObject = url.searchParams.get('includeObject') ?? 'Metadata';
  return (object) =>
    tableOf({
      resource,
      items: [object],
      metadata: { resourceVersion: object.metadata.resourceVersion },
      includeObject,
      now: simulation.clock.now(),
    });
}
