import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { databaseError } from '../../shared/db/pool.ts';
import { ScalerError } from '../../shared/errors.ts';
import { equalInConstantTime, hashSecret, parseKey } from '../keys/api-key.ts';
import { findLiveKey, type KeyRow, recordKeyUse } from '../keys/keys-store.ts';

/** How long a revoked key can still be accepted. */
const cacheMs = 5_000;
const cacheSize = 10_000;
/** Compared with when there is no such key, so that this takes as long as for a wrong secret. */
const decoyHash = randomBytes(32);
const recordUseEveryMs = 60_000;

/** Authenticates API keys against PostgreSQL, through a cache of 5 s. Fails closed: 503 while PostgreSQL is away. */
export class Authenticator {
  readonly #pool: pg.Pool;
  readonly #pepper: string;
  readonly #cache = new Map<
    string,
    { readonly row: (KeyRow & { secret_hash: Buffer }) | null; readonly until: number }
  >();

  /** When a key's use was last recorded, milliseconds of the monotonic clock. */
  readonly #useRecordedAt = new Map<string, number>();
  readonly #pending = new Map<string, Promise<(KeyRow & { secret_hash: Buffer }) | null>>();

  constructor(pool: pg.Pool, pepper: string) {
    this.#pool = pool;
    this.#pepper = pepper;
  }

  /** Whether this process has accepted a key of this id before. The secret is not checked. */
  wasRecentlyUsed(header: string | undefined): boolean {
    const id = presentedKeyId(header);
    return id !== null && this.#useRecordedAt.has(id);
  }

  /** Whether the key is neither revoked nor expired. @throws DependencyUnavailable while PostgreSQL is away. */
  async isLive(id: string): Promise<boolean> {
    const row = await this.#find(id);
    return row !== null && Date.parse(row.expires_at) >= Date.now();
  }

  /** @returns the key's row. @throws ScalerError 401, DependencyUnavailable while PostgreSQL is away. */
  async authenticate(header: string | undefined): Promise<KeyRow> {
    const token = tokenOf(header);
    if (token === undefined) throw unauthenticated('Send an API key: Authorization: Bearer as_live_…');
    const parsed = parseKey(token);
    // The same work for unknown and malformed keys, so that timing reveals nothing.
    const row = parsed === null ? null : await this.#find(parsed.id);
    const matches = equalInConstantTime(
      row?.secret_hash ?? decoyHash,
      hashSecret(parsed?.secret ?? '', this.#pepper),
    );
    if (row === null || !matches || Date.parse(row.expires_at) < Date.now()) {
      throw unauthenticated('The API key is not valid, or has expired or been revoked.');
    }
    this.#recordUse(row.id);
    return row;
  }

  /** In the background, once a minute and key. */
  #recordUse(id: string): void {
    const now = performance.now();
    if (now - (this.#useRecordedAt.get(id) ?? Number.NEGATIVE_INFINITY) < recordUseEveryMs) return;
    if (this.#useRecordedAt.size >= cacheSize) this.#useRecordedAt.clear();
    this.#useRecordedAt.set(id, now);
    void recordKeyUse(this.#pool, id).catch(() => {});
  }

  async #find(id: string) {
    const now = performance.now();
    const cached = this.#cache.get(id);
    if (cached !== undefined && cached.until > now) return cached.row;
    // Concurrent requests share one query: when a busy key's cache entry expires, hundreds ask at once.
    let pending = this.#pending.get(id);
    if (pending === undefined) {
      pending = this.#query(id, now).finally(() => this.#pending.delete(id));
      this.#pending.set(id, pending);
    }
    return await pending;
  }

  async #query(id: string, now: number) {
    try {
      const row = await findLiveKey(this.#pool, id);
      if (this.#cache.size >= cacheSize) this.#cache.clear();
      this.#cache.set(id, { row, until: now + cacheMs });
      return row;
    } catch (error) {
      throw databaseError(error);
    }
  }
}

function tokenOf(header: string | undefined): string | undefined {
  return /^Bearer ([\x21-\x7e]{1,200})$/i.exec(header ?? '')?.[1];
}

/** The id in a well-formed key, which need not exist. */
export function presentedKeyId(header: string | undefined): string | null {
  const token = tokenOf(header);
  return token === undefined ? null : (parseKey(token)?.id ?? null);
}

function unauthenticated(message: string): ScalerError {
  return new ScalerError({ code: 'unauthenticated', message, retry: 'never', httpStatus: 401 });
}
