import { InvalidInput } from '../../shared/errors.ts';

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

type Check = (part: string) => boolean;
const sequenceKey: readonly Check[] = [(part) => /^\d{1,18}$/.test(part)];
const timestampKey: readonly Check[] = [isTimestamp, (part) => uuid.test(part)];

/**
 * The cursor of the next page: the last row's sort key, opaque to clients.
 * @returns null on the last page, which is one with fewer rows than `limit`.
 */
export function nextCursor<T>(
  rows: readonly T[],
  limit: number,
  sortKey: (row: T) => readonly (string | number)[],
): string | null {
  const last = rows.at(-1);
  if (rows.length < limit || last === undefined) return null;
  return Buffer.from(JSON.stringify(sortKey(last))).toString('base64url');
}

/** The sequence number a page begins behind; null for the first page. @throws InvalidInput for a foreign cursor. */
export function decodeSequenceCursor(cursor: string | undefined): string | null {
  return cursor === undefined ? null : (decode(cursor, sequenceKey)[0] ?? null);
}

/**
 * The creation time and id a page begins behind; nulls for the first page.
 * @throws InvalidInput for a foreign cursor.
 */
export function decodeTimestampCursor(cursor: string | undefined): readonly (string | null | undefined)[] {
  return cursor === undefined ? [null, null] : decode(cursor, timestampKey);
}

/** The parts end up in casts of PostgreSQL, so nothing else may get through. @throws InvalidInput */
function decode(cursor: string, checks: readonly Check[]): string[] {
  try {
    const parts: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'));
    if (
      Array.isArray(parts) &&
      parts.length === checks.length &&
      checks.every((check, index) => check(String(parts[index])))
    )
      return parts.map(String);
  } catch {
    // Not base64url of JSON: reported below like any other foreign cursor.
  }
  throw new InvalidInput(
    'invalid_cursor',
    'cursor is not one this service gave out: leave it away to start from the first page.',
    { fields: [{ field: 'cursor', message: 'not a cursor of this service' }] },
  );
}

/** A timestamptz as PostgreSQL writes it, of a date that exists. */
function isTimestamp(text: string): boolean {
  const match = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(\.\d{1,6})?[+-]\d\d(:\d\d)?$/.exec(text);
  if (match === null) return false;
  const [, day = '', time = ''] = match;
  const parsed = new Date(`${day}T${time}Z`);
  return !Number.isNaN(parsed.getTime()) && parsed.toISOString().startsWith(`${day}T${time}`);
}
