import { notAcceptable } from './api-status.ts';

/** How a client wants its answer; the kinds a `get` may be turned into. */
export type AnswerShape = 'object' | 'table' | 'metadata';

export interface MediaRange {
  readonly type: string;
  readonly parameters: Readonly<Record<string, string>>;
}

export function parseAccept(header: string | undefined): readonly MediaRange[] {
  return (header ?? '*/*').split(',').map((range) => {
    const [type = '', ...parameters] = range.split(';').map((part) => part.trim());
    return {
      type,
      parameters: Object.fromEntries(parameters.map((each) => each.split('=') as [string, string])),
    };
  });
}

/** The first range we can serve, in the client's order: weights are not looked at, as nobody here sends them. */
export function negotiateShape(header: string | undefined): AnswerShape {
  for (const { type, parameters } of parseAccept(header)) {
    if (!isJson(type)) continue;
    const { as } = parameters;
    if (as === undefined) return 'object';
    if (as === 'Table' && parameters.v === 'v1') return 'table';
    if (as.startsWith('PartialObjectMetadata') && parameters.v === 'v1') return 'metadata';
  }
  throw notAcceptable();
}

/** The aggregated discovery version asked for, or undefined for the plain documents. */
export function negotiateDiscovery(header: string | undefined): 'v2' | 'v2beta1' | undefined {
  for (const { type, parameters } of parseAccept(header)) {
    if (!isJson(type)) continue;
    if (parameters.as === undefined) return undefined;
    if (parameters.as !== 'APIGroupDiscoveryList') continue;
    if (parameters.v === 'v2' || parameters.v === 'v2beta1') return parameters.v;
  }
  throw notAcceptable();
}

function isJson(type: string): boolean {
  return type === 'application/json' || type === 'application/*' || type === '*/*';
}

/** The media type before its parameters, in lower case. */
export function baseType(header: string | undefined): string {
  return (header ?? '').split(';')[0]?.trim().toLowerCase() ?? '';
}
