import { CronExpressionParser } from 'cron-parser';

/**
 * When a scope may not be scaled in `direction`: from `starts_at` to `ends_at`, or whenever `schedule` begins, for
 * `duration_minutes`.
 */
export interface FreezeWindow {
  readonly id: string;
  readonly scope: string;
  readonly direction: 'up' | 'down' | 'both';
  /** Five cron fields, in `time_zone`. */
  readonly schedule: string | null;
  /** IANA name. */
  readonly time_zone: string;
  readonly duration_minutes: number | null;
  /** Epoch milliseconds. */
  readonly starts_at_ms: number | null;
  readonly ends_at_ms: number | null;
  readonly reason: string;
}

/**
 * @returns until when (epoch ms) the window freezes at `nowMs`, or null when it does not. Durations are real minutes: a
 * window across a change of the clocks is neither longer nor shorter. A local time that the change skips begins when it
 * would have without the change; one that comes twice begins both times.
 * A window that cannot be read (its time zone left the system's table, say) freezes: holding is the safe failure.
 */
export function frozenUntil(window: FreezeWindow, nowMs: number): number | null {
  if (window.schedule === null) {
    const { starts_at_ms: from, ends_at_ms: to } = window;
    return from !== null && to !== null && from <= nowMs && nowMs < to ? to : null;
  }
  const durationMs = (window.duration_minutes ?? 0) * 60_000;
  try {
    // Both ways: around a change of the clocks each misses a beginning that the other sees.
    const ahead = scheduleOf(window.schedule, window.time_zone, nowMs - durationMs)
      .next()
      .getTime();
    const back = scheduleOf(window.schedule, window.time_zone, nowMs + 1)
      .prev()
      .getTime();
    const endMs = Math.max(back, ahead > nowMs ? back : ahead) + durationMs;
    return nowMs < endMs ? endMs : null;
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}

export interface ActiveFreeze {
  readonly window: FreezeWindow;
  readonly untilMs: number;
}

/** The windows that freeze at `nowMs`. */
export function activeFreezes(windows: readonly FreezeWindow[], nowMs: number): ActiveFreeze[] {
  return windows.flatMap((window) => {
    const untilMs = frozenUntil(window, nowMs);
    return untilMs === null ? [] : [{ window, untilMs }];
  });
}

/** What freezes a direction in these scopes: of several windows the one that ends last. */
export function freezeOf(
  active: readonly ActiveFreeze[],
  scopes: readonly string[],
  direction: 'up' | 'down',
): ActiveFreeze | null {
  let longest: ActiveFreeze | null = null;
  for (const freeze of active) {
    const { scope, direction: frozen } = freeze.window;
    if (!scopes.includes(scope) || (frozen !== 'both' && frozen !== direction)) continue;
    if (longest === null || freeze.untilMs > longest.untilMs) longest = freeze;
  }
  return longest;
}

/** @returns when (epoch ms) the window begins next after `nowMs`, or null when it never does again. */
export function nextFreeze(window: FreezeWindow, nowMs: number): number | null {
  if (window.schedule === null)
    return window.starts_at_ms !== null && window.starts_at_ms > nowMs ? window.starts_at_ms : null;
  try {
    return scheduleOf(window.schedule, window.time_zone, nowMs).next().getTime();
  } catch {
    return null;
  }
}

/** @returns what is wrong with a schedule, or null. */
export function scheduleMistake(schedule: string): string | null {
  // Seconds, @daily and the random H are left out: one way to write a window down, with the same meaning everywhere.
  if (!/^[-0-9A-Za-z*,/?#]+( [-0-9A-Za-z*,/?#]+){4}$/.test(schedule) || /(^|[ ,/-])H/i.test(schedule))
    return 'must be five cron fields: minute, hour, day of month, month, day of week';
  try {
    scheduleOf(schedule, 'UTC', 0).next();
    return null;
  } catch (error) {
    return `is not a schedule: ${(error as Error).message}`;
  }
}

export function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: name });
    return true;
  } catch {
    return false;
  }
}

function scheduleOf(schedule: string, timeZone: string, fromMs: number) {
  return CronExpressionParser.parse(schedule, { tz: timeZone, currentDate: new Date(fromMs) });
}
