import { Decimal } from 'decimal.js';
import type { CloudProvider, UnitMix } from '../domain/resource.ts';
import { type PriceTable, priceTable } from './price-table.ts';

/** Where a unit's price comes from, best first. Kubernetes has no table: its requests are priced. */
export type PriceSource = 'override' | 'table' | 'table_other_region' | 'kubernetes_requests' | 'default';

/** What a resource says about its price. Amounts are decimal strings, as the database gives them. */
export interface PriceInput {
  readonly cloud_provider: CloudProvider;
  readonly region: string | null;
  readonly instance_type: string | null;
  /** The resource's override: USD per unit and hour. */
  readonly hourly_price: string | null;
  /** vCPU per replica. */
  readonly cpu_request: string | null;
  /** GiB per replica. */
  readonly memory_request: string | null;
  /** What runs in a group whose units are not machines. */
  readonly instance_mix?: readonly UnitMix[] | null;
}

/** One instance, replica or unit of capacity. */
export interface UnitPrice {
  /** USD per hour as an exact decimal string, never rounded. */
  readonly hourly: string;
  readonly price_source: PriceSource;
  /** The day (`YYYY-MM-DD`) of the prices used; null for an override, which only its owner can date. */
  readonly priced_at: string | null;
  readonly instance_type: string | null;
  /** One plain sentence: what was priced, and what was assumed. */
  readonly note: string;
}

/**
 * What a number of units costs, and what moving there from today's number adds or saves. Money is USD as JSON numbers,
 * each computed exactly and then rounded once, half to even, to 6 decimals: a rounded figure is never multiplied. A
 * JSON number holds all 6 up to about nine billion USD, and the leading 15 digits above.
 */
export interface CostEstimate {
  readonly currency: 'USD';
  readonly instance_type: string | null;
  readonly instance_count: number;
  readonly current_instances: number;
  /** Per unit, exact. */
  readonly hourly_price: string;
  readonly hourly_cost: number;
  readonly daily_cost: number;
  readonly monthly_cost: number;
  readonly delta_hourly_cost: number;
  readonly delta_daily_cost: number;
  readonly delta_monthly_cost: number;
  readonly price_source: PriceSource;
  readonly priced_at: string | null;
  readonly price_note: string;
}

/** The default 20 digits would round a large count times a long price. */
const Money = Decimal.clone({ precision: 100, rounding: Decimal.ROUND_HALF_EVEN });

const hoursPerDay = 24;
/** The clouds' own convention: 365 days / 12. */
const hoursPerMonth = 730;
/** As many as the database keeps (numeric(18, 6)), so that the row and the answer agree. */
const decimalsShown = 6;

/**
 * The price of one unit, from the best source there is: the resource's override; for AWS the price table, its reference
 * region, or a default; for Kubernetes what the replica requests, or a default.
 * @throws RangeError when an amount is not a plain decimal number of zero or more.
 */
export function unitPrice(input: PriceInput, table: PriceTable = priceTable()): UnitPrice {
  if (input.hourly_price !== null) return overridden(input, input.hourly_price);
  switch (input.cloud_provider) {
    case 'aws':
      return input.instance_mix != null && input.instance_mix.length > 0
        ? mixPrice(input, input.instance_mix, table)
        : instancePrice(input, table);
    case 'kubernetes':
      return requestPrice(input, table);
  }
}

/**
 * What `instanceCount` units cost, beside the `currentCount` that run today.
 * @throws RangeError when a count is not a safe integer of zero or more.
 */
export function estimateCost(price: UnitPrice, instanceCount: number, currentCount: number): CostEstimate {
  const hourly = new Money(price.hourly);
  if (!hourly.isFinite() || hourly.lessThan(0))
    throw new RangeError(`hourly must be a decimal number of zero or more, not "${price.hourly}".`);
  const cost = hourly.times(count('instance_count', instanceCount));
  const delta = cost.minus(hourly.times(count('current_instances', currentCount)));
  return {
    currency: 'USD',
    instance_type: price.instance_type,
    instance_count: instanceCount,
    current_instances: currentCount,
    hourly_price: price.hourly,
    hourly_cost: shown(cost),
    daily_cost: shown(cost.times(hoursPerDay)),
    monthly_cost: shown(cost.times(hoursPerMonth)),
    delta_hourly_cost: shown(delta),
    delta_daily_cost: shown(delta.times(hoursPerDay)),
    delta_monthly_cost: shown(delta.times(hoursPerMonth)),
    price_source: price.price_source,
    priced_at: price.priced_at,
    price_note: price.note,
  };
}

function overridden({ instance_type }: PriceInput, hourlyPrice: string): UnitPrice {
  return {
    hourly: amount('hourly_price', hourlyPrice).toFixed(),
    price_source: 'override',
    priced_at: null,
    instance_type,
    note: "The resource's own hourly_price.",
  };
}

