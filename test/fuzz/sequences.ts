import type { Reply } from './client.ts';
import type { FuzzRequest, Keys } from './make-request.ts';
import type { Api } from './openapi.ts';
import type { RandomGenerator } from './random-generator.ts';

export interface Stage {
  readonly random: RandomGenerator;
  readonly api: Api;
  readonly keys: Keys;
  readonly send: (request: FuzzRequest) => Promise<Reply>;
  /** That an answer is not as it should be. */
  readonly addFinding: (detail: string) => void;
}

/** The server sheds load: what follows in the sequence would say nothing. */
export class CutShort extends Error {}

/** Several requests in order, each with the answer it must get. */
export type Sequence = (stage: Stage) => Promise<void>;

/** Requests that depend on the answers to those before them. */
export const sequences: Readonly<Record<string, Sequence>> = {
  /** The second tenant's key must neither get the first one's job nor be bound by the first one's body. */
  'idempotency key of another tenant': async (stage) => {
    const idempotencyKey = stage.random.text(16);
    const mine = await aResource(stage, stage.keys.limited, 'own');
    const theirs = await aResource(stage, stage.keys.foreign, 'foreign');
    const decide = (key: string, resourceId: string, extra: object = {}) =>
      ask(stage, 'decide', key, { resource_id: resourceId, ...extra }, idempotencyKey);
    const first = await decide(stage.keys.limited, mine);
    expectThat(stage, first, [202], { replayed: false });
    const job = fieldOf(first, 'job_id');
    const again = await decide(stage.keys.limited, mine);
    expectThat(stage, again, [202], { replayed: true, field: 'job_id', is: job });
    expectThat(stage, await decide(stage.keys.limited, mine, { use_prediction: false }), [422]);
    expectThat(stage, await decide(stage.keys.foreign, mine), [404], { replayed: false, without: job });
    const second = await decide(stage.keys.foreign, theirs);
    expectThat(stage, second, [202], { replayed: false, field: 'job_id', isNot: job });
    const third = await decide(stage.keys.limited, mine);
    expectThat(stage, third, [202], { replayed: true, field: 'job_id', is: job });
  },

  'idempotency key of another tenant, for a resource': async (stage) => {
    const idempotencyKey = stage.random.text(16);
    const create = (key: string, body: object) => ask(stage, 'createResource', key, body, idempotencyKey);
    const [mine, theirs] = [newResource(stage.random, 'own'), newResource(stage.random, 'foreign')];
    const first = await create(stage.keys.limited, mine);
    expectThat(stage, first, [201], { replayed: false });
    const id = fieldOf(first, 'id');
    expectThat(stage, await create(stage.keys.limited, mine), [201], { replayed: true, field: 'id', is: id });
    expectThat(stage, await create(stage.keys.limited, { ...mine, max_instances: 21 }), [422]);
    expectThat(stage, await create(stage.keys.foreign, mine), [403], { replayed: false, without: id });
    const second = await create(stage.keys.foreign, theirs);
    expectThat(stage, second, [201], { replayed: false, field: 'id', isNot: id });
  },

  /** Two keys of the same rights: each starts its own, whatever the other did under the same name. */
  'idempotency key of another key': async (stage) => {
    const idempotencyKey = stage.random.text(16);
    const [admin, full] = [stage.keys.byScope.admin as string, stage.keys.full];
    const body = { name: `fuzz-${stage.random.text(6)}`, scopes: ['read'] };
    const first = await ask(stage, 'createKey', full, body, idempotencyKey);
    expectThat(stage, first, [201], { replayed: false });
    const secret = fieldOf(first, 'key');
    expectThat(stage, await ask(stage, 'createKey', full, body, idempotencyKey), [409], { without: secret });
    const other = { ...body, scopes: ['decide'] };
    expectThat(stage, await ask(stage, 'createKey', full, other, idempotencyKey), [422], { without: secret });
    const second = await ask(stage, 'createKey', admin, body, idempotencyKey);
    expectThat(stage, second, [201], { replayed: false, field: 'key', isNot: secret, without: secret });
  },

  /** One bound is moved over the other, which is only in the database; then both, and neither holds. */
  'min over the stored max': async (stage) => {
    const id = await aResource(stage, stage.keys.full, 'own');
    const change = (body: object) => ask(stage, 'updateResource', stage.keys.full, body, null, id);
    const over = 21 + stage.random.below(1_000);
    expectThat(stage, await change({ min_instances: over }), [400]);
    expectThat(stage, await change({ max_instances: 0 }), [400]);
    expectThat(stage, await change({ min_instances: over, max_instances: over - 1 }), [400]);
    const read = await ask(stage, 'getResource', stage.keys.full, null, null, id);
    expectThat(stage, read, [200], { field: 'min_instances', is: 1 });
    expectThat(stage, read, [200], { field: 'max_instances', is: 20 });
  },
};

