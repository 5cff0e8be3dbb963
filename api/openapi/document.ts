import { z } from 'zod';
import { problemSchema } from '../http/contract.ts';
import type { Route } from '../http/route.ts';

/** The OpenAPI 3.1 document, from the schemas that validate requests. */
export function openApiDocument(routes: readonly Route[]): Record<string, unknown> {
  const paths: Record<string, Record<string, unknown>> = {};
  const named: Named = {};
  schemaOf(problemSchema, 'output', named);
  for (const route of routes) {
    const operations = paths[route.path] ?? {};
    paths[route.path] = operations;
    operations[route.method] = operationOf(route, named);
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Scaler',
      version: '0.1.0',
      description:
        'Decides and executes scaling of EC2 Auto Scaling groups and Kubernetes Deployments and StatefulSets.',
      license: { name: 'MIT', identifier: 'MIT' },
    },
    paths,
    components: {
      securitySchemes: { key: { type: 'http', scheme: 'bearer', description: 'An API key: as_live_…' } },
      schemas: named,
    },
  };
}

function operationOf(route: Route, named: Named): Record<string, unknown> {
  const problem = {
    description: 'A problem',
    content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
  };
  const responses = Object.fromEntries(
    Object.entries(route.responses).map(([status, { description, schema }]) => [
      status,
      {
        description,
        ...(schema === undefined
          ? {}
          : { content: { 'application/json': { schema: schemaOf(schema, 'output', named) } } }),
      },
    ]),
  );
  return {
    operationId: route.operationId,
    tags: [route.path.split('/')[1]],
    summary: route.summary,
    ...(route.scope === 'public' ? { security: [] } : { security: [{ key: [] }], 'x-scope': route.scope }),
    parameters: [
      ...parametersOf(route.params, 'path', named),
      ...parametersOf(route.query, 'query', named),
      ...headersOf(route),
    ],
    ...(route.body === undefined
      ? {}
      : {
          requestBody: {
            required: true,
            content: { 'application/json': { schema: schemaOf(route.body, 'input', named) } },
          },
        }),
    responses: { ...responses, default: problem },
  };
}

function headersOf(route: Route): object[] {
  const header = (name: string, description: string, required = false) => ({
    name,
    in: 'header',
    required,
    description,
    schema: { type: 'string' },
  });
  const headers: object[] = [];
  if (route.method === 'post' && 202 in route.responses) {
    headers.push(header('Prefer', '`wait=N` waits up to N (at most 30) seconds for the result'));
    headers.push(header('Idempotency-Key', 'The same key and body get the same answer for 24 hours'));
  }
  if (route.method === 'patch') headers.push(header('If-Match', 'The ETag read before', true));
  if (route.method === 'delete' && route.path.startsWith('/resources'))
    headers.push(header('If-Match', 'The ETag read before'));
  return headers;
}

function parametersOf(schema: z.ZodType | undefined, place: 'path' | 'query', named: Named): object[] {
  if (schema === undefined) return [];
  const { properties = {}, required = [] } = schemaOf(schema, 'input', named) as {
    properties?: Record<string, object>;
    required?: string[];
  };
  return Object.entries(properties).map(([name, property]) => ({
    name,
    in: place,
    required: place === 'path' || required.includes(name),
    schema: property,
  }));
}

/** A zod schema as JSON schema. Those with an id go into `named`, and are referred to. */
function schemaOf(schema: z.ZodType, io: 'input' | 'output', named: Named): Record<string, unknown> {
  const converted = z.toJSONSchema(schema, { io, unrepresentable: 'any', target: 'draft-2020-12' });
  // zod puts named schemas under each schema's $defs; OpenAPI has one place for all.
  const text = JSON.stringify(converted).replaceAll('"#/$defs/', '"#/components/schemas/');
  const { $schema: _, id, $defs = {}, ...rest } = JSON.parse(text) as Record<string, unknown> & JsonSchema;
  for (const [name, { id: __, ...definition }] of Object.entries($defs)) named[name] = definition;
  if (id === undefined) return rest;
  named[id] = rest;
  return { $ref: `#/components/schemas/${id}` };
}

interface JsonSchema {
  readonly id?: string;
  readonly $defs?: Readonly<Record<string, JsonSchema>>;
}

type Named = Record<string, unknown>;