function instancePrice({ region, instance_type }: PriceInput, table: PriceTable): UnitPrice {
  if (instance_type === null)
    return defaultInstancePrice(instance_type, 'The instance type is not known', table);

  const own = region === null ? undefined : table.regions.get(region);
  const ownPrice = own?.hourlyByType.get(instance_type);
  if (own !== undefined && ownPrice !== undefined) {
    return {
      hourly: new Money(ownPrice).toFixed(),
      price_source: 'table',
      priced_at: own.dated,
      instance_type,
      note: `On-demand Linux price of ${instance_type} in ${region}.`,
    };
  }

  const { referenceRegion, reference } = table;
  const referencePrice = reference.hourlyByType.get(instance_type);
  if (referencePrice === undefined)
    return defaultInstancePrice(instance_type, `The price table does not list ${instance_type}`, table);
  const why =
    region === null
      ? 'the region is not known'
      : `the price table does not list ${instance_type} in ${region}`;
  return {
    hourly: new Money(referencePrice).toFixed(),
    price_source: 'table_other_region',
    priced_at: reference.dated,
    instance_type,
    note: `On-demand Linux price of ${instance_type} in ${referenceRegion}, because ${why}.`,
  };
}

/** A unit of a weighted group: what the machines cost that run, by the units they are. */
function mixPrice(input: PriceInput, mix: readonly UnitMix[], table: PriceTable): UnitPrice {
  const parts = mix.map((part) => ({
    ...part,
    price: instancePrice({ ...input, instance_type: part.instance_type }, table),
  }));
  const cost = parts.reduce(
    (sum, { price, count: n }) => sum.plus(new Money(price.hourly).times(n)),
    new Money(0),
  );
  const units = parts.reduce((sum, { units: each, count: n }) => sum + each * n, 0);
  const kinds = parts.map((part) => `${part.count} ${part.instance_type} of ${part.units}`).join(', ');
  // The least certain of the prices says how certain the sum is.
  const { price } = parts.reduce((worst, part) =>
    sources.indexOf(part.price.price_source) > sources.indexOf(worst.price.price_source) ? part : worst,
  );
  return {
    ...price,
    hourly: cost.dividedBy(units).toDecimalPlaces(12).toFixed(),
    note: `Per unit of the group's capacity, by what runs: ${kinds}. ${price.note}`,
  };
}

const sources: readonly PriceSource[] = ['table', 'table_other_region', 'default'];

function defaultInstancePrice(
  instanceType: string | null,
  why: string,
  { defaults, reference }: PriceTable,
): UnitPrice {
  return {
    hourly: new Money(defaults.aws.hourly).toFixed(),
    price_source: 'default',
    priced_at: reference.dated,
    instance_type: instanceType,
    note: `${why}, so the price is that of ${defaults.aws.basis}. Set hourly_price for a true figure.`,
  };
}

function requestPrice(
  { instance_type, cpu_request, memory_request }: PriceInput,
  table: PriceTable,
): UnitPrice {
  const { kubernetes, defaults } = table;
  const cpu = requested('cpu_request', cpu_request);
  const memory = requested('memory_request', memory_request);
  const common = { priced_at: kubernetes.dated, instance_type };
  if (cpu === null && memory === null) {
    return {
      ...common,
      hourly: requestHourly(new Money(defaults.kubernetes.vcpu), new Money(defaults.kubernetes.gib), table),
      price_source: 'default',
      note: `The replica requests neither CPU nor memory, so it is priced as ${defaults.kubernetes.basis}. Set cpu_request and memory_request, or hourly_price, for a true figure.`,
    };
  }
  const parts = `${cpu?.toFixed() ?? 'no'} vCPU and ${memory?.toFixed() ?? 'no'} GiB requested`;
  const missing = cpu === null || memory === null ? '; what is not requested counts as nothing' : '';
  return {
    ...common,
    hourly: requestHourly(cpu ?? new Money(0), memory ?? new Money(0), table),
    price_source: 'kubernetes_requests',
    note: `${parts}, at the rates of ${kubernetes.basis}${missing}.`,
  };
}

function requestHourly(vcpu: Decimal, gib: Decimal, { kubernetes }: PriceTable): string {
  return vcpu.times(kubernetes.vcpuHour).plus(gib.times(kubernetes.gibHour)).toFixed();
}

/** A request of zero is no request: Kubernetes treats the two alike. */
function requested(field: string, text: string | null): Decimal | null {
  if (text === null) return null;
  const value = amount(field, text);
  return value.isZero() ? null : value;
}

function amount(field: string, text: string): Decimal {
  // Plain digits only, and few enough that a product stays exact: no signs, exponents, NaN or Infinity.
  if (!/^\d{1,15}(\.\d{1,15})?$/.test(text))
    throw new RangeError(`${field} must be a decimal number of zero or more, not "${text}".`);
  return new Money(text);
}

function count(field: string, value: number): number {
  if (!Number.isSafeInteger(value) || value < 0)
    throw new RangeError(`${field} must be a whole number of zero or more, not ${value}.`);
  return value;
}

function shown(exact: Decimal): number {
  // Adding zero turns -0 into 0.
  return exact.toDecimalPlaces(decimalsShown, Decimal.ROUND_HALF_EVEN).toNumber() + 0;
}
