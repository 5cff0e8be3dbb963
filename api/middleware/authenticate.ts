import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { databaseError } from '../../shared/db/pool.ts';
import { ScalerError } from '../../shared/errors.ts';
import { equalInConstantTime, hashSecret, parseKey } from '../keys/api-key.ts';
import { findLiveKey, type KeyRow, recordKeyUse } from '../keys/keys-store.ts';

/** A revoked key works for no longer than this. */
const cacheMs = 5_000;
const cacheSize = 10_000;
const nobody = randomBytes(32);

/** Checks keys against PostgreSQL. PostgreSQL away is 503, never a pass. */
export class Authenticator {
  readonly #pool: pg.Pool;
  readonly #pepper: string;
  readonly #cache = new Map<
    string,
    { readonly row: (KeyRow & { secret_hash: Buffer }) | null; readonly until: number }
  >();

  /** When a key was last noted as used, by the monotonic clock. */
  readonly #usedAt = new Map<string, number>();
  readonly #asking = new Map<string, Promise<(KeyRow & { secret_hash: Buffer }) | null>>();

  constructor(pool: pg.Pool, pepper: string) {
    this.#pool = pool;
    this.#pepper = pepper;
  }

  /** True for a key whose id was valid not long ago here: it is looked up whatever its neighbours do. */
  isFamiliar(header: string | undefined): boolean {
    const id = presentedKeyId(header);
    return id !== null && this.#usedAt.has(id);
  }

  async isLive(id: string): Promise<boolean> {
    const row = await this.#find(id);
    return row !== null && Date.parse(row.expires_at) >= Date.now();
  }

  /** @returns the key's row. @throws ScalerError 401. */
  async authenticate(header: string | undefined): Promise<KeyRow> {
    const token = tokenOf(header);
    if (token === undefined) throw unauthenticated('Send an API key: Authorization: Bearer as_live_…');
    const parsed = parseKey(token);
    // The same work for a key that is not one, so that timing tells nothing.
    const row = parsed === null ? null : await this.#find(parsed.id);
    const matches = equalInConstantTime(
      row?.secret_hash ?? nobody,
      hashSecret(parsed?.secret ?? '', this.#pepper),
    );
    if (row === null || !matches || Date.parse(row.expires_at) < Date.now()) {
      throw unauthenticated('The API key is not valid, or has expired or been revoked.');
    }
    this.#noteUse(row.id);
    return row;
  }

  /** Once a minute and key, and nobody waits for it. */
  #noteUse(id: string): void {
    const now = performance.now();
    if (now - (this.#usedAt.get(id) ?? Number.NEGATIVE_INFINITY) < 60_000) return;
    if (this.#usedAt.size >= cacheSize) this.#usedAt.clear();
    this.#usedAt.set(id, now);
    void recordKeyUse(this.#pool, id).catch(() => {});
  }

  async #find(id: string) {
    const now = performance.now();
    const cached = this.#cache.get(id);
    if (cached !== undefined && cached.until > now) return cached.row;
    // Those who come meanwhile share the answer: a busy key is one question every five seconds, not hundreds at once.
    let asking = this.#asking.get(id);
    if (asking === undefined) {
      asking = this.#ask(id, now).finally(() => this.#asking.delete(id));
      this.#asking.set(id, asking);
    }
    return await asking;
  }

  async #ask(id: string, now: number) {
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

/** The id in a well-formed key, whether it is one of ours or not. */
export function presentedKeyId(header: string | undefined): string | null {
  const token = tokenOf(header);
  return token === undefined ? null : (parseKey(token)?.id ?? null);
}

function unauthenticated(message: string): ScalerError {
  return new ScalerError({ code: 'unauthenticated', message, retry: 'never', httpStatus: 401 });
}
