import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from '../../shared/project-root.ts';

export interface Source {
  /** From the root of the repository, with `/`. */
  readonly file: string;
  readonly text: string;
}

/** The TypeScript sources below these folders, ordered by file. */
export function readSources(...folders: readonly string[]): Source[] {
  return folders.flatMap((folder) =>
    readdirSync(join(projectRoot(), folder), { recursive: true, encoding: 'utf8' })
      .map((file) => `${folder}/${file.replaceAll('\\', '/')}`)
      .filter((file) => file.endsWith('.ts') && !file.endsWith('.d.ts'))
      .sort()
      .map((file) => ({ file, text: readFileSync(join(projectRoot(), file), 'utf8') })),
  );
}

/** The string or template literal that begins at `at`, with `…` for what is computed; null for anything else. */
export function literalAt(text: string, at: number): string | null {
  const quote = text[at];
  if (quote !== "'" && quote !== '"' && quote !== '`') return null;
  let value = '';
  for (let index = at + 1; index < text.length; index++) {
    const character = text[index] as string;
    if (character === quote) return value;
    if (character === '\\') value += text[++index] ?? '';
    else if (quote === '`' && character === '$' && text[index + 1] === '{') {
      index = closingAt(text, index + 1);
      value += '…';
    } else value += character;
  }
  return null;
}

const closers: Readonly<Record<string, string>> = { '(': ')', '{': '}', '[': ']' };

/** Where the bracket that opens at `at` closes; the end of the text where it never does. */
export function closingAt(text: string, at: number): number {
  const open = text[at] as string;
  const close = closers[open];
  let depth = 0;
  for (let index = at; index < text.length; index++) {
    if (text[index] === open) depth++;
    else if (text[index] === close && --depth === 0) return index;
  }
  return text.length;
}

/** Where the innermost bracket of this kind around `at` opens; -1 outside of all. */
export function openingBefore(text: string, at: number, open: '(' | '{'): number {
  const close = closers[open];
  let depth = 0;
  for (let index = at - 1; index >= 0; index--) {
    if (text[index] === close) depth++;
    else if (text[index] === open && depth-- === 0) return index;
  }
  return -1;
}
