import { code, firstSentence, generatedNotice, plain, table } from './markdown.ts';
import { closingAt, literalAt, openingBefore, readSources, type Source } from './sources.ts';

interface Site {
  readonly code: string;
  /** Of HTTP, where the code says one. */
  readonly status: string | undefined;
  /** What a failed call means for its write, or the direction that a block forbids. */
  readonly kind: string | undefined;
  readonly message: string | undefined;
  readonly file: string;
}

/** The status of each class of shared/errors.ts, unless a place says another. */
const statusOfClass: Readonly<Record<string, string>> = {
  InvalidInput: '400',
  NotFound: '404',
  Conflict: '409',
  DependencyUnavailable: '503',
};

export function errorsPage(): string {
  const sites = readSources('api', 'worker', 'shared')
    .filter(({ file }) => !file.startsWith('worker/replay/'))
    .flatMap((source) => [...callsOf(source), ...objectsOf(source)])
    // In the API what has no status is no problem: a finding of audit:verify, an issue of zod.
    .filter(({ file, status }) => file.startsWith('worker/') || status !== undefined);
  const within = (belongs: (file: string) => boolean) => merge(sites.filter(({ file }) => belongs(file)));
  const isCloud = (file: string) => file.startsWith('worker/providers/');
  const isStage = (file: string) => file.startsWith('worker/engine/') && !file.endsWith('/guards.ts');
  const isJob = (file: string) => file.startsWith('worker/') && !isCloud(file) && !isStage(file);
  const isApi = (file: string) => !file.startsWith('worker/');
  return `# Error and reason codes

${generatedNotice}

A code is stable; messages may change. What is computed in a message is shown as …, and only its first sentence is here.
What to do about those that hold executions: [runbook](../how-to/runbook.md).

## Of requests

The \`code\` of a problem document (RFC 9457).

${table(
  ['code', 'status', 'says', 'in'],
  within(isApi).map((row) => [code(row.code), row.status, plain(row.message), files(row.files)]),
)}

## Of jobs and executions

The \`error.code\` of a job, the \`error_code\` of an event, the label of \`scaler_executions_refused_total\`; with
\`Prefer: wait\` the \`code\` of the answer. The status is that of such an answer, where the place says one.

${table(
  ['code', 'status', 'says', 'in'],
  within(isJob).map((row) => [code(row.code), row.status, plain(row.message), files(row.files)]),
)}

## Of clouds

In the same places, from \`worker/providers/\`. The kind of a failed call is explained under
[providers](../explanation/providers.md#classes-of-errors); \`up\`, \`down\` and \`both\` are directions in which the cloud
object cannot be changed now.

${table(
  ['code', 'kind', 'says', 'in'],
  within(isCloud).map((row) => [code(row.code), row.kind, plain(row.message), files(row.files)]),
)}

## Of decisions

The code of a stage in a decision's \`explanation\`, besides those of guards above.

${table(
  ['code', 'in'],
  within(isStage).map((row) => [code(row.code), files(row.files)]),
)}
`;
}

/** `f(…, 'code', 'A sentence.', …)`: however the function is called. */
function* callsOf({ file, text }: Source): Generator<Site> {
  for (const match of text.matchAll(/([`'])([a-z][a-z_]*(?:\$\{\w+\})?)\1,\s*(?=['"`]|message\b)/g)) {
    const message = messageAt(text, match.index + match[0].length);
    const open = openingBefore(text, match.index, '(');
    if (message === undefined || open < 0) continue;
    const before = text.slice(open + 1, match.index);
    if (before.includes('{')) continue;
    const call = text.slice(open, closingAt(text, open));
    const callee = /(\w+)$/.exec(text.slice(0, open))?.[1] ?? '';
    const status = /httpStatus: (\d+)/.exec(call)?.[1] ?? /,\s+([45]\d\d)\b/.exec(call)?.[1];
    const fault = kindsIn(/([^,]+),\s*$/.exec(before)?.[1]);
    yield {
      code: (match[2] as string).replace(/\$\{\w+\}/, '…'),
      status: status ?? statusOfClass[callee],
      kind: fault,
      message,
      file,
    };
  }
}