function newResource(random: RandomGenerator, prefix: string): object {
  return {
    name: `${prefix}-${random.text(12)}`,
    resource_type: 'ec2',
    cloud_provider: 'aws',
    region: 'us-east-1',
    min_instances: 1,
    max_instances: 20,
    current_instances: 4,
  };
}

async function aResource(stage: Stage, key: string, prefix: string): Promise<string> {
  const reply = await ask(stage, 'createResource', key, newResource(stage.random, prefix), null);
  expectThat(stage, reply, [201]);
  return String(fieldOf(reply, 'id'));
}

async function ask(
  stage: Stage,
  operationId: string,
  key: string,
  body: object | null,
  idempotencyKey: string | null,
  id = '',
): Promise<Reply> {
  const operation = stage.api.operations.find((its) => its.operationId === operationId);
  if (operation === undefined) throw new Error(`the document has no ${operationId}`);
  const reply = await stage.send({
    label: 'sequence',
    operation,
    method: operation.method,
    path: operation.path.replace('{id}', id),
    headers: {
      authorization: `Bearer ${key}`,
      ...(body === null ? {} : { 'content-type': 'application/json' }),
      ...(idempotencyKey === null ? {} : { 'idempotency-key': idempotencyKey }),
      ...(operation.method === 'PATCH' ? { 'if-match': '"1"' } : {}),
    },
    body: body === null ? null : JSON.stringify(body),
  });
  if (reply.status === 503 || reply.status === 429) throw new CutShort();
  return reply;
}

function expectThat(
  stage: Stage,
  reply: Reply,
  statuses: readonly number[],
  wanted: {
    readonly replayed?: boolean;
    readonly field?: string;
    readonly is?: unknown;
    readonly isNot?: unknown;
    /** A text that must not be in the answer. */
    readonly without?: unknown;
  } = {},
): void {
  const { replayed, field, without } = wanted;
  const shown = `${reply.status} ${reply.text.slice(0, 150)}`;
  if (!statuses.includes(reply.status)) stage.addFinding(`${shown}: not ${statuses.join(' or ')}`);
  if (replayed !== undefined && (reply.headers['idempotent-replayed'] === 'true') !== replayed)
    stage.addFinding(`${shown}: is ${replayed ? 'not ' : ''}another request's answer`);
  if (without !== undefined && reply.text.includes(String(without)))
    stage.addFinding(`${shown}: tells ${String(without)}`);
  if (field === undefined) return;
  const value = fieldOf(reply, field);
  if ('is' in wanted && value !== wanted.is) stage.addFinding(`${shown}: ${field} is not ${wanted.is}`);
  if ('isNot' in wanted && value === wanted.isNot) stage.addFinding(`${shown}: ${field} is ${wanted.isNot}`);
}

function fieldOf(reply: Reply, field: string): unknown {
  try {
    return (JSON.parse(reply.text) as Record<string, unknown>)[field];
  } catch {
    return undefined;
  }
}
