import type { V1Container } from '@kubernetes/client-node';
import { describe, expect, it } from 'vitest';
import { quantity, requestedBy } from '../../../worker/providers/kubernetes-requests.ts';

describe('a quantity', () => {
  it.each([
    ['500m', '0.5'],
    ['2', '2'],
    ['0.1', '0.1'],
    ['.5', '0.5'],
    ['1.', '1'],
    ['250u', '0.00025'],
    ['100n', '0.0000001'],
    ['1k', '1000'],
    ['512Mi', '536870912'],
    ['1.5Gi', '1610612736'],
    ['1G', '1000000000'],
    ['2Ti', '2199023255552'],
    ['1E', '1000000000000000000'],
    ['1Ei', '1152921504606846976'],
    ['1e3', '1000'],
    ['12E-1', '1.2'],
    ['0', '0'],
  ])('%s is %s', (text, number) => {
    expect(quantity(text)?.toFixed()).toBe(number);
  });

  it.each(['', 'm', '1x', '-1', '1 Gi', 'NaN', '0x10', '1constructor', '1Kii', '１'])(
    '%j is none',
    (text) => {
      expect(quantity(text)).toBeNull();
    },
  );
});

describe('what a pod requests', () => {
  const container = (resources: V1Container['resources'], more: Partial<V1Container> = {}): V1Container => ({
    name: 'x',
    ...(resources === undefined ? {} : { resources }),
    ...more,
  });

  it('is the sum over its containers, in vCPU and GiB', () => {
    const containers = [
      container({ requests: { cpu: '500m', memory: '512Mi' } }),
      container({ requests: { cpu: '1', memory: '1Gi' } }),
      container(undefined),
    ];
    expect(requestedBy({ containers }, 'cpu')).toBe('1.5');
    expect(requestedBy({ containers }, 'memory')).toBe('1.5');
  });

  it('takes limits where there are no requests, as the cluster does', () => {
    const containers = [container({ limits: { cpu: '2', memory: '1Gi' }, requests: { cpu: '250m' } })];
    expect([requestedBy({ containers }, 'cpu'), requestedBy({ containers }, 'memory')]).toEqual([
      '0.25',
      '1',
    ]);
  });

  it('counts sidecars, which stay, and not what only runs at the start', () => {
    const containers = [container({ requests: { cpu: '1' } })];
    const initContainers = [
      container({ requests: { cpu: '100m' } }, { restartPolicy: 'Always' }),
      container({ requests: { cpu: '8' } }),
    ];
    expect(requestedBy({ containers, initContainers }, 'cpu')).toBe('1.1');
  });

  it('is unknown when nothing is requested or a quantity cannot be read', () => {
    expect(requestedBy({ containers: [container({})] }, 'cpu')).toBeNull();
    expect(requestedBy({ containers: [container({ requests: { cpu: 'lots' } })] }, 'cpu')).toBeNull();
    expect(requestedBy(undefined, 'cpu')).toBeNull();
  });
});
