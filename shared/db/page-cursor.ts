import { InvalidInput } from '../errors.ts';

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** The sort keys that pages go by: a row's number, or the moment it was made and its id. */
const shapes = {
  seq: [(part: string) => /^\d{1,18}$/.test(part)],
  moment: [isMoment, (part: string) => uuid.test(part)],
} as const;

/** Encodes the last row's sort key as an opaque cursor. */
export function encodeCursor(parts: readonly (string | number)[]): string {
  return Buffer.from(JSON.stringify(parts)).toString('base64url');
}

/** @throws InvalidInput when the cursor is not one of ours, or could not be: PostgreSQL gets no other text to cast. */
export function decodeCursor(cursor: string, shape: keyof typeof shapes): string[] {
  const checks = shapes[shape];
  try {
    const parts: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'));
    if (
      Array.isArray(parts) &&
      parts.length === checks.length &&
      checks.every((check, index) => check(String(parts[index])))
    )
      return parts.map(String);
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

/** A timestamptz as PostgreSQL writes it, of a day that exists. */
function isMoment(text: string): boolean {
  const match = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(\.\d{1,6})?[+-]\d\d(:\d\d)?$/.exec(text);
  if (match === null) return false;
  const [, day = '', time = ''] = match;
  const moment = new Date(`${day}T${time}Z`);
  return !Number.isNaN(moment.getTime()) && moment.toISOString().startsWith(`${day}T${time}`);
}
