import type { Scope } from '../../shared/domain/api-key.ts';
import { ScalerError } from '../../shared/errors.ts';
import { addressBlock } from '../http/address-block.ts';
import type { Deps } from '../http/deps.ts';
import type { KeyRow } from '../keys/keys-store.ts';
import { Authenticator } from './authenticate.ts';
import { RateLimit, tooManyRequests } from './rate-limit.ts';

/**
 * Authentication, authorization by scope, and rate limits: requests by key and scope, failed authentications by
 * address.
 */
export class Admission {
  readonly #authenticator: Authenticator;
  readonly #byKey: RateLimit;
  readonly #failedByAddress: RateLimit;

  constructor(deps: Deps) {
    const { QUEUE_PREFIX, RATE_LIMIT_PER_MINUTE, FAILED_AUTH_PER_MINUTE, API_REPLICAS, API_KEY_PEPPER } =
      deps.config;
    const limit = (name: string, perMinute: number) =>
      new RateLimit(deps.redis, `${QUEUE_PREFIX}:limit:${name}`, perMinute, API_REPLICAS);
    this.#authenticator = new Authenticator(deps.pool, API_KEY_PEPPER);
    this.#byKey = limit('key', RATE_LIMIT_PER_MINUTE);
    this.#failedByAddress = limit('failed', FAILED_AUTH_PER_MINUTE);
  }

  /**
   * @param onAuthenticated gets the key's id before anything else can refuse the request, so that the refusal can
   *   name it.
   * @throws ScalerError 401, 403 or 429; 503 while PostgreSQL is away.
   */
  async admit(
    header: string | undefined,
    ip: string | undefined,
    scope: Scope,
    onAuthenticated: (keyId: string) => void,
  ): Promise<KeyRow> {
    const address = addressBlock(ip);
    // Guesses from an address must neither lock out a good key behind it, nor cost a query each.
    if (this.#failedByAddress.isExhausted(address) && !this.#authenticator.wasRecentlyUsed(header))
      throw tooManyRequests(1_000);
    const key = await this.#authenticate(header, address);
    onAuthenticated(key.id);
    // By scope, so that a client that reads too much can still stop or execute.
    await this.#byKey.consume(`${key.id}:${scope}`);
    if (key.scopes.includes(scope)) return key;
    throw new ScalerError({
      code: 'forbidden',
      message: `This key lacks the scope ${scope}: use one that has it.`,
      retry: 'never',
      httpStatus: 403,
    });
  }

  /** Whether the key is neither revoked nor expired. @throws DependencyUnavailable while PostgreSQL is away. */
  async isLive(keyId: string): Promise<boolean> {
    return await this.#authenticator.isLive(keyId);
  }

  async #authenticate(header: string | undefined, address: string): Promise<KeyRow> {
    try {
      return await this.#authenticator.authenticate(header);
    } catch (error) {
      if (error instanceof ScalerError && error.httpStatus === 401)
        await this.#failedByAddress.consume(address);
      throw error;
    }
  }
}
