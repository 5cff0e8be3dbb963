import type { StepReport, Totals } from './scaled-workload.ts';
import { percentile } from './trace.ts';

export const tableHead = [
  'trace time        workload    demand ready  current -> target  $/h       ms   why',
  '----------------- ----------- ------ -----  -----------------  -------  ----  ---',
].join('\n');

export function tableRow(report: StepReport): string {
  const { decision } = report;
  const move = `${String(decision.current_instances).padStart(3)} -> ${String(decision.target_instances).padEnd(3)}`;
  const arrow =
    decision.decision_type === 'scaleup' ? '▲' : decision.decision_type === 'scaledown' ? '▼' : ' ';
  const ms = Math.round(report.decideMs + (report.executeMs ?? 0));
  const refused =
    report.executed === 'yes' || report.executed === 'no' ? '' : ` [not executed: ${report.executed}]`;
  return [
    report.at.padEnd(17),
    report.workload.padEnd(11),
    report.demand.toFixed(1).padStart(6),
    String(report.ready).padStart(5),
    ` ${move} ${arrow}       `,
    decision.estimated_cost.toFixed(4).padStart(7),
    String(ms).padStart(5),
    ` ${decision.reason}${refused}`,
  ].join(' ');
}

export function summary(totals: readonly Totals[], seconds: number): string {
  const lines = totals.map((total) =>
    [
      `  ${total.name.padEnd(11)}`,
      `${total.breaches} of ${total.steps} steps above 90 % utilisation`,
      `${total.instanceSteps.toFixed(1)} instance-hours`,
      `$${total.cost.toFixed(2)}`,
      `${total.actions} actions`,
    ].join(' · '),
  );
  const decide = totals.flatMap((total) => total.decideMs);
  const execute = totals.flatMap((total) => total.executeMs);
  const jobs = totals.reduce((sum, total) => sum + total.jobs, 0);
  const ms = (values: readonly number[], p: number) => `${percentile(values, p).toFixed(1)} ms`;
  return [
    "Summary (instance-hours and cost in the trace's own time)",
    ...lines,
    `  ${jobs} jobs in ${seconds.toFixed(0)} s · decide p50 ${ms(decide, 50)}, p99 ${ms(decide, 99)} · execute p50 ${ms(execute, 50)}, p99 ${ms(execute, 99)} (request to result, over REST)`,
  ].join('\n');
}
