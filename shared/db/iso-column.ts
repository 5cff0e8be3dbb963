/** SQL: a column of timestamptz as ISO 8601 text in UTC, to the millisecond, under its own name. */
export function iso(column: string): string {
  return `to_char(${column} at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as ${column}`;
}
