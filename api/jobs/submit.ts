import { randomUUID } from 'node:crypto';
import type { JobRow } from '../../shared/domain/job.ts';
import { InvalidInput, InvariantBroken, ScalerError } from '../../shared/errors.ts';
import type { Deps } from '../http/deps.ts';
import type { Answer, Call } from '../http/route.ts';
import type { NewJob, Submission } from './job-intake.ts';

const longestWaitSeconds = 30;
const decideDeadlineMs = 15 * 60_000;

/** RFC 7240: seconds the client is ready to wait, 0 when it does not say. */
export function preferredWait(header: string | undefined): number {
  const match = /(?:^|[,;]\s*)wait\s*=\s*"?(\d{1,6})"?\s*(?:$|[,;])/i.exec(header ?? '');
  return match === null ? 0 : Math.min(longestWaitSeconds, Number(match[1]));
}

/** The job a request asks for. */
export function jobFor(
  call: Call,
  values: Pick<NewJob, 'kind' | 'queue' | 'resource_id' | 'decision_id' | 'input'>,
): NewJob {
  return {
    ...values,
    id: randomUUID(),
    notify: preferredWait(call.raw.get('prefer')) > 0,
    deadlineMs: decideDeadlineMs,
    actor_key_id: call.keyId,
    request_id: call.requestId,
    remote_address: call.remoteAddress,
    ...(call.idempotency === null ? {} : { idempotency: call.idempotency }),
  };
}

/** 202 with the job's address, or, when the client waits and the job is done in time, its result. */
export async function answerSubmission(
  deps: Deps,
  call: Call,
  submission: Submission,
  wait: number = preferredWait(call.raw.get('prefer')),
): Promise<Answer> {
  if (submission.kind === 'body_mismatch') throw reusedKey();
  const replayed: Record<string, string> =
    submission.kind === 'replayed' ? { 'Idempotent-Replayed': 'true' } : {};
  const statusUrl = `/jobs/${submission.jobId}`;
  if (wait > 0) {
    const job = await deps.waiters.wait(submission.jobId, wait * 1_000);
    const applied = { ...replayed, 'Preference-Applied': `wait=${wait}`, 'Content-Location': statusUrl };
    if (job?.status === 'completed') return { status: 200, body: job.result, headers: applied };
    if (job?.status === 'failed') throw failureOf(job);
  }
  return {
    status: 202,
    body: { job_id: submission.jobId, status: 'queued', status_url: statusUrl },
    headers: { ...replayed, Location: statusUrl },
  };
}

export function reusedKey(): InvalidInput {
  return new InvalidInput(
    'idempotency_key_reused',
    'This Idempotency-Key was used with another body: take a new key for a new request.',
    { httpStatus: 422 },
  );
}

function failureOf(job: Pick<JobRow, 'id' | 'error'>): ScalerError {
  if (job.error === null) return new InvariantBroken('a failed job has no reason');
  const { code, message, http_status, context } = job.error;
  // What failed on the way to the cloud is not this request's 5xx: the job is recorded and can be looked at.
  const httpStatus = http_status >= 500 ? 424 : http_status;
  return new ScalerError({
    code,
    message,
    retry: 'never',
    httpStatus,
    context: { ...context, job_id: job.id },
  });
}

export function presentJob(job: JobRow): Record<string, unknown> {
  const { queue: _queue, available_at, ...rest } = job;
  return { ...rest, ...(job.status === 'retrying' ? { available_at } : {}) };
}
