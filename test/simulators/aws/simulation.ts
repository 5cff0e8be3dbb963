import type { AwsFaultScript } from './faults.ts';
import type { RateLimits } from './rate-limits.ts';
import type { SignaturePolicy } from './signature.ts';
import type { World } from './state.ts';

/** Everything one running simulator owns. */
export interface Simulation {
  readonly world: World;
  readonly faults: AwsFaultScript;
  readonly rateLimits: RateLimits;
  readonly signatures: SignaturePolicy;
  /** Real ms added to every answer, drawn between the two. */
  readonly latencyMs: { readonly from: number; readonly to: number };
  /** Runs `work` after real ms; forgotten when the simulator closes. */
  later(milliseconds: number, work: () => void): void;
}
