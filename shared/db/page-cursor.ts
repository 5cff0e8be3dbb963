import { InvalidInput } from '../errors.ts';

/** Encodes the last row's sort key as an opaque cursor. */
export function encodeCursor(parts: readonly (string | number)[]): string {
  return Buffer.from(JSON.stringify(parts)).toString('base64url');
}

/** @throws InvalidInput when the cursor is not one of ours. */
export function decodeCursor(cursor: string, length: number): string[] {
  try {
    const parts: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'));
    if (
      Array.isArray(parts) &&
      parts.length === length &&
      parts.every((part) => /^[-0-9A-Za-z:.+ ]{1,64}$/.test(String(part)))
    ) {
      return parts.map(String);
    }
  } catch {
    // Falls through: whatever it was, it is not a cursor.
  }
  throw new InvalidInput(
    'invalid_cursor',
    'cursor is not one this service gave out: leave it away to start from the first page.',
    {
      fields: [{ field: 'cursor', message: 'not a cursor of this service' }],
    },
  );
}
