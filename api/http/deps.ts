import type pg from 'pg';
import type { Logger } from '../../shared/observability/logger.ts';
import type { Metrics } from '../../shared/observability/metrics.ts';
import type { RedisConnection } from '../../shared/queues/connections.ts';
import type { Queues } from '../../shared/queues/queues.ts';
import type { AuditTrail } from '../audit/audit-trail.ts';
import type { ApiConfig } from '../config.ts';
import type { JobIntake } from '../jobs/job-intake.ts';
import type { JobWaiters } from '../jobs/job-waiters.ts';

/** Dependencies of the routes; built in compose.ts. */
export interface Deps {
  readonly config: Readonly<ApiConfig>;
  readonly pool: pg.Pool;
  readonly redis: RedisConnection;
  readonly queues: Queues;
  readonly intake: JobIntake;
  readonly waiters: JobWaiters;
  readonly auditTrail: AuditTrail;
  readonly logger: Logger;
  readonly metrics: Metrics;
}
