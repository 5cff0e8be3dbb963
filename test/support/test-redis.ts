import { randomUUID } from 'node:crypto';
import { inject } from 'vitest';

export interface TestRedis {
  readonly url: string;
  /** This file's own key prefix. */
  readonly prefix: string;
}

/** The Redis of the run, with a key prefix that nobody else has. */
export function createTestRedis(): TestRedis {
  return { url: inject('redisUrl'), prefix: `{test-${randomUUID().slice(0, 8)}}` };
}
