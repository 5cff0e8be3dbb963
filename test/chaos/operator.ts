import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { ServiceCaller } from './service-caller.ts';

interface Control {
  readonly scope: string;
  readonly stopped: boolean;
}

/** Whoever runs the service: stops and releases scopes, pauses resources, changes their bounds. All through REST. */
export class Operator {
  readonly #caller: ServiceCaller;
  /** Scopes that somebody wants stopped right now. */
  readonly #wanted = new Set<string>();

  constructor(caller: ServiceCaller) {
    this.#caller = caller;
  }

  async stopFor(scope: string, durationMs: number, over: Promise<unknown>): Promise<boolean> {
    this.#wanted.add(scope);
    try {
      const stopped = await this.#set(scope, true);
      await Promise.race([delay(durationMs), over]);
      return stopped;
    } finally {
      this.#wanted.delete(scope);
      await this.#set(scope, false);
    }
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
      ({ scope, stopped }) => stopped && !this.#wanted.has(scope),
    );
    for (const { scope } of strays) await this.#set(scope, false);
    return strays.length;
  }

  async #set(scope: string, stopped: boolean): Promise<boolean> {
    const { status } = await this.#caller.call({
      client: 'operator',
      op: 'control',
      method: 'PUT',
      path: `/controls/${encodeURIComponent(scope)}`,
      body: { stopped, reason: stopped ? 'the chaos run stops it' : 'the chaos run releases it' },
    });
    return status === 200;
  }

  /** Changes a policy under its ETag, reading it again when somebody was faster. */
  async patch(resourceId: string, change: Readonly<Record<string, unknown>>): Promise<boolean> {
    for (let tried = 0; tried < 10; tried++) {
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
