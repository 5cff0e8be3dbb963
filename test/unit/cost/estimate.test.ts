import { Decimal } from 'decimal.js';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { estimateCost, type PriceInput, type UnitPrice, unitPrice } from '../../../shared/cost/estimate.ts';
import { parsePriceTable, priceTable } from '../../../shared/cost/price-table.ts';
import { forAll } from '../../support/for-all.ts';

const unknown: PriceInput = {
  cloud_provider: 'aws',
  region: null,
  instance_type: null,
  hourly_price: null,
  cpu_request: null,
  memory_request: null,
};
const aws = (fields: Partial<PriceInput>): PriceInput => ({ ...unknown, ...fields });
const kubernetes = (fields: Partial<PriceInput>): PriceInput => ({
  ...unknown,
  cloud_provider: 'kubernetes',
  ...fields,
});
const at = (hourly: string): UnitPrice => unitPrice(aws({ hourly_price: hourly }));

describe('unitPrice', () => {
  const override = { price_source: 'override', priced_at: null } as const;
  const listed = { price_source: 'table', priced_at: '2026-01-19' } as const;
  const elsewhere = { ...listed, price_source: 'table_other_region' } as const;
  const unlisted = { ...listed, price_source: 'default' } as const;
  const requested = { price_source: 'kubernetes_requests', priced_at: '2026-06-17' } as const;
  const unrequested = { ...requested, price_source: 'default' } as const;
  const inRegion = (region: string, instance_type: string) => aws({ region, instance_type });
  it.each<[string, PriceInput, string, Pick<UnitPrice, 'price_source' | 'priced_at'>]>([
    [
      'an override wins over the table',
      aws({ hourly_price: '0.031', region: 'us-east-1', instance_type: 'm5.large' }),
      '0.031',
      override,
    ],
    [
      'an override wins over requests',
      kubernetes({ hourly_price: '0.5', cpu_request: '2' }),
      '0.5',
      override,
    ],
    ['an override of zero is a price', aws({ hourly_price: '0.000000' }), '0', override],
    ['a type its region lists', inRegion('us-east-1', 't3.medium'), '0.0416', listed],
    ['a type only the reference region lists', inRegion('eu-central-1', 'm8g.large'), '0.08976', elsewhere],
    ['a region without prices', inRegion('il-central-1', 'm5.large'), '0.096', elsewhere],
    ['no region', aws({ instance_type: 'm5.large' }), '0.096', elsewhere],
    ['no instance type', aws({ region: 'us-east-1' }), '0.096', unlisted],
    ['a type no region lists', inRegion('us-east-1', 'q9.huge'), '0.096', unlisted],
    // 0.5 × 0.04048 + 1.5 × 0.004445
    [
      'requests for CPU and memory',
      kubernetes({ cpu_request: '0.500', memory_request: '1.5' }),
      '0.0269075',
      requested,
    ],
    ['a request for CPU alone', kubernetes({ cpu_request: '2' }), '0.08096', requested],
    ['a request for memory alone', kubernetes({ memory_request: '2' }), '0.00889', requested],
    // 0.25 × 0.04048 + 0.5 × 0.004445
    ['no requests', kubernetes({}), '0.0123425', unrequested],
    ['requests of zero', kubernetes({ cpu_request: '0', memory_request: '0.000' }), '0.0123425', unrequested],
  ])('prices %s', (_, input, hourly, from) => {
    expect(unitPrice(input)).toMatchObject({ hourly, ...from });
  });

  it.each<[string, PriceInput, string]>([
    [
      'the other region it used',
      inRegion('eu-central-1', 'm8g.large'),
      'On-demand Linux price of m8g.large in us-east-1, because the price table does not list m8g.large in eu-central-1.',
    ],
    [
      'that the region is not known',
      aws({ instance_type: 'm5.large' }),
      'On-demand Linux price of m5.large in us-east-1, because the region is not known.',
    ],
    [
      'what a default stands for',
      aws({ instance_type: 'q9.huge' }),
      'The price table does not list q9.huge, so the price is that of an m5.large, Linux, on demand, in us-east-1. Set hourly_price for a true figure.',
    ],
    [
      'what was not requested',
      kubernetes({ cpu_request: '0.25' }),
      '0.25 vCPU and no GiB requested, at the rates of AWS Fargate, Linux/x86, us-east-1, on demand; what is not requested counts as nothing.',
    ],
  ])('says %s', (_, input, note) => {
    expect(unitPrice(input).note).toBe(note);
  });

  it('keeps the name of a type it does not know', () => {
    expect(unitPrice(aws({ instance_type: 'q9.huge' })).instance_type).toBe('q9.huge');
  });

  it.each(['constructor', '__proto__', 'toString'])('finds no price for a type named %s', (instance_type) => {
    expect(unitPrice(aws({ region: 'us-east-1', instance_type })).price_source).toBe('default');
    expect(unitPrice(aws({ region: instance_type, instance_type: 'm5.large' })).price_source).toBe(
      'table_other_region',
    );
  });

  it.each(['hourly_price', 'cpu_request', 'memory_request'] as const)(
    'refuses a %s that is not a plain number of zero or more',
    (field) => {
      for (const value of [
        '-1',
        '',
        ' 1',
        'NaN',
        'Infinity',
        '1e3',
        '0x10',
        '1.',
        '.5',
        '1,5',
        '1_000',
        '9'.repeat(16),
      ]) {
        expect(() => unitPrice(kubernetes({ [field]: value })), value).toThrow(
          new RangeError(`${field} must be a decimal number of zero or more, not "${value}".`),
        );
      }
    },
  );
});

