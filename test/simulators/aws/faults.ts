import type { FaultRule, FaultScript, TransportEffect } from '../core/fault-script.ts';
import type { ExternalChange } from './external.ts';

export type AwsEffect =
  | TransportEffect
  /** Somebody else changes the request's group (or `group`), just before the action or just after it. */
  | {
      readonly kind: 'external';
      readonly change: ExternalChange;
      readonly when: 'before' | 'after';
      readonly group?: string;
    };

export type AwsFaultRule = FaultRule<AwsEffect>;
export type AwsFaultScript = FaultScript<AwsEffect>;
