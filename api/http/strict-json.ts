import { InvalidInput } from '../../shared/errors.ts';

const maxDepth = 32;
const forbiddenKeys = new Set(['__proto__', 'constructor', 'prototype']);

/**
 * JSON.parse that also refuses duplicate keys, keys for prototype pollution, deep nesting, NUL and lone surrogates in
 * strings, and bytes that are not UTF-8.
 * @throws InvalidInput with a code for each of these.
 */
export function parseStrictJson(bytes: Buffer): unknown {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new InvalidInput('invalid_json', 'The body is not valid UTF-8.');
  }
  checkDepth(text);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new InvalidInput('invalid_json', 'The body is not valid JSON.');
  }
  checkKeys(text);
  return value;
}

function checkDepth(text: string): void {
  let depth = 0;
  for (let index = 0; index < text.length; index++) {
    const char = text[index];
    if (char === '"') index = endOfString(text, index);
    else if (char === '{' || char === '[') {
      if (++depth > maxDepth)
        throw new InvalidInput('json_too_deep', `The body is nested more than ${maxDepth} levels deep.`);
    } else if (char === '}' || char === ']') depth--;
  }
}

/** Index of the closing quote; the end of the text when there is none. */
function endOfString(text: string, start: number): number {
  let index = start + 1;
  while (index < text.length && text[index] !== '"') index += text[index] === '\\' ? 2 : 1;
  return index;
}

/** The text is valid JSON by now, so a string followed by a colon is a key of the innermost object. */
function checkKeys(text: string): void {
  const open: (Set<string> | null)[] = [];
  for (let index = 0; index < text.length; index++) {
    const char = text[index];
    if (char === '{') open.push(new Set());
    else if (char === '[') open.push(null);
    else if (char === '}' || char === ']') open.pop();
    else if (char === '"') {
      const end = endOfString(text, index);
      const raw = text.slice(index, end + 1);
      const value = raw.includes('\\') ? (JSON.parse(raw) as string) : raw.slice(1, -1);
      if (value.includes('\0') || !value.isWellFormed()) {
        throw new InvalidInput('invalid_text', 'The body has a NUL or half of a character in a string.');
      }
      index = end;
      let next = end + 1;
      while (' \t\n\r'.includes(text[next] ?? '"')) next++;
      const keys = open.at(-1);
      if (text[next] !== ':' || keys === null || keys === undefined) continue;
      const fields = [
        { field: value.slice(0, 100), message: keys.has(value) ? 'given twice' : 'not allowed as a name' },
      ];
      if (keys.has(value))
        throw new InvalidInput(
          'duplicate_key',
          `The body has the field ${JSON.stringify(value.slice(0, 100))} twice.`,
          { fields },
        );
      if (forbiddenKeys.has(value))
        throw new InvalidInput('forbidden_key', `The body has a field named ${JSON.stringify(value)}.`, {
          fields,
        });
      keys.add(value);
    }
  }
}
