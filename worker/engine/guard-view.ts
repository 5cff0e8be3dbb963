import type { ObservedObject } from './types.ts';

/**
 * What the guards look at. Executing reads it from the database under the locks of the intent, deciding fills in what
 * its inputs tell. Times are epoch milliseconds.
 */
export interface GuardView {
  readonly from: number;
  readonly target: number;
  /** What only an execution knows; null while deciding. */
  readonly execution: ExecutionFacts | null;
  /** The stop in force, whoever set it. */
  readonly stop: { readonly scope: string; readonly reason: string } | null;
  /** Of the change's direction; in the past, or null, when there is none. Infinity: until somebody ends it. */
  readonly pausedUntilMs: number | null;
  readonly nowMs: number;
  /** Of the change's direction. */
  readonly cooldown: { readonly leftMs: number; readonly periodMs: number };
  /** Changes in the last hour. */
  readonly rate: { readonly changes: number; readonly limit: number; readonly freesAtMs: number | null };
  /** Changes of direction in the last half hour, this one included. */
  readonly reversals: {
    readonly count: number;
    readonly limit: number | undefined;
    readonly freesAtMs: number | null;
  };
  readonly fleet: FleetFacts;
  /** What is known to block the cloud object. Empty when executing: then the look itself has been asked. */
  readonly blocks: ObservedObject['blocks'];
}

export interface ExecutionFacts {
  /** Shared by all workers: calls to the region or cluster are held. */
  readonly circuitOpen: boolean;
  /** Why the key that asked may not touch the resource. */
  readonly forbidden: string | null;
  readonly decisionState: string;
  readonly expired: boolean;
  /** Another attempt of the resource is open or unknown. */
  readonly attemptOpen: boolean;
  /** A newer decision of the resource has an attempt. */
  readonly newerAttempted: boolean;
  /** The resource was changed since the decision was loaded. */
  readonly epochMoved: boolean;
  readonly bounds: { readonly min: number; readonly max: number };
  /** The cloud object's own. */
  readonly cloudBounds: { readonly min: number; readonly max: number | null };
  /** The most that may change at once in this direction. */
  readonly step: number;
  /** Until when a write whose answer was lost, though its size was seen, may still arrive. */
  readonly settlesAtMs: number | null;
}

/** What holds or limits all resources of a region, cluster, provider or fleet. */
export interface FleetFacts {
  readonly everyWorkerStopped: boolean;
  /** The freeze window in force, by direction. */
  readonly freezes: readonly {
    readonly direction: 'up' | 'down';
    readonly id: string;
    readonly scope: string;
    readonly reason: string;
    readonly untilMs: number;
  }[];
  readonly hold: {
    readonly scope: string;
    readonly wanting: number;
    readonly resources: number;
    readonly untilMs: number;
    /** The same as ISO 8601. */
    readonly until: string;
  } | null;
  /** Only while deciding: an execution waits for the circuit. */
  readonly circuit: {
    readonly scope: string;
    readonly lastCode: string | null;
    readonly untilMs: number;
  } | null;
  readonly budgets: readonly {
    readonly what: 'scale-in' | 'change';
    readonly scope: string;
    readonly left: number;
    readonly used: number;
    readonly limit: number;
    readonly windowSeconds: number;
    readonly freesAtMs: number | null;
  }[];
}
