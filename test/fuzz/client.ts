import { Agent, request as startRequest } from 'node:http';
import { connect } from 'node:net';

export interface Reply {
  /** 0 when the connection ended without an answer. */
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
  readonly ms: number;
}

const giveUpMs = 20_000;
/** So long bytes are waited for: after some, and before the first. An answer is due within two seconds. */
const quietMs = 1_000;
const silentMs = 2_500;

/** Sends requests that Node's own client agrees to send. */
export class Client {
  readonly #port: number;
  // Idle connections are left before the server ends them: a request must not meet the end of its connection.
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 16, timeout: 2_000 });

  constructor(port: number) {
    this.#port = port;
  }

  async send(request: {
    readonly method: string;
    readonly path: string;
    readonly headers: Readonly<Record<string, string>>;
    readonly body: string | Buffer | null;
  }): Promise<Reply> {
    const startedAt = performance.now();
    return await new Promise((resolve) => {
      const none = () => resolve({ status: 0, headers: {}, text: '', ms: performance.now() - startedAt });
      const outgoing = startRequest({
        host: '127.0.0.1',
        port: this.#port,
        agent: this.#agent,
        method: request.method,
        path: request.path.replace(/[^\x21-\x7e]/g, (char) => encodeURIComponent(char)),
        headers: {
          ...request.headers,
          ...(request.body === null ? {} : { 'content-length': Buffer.byteLength(request.body) }),
        },
        insecureHTTPParser: true,
        timeout: giveUpMs,
      });
      outgoing.on('timeout', () => outgoing.destroy());
      outgoing.on('error', none);
      outgoing.on('response', (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', none);
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: Object.fromEntries(
              Object.entries(response.headers).map(([name, value]) => [name, String(value)]),
            ),
            text: Buffer.concat(chunks).toString('utf8'),
            ms: performance.now() - startedAt,
          }),
        );
      });
      outgoing.end(request.body ?? undefined);
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}

/** @returns every answer to bytes as they are. */
export async function sendBytes(port: number, bytes: Buffer): Promise<Reply[]> {
  return (await exchangeBytes(port, bytes, false)).replies;
}

/**
 * Sends bytes as they are on a connection of their own, and ends it when nothing comes back any more.
 * @param isWhole whether an answer is due. Where it is not, the silence is not waited out.
 * @returns every answer that came back on it, and how long the connection lasted.
 */
export async function exchangeBytes(
  port: number,
  bytes: Buffer,
  isWhole: boolean,
): Promise<{ readonly replies: Reply[]; readonly ms: number }> {
  const startedAt = performance.now();
  let lastByteAt = startedAt;
  const text = await new Promise<string>((resolve) => {
    const chunks: Buffer[] = [];
    const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true }, () => {
      socket.write(bytes);
    });
    // Only when nothing more comes: Node gives up what it is doing for a client that has said its last.
    const end = () => socket.end();
    let quiet = setTimeout(end, isWhole ? silentMs : quietMs);
    socket.setTimeout(giveUpMs, () => socket.destroy());
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      lastByteAt = performance.now();
      clearTimeout(quiet);
      quiet = setTimeout(end, quietMs);
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      clearTimeout(quiet);
      resolve(Buffer.concat(chunks).toString('latin1'));
    });
    socket.on('end', () => socket.destroy());
  });
  const replies = splitAnswers(text).map((answer) => ({ ...answer, ms: lastByteAt - startedAt }));
  return { replies, ms: performance.now() - startedAt };
}

/** The answers in what came back; one without a length goes on to the end. */
function splitAnswers(text: string): Omit<Reply, 'ms'>[] {
  const answers: Omit<Reply, 'ms'>[] = [];
  let rest = text;
  for (;;) {
    const head = /^HTTP\/1\.1 (\d{3})[^\r\n]*\r\n([\s\S]*?)\r\n\r\n/.exec(rest);
    if (head === null) return answers;
    const headers = Object.fromEntries(
      (head[2] as string).split('\r\n').map((line) => {
        const [name = '', ...value] = line.split(':');
        return [name.toLowerCase(), value.join(':').trim()];
      }),
    );
    rest = rest.slice(head[0].length);
    const status = Number(head[1]);
    const { body, length } = status === 100 ? { body: '', length: 0 } : bodyOf(headers, rest);
    rest = rest.slice(length);
    if (status !== 100) answers.push({ status, headers, text: Buffer.from(body, 'latin1').toString('utf8') });
  }
}

function bodyOf(headers: Readonly<Record<string, string>>, rest: string): { body: string; length: number } {
  if (headers['transfer-encoding'] !== 'chunked') {
    const length = Number(headers['content-length'] ?? rest.length);
    return { body: rest.slice(0, length), length };
  }
  let body = '';
  let at = 0;
  for (;;) {
    const size = /^([0-9a-f]+)\r\n/i.exec(rest.slice(at));
    if (size === null) return { body, length: rest.length };
    const bytes = Number.parseInt(size[1] as string, 16);
    const from = at + size[0].length;
    body += rest.slice(from, from + bytes);
    at = from + bytes + 2;
    if (bytes === 0) return { body, length: at };
  }
}

/**
 * A client that never gets to the end: it sends `first`, then one byte of `more` a second.
 * @returns milliseconds until it is cut off, or null when it never was within `patienceMs`.
 */
export async function sendSlowly(
  port: number,
  first: string,
  more: string,
  patienceMs: number,
): Promise<number | null> {
  const startedAt = performance.now();
  return await new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port }, () => socket.write(first));
    const drip = setInterval(() => socket.write(more), 500);
    const end = (ms: number | null) => {
      clearInterval(drip);
      clearTimeout(patience);
      socket.destroy();
      resolve(ms);
    };
    const patience = setTimeout(() => end(null), patienceMs);
    socket.on('error', () => {});
    socket.resume();
    socket.on('close', () => end(performance.now() - startedAt));
    socket.on('end', () => end(performance.now() - startedAt));
  });
}
