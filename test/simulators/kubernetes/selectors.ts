import { type ApiResource, EVENTS, PODS } from './api-resources.ts';
import { badRequest } from './api-status.ts';
import {
  asArray,
  asObject,
  asString,
  type Json,
  type JsonObject,
  type KubernetesObject,
  valueAt,
} from './json.ts';

export type Matcher = (object: KubernetesObject) => boolean;

/** Everything `labelSelector` and `fieldSelector` of a list or watch ask for. */
export function matcherFrom(resource: ApiResource, query: URLSearchParams): Matcher {
  const labels = parseLabelSelector(query.get('labelSelector') ?? '');
  const fields = parseFieldSelector(resource, query.get('fieldSelector') ?? '');
  return (object) => labels(object.metadata.labels ?? {}) && fields(object);
}

type Labels = Readonly<Record<string, string>>;

const LABEL_TERM =
  /^(?<key>[^\s=!,()]+)\s*(?:(?<op>==|!=|=|\s+in\s+|\s+notin\s+)\s*(?<value>\([^)]*\)|[^,()]*))?$/;

/** A test of labels against every term of the selector. */
export function parseLabelSelector(selector: string): (labels: Labels) => boolean {
  const terms = splitTerms(selector).map(parseLabelTerm);
  return (labels) => terms.every((term) => term(labels));
}

/** Commas separate terms, except inside the parentheses of a set. */
function splitTerms(selector: string): string[] {
  return selector
    .split(/,(?![^()]*\))/)
    .map((term) => term.trim())
    .filter((term) => term !== '');
}

function parseLabelTerm(term: string): (labels: Labels) => boolean {
  if (term.startsWith('!')) {
    const absent = term.slice(1).trim();
    return (labels) => labels[absent] === undefined;
  }
  const { key, op, value = '' } = LABEL_TERM.exec(term)?.groups ?? {};
  if (key === undefined)
    throw badRequest(`unable to parse requirement: found '${term}', expected: identifier`);
  const values = value
    .replace(/[()]/g, '')
    .split(',')
    .map((each) => each.trim());
  switch (op?.trim()) {
    case undefined:
      return (labels) => labels[key] !== undefined;
    case '!=':
    case 'notin':
      return (labels) => !values.includes(labels[key] ?? ' ');
    default:
      return (labels) => values.includes(labels[key] ?? ' ');
  }
}

/** A `LabelSelector` object (`matchLabels`, `matchExpressions`) in its string form, as `status.selector` has it. */
export function selectorString(selector: Json | undefined): string {
  const equalities = Object.entries(asObject(asObject(selector).matchLabels)).map(
    ([key, value]) => [key, `${key}=${asString(value)}`] as const,
  );
  const expressions = asArray(asObject(selector).matchExpressions).map((each) => {
    const expression = asObject(each);
    return [asString(expression.key), expressionString(expression)] as const;
  });
  return [...equalities, ...expressions]
    .sort(([left], [right]) => (left < right ? -1 : 1))
    .map(([, term]) => term)
    .join(',');
}

function expressionString(expression: JsonObject): string {
  const key = asString(expression.key);
  const values = `(${asArray(expression.values)
    .map((value) => asString(value))
    .join(',')})`;
  switch (expression.operator) {
    case 'In':
      return `${key} in ${values}`;
    case 'NotIn':
      return `${key} notin ${values}`;
    case 'DoesNotExist':
      return `!${key}`;
    default:
      return key;
  }
}

function parseFieldSelector(resource: ApiResource, selector: string): Matcher {
  const terms = splitTerms(selector).map((term) => {
    const [, path = '', op = '=', value = ''] = /^([^=!]+)(==|!=|=)(.*)$/.exec(term) ?? [];
    if (path === '') throw badRequest(`invalid selector: '${selector}'; can't understand '${term}'`);
    if (!isSelectable(resource, path)) throw badRequest(`field label not supported: ${path}`);
    return (object: KubernetesObject): boolean => {
      const matches = asString(valueAt(object, path)) === value;
      return op === '!=' ? !matches : matches;
    };
  });
  return (object) => terms.every((term) => term(object));
}

function isSelectable(resource: ApiResource, path: string): boolean {
  if (path === 'metadata.name' || path === 'metadata.namespace') return true;
  if (resource === PODS) return /^(spec|status)\./.test(path);
  return resource === EVENTS && /^(involvedObject\.|reason$|type$|reportingComponent$|source$)/.test(path);
}
