import { badRequest, unsupportedMediaType } from './api-status.ts';
import { asArray, asObject, asString, type Json, type JsonObject } from './json.ts';

/**
 * A few kubectl commands send protobuf whatever the server prefers: `auth can-i`, `autoscale`, `create namespace`,
 * `create deployment`. This reads what those send and nothing more; field numbers are those of the published .proto
 * files.
 */
export const PROTOBUF_TYPE = 'application/vnd.kubernetes.protobuf';

type Field =
  | { readonly name: string; readonly type: 'string' | 'int' | 'map' }
  | { readonly name: string; readonly type: 'message' | 'list'; readonly fields: Message };
type Message = Readonly<Record<number, Field>>;

const string = (name: string): Field => ({ name, type: 'string' });
const int = (name: string): Field => ({ name, type: 'int' });
const message = (name: string, fields: Message): Field => ({ name, type: 'message', fields });

const map = (name: string): Field => ({ name, type: 'map' });
const list = (name: string, fields: Message): Field => ({ name, type: 'list', fields });

const METADATA = message('metadata', {
  1: string('name'),
  2: string('generateName'),
  3: string('namespace'),
  11: map('labels'),
  12: map('annotations'),
});
const CONTAINER: Message = { 1: string('name'), 2: string('image') };
const BODIES: Readonly<Record<string, Message>> = {
  SelfSubjectAccessReview: {
    1: METADATA,
    2: message('spec', {
      1: message('resourceAttributes', {
        1: string('namespace'),
        2: string('verb'),
        3: string('group'),
        4: string('version'),
        5: string('resource'),
        6: string('subresource'),
        7: string('name'),
      }),
      2: message('nonResourceAttributes', { 1: string('path'), 2: string('verb') }),
    }),
  },
  SelfSubjectRulesReview: { 1: METADATA, 2: message('spec', { 1: string('namespace') }) },
  Namespace: { 1: METADATA },
  Deployment: {
    1: METADATA,
    2: message('spec', {
      1: int('replicas'),
      2: message('selector', { 1: map('matchLabels') }),
      3: message('template', { 1: METADATA, 2: message('spec', { 2: list('containers', CONTAINER) }) }),
    }),
  },
  HorizontalPodAutoscaler: {
    1: METADATA,
    2: message('spec', {
      1: message('scaleTargetRef', { 1: string('kind'), 2: string('name'), 3: string('apiVersion') }),
      2: int('minReplicas'),
      3: int('maxReplicas'),
      4: int('targetCPUUtilizationPercentage'),
    }),
  },
};

const ENVELOPE: Message = { 2: { name: 'raw', type: 'string' } };
const MAGIC = Buffer.from('k8s\0');

/**
 * Decodes what kubectl sends as protobuf. @throws ApiError 415 for a kind that is not known here, 400 for what is no
 * protobuf.
 */
export function decodeProtobufBody(kind: string, body: Buffer): JsonObject {
  const fields = BODIES[kind];
  if (fields === undefined) throw unsupportedMediaType(['application/json', 'application/yaml']);
  if (!body.subarray(0, 4).equals(MAGIC))
    throw badRequest('provided data does not appear to be a protobuf message');
  const raw = rawField(body.subarray(4));
  return decodeMessage(raw, fields);
}

function rawField(envelope: Buffer): Buffer {
  for (const { number, bytes } of readFields(envelope)) {
    if (ENVELOPE[number] !== undefined && bytes !== undefined) return bytes;
  }
  throw badRequest('the protobuf envelope holds no object');
}

function decodeMessage(buffer: Buffer, fields: Message): JsonObject {
  const result: Record<string, Json> = {};
  for (const wire of readFields(buffer)) {
    const field = fields[wire.number];
    // Go writes empty strings out; to JSON they are fields that were not sent.
    const isEmpty = field?.type === 'string' && wire.bytes?.length === 0;
    if (field !== undefined && !isEmpty) result[field.name] = decodeField(field, wire, result[field.name]);
  }
  return result;
}

function decodeField(
  field: Field,
  { bytes = EMPTY, integer = 0 }: WireField,
  before: Json | undefined,
): Json {
  switch (field.type) {
    case 'int':
      return integer;
    case 'string':
      return bytes.toString('utf8');
    case 'message':
      return decodeMessage(bytes, field.fields);
    case 'list':
      return [...asArray(before), decodeMessage(bytes, field.fields)];
    case 'map': {
      const { key, value = '' } = decodeMessage(bytes, MAP_ENTRY);
      return { ...asObject(before), [asString(key)]: value };
    }
  }
}

const EMPTY = Buffer.alloc(0);
const MAP_ENTRY: Message = { 1: string('key'), 2: string('value') };

interface WireField {
  readonly number: number;
  readonly bytes?: Buffer;
  readonly integer?: number;
}

function* readFields(buffer: Buffer): Generator<WireField> {
  let offset = 0;
  const varint = (): number => {
    let [value, factor] = [0, 1];
    for (let byte = 0x80; byte >= 0x80; offset += 1) {
      byte = buffer[offset] ?? 0;
      value += (byte & 0x7f) * factor;
      factor *= 128;
    }
    return value;
  };
  while (offset < buffer.length) {
    const tag = varint();
    const number = Math.floor(tag / 8);
    switch (tag % 8) {
      case 0:
        yield { number, integer: varint() };
        break;
      case 2: {
        const length = varint();
        yield { number, bytes: buffer.subarray(offset, offset + length) };
        offset += length;
        break;
      }
      default:
        throw badRequest('the protobuf message uses a wire type no known field has');
    }
  }
}
