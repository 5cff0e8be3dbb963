import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import type pg from 'pg';

const chunkSize = 5_000;

/** Compares what clients were promised with the rows. */
export async function compareWithRows(
  pool: pg.Pool,
  acceptedFile: string,
): Promise<{ promised: number; lost: number; unfinished: number }> {
  const result = { promised: 0, lost: 0, unfinished: 0 };
  let chunk: string[] = [];
  const flush = async () => {
    const { rows } = await pool.query<{ lost: number; unfinished: number }>(
      `select count(*) filter (where j.id is null)::integer as lost, count(*) filter (where not j.finished)::integer as unfinished
        from unnest($1::uuid[]) as v (id) left join jobs j on j.id = v.id`,
      [chunk],
    );
    result.promised += chunk.length;
    result.lost += rows[0]?.lost ?? 0;
    result.unfinished += rows[0]?.unfinished ?? 0;
    chunk = [];
  };
  for await (const line of createInterface({ input: createReadStream(acceptedFile) })) {
    if (line !== '') chunk.push(line);
    if (chunk.length >= chunkSize) await flush();
  }
  if (chunk.length > 0) await flush();
  return result;
}
