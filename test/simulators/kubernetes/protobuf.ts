import { badRequest, unsupportedMediaType } from './api-status.ts';
import type { Json, JsonObject } from './json.ts';

/**
 * kubectl sends protobuf in two places only, whatever the server prefers: `auth can-i` and `autoscale`. This reads
 * just those two messages; field numbers are those of the published .proto files.
 */
export const PROTOBUF_TYPE = 'application/vnd.kubernetes.protobuf';

type Field =
  | { readonly name: string; readonly type: 'string' | 'int' }
  | { readonly name: string; readonly type: 'message'; readonly fields: Message };
type Message = Readonly<Record<number, Field>>;

const string = (name: string): Field => ({ name, type: 'string' });
const int = (name: string): Field => ({ name, type: 'int' });
const message = (name: string, fields: Message): Field => ({ name, type: 'message', fields });

const METADATA = message('metadata', {
  1: string('name'),
  2: string('generateName'),
  3: string('namespace'),
});
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
  for (const { number, bytes, integer } of readFields(buffer)) {
    const field = fields[number];
    if (field === undefined) continue;
    if (field.type === 'int' && integer !== undefined) result[field.name] = integer;
    else if (bytes === undefined) continue;
    else if (field.type === 'message') result[field.name] = decodeMessage(bytes, field.fields);
    else if (bytes.length > 0) result[field.name] = bytes.toString('utf8');
  }
  return result;
}

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
