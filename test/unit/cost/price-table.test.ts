import { readFileSync, statSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parsePriceTable, priceTable } from '../../../shared/cost/price-table.ts';
import { InvariantBroken } from '../../../shared/errors.ts';

const pricesFile = new URL('../../../shared/cost/prices.json', import.meta.url);

describe('the price table we ship', () => {
  it('is read once', () => {
    expect(priceTable()).toBe(priceTable());
  });

  it('is small enough to load without notice', () => {
    expect(statSync(pricesFile).size).toBeLessThan(400_000);
  });

  it.each([
    ['us-east-1', 't3.micro', '0.0104'],
    ['us-east-1', 'm5.large', '0.0960'],
    ['us-east-1', 'c7g.medium', '0.0363'],
    ['us-east-1', 'r8i.96xlarge', '26.67264'],
    ['us-east-1', 'p4d.24xlarge', '21.957642'],
  ])('lists %s %s at %s', (region, type, hourly) => {
    expect(priceTable().regions.get(region)?.hourlyByType.get(type)).toBe(hourly);
  });

  it.each([
    't3',
    't3a',
    't4g',
    ...['m', 'c', 'r'].flatMap((letter) => [
      `${letter}5`,
      `${letter}6i`,
      `${letter}6g`,
      `${letter}7i`,
      `${letter}7g`,
      `${letter}8g`,
      `${letter}8i`,
    ]),
  ])('lists the %s family in the reference region', (family) => {
    expect(
      [...priceTable().reference.hourlyByType.keys()].filter((type) => type.startsWith(`${family}.`)).length,
    ).toBeGreaterThanOrEqual(7);
  });

  it('lists in the reference region whatever another region lists', () => {
    const known = priceTable().reference.hourlyByType;
    for (const [region, { hourlyByType }] of priceTable().regions)
      expect(
        [...hourlyByType.keys()].filter((type) => !known.has(type)),
        region,
      ).toEqual([]);
  });

  it('has no price far from what its size suggests', () => {
    const units: Record<string, number> = {
      nano: 1 / 16,
      micro: 1 / 8,
      small: 1 / 4,
      medium: 1 / 2,
      large: 1,
      xlarge: 2,
    };
    const unitsOf = (size: string): number | undefined =>
      units[size] ?? (/^\d+xlarge$/.test(size) ? 2 * Number.parseInt(size, 10) : undefined);
    for (const [region, { hourlyByType }] of priceTable().regions) {
      // General, compute and memory families cost the same per unit of size; accelerators, storage and u- types do not.
      const perUnit = [...hourlyByType].flatMap(([type, hourly]) => {
        const [family = '', size = ''] = type.split('.');
        const unit = /^[cmrt][3-8]/.test(family) ? unitsOf(size) : undefined;
        return unit === undefined ? [] : [{ type, family, rate: Number(hourly) / unit }];
      });
      const rateOf = new Map(perUnit.map(({ family, rate }) => [family, rate]));
      for (const { type, family, rate } of perUnit)
        expect(rate / (rateOf.get(family) ?? 0), `${region} ${type}`).toBeCloseTo(1, 1);
    }
  });
});

describe('a price file that is malformed is our bug, and says where', () => {
  it.each<[string, readonly string[], unknown, string]>([
    ['a price that is a number', ['ec2_on_demand_linux', 'us-east-1', 'm5.large'], 0.096, 'm5.large'],
    ['a negative price', ['ec2_on_demand_linux', 'us-east-1', 'm5.large'], '-0.096', 'm5.large'],
    ['a rate that is missing', ['kubernetes', 'vcpu_hour'], undefined, 'kubernetes.vcpu_hour'],
    ['a day that does not exist', ['dated'], '2026-02-30', 'dated'],
    ['another currency', ['currency'], 'EUR', 'currency'],
    ['a region without a source', ['ec2_on_demand_linux', 'xx-1'], {}, 'No source names the region xx-1.'],
    [
      'a reference region without prices',
      ['reference_region'],
      'xx-1',
      'no prices for the reference region xx-1',
    ],
  ])('%s', (_, path, value, named) => {
    const file = spoiled(path, value);
    expect(() => parsePriceTable(file)).toThrow(InvariantBroken);
    expect(() => parsePriceTable(file)).toThrow(named);
  });
});

type Json = { [key: string]: Json };

function spoiled(path: readonly string[], value: unknown): unknown {
  const file = JSON.parse(readFileSync(pricesFile, 'utf8')) as Json;
  const parent = path.slice(0, -1).reduce((at, key) => at[key] as Json, file);
  parent[path.at(-1) as string] = value as Json;
  return file;
}
