import type { Api, Schema } from './openapi.ts';
import type { RandomGenerator } from './random-generator.ts';

/** Ids that exist, by the name of the field they go into. */
export type KnownIds = (name: string) => string;

/**
 * A value that fits a schema, as far as a schema says.
 * @param full with all optional fields, and no null; else they come and go.
 */
export function makeValue(
  given: Schema,
  name: string,
  random: RandomGenerator,
  api: Api,
  ids: KnownIds,
  full = false,
): unknown {
  const schema = api.resolve(given);
  const make = (its: Schema, field = name) => makeValue(its, field, random, api, ids, full);
  if (schema.const !== undefined) return schema.const;
  if (schema.enum !== undefined) return random.pick(schema.enum);
  const choice = schema.anyOf ?? schema.oneOf;
  if (choice !== undefined)
    return make(random.pick(full ? choice.filter((its) => its.type !== 'null') : choice));
  const type = Array.isArray(schema.type) ? random.pick(schema.type as string[]) : schema.type;
  switch (type) {
    case 'null':
      return null;
    case 'boolean':
      return random.chance(0.5);
    case 'integer':
    case 'number':
      return makeNumber(schema, type, random);
    case 'string':
      return makeText(schema, name, random, ids);
    case 'array': {
      const least = schema.minItems ?? 0;
      const length = full
        ? Math.max(1, least)
        : least + random.below(Math.min(4, (schema.maxItems ?? 4) - least + 1));
      return Array.from({ length }, () => make(schema.items ?? {}));
    }
    case 'object': {
      const required = new Set(schema.required ?? []);
      const fields = Object.entries(schema.properties ?? {}).filter(
        ([field]) => full || required.has(field) || random.chance(0.3),
      );
      return Object.fromEntries(fields.map(([field, its]) => [field, make(its, field)]));
    }
    default:
      return random.pick([null, 1, 'x', {}, []]);
  }
}

function makeNumber(schema: Schema, type: string, random: RandomGenerator): number {
  const least = schema.minimum ?? schema.exclusiveMinimum ?? -1_000;
  // Small numbers more often: the large ones refuse each other (min over max).
  const most = Math.min(
    schema.maximum ?? schema.exclusiveMaximum ?? 1_000,
    least + random.pick([1, 20, 1e9]),
  );
  const value = random.pick([random.between(least, most), random.between(least, most), least, most]);
  return type === 'integer' ? Math.round(value) : value;
}

const moments = [
  () => new Date().toISOString(),
  () => '2026-01-01T00:00:00Z',
  () => '2099-12-31T23:59:59.999999Z',
  () => '2000-01-01T00:00:00+23:59',
  () => '2024-02-29T12:00:00.123456789-05:30',
  () => '2026-06-01T10:00Z',
];

function makeText(schema: Schema, name: string, random: RandomGenerator, ids: KnownIds): string {
  if (schema.format === 'uuid') return random.chance(0.9) ? ids(name) : random.uuid();
  if (schema.format === 'date-time') return random.pick(moments)();
  if (name === 'name')
    return random.pick([
      `asg-${random.text(8)}`,
      `deployment:shop/${random.text(8)}`,
      `statefulset:a/${random.text(3)}`,
    ]);
  if (name === 'region') return random.pick(['us-east-1', 'eu-west-1', 'ap-southeast-2']);
  if (name === 'cluster') return random.text(6);
  if (schema.pattern !== undefined) {
    const candidates = [
      ids(name),
      'global',
      'provider:aws',
      `resource:${ids('resource_id')}`,
      random.text(12),
      '1',
    ];
    const expression = new RegExp(schema.pattern, 'u');
    const fitting = candidates.filter((candidate) => expression.test(candidate));
    return fitting.length > 0 ? random.pick(fitting) : 'x';
  }
  const least = schema.minLength ?? 0;
  return random.text(least + random.below(Math.min(20, (schema.maxLength ?? 20) - least + 1)));
}
