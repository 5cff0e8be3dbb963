import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { ServiceCaller } from './service-caller.ts';

interface Control {
  readonly scope: string;
  readonly state: 'stopped' | 'observing' | 'released';
}

/** How an operator freezes a scope: once or on a schedule, and whether it is taken away or ends by itself. */
export interface FreezePlan {
  readonly scope: string;
  readonly direction: string;
  readonly mode: string;
  /** IANA name, for a schedule. */
  readonly zone: string;
}

interface Freeze {
  readonly id: string;
  readonly reason: string;
}

/** A scheduled window began with this minute and lasts so long: beyond the longest freeze of a run. */
const scheduledMinutes = 3;

/** After a release nobody is held for so long: then it goes on all over again, seconds. */
const quietSeconds = 15;

/** A minute: longer than the API or PostgreSQL is away. */
const patchTries = 240;
const patchPauseMs = 250;

/** Whoever runs the service: stops and releases scopes, freezes them, pauses resources, changes their bounds. All through REST. */
export class Operator {
  readonly #caller: ServiceCaller;
  /** Scopes that somebody wants stopped right now. */
  readonly #wanted = new Set<string>();
  /** Reasons of freezes that are wanted right now: each has its own. */
  readonly #frozen = new Set<string>();

  constructor(caller: ServiceCaller) {
    this.#caller = caller;
  }

  async stopFor(scope: string, durationMs: number, over: Promise<unknown>): Promise<boolean> {
    this.#wanted.add(scope);
    try {
      const stopped = await this.#stop(scope);
      await Promise.race([delay(durationMs), over]);
      return stopped;
    } finally {
      this.#wanted.delete(scope);
      await this.#release(scope);
    }
  }

