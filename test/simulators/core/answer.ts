import type { ServerResponse } from 'node:http';

/** A whole answer of a simulated cloud. */
export interface Answer {
  readonly status: number;
  readonly body: string;
  readonly contentType: string;
  /** For the ledger: `200`, `409 Conflict`. */
  readonly outcome: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** What a load balancer in front of the service says. */
export function htmlAnswer(status: number): Answer {
  const body = `<html>\r\n<head><title>${status}</title></head>\r\n<body><center><h1>${status}</h1></center></body>\r\n</html>\r\n`;
  return { status, body, contentType: 'text/html', outcome: `${status} html` };
}

/** How one protocol answers: what it writes down of that, and its head. */
export interface Answering {
  readonly response: ServerResponse;
  record(outcome: string): void;
  headersOf(answer: Answer): Readonly<Record<string, string | number>>;
}

/** Answers, unless the client is gone: then only the ledger says what it would have been. */
export function sendAnswer(
  { response, record, headersOf }: Answering,
  answer: Answer,
  withBody = true,
): void {
  if (response.destroyed) {
    record(`client gone before ${answer.outcome}`);
    return;
  }
  record(answer.outcome);
  response.writeHead(answer.status, headersOf(answer));
  response.end(withBody ? answer.body : undefined);
}

/** Promises a whole body, sends half, and closes. No RST: that could also throw away the half that was sent. */
export function truncateAnswer({ response, record, headersOf }: Answering, answer: Answer): void {
  record(`truncated ${answer.outcome}`);
  response.writeHead(answer.status, headersOf(answer));
  const half = answer.body.slice(0, Math.ceil(answer.body.length / 2));
  response.write(half, () => response.socket?.destroy());
}
