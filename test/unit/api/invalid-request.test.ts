import { describe, expect, it } from 'vitest';
import type { z } from 'zod';
import { invalidRequest } from '../../../api/middleware/problem-response.ts';
import {
  createResourceBody,
  patchResourceBody,
  predictionsBody,
  samplesBody,
} from '../../../api/resources/contract.ts';

const timestamp = '2026-01-31T12:00:00Z';

/** The field errors of a body, or [] when it is valid. */
function fieldsOf(schema: z.ZodType, body: unknown): readonly { field: string; message: string }[] {
  const parsed = schema.safeParse(body);
  return parsed.success
    ? []
    : invalidRequest('body', parsed.error.issues as Parameters<typeof invalidRequest>[1]).fields;
}

describe('a body that may be one row or many', () => {
  it.each<[string, z.ZodType, unknown, string, RegExp]>([
    ['epoch time', samplesBody, { timestamp: 1_795_745_116_000, cpu: 5 }, 'timestamp', /ISO 8601/],
    [
      'epoch time in a batch',
      samplesBody,
      {
        samples: [
          { timestamp, cpu: 5 },
          { timestamp: 1_795_745_116, cpu: 5 },
        ],
      },
      'samples.1.timestamp',
      /ISO 8601/,
    ],
    ['no time', samplesBody, { cpu: 5 }, 'timestamp', /ISO 8601/],
    ['text for a number', samplesBody, { timestamp, cpu: '5' }, 'cpu', /expected number/],
    ['a field that does not exist', samplesBody, { timestamp, cpu: 5, cpus: 2 }, 'cpus', /not a field/],
    ['no value', samplesBody, { timestamp }, 'body', /needs cpu, memory/],
    ['an empty batch', samplesBody, { samples: [] }, 'samples', />=1/],
    ['a bare array', samplesBody, [{ timestamp, cpu: 5 }], 'body', /expected object/],
    ['text', samplesBody, 'cpu 5', 'body', /expected object/],
    [
      'a wrong field deep in a batch of predictions',
      predictionsBody,
      { predictions: [{ timestamp, predicted_cpu: 1, cpu: 5 }] },
      'predictions.0.cpu',
      /not a field/,
    ],
    [
      'confidence in percent',
      predictionsBody,
      { timestamp, predicted_cpu: 1, confidence: 90 },
      'confidence',
      /<=1/,
    ],
  ])('%s names the innermost field and what was expected', (_, schema, body, field, message) => {
    expect(fieldsOf(schema, body)).toEqual([{ field, message: expect.stringMatching(message) }]);
  });
});

describe('a target that is typed as a ratio', () => {
  const resource = {
    name: 'web-asg',
    resource_type: 'ec2',
    cloud_provider: 'aws',
    min_instances: 1,
    max_instances: 10,
    current_instances: 2,
  };

  it('is refused with the percentage that was meant, each field by its name', () => {
    expect(fieldsOf(createResourceBody, { ...resource, target_cpu: 0.7, target_memory: 0.8 })).toEqual([
      { field: 'target_cpu', message: 'must be a percentage above 1: did you mean 70?' },
      { field: 'target_memory', message: 'must be a percentage above 1: did you mean 80?' },
    ]);
    for (const [field, value, meant] of [
      ['target_cpu', 1, 100],
      ['target_memory', 0.005, 0.5],
      ['max_utilization', 0.9, 90],
      ['target_cpu', 0.58, 58],
    ] as const)
      expect(fieldsOf(patchResourceBody, { [field]: value })).toEqual([
        { field, message: `must be a percentage above 1: did you mean ${meant}?` },
      ]);
    expect(fieldsOf(patchResourceBody, { target_cpu: 1.5, target_memory: 100 })).toEqual([]);
    expect(fieldsOf(patchResourceBody, { target_cpu: 101 })).toHaveLength(1);
  });
});