  /** @returns whether the freeze was confirmed. */
  async freezeFor(plan: FreezePlan, durationMs: number, over: Promise<unknown>): Promise<boolean> {
    const reason = `the chaos run freezes it ${randomUUID()}`;
    this.#frozen.add(reason);
    try {
      const made = await this.#caller.call({
        client: 'operator',
        op: 'freeze',
        method: 'POST',
        path: '/freezes',
        key: randomUUID(),
        body: { scope: plan.scope, direction: plan.direction, reason, ...windowOf(plan, durationMs) },
      });
      await Promise.race([delay(durationMs), over]);
      if (made.status !== 201) return false;
      if (plan.mode !== 'once') await this.#thaw(made.body?.id as string);
      return true;
    } finally {
      this.#frozen.delete(reason);
    }
  }

  async #thaw(id: string): Promise<void> {
    await this.#caller.call({
      client: 'operator',
      op: 'thaw',
      method: 'DELETE',
      path: `/freezes/${id}?reason=${encodeURIComponent('the chaos run ends it')}`,
    });
  }

  /** Takes away freezes nobody wants any more: those that have ended, and those whose answer was lost. */
  async thawStrays(): Promise<void> {
    const { status, body } = await this.#caller.call({
      client: 'operator',
      op: 'freezes',
      method: 'GET',
      path: '/freezes',
      patienceMs: 5_000,
    });
    if (status !== 200) return;
    const strays = ((body?.freezes ?? []) as Freeze[]).filter(({ reason }) => !this.#frozen.has(reason));
    for (const { id } of strays) await this.#thaw(id);
  }

  /** Lets regions that are held for correlated scale-in go on. */
  async releaseHolds(): Promise<void> {
    const { status, body } = await this.#caller.call({
      client: 'operator',
      op: 'protection',
      method: 'GET',
      path: '/protection',
      patienceMs: 5_000,
    });
    if (status !== 200) return;
    for (const { scope } of (body?.holds ?? []) as { scope: string }[])
      await this.#caller.call({
        client: 'operator',
        op: 'release-hold',
        method: 'POST',
        path: `/fleet-holds/${encodeURIComponent(scope)}/release`,
        body: { reason: 'the chaos run has looked', quiet_seconds: quietSeconds },
      });
  }

  /** Releases what a request from a frozen API process stopped again, long after it was sent. @returns their number. */
  async releaseStrays(): Promise<number> {
    const { status, body } = await this.#caller.call({
      client: 'operator',
      op: 'controls',
      method: 'GET',
      path: '/controls',
      patienceMs: 5_000,
    });
    if (status !== 200) return 0;
    const strays = ((body?.controls ?? []) as Control[]).filter(
      ({ scope, state }) => state === 'stopped' && !this.#wanted.has(scope),
    );
    for (const { scope } of strays) await this.#release(scope);
    return strays.length;
  }

  async #stop(scope: string): Promise<boolean> {
    const { status } = await this.#control(scope, { stopped: true, reason: 'the chaos run stops it' });
    return status === 200;
  }

  /** Both steps; the code of the first may be overtaken by a stop that comes late, and is asked for again then. */
  async #release(scope: string): Promise<void> {
    for (let tried = 0; tried < 3; tried++) {
      const body = { stopped: false, reason: 'the chaos run releases it' };
      const asked = await this.#control(scope, body);
      if (asked.status !== 200) return;
      const released = await this.#control(scope, {
        ...body,
        release_code: asked.body?.release_code,
        observe_seconds: 0,
      });
      if (released.status === 200) return;
    }
  }

  async #control(scope: string, body: Readonly<Record<string, unknown>>) {
    return await this.#caller.call({
      client: 'operator',
      op: 'control',
      method: 'PUT',
      path: `/controls/${encodeURIComponent(scope)}`,
      body,
    });
  }

  /** What all resources of a scope together may change. */
  async limitFleet(scope: string, limits: Readonly<Record<string, unknown>>): Promise<void> {
    const { status, body } = await this.#caller.call({
      client: 'operator',
      op: 'limit',
      method: 'PUT',
      path: `/fleet-limits/${encodeURIComponent(scope)}`,
      body: { reason: 'the chaos run sets it', ...limits },
    });
    if (status !== 200) throw new Error(`${scope} was not limited: ${status} ${JSON.stringify(body)}`);
  }

  /** Changes a policy under its ETag, reading it again when somebody was faster. */
  async patch(resourceId: string, change: Readonly<Record<string, unknown>>): Promise<boolean> {
    for (let tried = 0; tried < patchTries; tried++) {
      if (tried > 0) await delay(patchPauseMs);
      const read = await this.#caller.call({
        client: 'operator',
        op: 'read',
        method: 'GET',
        path: `/resources/${resourceId}`,
      });
      if (read.status !== 200) continue;
      const written = await this.#caller.call({
        client: 'operator',
        op: 'patch',
        method: 'PATCH',
        path: `/resources/${resourceId}`,
        body: change,
        headers: { 'if-match': String(read.headers.etag) },
        patienceMs: 0,
      });
      if (written.status === 200) return true;
    }
    return false;
  }

  /** @returns the new resource's id. */
  async register(resource: Readonly<Record<string, unknown>>): Promise<string> {
    const { status, body } = await this.#caller.call({
      client: 'operator',
      op: 'register',
      method: 'POST',
      path: '/resources',
      body: resource,
      key: randomUUID(),
    });
    if (status !== 201) throw new Error(`a resource was not registered: ${status} ${JSON.stringify(body)}`);
    return body?.id as string;
  }
}

/** The window that freezes from now on, as the API takes it. A scheduled one depends on its time zone being understood. */
function windowOf({ mode, zone }: FreezePlan, durationMs: number): Readonly<Record<string, unknown>> {
  const now = Date.now();
  if (mode !== 'scheduled')
    return {
      // Of one that is taken away the end lies far off: it is not what ends it.
      starts_at: new Date(now - 1_000).toISOString(),
      ends_at: new Date(now + (mode === 'once' ? durationMs : 3_600_000)).toISOString(),
    };
  const clock = new Intl.DateTimeFormat('en-GB', {
    timeZone: zone,
    hour: 'numeric',
    minute: 'numeric',
    hourCycle: 'h23',
  });
  const [hour, minute] = clock.format(now).split(':').map(Number);
  return { schedule: `${minute} ${hour} * * *`, time_zone: zone, duration_minutes: scheduledMinutes };
}
