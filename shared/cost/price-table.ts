import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { InvariantBroken } from '../errors.ts';
import { projectRoot } from '../project-root.ts';

export interface RegionPrices {
  /**
   * The day the region's prices were read from AWS, or the latest it can have been; `sources` in the file says which.
   */
  readonly dated: string;
  /** USD per hour as a decimal string, by instance type. */
  readonly hourlyByType: ReadonlyMap<string, string>;
}

export interface PriceTable {
  readonly currency: 'USD';
  /** Stands in for a region that does not list a type: it has the most. */
  readonly referenceRegion: string;
  readonly reference: RegionPrices;
  readonly regions: ReadonlyMap<string, RegionPrices>;
  readonly kubernetes: {
    readonly dated: string;
    readonly vcpuHour: string;
    readonly gibHour: string;
    readonly basis: string;
  };
  readonly defaults: {
    readonly aws: { readonly hourly: string; readonly basis: string };
    readonly kubernetes: { readonly vcpu: string; readonly gib: string; readonly basis: string };
  };
}

const price = z.string().regex(/^\d{1,9}\.\d{1,9}$/);
const file = z.strictObject({
  currency: z.literal('USD'),
  dated: z.iso.date(),
  reference_region: z.string(),
  sources: z.array(
    z.strictObject({
      id: z.string(),
      name: z.string(),
      url: z.url(),
      licence: z.string(),
      dated: z.iso.date(),
      note: z.string(),
      regions: z.array(z.string()),
    }),
  ),
  kubernetes: z.strictObject({
    vcpu_hour: price,
    gib_hour: price,
    dated: z.iso.date(),
    basis: z.string(),
    source: z.string(),
  }),
  default: z.strictObject({
    aws: z.strictObject({ hourly: price, basis: z.string() }),
    kubernetes: z.strictObject({ vcpu: price, gib: price, basis: z.string() }),
  }),
  ec2_on_demand_linux: z.record(z.string(), z.record(z.string(), price)),
});

/**
 * The price file's contents as a table. Maps, not objects: an instance type named `constructor` must not be found.
 * @throws InvariantBroken when the file we ship is malformed, or has prices whose source is not said.
 */
export function parsePriceTable(contents: unknown): PriceTable {
  const parsed = file.safeParse(contents);
  if (!parsed.success) throw broken(z.prettifyError(parsed.error));
  const { sources, kubernetes, default: defaults, ...table } = parsed.data;

  const datedByRegion = new Map(
    sources.flatMap(({ dated, regions }) => regions.map((region) => [region, dated] as const)),
  );
  const regions = new Map<string, RegionPrices>();
  for (const [region, prices] of Object.entries(table.ec2_on_demand_linux)) {
    const dated = datedByRegion.get(region);
    if (dated === undefined) throw broken(`No source names the region ${region}.`);
    regions.set(region, { dated, hourlyByType: new Map(Object.entries(prices)) });
  }
  const reference = regions.get(table.reference_region);
  if (reference === undefined)
    throw broken(`There are no prices for the reference region ${table.reference_region}.`);

  return {
    currency: table.currency,
    referenceRegion: table.reference_region,
    reference,
    regions,
    kubernetes: {
      dated: kubernetes.dated,
      vcpuHour: kubernetes.vcpu_hour,
      gibHour: kubernetes.gib_hour,
      basis: kubernetes.basis,
    },
    defaults,
  };
}

function broken(detail: string): InvariantBroken {
  return new InvariantBroken(`shared/cost/prices.json is malformed: ${detail}`);
}

let shipped: PriceTable | undefined;

/** The table shipped with the project, read once, at the first estimate. */
export function priceTable(): PriceTable {
  // Read, not imported: Node 20 warns about importing JSON, and the build in dist/ has no copy of the file.
  shipped ??= parsePriceTable(
    JSON.parse(readFileSync(join(projectRoot(), 'shared/cost/prices.json'), 'utf8')),
  );
  return shipped;
}
