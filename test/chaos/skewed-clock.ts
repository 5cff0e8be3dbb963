/**
 * Loaded into a process of the service before anything else: its clock is off by CHAOS_CLOCK_SKEW_MS. What measures durations
 * is left alone, as a wrong clock leaves it alone.
 */
const skewMs = Number(process.env.CHAOS_CLOCK_SKEW_MS ?? 0);
const RealDate = Date;

globalThis.Date = new Proxy(RealDate, {
  construct: (target, args, newTarget) =>
    Reflect.construct(target, args.length === 0 ? [RealDate.now() + skewMs] : args, newTarget),
  apply: () => new Date().toString(),
  get: (target, name, receiver) =>
    name === 'now' ? () => RealDate.now() + skewMs : Reflect.get(target, name, receiver),
});
