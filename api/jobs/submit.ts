import { randomUUID } from 'node:crypto';
import type { JobRow } from '../../shared/domain/job.ts';
import { InvalidInput, InvariantBroken, ScalerError } from '../../shared/errors.ts';
import type { Deps } from '../http/deps.ts';
import type { RouteRequest, RouteResponse } from '../http/route.ts';
import type { NewJob, Submission } from './job-intake.ts';

const maxWaitSeconds = 30;
const jobDeadlineMs = 15 * 60_000;

/** Seconds the client is ready to wait (RFC 7240, `Prefer: wait=N`), at most 30; 0 when it does not say. */
export function preferredWaitSeconds(header: string | undefined): number {
  const match = /(?:^|[,;]\s*)wait\s*=\s*"?(\d{1,6})"?\s*(?:$|[,;])/i.exec(header ?? '');
  return match === null ? 0 : Math.min(maxWaitSeconds, Number(match[1]));
}

/** The job a request asks for, with the request's actor, ids and idempotency key. */
export function jobFor(
  request: RouteRequest,
  values: Pick<NewJob, 'kind' | 'queue' | 'resource_id' | 'decision_id' | 'input'>,
): NewJob {
  return {
    ...values,
    id: randomUUID(),
    notify: preferredWaitSeconds(request.raw.get('prefer')) > 0,
    deadlineMs: jobDeadlineMs,
    actor_key_id: request.keyId,
    request_id: request.requestId,
    remote_address: request.remoteAddress,
    ...(request.idempotency === null ? {} : { idempotency: request.idempotency }),
  };
}

export interface SubmitOptions {
  /** Instead of what the client prefers. */
  readonly waitSeconds?: number;
  /** Runs when the job has been accepted, before anything is answered. */
  readonly afterSubmit?: (submission: Submission) => Promise<void>;
}

/**
 * Submits a job, and answers with `answerSubmission`.
 * @throws InvalidInput (422) for a reused Idempotency-Key; what `JobIntake.submit` throws; the job's own error.
 */
export async function submitAndAnswer(
  deps: Deps,
  request: RouteRequest,
  job: NewJob,
  { afterSubmit, waitSeconds }: SubmitOptions = {},
): Promise<RouteResponse> {
  const submission = await deps.intake.submit(job);
  await afterSubmit?.(submission);
  return await answerSubmission(deps, request, submission, waitSeconds);
}

/**
 * 202 with the job's address, or, when the client waits and the job is done in time, 200 with its result.
 * @throws InvalidInput (422) for a reused Idempotency-Key; ScalerError with the job's own error when it failed in
 *   time.
 */
export async function answerSubmission(
  deps: Deps,
  request: RouteRequest,
  submission: Submission,
  waitSeconds: number = preferredWaitSeconds(request.raw.get('prefer')),
): Promise<RouteResponse> {
  if (submission.kind === 'body_mismatch') throw idempotencyKeyReused();
  const replayed: Record<string, string> =
    submission.kind === 'replayed' ? { 'Idempotent-Replayed': 'true' } : {};
  const statusUrl = `/jobs/${submission.jobId}`;
  if (waitSeconds > 0) {
    const job = await deps.waiters.wait(submission.jobId, waitSeconds * 1_000);
    const applied = {
      ...replayed,
      'Preference-Applied': `wait=${waitSeconds}`,
      'Content-Location': statusUrl,
    };
    if (job?.status === 'completed') return { status: 200, body: job.result, headers: applied };
    if (job?.status === 'failed') throw jobFailure(job);
  }
  return {
    status: 202,
    body: { job_id: submission.jobId, status: 'queued', status_url: statusUrl },
    headers: { ...replayed, Location: statusUrl },
  };
}

export function idempotencyKeyReused(): InvalidInput {
  return new InvalidInput(
    'idempotency_key_reused',
    'This Idempotency-Key was used with another body: take a new key for a new request.',
    { httpStatus: 422 },
  );
}

function jobFailure(job: Pick<JobRow, 'id' | 'error'>): ScalerError {
  if (job.error === null) return new InvariantBroken('a failed job has no reason');
  const { code, message, http_status, context } = job.error;
  // A cloud's failure is not this request's 5xx: the request was accepted, and the job is recorded.
  const httpStatus = http_status >= 500 ? 424 : http_status;
  return new ScalerError({
    code,
    message,
    retry: 'never',
    httpStatus,
    context: { ...context, job_id: job.id },
  });
}
