import { code, generatedNotice, plain, table } from './markdown.ts';
import { closingAt, literalAt, readSources, type Source } from './sources.ts';

interface Metric {
  readonly name: string;
  readonly type: string;
  readonly labels: readonly string[];
  readonly help: string;
  readonly process: string;
}

export function metricsPage(): string {
  const metrics = readSources('api', 'worker', 'shared').flatMap(metricsOf);
  metrics.sort((one, other) => (one.name < other.name ? -1 : 1));
  const rows = metrics.map(({ name, type, labels, help, process }) => [
    code(name),
    type,
    labels.map(code).join(', '),
    process,
    plain(help),
  ]);
  return `# Metrics

${generatedNotice}

In Prometheus' text format: the API's at \`GET /metrics\` (scope \`read\`), a worker's at \`/metrics\` on
\`WORKER_METRICS_PORT\`. No label has a resource's id. The usual \`process_*\` and \`nodejs_*\` metrics of prom-client
are there, too. A histogram has \`_bucket\`, \`_sum\` and \`_count\`.

${table(['metric', 'type', 'labels', 'of', 'meaning'], rows)}
`;
}

function metricsOf({ file, text }: Source): Metric[] {
  const process = file.startsWith('api/') ? 'API' : file.startsWith('worker/') ? 'worker' : 'both';
  return [...text.matchAll(/new (Counter|Gauge|Histogram|Summary)\(\{/g)].map((match) => {
    const open = match.index + match[0].length - 1;
    const options = text.slice(open, closingAt(text, open));
    const string = (field: string) => {
      const found = new RegExp(`\\b${field}:\\s*(?=['"\`])`).exec(options);
      const value = found === null ? null : literalAt(options, found.index + found[0].length);
      if (value === null) throw new Error(`${file}: a metric has no literal ${field}`);
      return value;
    };
    const labels = /labelNames: \[([^\]]*)\]/.exec(options)?.[1] ?? '';
    return {
      name: string('name'),
      type: (match[1] as string).toLowerCase(),
      labels: [...labels.matchAll(/'(\w+)'/g)].map(([, label]) => label as string),
      help: string('help'),
      process,
    };
  });
}
