import { createServer, IncomingMessage, type Server, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Express } from 'express';

/** Headers a request may have. The server reads one more, so that the app can refuse the request. */
export const maxHeaders = 100;

/**
 * An HTTP server whose requests and responses have Express's prototypes from the start. Express sets them on every
 * request, which costs three quarters of its throughput unless they are there already (expressjs/express#5998). The
 * server has no request listener yet.
 * @param limits how long a client may take to send the headers, and the whole request.
 */
export function createMatchedServer(
  app: Express,
  limits: { readonly headersTimeoutMs: number; readonly requestTimeoutMs: number } = {
    headersTimeoutMs: 10_000,
    requestTimeoutMs: 15_000,
  },
): Server {
  class Request extends IncomingMessage {}
  class Response extends ServerResponse {}
  Object.setPrototypeOf(Request.prototype, app.request);
  Object.setPrototypeOf(Response.prototype, app.response);
  app.request = Request.prototype as typeof app.request;
  app.response = Response.prototype as unknown as typeof app.response;
  const server = createServer({
    IncomingMessage: Request,
    ServerResponse: Response as unknown as typeof ServerResponse,
    maxHeaderSize: 16_384,
    headersTimeout: limits.headersTimeoutMs,
    requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: 65_000,
    // The app refuses a missing Host, with a problem+json.
    requireHostHeader: false,
    // Node's default is 30 s, longer than the timeouts it would enforce.
    connectionsCheckingInterval: 1_000,
  });
  server.maxHeadersCount = maxHeaders + 1;
  answerParserErrors(server);
  return server;
}

const parserProblems: Readonly<Record<string, readonly [number, string, string, string]>> = {
  HPE_HEADER_OVERFLOW: [
    431,
    'Request Header Fields Too Large',
    'headers_too_large',
    'The headers are too large, or too many: send less.',
  ],
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'Request Timeout', 'request_timeout', 'The request took too long to come.'],
};
const malformed = [
  400,
  'Bad Request',
  'malformed_request',
  'This is not a well-formed HTTP request.',
] as const;

/** What Node's parser refuses never reaches the app: it gets a problem+json here, and its connection is closed. */
function answerParserErrors(server: Server): void {
  const responses = new WeakMap<Duplex, ServerResponse>();
  server.on('request', (request: IncomingMessage, response: ServerResponse) =>
    responses.set(request.socket, response),
  );
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Duplex) => {
    const response = responses.get(socket);
    const isPartlySent = response?.headersSent === true && !response.writableFinished;
    if (!socket.writable || error.code === 'ECONNRESET' || isPartlySent) {
      socket.destroy();
      return;
    }
    const [status, title, code, detail] = parserProblems[error.code ?? ''] ?? malformed;
    const type = `urn:scaler:problem:${code}`;
    const body = JSON.stringify({ type, title, status, code, detail, request_id: 'none' });
    const head = [
      `HTTP/1.1 ${status} ${title}`,
      'Content-Type: application/problem+json',
      `Content-Length: ${Buffer.byteLength(body)}`,
      'Connection: close',
    ];
    socket.end(`${head.join('\r\n')}\r\n\r\n${body}`, () => socket.destroy());
  });
  server.on('checkExpectation', (_request: IncomingMessage, response: ServerResponse) => {
    const code = 'expectation_failed';
    const detail = 'Expect knows 100-continue only.';
    response.writeHead(417, { 'Content-Type': 'application/problem+json', Connection: 'close' });
    const type = `urn:scaler:problem:${code}`;
    response.end(
      JSON.stringify({ type, title: 'Expectation Failed', status: 417, code, detail, request_id: 'none' }),
    );
  });
}
