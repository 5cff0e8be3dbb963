import { sumOf } from './counts.ts';
import type { Stretch, Traffic } from './driver.ts';
import { backlogOf, secondsNow } from './gauges.ts';
import type { Stack } from './stack.ts';
import type { Step } from './traffic.ts';

/** What a rate must hold to count as sustainable. */
const acceptP99LimitMs = 500;
const queueAgeLimitSeconds = 1;
const firstRate = 20;
const growth = 1.5;
const bisections = 2;

type Say = (line: string) => void;

/**
 * The highest rate, in requests a second, at which accepting stays under half a second (p99, counted from when each
 * request was due) and no job waits for over a second: raised step by step until one breaks, then halved in between.
 */
export async function measureSustainable(
  stack: Stack,
  traffic: Traffic,
  stepSeconds: number,
  say: Say,
): Promise<number> {
  let good = 0;
  let bad = Number.POSITIVE_INFINITY;
  for (let rate = firstRate; bad === Number.POSITIVE_INFINITY; rate = Math.round(rate * growth)) {
    // A neighbour's hiccup is not the service's limit: it has to happen twice.
    const isGood =
      (await holds(stack, traffic, rate, stepSeconds, say)) ||
      (await holds(stack, traffic, rate, stepSeconds, say));
    if (isGood) good = rate;
    else bad = rate;
  }
  if (good === 0)
    throw new Error(`this machine does not even carry ${firstRate} requests a second: give --rate`);
  for (let round = 0; round < bisections; round++) {
    const rate = Math.round((good + bad) / 2);
    if (await holds(stack, traffic, rate, stepSeconds, say)) good = rate;
    else bad = rate;
  }
  // A lucky moment is not a rate that can be kept.
  while (!(await holds(stack, traffic, good, 2 * stepSeconds, say)))
    good = Math.max(1, Math.round(good * 0.8));
  return good;
}

async function holds(
  stack: Stack,
  traffic: Traffic,
  rate: number,
  seconds: number,
  say: Say,
): Promise<boolean> {
  let oldest = 0;
  const load = traffic.run([{ perSecond: rate, seconds }]);
  const watching = setInterval(() => {
    void backlogOf(stack).then(
      ({ oldestSeconds }) => {
        oldest = oldestSeconds;
      },
      () => {},
    );
  }, 500);
  const [stretch] = await load;
  clearInterval(watching);
  const { accept, counts } = stretch as Stretch;
  const p99 = accept.quantile(0.99) ?? Number.POSITIVE_INFINITY;
  const isGood =
    p99 <= acceptP99LimitMs &&
    oldest <= queueAgeLimitSeconds &&
    sumOf(counts.errors) + sumOf(counts.noAnswer) + counts.shed503 === 0;
  say(
    `  ${rate}/s: accept p99 ${Math.round(p99)} ms, oldest job ${oldest.toFixed(1)} s: ${isGood ? 'holds' : 'too much'}`,
  );
  await untilDrained(stack, 30);
  return isGood;
}

/** Waits until no due job waits. @returns whether that came about in time. */
export async function untilDrained(stack: Stack, limitSeconds: number): Promise<boolean> {
  const end = secondsNow() + limitSeconds;
  for (;;) {
    const { waiting } = await backlogOf(stack);
    if (waiting === 0) return true;
    if (secondsNow() > end) return false;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

export interface Overload {
  readonly overload: Stretch;
  readonly after: Stretch;
  /** Requests without an answer once it had recovered. */
  readonly noAnswerLater: number;
  /** From the end of the overload until three seconds in a row are as before it; null: not within the time given. */
  readonly recoverySeconds: number | null;
  /** Due jobs that waited at once, at most. */
  readonly mostWaiting: number;
}

const calmSeconds = 3;

/** Too much for a while, then the normal rate again; nobody helps. */
export async function overloadAndRecover(
  stack: Stack,
  traffic: Traffic,
  steps: { readonly overload: Step; readonly normal: Step },
  normalP99Ms: number,
): Promise<Overload> {
  const endsAt = secondsNow() + steps.overload.seconds;
  const p99Limit = Math.max(acceptP99LimitMs, 3 * normalP99Ms);
  let calm = 0;
  let mostWaiting = 0;
  let noAnswerLater = 0;
  let recoverySeconds: number | null = null;
  let looking: Promise<unknown> = Promise.resolve();
  const look = async (second: Stretch, step: number) => {
    const { waiting, oldestSeconds } = await backlogOf(stack);
    mostWaiting = Math.max(mostWaiting, waiting);
    if (step === 0) {
      // Late answers to the overload are no normal second either.
      calm = 0;
      return;
    }
    const { counts, accept } = second;
    const isCalm =
      counts.shed429 + counts.shed503 + sumOf(counts.errors) + sumOf(counts.noAnswer) === 0 &&
      oldestSeconds <= queueAgeLimitSeconds &&
      (accept.quantile(0.99) ?? Number.POSITIVE_INFINITY) <= p99Limit;
    calm = isCalm ? calm + 1 : 0;
    if (recoverySeconds !== null) noAnswerLater += sumOf(counts.noAnswer);
    if (calm === calmSeconds) recoverySeconds ??= Math.max(0, secondsNow() - endsAt - calmSeconds);
  };
  const [overload, after] = await traffic.run([steps.overload, steps.normal], (second, step) => {
    looking = look(second, step).catch(() => {});
  });
  await looking;
  return {
    overload: overload as Stretch,
    after: after as Stretch,
    noAnswerLater,
    recoverySeconds,
    mostWaiting,
  };
}
