import { z } from 'zod';
import { workerVersion } from '../../shared/domain/worker-version.ts';

const workerVersionSchema = z.int().min(1);
export const minWorkerVersionBody = z.strictObject({
  min_worker_version: workerVersionSchema.max(
    workerVersion,
    `must be at most ${workerVersion}, the version of this release's workers: upgrade the API and the workers first`,
  ),
  reason: z.string().min(3).max(500),
});
export const minWorkerVersionSchema = z
  .object({
    min_worker_version: workerVersionSchema,
    reason: z.string(),
    actor: z.string(),
    updated_at: z.string(),
    release_worker_version: workerVersionSchema.describe("What this release's workers are"),
    workers: z.array(
      z.object({
        worker_id: z.string(),
        queues: z.array(z.string()),
        age_seconds: z.number().describe('Since it last reported'),
        worker_version: workerVersionSchema,
        outdated: z.boolean(),
        stopped: z.boolean().describe('By SCALER_STOP in its environment'),
      }),
    ),
  })
  .meta({ id: 'MinWorkerVersion' });
