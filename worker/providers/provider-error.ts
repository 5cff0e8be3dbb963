import { type ErrorDetails, type RetryClass, ScalerError } from '../../shared/errors.ts';

/**
 * What a failed provider call means for the write it belonged to. Only `unknown` may have been applied.
 */
export type ProviderFault =
  | 'throttled' // not applied; postpone without spending an attempt
  | 'conflict' // not applied; somebody else moved the object: re-read
  | 'permanent' // not applied; the cloud refuses this request
  | 'identity' // not applied; credentials or permissions
  | 'fenced' // not applied; our own fence refused a late write
  | 'pre_send' // not applied; the request never left
  | 'unavailable' // a read failed; nothing was to be applied
  | 'unknown'; // may or may not have been applied

const faultRetry: Record<ProviderFault, RetryClass> = {
  throttled: 'after',
  conflict: 'backoff',
  permanent: 'never',
  identity: 'never',
  fenced: 'backoff',
  pre_send: 'backoff',
  unavailable: 'backoff',
  unknown: 'backoff',
};

/** A provider call that failed, classified once, where the SDK's error entered. */
export class ProviderError extends ScalerError {
  readonly fault: ProviderFault;
  constructor(fault: ProviderFault, code: string, message: string, details: ErrorDetails = {}) {
    super({ ...details, code, message, retry: faultRetry[fault], httpStatus: 502 });
    this.fault = fault;
  }
}
