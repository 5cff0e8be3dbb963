import { AwsError, validationError } from './aws-error.ts';

/** A parsed `application/x-www-form-urlencoded` body: `A.member.1.B=x` becomes `{ A: [{ B: 'x' }] }`. */
export type FormValue = string | readonly FormValue[] | { readonly [name: string]: FormValue };

interface MutableTree {
  [name: string]: MutableTree | string;
}

/** Reads the flat names of the query protocol (`A.member.1.B`) as a tree. */
export function parseForm(body: string): FormValue {
  const root: MutableTree = Object.create(null);
  for (const [name, value] of new URLSearchParams(body)) {
    const path = name.split('.');
    const leaf = path.pop() as string;
    let node = root;
    for (const step of path) {
      let next = node[step];
      if (typeof next !== 'object') {
        next = Object.create(null) as MutableTree;
        node[step] = next;
      }
      node = next;
    }
    node[leaf] = value;
  }
  return listsFrom(root);
}

/** Query lists are `X.member.N`, EC2's are `X.N`: either way an object whose names are all numbers. */
function listsFrom(node: MutableTree | string): FormValue {
  if (typeof node === 'string') return node;
  const names = Object.keys(node);
  if (names.length === 1 && node.member !== undefined) return listsFrom(node.member);
  if (names.length > 0 && names.every((name) => /^\d+$/.test(name))) {
    return names.sort((a, b) => Number(a) - Number(b)).map((name) => listsFrom(node[name] as MutableTree));
  }
  return Object.fromEntries(names.map((name) => [name, listsFrom(node[name] as MutableTree)]));
}

/** Typed reading of one form, with AWS's words for what is missing or malformed. */
export interface Parameters {
  text(name: string): string | undefined;
  requiredText(name: string): string;
  integer(name: string): number | undefined;
  flag(name: string): boolean | undefined;
  list(name: string): readonly FormValue[];
  texts(name: string): readonly string[];
  tree(name: string): FormValue | undefined;
}

export function parametersOf(form: FormValue): Parameters {
  const fields = isTree(form) ? form : {};
  const text = (name: string): string | undefined => {
    const value = fields[name];
    return typeof value === 'string' ? value : undefined;
  };
  const list = (name: string): readonly FormValue[] => {
    const value = fields[name];
    return Array.isArray(value) ? value : []; // an empty list is sent as `Name=`
  };
  return {
    text,
    list,
    requiredText(name) {
      const value = text(name);
      if (value === undefined || value === '') throw missing(name);
      return value;
    },
    integer(name) {
      const value = text(name);
      if (value === undefined || value === '') return undefined;
      if (!/^-?\d{1,10}$/.test(value)) throw new AwsError('MalformedInput', `${value} is not an integer`);
      return Number(value);
    },
    flag(name) {
      const value = text(name);
      return value === undefined || value === '' ? undefined : value === 'true';
    },
    texts: (name) => list(name).filter((value) => typeof value === 'string'),
    tree: (name) => fields[name],
  };
}

export function missing(name: string): AwsError {
  return validationError(
    `1 validation error detected: Value null at '${lowerFirst(name)}' failed to satisfy constraint: Member must not be null`,
  );
}

export function isTree(value: unknown): value is { readonly [name: string]: FormValue } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
