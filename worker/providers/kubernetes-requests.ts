import type { V1Container, V1PodSpec } from '@kubernetes/client-node';
import { Decimal } from 'decimal.js';

const bytesPerGi = new Decimal(2).pow(30);

/** What a suffix of a Kubernetes quantity multiplies by. */
const factors: Readonly<Record<string, Decimal>> = {
  n: new Decimal('1e-9'),
  u: new Decimal('1e-6'),
  m: new Decimal('1e-3'),
  '': new Decimal(1),
  k: new Decimal('1e3'),
  M: new Decimal('1e6'),
  G: new Decimal('1e9'),
  T: new Decimal('1e12'),
  P: new Decimal('1e15'),
  E: new Decimal('1e18'),
  Ki: new Decimal(2).pow(10),
  Mi: new Decimal(2).pow(20),
  Gi: new Decimal(2).pow(30),
  Ti: new Decimal(2).pow(40),
  Pi: new Decimal(2).pow(50),
  Ei: new Decimal(2).pow(60),
};

/** A Kubernetes quantity as a plain number: `500m` → 0.5, `512Mi` → 536870912. Null when it is none. */
export function quantity(text: string): Decimal | null {
  const match = /^([0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE]([+-]?[0-9]+)|([a-zA-Z]*))$/.exec(text);
  const [, digits, exponent, suffix = ''] = match ?? [];
  const factor = Object.hasOwn(factors, suffix) ? factors[suffix] : undefined;
  if (digits === undefined || factor === undefined) return null;
  return new Decimal(digits).times(exponent === undefined ? factor : new Decimal(10).pow(Number(exponent)));
}

/**
 * What one pod requests for good: its containers and its sidecars, limits standing in for requests as in the cluster.
 * @returns vCPU, or GiB of memory, as a decimal string; null when nothing is requested, for a price from that would be
 * a guess, or when a quantity cannot be read: a price is no reason to fail a scaling.
 */
export function requestedBy(pod: V1PodSpec | undefined, resource: 'cpu' | 'memory'): string | null {
  const sidecars = (pod?.initContainers ?? []).filter(({ restartPolicy }) => restartPolicy === 'Always');
  const texts = [...(pod?.containers ?? []), ...sidecars].flatMap(
    (container: V1Container) =>
      container.resources?.requests?.[resource] ?? container.resources?.limits?.[resource] ?? [],
  );
  if (texts.length === 0) return null;
  const numbers = texts.map(quantity);
  if (numbers.some((number) => number === null)) return null;
  const sum = numbers.reduce<Decimal>((total, number) => total.plus(number as Decimal), new Decimal(0));
  return (resource === 'cpu' ? sum : sum.div(bytesPerGi)).toFixed();
}
