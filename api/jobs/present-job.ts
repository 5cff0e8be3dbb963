import type { JobRow } from '../../shared/domain/job.ts';

/** A job as the API shows it: without its queue, and with `available_at` only while it is retrying. */
export function presentJob(job: JobRow): Record<string, unknown> {
  const { queue: _queue, available_at, ...rest } = job;
  return { ...rest, ...(job.status === 'retrying' ? { available_at } : {}) };
}