describe('estimateCost', () => {
  it('answers the whole estimate', () => {
    expect(
      estimateCost(unitPrice(aws({ region: 'us-east-1', instance_type: 't3.medium' })), 7, 4),
    ).toStrictEqual({
      currency: 'USD',
      instance_type: 't3.medium',
      instance_count: 7,
      current_instances: 4,
      hourly_price: '0.0416',
      hourly_cost: 0.2912,
      daily_cost: 6.9888,
      monthly_cost: 212.576,
      delta_hourly_cost: 0.1248,
      delta_daily_cost: 2.9952,
      delta_monthly_cost: 91.104,
      price_source: 'table',
      priced_at: '2026-01-19',
      price_note: 'On-demand Linux price of t3.medium in us-east-1.',
    });
  });

  it.each<[string, number, number, number, number]>([
    // Binary floating point gives 0.30000000000000004.
    ['0.1', 3, 0.3, 7.2, 219],
    // ... 212.57600000000002 a month.
    ['0.0416', 7, 0.2912, 6.9888, 212.576],
    // ... 0.6000000000000001.
    ['0.2', 3, 0.6, 14.4, 438],
    // ... 1004.9999999999999.
    ['1.005', 1_000, 1_005, 24_120, 733_650],
    // A month of a rounded hour would be 0.00146: only the answer is rounded.
    ['0.0000015', 1, 0.000002, 0.000036, 0.001095],
    // Half to even, both ways.
    ['0.0000005', 1, 0, 0.000012, 0.000365],
    ['0.0000025', 1, 0.000002, 0.00006, 0.001825],
    ['0.5', 0, 0, 0, 0],
    ['0', 5, 0, 0, 0],
  ])('%s an hour for %i is exact', (hourly, instances, hour, day, month) => {
    expect(estimateCost(at(hourly), instances, 0)).toMatchObject({
      hourly_cost: hour,
      daily_cost: day,
      monthly_cost: month,
    });
  });

  it('counts a saving as a negative delta', () => {
    expect(estimateCost(at('0.1'), 2, 5)).toMatchObject({
      delta_hourly_cost: -0.3,
      delta_daily_cost: -7.2,
      delta_monthly_cost: -219,
    });
  });

  it('never answers minus zero', () => {
    const { delta_hourly_cost, delta_daily_cost, delta_monthly_cost } = estimateCost(at('0'), 2, 5);
    for (const delta of [delta_hourly_cost, delta_daily_cost, delta_monthly_cost])
      expect(Object.is(delta, 0)).toBe(true);
  });

  it('takes the difference of two totals of 28 digits without losing one', () => {
    expect(
      estimateCost(at('123456.654321'), Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER - 1)
        .delta_hourly_cost,
    ).toBe(123456.654321);
  });

  it.each([-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, '3' as unknown as number])(
    'refuses a count of %s',
    (value) => {
      expect(() => estimateCost(at('1'), value, 0)).toThrow(
        new RangeError(`instance_count must be a whole number of zero or more, not ${value}.`),
      );
      expect(() => estimateCost(at('1'), 0, value)).toThrow(
        new RangeError(`current_instances must be a whole number of zero or more, not ${value}.`),
      );
    },
  );

  it.each(['NaN', 'Infinity', '-1'])('refuses a unit price of %s', (hourly) => {
    expect(() => estimateCost({ ...at('1'), hourly }, 1, 1)).toThrow(RangeError);
  });
});

