import { Agent, request } from 'node:http';

export interface HttpAnswer {
  /** 0 when there was none: refused, reset, or too late. */
  readonly status: number;
  readonly body: Record<string, unknown> | null;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly error: string | null;
}

const agent = new Agent({ keepAlive: true, maxSockets: 256, keepAliveMsecs: 1_000 });

/** One request, never retried here. Resolves in any case, within about `timeoutMs`. */
export function send(
  method: string,
  url: string,
  options: {
    readonly headers: Readonly<Record<string, string>>;
    readonly body?: unknown;
    readonly timeoutMs: number;
  },
): Promise<HttpAnswer> {
  const text = options.body === undefined ? undefined : JSON.stringify(options.body);
  return new Promise((resolve) => {
    const fail = (error: string) => resolve({ status: 0, body: null, headers: {}, error });
    const outgoing = request(
      url,
      {
        method,
        agent,
        headers: {
          ...options.headers,
          ...(text === undefined
            ? {}
            : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
        },
      },
      (response) => {
        let answer = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          answer += chunk;
        });
        response.on('error', (error) => fail(error.message));
        response.on('close', () => fail('cut off'));
        response.on('end', () => {
          const parsed = parse(answer);
          if (parsed === undefined) fail('not JSON');
          else
            resolve({
              status: response.statusCode ?? 0,
              body: parsed,
              headers: response.headers,
              error: null,
            });
        });
      },
    );
    const timer = setTimeout(() => outgoing.destroy(new Error('too late')), options.timeoutMs);
    outgoing.on('error', (error) => fail(error.message));
    outgoing.on('close', () => clearTimeout(timer));
    outgoing.end(text);
  });
}

function parse(text: string): Record<string, unknown> | null | undefined {
  if (text === '') return null;
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}
