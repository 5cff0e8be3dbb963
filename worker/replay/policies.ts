import { awsPredictive } from './policies/aws-predictive.ts';
import { hpa } from './policies/hpa.ts';
import { original } from './policies/original.ts';
import { exampleRates, phpaHoltWinters, tunedRates } from './policies/phpa-holt-winters.ts';
import { phpaLinear } from './policies/phpa-linear.ts';
import { defaultPolicy, limitedPolicy, scalerWith } from './policies/scaler.ts';
import { targetTracking } from './policies/target-tracking.ts';
import type { PolicyMaker } from './policy.ts';

/** Every policy that can be replayed, by the name the command takes. */
export const policies: Readonly<Record<string, PolicyMaker>> = {
  scaler: scalerWith(defaultPolicy),
  hpa,
  'target-tracking': targetTracking,
  'aws-predictive': awsPredictive,
  'phpa-holt-winters': phpaHoltWinters(exampleRates),
  'phpa-holt-winters-tuned': phpaHoltWinters(tunedRates),
  'phpa-linear': phpaLinear,
  original,
};

export const scalerWithLimits = scalerWith(limitedPolicy);