describe('laws of every estimate', () => {
  const counts = fc.nat({ max: 1_000_000 });
  const small = fc.nat({ max: 300 });
  /** 6 decimals, as the database stores an override, and small enough that a month's double still has all 6: no rounding. */
  const storedPrices = fc
    .tuple(fc.nat({ max: 99 }), fc.nat({ max: 999_999 }))
    .map(([whole, millionths]) => `${whole}.${String(millionths).padStart(6, '0')}`);
  const decimals = fc.tuple(fc.nat({ max: 9_999 }), fc.nat()).map(([whole, rest]) => `${whole}.${rest}`);
  const inputs: fc.Arbitrary<PriceInput> = fc.record({
    cloud_provider: fc.constantFrom('aws', 'kubernetes'),
    region: fc.option(fc.oneof(fc.constantFrom(...priceTable().regions.keys()), fc.string())),
    instance_type: fc.option(
      fc.oneof(fc.constantFrom(...priceTable().reference.hourlyByType.keys()), fc.string()),
    ),
    hourly_price: fc.option(decimals, { freq: 3 }),
    cpu_request: fc.option(decimals),
    memory_request: fc.option(decimals),
  });
  const money = [
    'hourly_cost',
    'daily_cost',
    'monthly_cost',
    'delta_hourly_cost',
    'delta_daily_cost',
    'delta_monthly_cost',
  ] as const;

  it('is a finite number with at most 6 decimals, whatever the resource says', () =>
    forAll(100, [inputs, counts, counts], (input, instances, current) => {
      const estimate = estimateCost(unitPrice(input), instances, current);
      for (const field of money) {
        expect(Number.isFinite(estimate[field])).toBe(true);
        expect(new Decimal(estimate[field]).decimalPlaces()).toBeLessThanOrEqual(6);
      }
    }));

  it('is linear in the count: twice as many cost twice as much', () =>
    forAll(100, [storedPrices, small, small], (hourly, n, times) => {
      const price = at(hourly);
      for (const field of ['hourly_cost', 'daily_cost', 'monthly_cost'] as const) {
        expect(estimateCost(price, n * times, 0)[field]).toBe(
          new Decimal(estimateCost(price, n, 0)[field]).times(times).toNumber(),
        );
      }
    }));

  it('has a delta that is the difference of the two costs', () =>
    forAll(100, [storedPrices, small, small], (hourly, n, m) => {
      const price = at(hourly);
      const [there, here, delta] = [
        estimateCost(price, n, 0),
        estimateCost(price, m, 0),
        estimateCost(price, n, m),
      ];
      for (const period of ['hourly_cost', 'daily_cost', 'monthly_cost'] as const) {
        expect(delta[`delta_${period}`]).toBe(new Decimal(there[period]).minus(here[period]).toNumber());
      }
    }));

  it('never says a bigger group costs less', () =>
    forAll(100, [inputs, counts, counts], (input, n, m) => {
      const price = unitPrice(input);
      expect(estimateCost(price, Math.max(n, m), 0).hourly_cost).toBeGreaterThanOrEqual(
        estimateCost(price, Math.min(n, m), 0).hourly_cost,
      );
      expect(estimateCost(price, Math.max(n, m), Math.min(n, m)).delta_monthly_cost).toBeGreaterThanOrEqual(
        0,
      );
    }));

  it('always says where the price comes from, and dates it unless the resource set it', () =>
    forAll(100, [inputs], (input) => {
      const { price_source, priced_at, note } = unitPrice(input);
      expect(price_source === 'override').toBe(input.hourly_price !== null);
      expect(priced_at === null).toBe(price_source === 'override');
      expect(note).not.toBe('');
    }));
});

it('prices with the table it is given', () => {
  const table = parsePriceTable({
    currency: 'USD',
    dated: '2026-02-03',
    reference_region: 'r-1',
    sources: [
      {
        id: 's',
        name: 's',
        url: 'https://example.test/s',
        licence: 'MIT',
        dated: '2026-02-03',
        note: '',
        regions: ['r-1'],
      },
    ],
    kubernetes: { vcpu_hour: '1.0', gib_hour: '0.5', dated: '2026-02-04', basis: 'a test', source: 'a test' },
    default: {
      aws: { hourly: '9.0', basis: 'a test' },
      kubernetes: { vcpu: '1.0', gib: '2.0', basis: 'a test' },
    },
    ec2_on_demand_linux: { 'r-1': { 'a.b': '3.50' } },
  });
  expect(unitPrice(aws({ region: 'r-1', instance_type: 'a.b' }), table)).toMatchObject({
    hourly: '3.5',
    price_source: 'table',
    priced_at: '2026-02-03',
  });
  expect(unitPrice(aws({}), table)).toMatchObject({ hourly: '9', price_source: 'default' });
  expect(unitPrice(kubernetes({}), table)).toMatchObject({
    hourly: '2',
    price_source: 'default',
    priced_at: '2026-02-04',
  });
});
