import { join } from 'node:path';
import pg from 'pg';
import { Journal } from './journal.ts';

const ms = (column: string) =>
  `case when isfinite(${column}) then (extract(epoch from ${column}) * 1000)::double precision end`;

/** What the checker reads of PostgreSQL: one file a table, one row a line. Times are epoch milliseconds with fractions. */
const tables: Readonly<Record<string, string>> = {
  resources: `select id, name, cloud_provider as provider, region, cluster, min_instances as min, max_instances as max, max_scale_up_step as up_step,
    max_scale_down_step as down_step, cooldown_period as cooldown, coalesce(scale_down_cooldown, cooldown_period) as down_cooldown,
    max_actions_per_hour as hourly, max_reversals_per_half_hour as reversals, decision_interval from resources`,
  jobs: `select id, kind, resource_id, decision_id, status, outcome, fence, dispatch_seq, request_id, ${ms('created_at')} as created,
    ${ms('finished_at')} as finished, error->>'code' as code from jobs`,
  decisions: `select id, job_id, resource_id, seq, decision_type as type, reason_code as reason, current_instances as "from", target_instances as target, state, executed,
    ${ms('created_at')} as created, ${ms('expires_at')} as expires from scaling_decisions`,
  attempts: `select id, decision_id, resource_id, job_id, no, epoch, from_instances as "from", target_instances as target, action, state,
    ${ms('intent_at')} as intent, ${ms('settle_after')} as settle, ${ms('effect_at')} as effect, fence from attempts`,
  events: `select seq, resource_id, decision_id, attempt_id, phase, outcome, action, previous_instances as previous, new_instances as next, success,
    actor, ${ms('created_at')} as at from scaling_events`,
  samples: `select resource_id, json_agg(${ms('timestamp')} order by timestamp) as at from metric_samples group by resource_id`,
};

const pageRows = 5_000;

/** Writes the tables as one moment saw them. */
export async function dumpTables(url: string, directory: string): Promise<void> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    await client.query('begin isolation level repeatable read read only');
    for (const [name, sql] of Object.entries(tables)) {
      const journal = new Journal(join(directory, `table-${name}.ndjson`));
      await client.query(`declare page no scroll cursor for ${sql}`);
      for (;;) {
        const { rows } = await client.query(`fetch ${pageRows} from page`);
        for (const row of rows) journal.write(row);
        if (rows.length < pageRows) break;
      }
      await client.query('close page');
    }
    await client.query('commit');
  } finally {
    await client.end();
  }
}
