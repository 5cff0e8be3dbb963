import type { Schema } from './openapi.ts';

const formats: Readonly<Record<string, RegExp>> = {
  uuid: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i,
  'date-time': /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/,
};

/** Where a value breaks a JSON schema, in words; empty when it fits. */
export function checkSchema(
  value: unknown,
  given: Schema,
  resolve: (schema: Schema) => Schema,
  place = '$',
): string[] {
  const schema = resolve(given);
  const check = (inner: unknown, its: Schema, where: string) => checkSchema(inner, its, resolve, where);
  const wrong: string[] = [];
  for (const part of schema.allOf ?? []) wrong.push(...check(value, part, place));
  for (const choice of [schema.anyOf, schema.oneOf])
    if (choice !== undefined && !choice.some((its) => check(value, its, place).length === 0))
      wrong.push(`${place} fits none of ${choice.length} schemas`);
  if (schema.const !== undefined && value !== schema.const)
    wrong.push(`${place} is not ${JSON.stringify(schema.const)}`);
  if (schema.enum !== undefined && !schema.enum.includes(value))
    wrong.push(`${place} is ${JSON.stringify(value)}, not one of ${JSON.stringify(schema.enum)}`);
  const types = schema.type === undefined ? null : [schema.type].flat();
  if (types !== null && !types.some((type) => isA(value, type)))
    return [...wrong, `${place} is ${JSON.stringify(value)?.slice(0, 60)}, not ${types.join(' or ')}`];
  if (typeof value === 'number') wrong.push(...checkNumber(value, schema, place));
  if (typeof value === 'string') wrong.push(...checkText(value, schema, place));
  if (Array.isArray(value)) {
    for (const [index, item] of value.entries())
      if (schema.items !== undefined) wrong.push(...check(item, schema.items, `${place}[${index}]`));
  } else if (typeof value === 'object' && value !== null) {
    for (const name of schema.required ?? []) if (!(name in value)) wrong.push(`${place} lacks ${name}`);
    for (const [name, item] of Object.entries(value)) {
      const its = schema.properties?.[name] ?? schema.additionalProperties;
      if (its === false) wrong.push(`${place} has an undocumented ${name}`);
      else if (typeof its === 'object') wrong.push(...check(item, its, `${place}.${name}`));
    }
  }
  return wrong;
}

function isA(value: unknown, type: string): boolean {
  switch (type) {
    case 'null':
      return value === null;
    case 'array':
      return Array.isArray(value);
    case 'object':
      return typeof value === 'object' && value !== null && !Array.isArray(value);
    case 'integer':
      return Number.isInteger(value);
    default:
      return typeof value === type;
  }
}

function checkNumber(value: number, schema: Schema, place: string): string[] {
  const ok =
    value >= (schema.minimum ?? Number.NEGATIVE_INFINITY) &&
    value <= (schema.maximum ?? Number.POSITIVE_INFINITY) &&
    value > (schema.exclusiveMinimum ?? Number.NEGATIVE_INFINITY) &&
    value < (schema.exclusiveMaximum ?? Number.POSITIVE_INFINITY);
  return ok ? [] : [`${place} is ${value}, out of its range`];
}

function checkText(value: string, schema: Schema, place: string): string[] {
  const { minLength = 0, maxLength = Number.POSITIVE_INFINITY, pattern, format } = schema;
  const expression = pattern === undefined ? formats[format ?? ''] : new RegExp(pattern, 'u');
  if (value.length < minLength || value.length > maxLength) return [`${place} is too short or too long`];
  return expression === undefined || expression.test(value)
    ? []
    : [`${place} is ${JSON.stringify(value.slice(0, 60))}, not a ${format ?? pattern}`];
}
