import type { TableReading } from './gauges.ts';

/**
 * Autovacuum looks once a minute (`autovacuum_naptime`), and its work takes a while: until then dead rows are no neglect.
 * In a young table they may well be half of it.
 */
export const vacuumSeconds = 120;
const fewRows = 20_000;

export interface DeadShare {
  /** Of a table's rows, at the worst moment. */
  readonly worst: number;
  /** The same without rows that died within the last `vacuumSeconds`; null when the table was not watched for so long. */
  readonly left: number | null;
}

/**
 * Small tables are left out.
 * @param readings of the tables in `names`, in the order of time.
 */
export function deadShares(
  readings: readonly (readonly TableReading[])[],
  names: readonly string[],
): Record<string, DeadShare> {
  return Object.fromEntries(
    names.flatMap((name) => {
      const history = readings.flat().filter((reading) => reading.name === name);
      const shares = history.flatMap((reading) => {
        const rows = reading.live + reading.dead;
        if (rows < fewRows) return [];
        const earlier = history.findLast(({ at }) => at <= reading.at - vacuumSeconds);
        const fresh = earlier === undefined ? null : reading.died - earlier.died;
        return [
          {
            worst: reading.dead / rows,
            left: fresh === null ? null : Math.max(0, reading.dead - fresh) / rows,
          },
        ];
      });
      if (shares.length === 0) return [];
      const lefts = shares.flatMap(({ left }) => (left === null ? [] : [left]));
      return [
        [
          name,
          {
            worst: Math.max(...shares.map(({ worst }) => worst)),
            left: lefts.length === 0 ? null : Math.max(...lefts),
          },
        ],
      ];
    }),
  );
}