/** `{ code: 'code', message: 'A sentence.', … }` */
function* objectsOf({ file, text }: Source): Generator<Site> {
  const written =
    /(?<!readonly )\bcode: (?:\w+ \? )?(?:([`'])([a-z][a-z_]*(?:\$\{\w+\})?)\1)(?: : '([a-z_]+)')?/g;
  for (const match of text.matchAll(written)) {
    const open = openingBefore(text, match.index, '{');
    const object = text.slice(open, closingAt(text, open));
    const field = /\b(?:message|words)(?::\s*(?:\([^)]*\) =>\s*)?(?=['"`])|(?=,| }))/.exec(object);
    const at = field === null ? -1 : open + field.index;
    const message =
      field === null ? undefined : messageAt(text, field[0] === 'message' ? at : at + field[0].length);
    const status = /(?:httpStatus|http_status): (\d+)/.exec(object)?.[1];
    const kind = kindsIn(/\b(?:fault|direction): ([^,]+),/.exec(object)?.[1]);
    const sentence = match[3] === undefined ? message : undefined;
    for (const name of [match[2], match[3]])
      if (name !== undefined)
        yield { code: name.replace(/\$\{\w+\}/, '…'), status, kind, message: sentence, file };
  }
  // In SQL: jsonb_build_object('code', …, 'http_status', …).
  for (const [, value, status] of text.matchAll(/'code', ([^\n]*?)(?:, 'http_status', (\d+)|\n)/g))
    for (const [, name] of (value as string).matchAll(/(?:then |else |^)'([a-z_]+)'/g))
      yield { code: name as string, status, kind: undefined, message: undefined, file };
}

/** The names in an expression such as `'pre_send'`, or `kind === 'write' ? 'pre_send' : 'unavailable'`. */
function kindsIn(expression: string | undefined): string | undefined {
  const names = [...(expression ?? '').matchAll(/(?<!== )'([a-z_]+)'/g)].map(([, name]) => name);
  return names.length === 0 ? undefined : names.join(' or ');
}

/** The sentence that is written at `at`, or kept in a constant `message` before it. */
function messageAt(text: string, at: number): string | undefined {
  if (at < 0) return undefined;
  const literal = text.startsWith('message', at)
    ? constantBefore(text, at, 'message')
    : (literalAt(text, at) ?? undefined);
  return literal !== undefined && /^[A-Z…].* /s.test(literal) ? literal : undefined;
}

function constantBefore(text: string, at: number, name: string): string | undefined {
  const declared = [...text.slice(0, at).matchAll(new RegExp(`const ${name} =\\s*(?=['"\`])`, 'g'))].at(-1);
  if (declared === undefined) return undefined;
  return literalAt(text, declared.index + declared[0].length) ?? undefined;
}

interface Row {
  readonly code: string;
  readonly status: string;
  readonly kind: string;
  readonly message: string;
  readonly files: readonly string[];
}

/** One row a code, ordered by code. */
function merge(sites: readonly Site[]): Row[] {
  const codes = [...new Set(sites.map((site) => site.code))].sort();
  return codes.map((name) => {
    const same = sites.filter((site) => site.code === name);
    const all = (values: readonly (string | undefined)[]) =>
      [...new Set(values.filter((value) => value !== undefined))].sort();
    return {
      code: name,
      status: all(same.map(({ status }) => status)).join(', '),
      kind: all(same.map(({ kind }) => kind)).join(', '),
      message: firstSentence(same.find(({ message }) => message !== undefined)?.message ?? ''),
      files: all(same.map(({ file }) => file)),
    };
  });
}

function files(names: readonly string[]): string {
  return names.map(code).join(', ');
}
