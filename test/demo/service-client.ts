/** The little of an HTTP client that a user of the service would write. */
export class ServiceClient {
  readonly #baseUrl: string;
  readonly #key: string;

  constructor(baseUrl: string, key: string) {
    this.#baseUrl = baseUrl;
    this.#key = key;
  }

  /** @throws Error with the problem's code and detail when the answer is not 2xx. */
  async call<T>(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<{ status: number; body: T; ms: number }> {
    const startedAt = performance.now();
    const response = await fetch(`${this.#baseUrl}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${this.#key}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(40_000),
    });
    const text = await response.text();
    const ms = performance.now() - startedAt;
    const parsed = (text === '' ? null : JSON.parse(text)) as T;
    if (!response.ok) {
      const problem = parsed as { code?: string; detail?: string } | null;
      throw new ServiceRefusal(response.status, problem?.code ?? 'unknown', problem?.detail ?? text);
    }
    return { status: response.status, body: parsed, ms };
  }
}

/** An answer that the client did not ask for, with its status and code. */
export class ServiceRefusal extends Error {
  readonly status: number;
  readonly code: string;
  constructor(status: number, code: string, detail: string) {
    super(`${status} ${code}: ${detail}`);
    this.status = status;
    this.code = code;
  }
}
