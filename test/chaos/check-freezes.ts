import type { Call } from './check-evidence.ts';

/** A time in which a scope was frozen, by what its operator was told and by nothing else. Epoch milliseconds. */
export interface Frozen {
  readonly scope: string;
  readonly direction: 'up' | 'down' | 'both';
  /** The answer to the freeze, or its beginning where that is later. */
  readonly from: number;
  /** Its own end, or the moment its removal was sent. */
  readonly until: number;
}

/** As it was sent: once, or on a schedule. */
interface FreezeBody {
  readonly scope: string;
  readonly direction: Frozen['direction'];
  readonly schedule?: string;
  readonly time_zone?: string;
  readonly duration_minutes?: number;
  readonly starts_at?: string;
  readonly ends_at?: string;
}

const minuteMs = 60_000;

/**
 * Every window that was confirmed. Nothing is known of one whose answer was lost: it may freeze, and need not.
 * @param horizonMs windows on a schedule that was not taken away are looked for until then.
 */
export function frozenTimes(calls: readonly Call[], horizonMs: number): Frozen[] {
  const removals = calls.filter(({ op }) => op === 'thaw');
  return calls
    .filter(({ op, status }) => op === 'freeze' && status === 201)
    .flatMap((call) => {
      const body = call.body as FreezeBody;
      const removed = removals.find(
        ({ route, sentAt }) => route.includes(`/freezes/${call.made}?`) && sentAt >= call.answeredAt,
      );
      const removedAt = removed?.sentAt ?? Number.POSITIVE_INFINITY;
      return windowsOf(body, call.answeredAt, Math.min(removedAt, horizonMs)).flatMap(([starts, ends]) => {
        const from = Math.max(call.answeredAt, starts);
        const until = Math.min(ends, removedAt);
        return from < until ? [{ scope: body.scope, direction: body.direction, from, until }] : [];
      });
    });
}

function windowsOf(body: FreezeBody, fromMs: number, untilMs: number): (readonly [number, number])[] {
  if (body.schedule === undefined)
    return [[Date.parse(String(body.starts_at)), Date.parse(String(body.ends_at))]];
  const durationMs = Number(body.duration_minutes) * minuteMs;
  const begins = beginsAt(body.schedule, String(body.time_zone));
  const windows: (readonly [number, number])[] = [];
  for (let at = Math.floor((fromMs - durationMs) / minuteMs) * minuteMs; at <= untilMs; at += minuteMs)
    if (begins(at)) windows.push([at, at + durationMs]);
  return windows;
}

/** @throws Error on a schedule that is not `minute hour * * *`: the operators of a run set no other. */
function beginsAt(schedule: string, timeZone: string): (atMs: number) => boolean {
  const [minute, hour] = /^(\d{1,2}) (\d{1,2}) \* \* \*$/.exec(schedule)?.slice(1) ?? [];
  if (minute === undefined || hour === undefined)
    throw new Error(`the checker cannot read the schedule ${schedule}`);
  const clock = new Intl.DateTimeFormat('en-GB', {
    timeZone,
    hour: '2-digit',
    minute: '2-digit',
    hourCycle: 'h23',
  });
  const wanted = `${hour.padStart(2, '0')}:${minute.padStart(2, '0')}`;
  return (atMs) => clock.format(atMs) === wanted;
}
