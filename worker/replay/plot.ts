import { limit, type Run } from './plant.ts';
import type { Trace } from './trace.ts';

const width = 1_600;
const height = 640;
const margin = { left: 56, right: 16, top: 44, bottom: 40 };
/** More points than pixels only make the file larger: columns show the highest of their steps. */
const columns = width - margin.left - margin.right;

/** Draws demand, the capacity that keeps it within the limit, the forecast's bound and the changes, as SVG. */
export function plotRun(trace: Trace, run: Run, title: string): string {
  const steps = trace.demand.length;
  const capacity = Float64Array.from(run.ready, (ready) => ready * limit);
  const bands = run.upper.filter((value) => !Number.isNaN(value));
  const top = Math.max(1, max(trace.demand), max(capacity), Math.min(max(bands), 2 * max(trace.demand)));
  const x = (step: number) => margin.left + (step / Math.max(1, steps - 1)) * columns;
  const y = (value: number) =>
    height - margin.bottom - (Math.min(value, top) / top) * (height - margin.top - margin.bottom);
  const line = (values: ArrayLike<number>) =>
    columnsOf(values, steps)
      .map(([step, value], index) => `${index === 0 ? 'M' : 'L'}${x(step).toFixed(1)},${y(value).toFixed(1)}`)
      .join('');
  const ticks = Array.from({ length: 5 }, (_, index) => (top * index) / 4);
  const dates = Array.from({ length: 8 }, (_, index) => Math.round(((steps - 1) * index) / 7));
  const actions = [...run.changed.keys()].filter((step) => run.changed[step] === 1);
  const breaches = [...trace.demand.keys()].filter(
    (step) => (trace.demand[step] as number) > (capacity[step] as number) + 1e-12,
  );
  const at = (step: number) =>
    new Date(trace.startMs + step * trace.stepMs).toISOString().slice(5, 16).replace('T', ' ');
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="13">
<title>${escapeXml(title)}</title>
<rect width="${width}" height="${height}" fill="#fff"/>
<text x="${margin.left}" y="20" font-size="16">${escapeXml(title)}</text>
${legend()}
${ticks.map((value) => `<path d="M${margin.left},${y(value)}H${width - margin.right}" stroke="#e4e4e4"/><text x="${margin.left - 8}" y="${y(value) + 4}" text-anchor="end" fill="#555">${value.toFixed(1)}</text>`).join('\n')}
${dates.map((step) => `<text x="${x(step).toFixed(0)}" y="${height - 14}" text-anchor="${step === steps - 1 ? 'end' : 'middle'}" fill="#555">${at(step)}</text>`).join('\n')}
<path d="${line(run.upper)}" fill="none" stroke="#c9a227" stroke-width="1" opacity=".8"/>
<path d="${line(capacity)}" fill="none" stroke="#1769aa" stroke-width="1.4"/>
<path d="${line(trace.demand)}" fill="none" stroke="#444" stroke-width="1"/>
${thin(actions)
  .map((step) => `<path d="M${x(step).toFixed(1)},${height - margin.bottom}v6" stroke="#1769aa"/>`)
  .join('')}
${thin(breaches)
  .map(
    (step) =>
      `<circle cx="${x(step).toFixed(1)}" cy="${y(trace.demand[step] as number).toFixed(1)}" r="2.2" fill="#c62828"/>`,
  )
  .join('')}
</svg>
`;
}

function legend(): string {
  const entries: [string, string][] = [
    ['#444', 'demand'],
    ['#1769aa', 'capacity at 90 % utilisation, and its changes'],
    ['#c9a227', "forecast's upper bound"],
    ['#c62828', 'breach'],
  ];
  let at = margin.left;
  return entries
    .map(([colour, text]) => {
      const part = `<rect x="${at}" y="28" width="14" height="4" fill="${colour}"/><text x="${at + 20}" y="36" fill="#333">${text}</text>`;
      at += 48 + text.length * 7;
      return part;
    })
    .join('');
}

/** The highest value of each column. */
function columnsOf(values: ArrayLike<number>, steps: number): [number, number][] {
  const perColumn = Math.max(1, steps / columns);
  const points: [number, number][] = [];
  for (let start = 0; start < steps; start += perColumn) {
    let most = Number.NaN;
    for (let step = Math.floor(start); step < Math.min(steps, start + perColumn); step++) {
      const value = values[step] as number;
      if (!Number.isNaN(value) && !(value <= most)) most = value;
    }
    if (!Number.isNaN(most)) points.push([start, most]);
  }
  return points;
}

/** At most one mark a pixel. */
function thin(steps: readonly number[]): readonly number[] {
  const every = Math.ceil(steps.length / columns);
  return every <= 1 ? steps : steps.filter((_, index) => index % every === 0);
}

function max(values: ArrayLike<number>): number {
  let most = 0;
  for (let index = 0; index < values.length; index++) most = Math.max(most, values[index] as number);
  return most;
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
