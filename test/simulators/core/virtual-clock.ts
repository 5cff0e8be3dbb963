/**
 * The simulated world's time, and everything that will happen in it by itself (an instance becomes ready, a pod
 * ends). Transport facts (delays, time-outs, signature age) are real time and do not belong here.
 */
export interface VirtualClock {
  /** Virtual epoch milliseconds. While a scheduled event runs, it is that event's own due time. */
  now(): number;
  /** Jumps forward and runs what fell due, in order of due time. */
  advance(milliseconds: number): void;
  /** Virtual seconds per real second from now on; 0 freezes the clock, then only `advance` moves it. */
  setTimeScale(timeScale: number): void;
  /** Runs `event` once at `dueAt` (virtual epoch ms). Returns a function that takes it back. */
  at(dueAt: number, event: () => void): () => void;
  /** Runs everything due. Servers call it before each request, so that a state read is never behind the clock. */
  runDue(): void;
  close(): void;
}

export interface VirtualClockOptions {
  /** Virtual seconds per real second; default 1. */
  readonly timeScale?: number;
  /** Virtual epoch ms at the start; default the real time. */
  readonly startAt?: number;
  /** Somebody else's time (several simulators on one clock). `timeScale` and `startAt` are then ignored. */
  readonly now?: () => number;
}

interface ScheduledEvent {
  readonly dueAt: number;
  readonly run: () => void;
}

/** With a foreign `now` the speed is unknown, so due events are looked for this often (real ms). */
const FOREIGN_CLOCK_POLL_MS = 20;
/** setTimeout overflows above 2^31-1 and fires at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** A clock that runs as fast as it is told to, and runs what is scheduled on it. */
export function createVirtualClock(options: VirtualClockOptions = {}): VirtualClock {
  const foreignNow = options.now;
  let timeScale = options.timeScale ?? 1;
  let realOrigin = Date.now();
  let virtualOrigin = options.startAt ?? realOrigin;
  let foreignOffset = 0;

  let queue: ScheduledEvent[] = [];
  let runningDueAt: number | undefined;
  let timer: NodeJS.Timeout | undefined;
  let closed = false;

  function wallNow(): number {
    if (foreignNow !== undefined) return foreignNow() + foreignOffset;
    return virtualOrigin + (Date.now() - realOrigin) * timeScale;
  }

  function armTimer(): void {
    clearTimeout(timer);
    const next = queue[0];
    if (next === undefined || closed || (foreignNow === undefined && timeScale === 0)) return;
    const delay =
      foreignNow === undefined ? Math.max(0, (next.dueAt - wallNow()) / timeScale) : FOREIGN_CLOCK_POLL_MS;
    timer = setTimeout(runDue, Math.min(Math.ceil(delay), LONGEST_TIMER_MS));
    timer.unref();
  }

  function runDue(): void {
    if (runningDueAt !== undefined) return;
    try {
      for (let next = queue[0]; next !== undefined && next.dueAt <= wallNow(); next = queue[0]) {
        queue.shift();
        runningDueAt = next.dueAt;
        next.run();
      }
    } finally {
      runningDueAt = undefined;
      armTimer();
    }
  }

  return {
    now: () => runningDueAt ?? wallNow(),
    advance(milliseconds) {
      if (foreignNow === undefined) virtualOrigin += milliseconds;
      else foreignOffset += milliseconds;
      runDue();
    },
    setTimeScale(newScale) {
      virtualOrigin = wallNow();
      realOrigin = Date.now();
      timeScale = newScale;
      armTimer();
    },
    at(dueAt, run) {
      const event: ScheduledEvent = { dueAt, run };
      const position = queue.findIndex((other) => other.dueAt > dueAt);
      if (position === -1) queue.push(event);
      else queue.splice(position, 0, event);
      if (queue[0] === event && runningDueAt === undefined) armTimer();
      return () => {
        queue = queue.filter((other) => other !== event);
      };
    },
    runDue,
    close() {
      closed = true;
      clearTimeout(timer);
    },
  };
}
