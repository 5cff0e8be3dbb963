import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { parseAst } from 'vitest/node';
import { projectRoot } from '../../../shared/project-root.ts';

/** Where the paths under test begin; what they import is instrumented with them. */
const entries = [
  'worker/execute/processor.js',
  'worker/upkeep/relay.js',
  'worker/upkeep/chores.js',
  'worker/providers/registry.js',
];

export interface InstrumentedBuild {
  /** Holds a copy of dist/ whose awaits are failpoints; never inside dist/ itself. */
  readonly folder: string;
  /** The name of every await found. */
  readonly points: readonly string[];
  /** What a child runs. */
  readonly child: string;
  remove(): void;
}

/**
 * Copies the build to a folder of its own and makes a named failpoint of every `await` on the way of an execution, of
 * the relay and of the reconciler. The product's sources and dist/ know nothing of it.
 */
export function buildInstrumented(): InstrumentedBuild {
  const root = projectRoot();
  const dist = join(root, 'dist');
  mkdirSync(join(root, '.data'), { recursive: true });
  const folder = mkdtempSync(join(root, '.data', 'failpoints-'));
  for (const part of ['worker', 'shared', 'test/chaos/crashpoints'])
    cpSync(join(dist, part), join(folder, part), { recursive: true });
  // A package of its own, so that an edit of ours meanwhile does not reach the children.
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }\n');
  const points: string[] = [];
  for (const file of reachable(dist)) {
    const result = instrument(readFileSync(join(dist, file), 'utf8'), file);
    if (result.points.length === 0) continue;
    points.push(...result.points);
    writeFileSync(join(folder, file), result.code);
  }
  const child = join(folder, 'test/chaos/crashpoints/child.js');
  return { folder, points, child, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/**
 * The same, with everything a child loads in a few files: a start costs half as much, which pays for itself after some
 * ten of them. The bundler comes with the test runner.
 */
export async function bundleInstrumented(build: InstrumentedBuild): Promise<InstrumentedBuild> {
  const { rolldown } = await import('rolldown');
  const bundle = await rolldown({
    input: build.child,
    platform: 'node',
    external: [/pg-native/],
    logLevel: 'silent',
  });
  const dir = join(build.folder, 'bundled');
  const banner = `import { createRequire as nodeRequire } from 'node:module'; const require = nodeRequire(import.meta.url);`;
  await bundle.write({ dir, format: 'esm', banner });
  await bundle.close();
  return { ...build, child: join(dir, 'child.js') };
}

/** The entries and every file of ours that they import, directly or not. */
function reachable(dist: string): string[] {
  const seen = new Set<string>();
  const visit = (file: string): void => {
    if (seen.has(file)) return;
    seen.add(file);
    const code = readFileSync(join(dist, file), 'utf8');
    for (const match of code.matchAll(/^import\s[^;]*?from '(\.[^']+)';/gm))
      visit(join(dirname(file), match[1] as string));
  };
  for (const entry of entries) visit(entry);
  return [...seen].sort();
}

interface Node {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [field: string]: unknown;
}

/**
 * `await X` → `(before(name), await settle(name, X))`, with a name of file, function, callee and number that no edit
 * elsewhere changes.
 * @throws Error on an await this cannot rewrite.
 */
export function instrument(code: string, file: string): { code: string; points: string[] } {
  const insertions: { readonly at: number; readonly text: string }[] = [];
  const names = new Map<string, number>();
  const points: string[] = [];
  const visit = (value: unknown, path: readonly string[]): void => {
    if (Array.isArray(value)) {
      for (const item of value) visit(item, path);
      return;
    }
    if (value === null || typeof value !== 'object' || !('type' in value)) return;
    const node = value as Node;
    if (node.type === 'ForOfStatement' && node.await === true)
      throw new Error(`${file}: "for await" has no failpoint: teach instrument() to rewrite it`);
    const here = [...path, ...nameOf(node)];
    if (node.type === 'AwaitExpression') {
      const argument = node.argument as Node;
      const base = `${file.replace(/\.js$/, '')}:${here.join('.') || 'module'}:${calleeOf(argument, code)}`;
      const number = (names.get(base) ?? 0) + 1;
      names.set(base, number);
      const name = `${base}#${number}`;
      points.push(name);
      const quoted = JSON.stringify(name);
      insertions.push(
        { at: node.start, text: `(__failpoints.before(${quoted}), ` },
        { at: argument.start, text: `__failpoints.settle(${quoted}, ` },
        { at: argument.end, text: ')' },
        { at: node.end, text: ')' },
      );
    }
    for (const [field, child] of Object.entries(node)) if (field !== 'type') visit(child, here);
  };
  visit(parseAst(code), []);
  if (points.length === 0) return { code, points };
  const runtime = relative(dirname(file), 'test/chaos/crashpoints/failpoint.js');
  return { code: `import * as __failpoints from '${runtime}';\n${insert(code, insertions)}`, points };
}

function insert(code: string, insertions: readonly { readonly at: number; readonly text: string }[]): string {
  // Stable: of two at one place, the outer await's comes first, and all that end there are the same bracket.
  const ordered = [...insertions].sort((a, b) => a.at - b.at);
  let result = '';
  let from = 0;
  for (const { at, text } of ordered) {
    result += code.slice(from, at) + text;
    from = at;
  }
  return result + code.slice(from);
}

/** The part of a name that a node adds: a function's, a class's, a method's, or that of a variable holding a function. */
function nameOf(node: Node): string[] {
  const name = (value: unknown): string[] => {
    const { name: found } = (value ?? {}) as { name?: string };
    return found === undefined ? [] : [found];
  };
  const holdsFunction = (value: unknown): boolean =>
    /Function/.test(((value ?? {}) as Partial<Node>).type ?? '');
  if (node.type === 'FunctionDeclaration' || node.type === 'ClassDeclaration') return name(node.id);
  if (node.type === 'MethodDefinition') return name(node.key);
  if (node.type === 'Property' && holdsFunction(node.value)) return name(node.key);
  if (node.type === 'VariableDeclarator' && holdsFunction(node.init)) return name(node.id);
  return [];
}

/** What is awaited, in short: `provider.describe`, `Promise.all`, `locked`. */
function calleeOf(argument: Node, code: string): string {
  const callee = (
    argument.type === 'CallExpression' || argument.type === 'NewExpression' ? argument.callee : argument
  ) as Node;
  if (callee.type !== 'MemberExpression') return code.slice(callee.start, callee.end).replace(/[^\w.#]/g, '');
  const { name } = callee.property as { name?: string };
  const object = callee.object as Node;
  const holder =
    object.type === 'MemberExpression'
      ? ((object.property as { name?: string }).name ?? '')
      : object.type === 'CallExpression'
        ? calleeOf(object, code)
        : code.slice(object.start, object.end);
  return `${holder.replace(/\W/g, '')}.${name ?? ''}`;
}
