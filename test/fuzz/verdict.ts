import { checkSchema } from './check-schema.ts';
import type { Reply } from './client.ts';
import type { Api, Operation } from './openapi.ts';

export interface Finding {
  readonly kind:
    | 'no_answer'
    | 'server_error'
    | 'over_2s'
    | 'wrong_answer'
    | 'invalid_problem'
    | 'invalid_response'
    | 'injected_header';
  readonly detail: string;
}

/** Beyond what the client asked to wait. */
const slowMs = 2_000;

/** What an answer is judged by. */
export interface Judged {
  /** Null where the request reached none for certain. */
  readonly operation: Operation | null;
  readonly method: string;
  readonly askedToWaitMs?: number;
  readonly expected?: readonly number[];
  /** Of bytes that are no whole request: the server may just end the connection, when its time is over. */
  readonly mayEndUnanswered?: boolean;
}

/** What is wrong with an answer, or with there being none. */
export function judge(reply: Reply, request: Judged, api: Api): Finding[] {
  const { status, text, ms } = reply;
  const findings: Finding[] = [];
  if (status === 0 && request.mayEndUnanswered === true) return [];
  if (status === 0)
    findings.push({ kind: 'no_answer', detail: `the connection ended after ${Math.round(ms)} ms` });
  const overloaded = status === 503 && reply.headers['retry-after'] !== undefined;
  const documented = request.operation?.responses[String(status)] !== undefined;
  if (status >= 500 && !overloaded && !documented)
    findings.push({ kind: 'server_error', detail: `${status} ${text.slice(0, 200)}` });
  if (ms > slowMs + (request.askedToWaitMs ?? 0))
    findings.push({ kind: 'over_2s', detail: `${Math.round(ms)} ms, ${status}` });
  if (status === 0) return findings;
  if (request.expected?.includes(status) === false && status !== 429 && !overloaded)
    findings.push({ kind: 'wrong_answer', detail: `${status}, not ${request.expected.join(' or ')}` });
  if (reply.headers['x-injected'] !== undefined)
    findings.push({ kind: 'injected_header', detail: JSON.stringify(reply.headers) });
  if (status >= 400 && request.method !== 'HEAD' && !documented) {
    const detail = problemFault(reply);
    if (detail !== null) findings.push({ kind: 'invalid_problem', detail: `${status} ${detail}` });
  } else if (request.operation !== null && request.method !== 'HEAD') {
    const detail = responseFault(reply, request.operation, api);
    if (detail !== null) findings.push({ kind: 'invalid_response', detail: `${status} ${detail}` });
  }
  return findings;
}

function problemFault({ headers, text, status }: Reply): string | null {
  if (!(headers['content-type'] ?? '').startsWith('application/problem+json'))
    return `is ${headers['content-type']}: ${text.slice(0, 100)}`;
  const body = parse(text) as Readonly<Record<string, unknown>> | undefined;
  if (body === undefined) return `is no JSON: ${text.slice(0, 100)}`;
  if (typeof body.code !== 'string' || !/^[a-z][a-z0-9_]{2,60}$/.test(body.code))
    return `has the code ${body.code}`;
  if (body.status !== status) return `says status ${body.status}`;
  if (body.type !== `urn:scaler:problem:${body.code}`) return `has the type ${body.type}`;
  for (const name of ['title', 'detail', 'request_id'])
    if (typeof body[name] !== 'string' || body[name] === '') return `has no ${name}`;
  if (/node_modules|\n\s+at |\.ts:\d|select .* from /i.test(text)) return `gives away: ${text.slice(0, 200)}`;
  return null;
}

function responseFault({ status, headers, text }: Reply, operation: Operation, api: Api): string | null {
  const documented = operation.responses[String(status)];
  if (documented === undefined) return 'is not in the document';
  const schema = documented.content?.['application/json']?.schema;
  if (schema === undefined) return null;
  if (!(headers['content-type'] ?? '').startsWith('application/json')) return `is ${headers['content-type']}`;
  const body = parse(text);
  if (body === undefined) return 'is no JSON';
  return checkSchema(body, schema, api.resolve)[0] ?? null;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
