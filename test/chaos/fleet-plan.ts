import { seededRandom } from '../simulators/core/seeded-random.ts';

/** One cloud object of the run and the policy it is scaled by. Seconds where not said otherwise. */
export interface PlannedResource {
  readonly provider: 'aws' | 'kubernetes';
  readonly region: string | null;
  /** As the API names it. */
  readonly name: string;
  /** As the cloud names it: the group, or the Deployment in namespace `chaos`. */
  readonly object: string;
  readonly role: 'busy' | 'auto' | 'slow' | 'rationed' | 'tight' | 'swinging' | 'stale' | 'silent' | 'probe';
  readonly start: number;
  readonly policy: {
    readonly min_instances: number;
    readonly max_instances: number;
    readonly cooldown_period: number;
    readonly scale_down_cooldown: number | null;
    readonly max_scale_up_step: number;
    readonly max_scale_down_step: number;
    readonly max_actions_per_hour: number;
    readonly max_reversals_per_half_hour: number;
    readonly mode: 'manual' | 'auto';
  };
  /** Share of the sweep at which its demand begins. */
  readonly phase: number;
}

export const namespace = 'chaos';
/** In the second the budgets bind, in the third scaling in together is held. */
export const regions = ['us-east-1', 'eu-west-1', 'ap-south-1'] as const;
/** From one reversal of a swinging resource's demand to the next. */
const swingMs = 20_000;
/** Demand sweeps between these, so that many small steps lie between two reversals. */
export const lowestLevel = 2;
export const highestLevel = 24;

/**
 * `each` objects a cloud. Most are busy (short cooldowns, wide limits); some have long cooldowns, tight bounds, a small
 * hourly limit, or a demand that swings more often than they may, so that these guards have something to refuse; some have samples that are old, or none.
 */
export function planFleet(each: number, seed: number): PlannedResource[] {
  const random = seededRandom(seed);
  const resources: PlannedResource[] = [];
  for (const provider of ['aws', 'kubernetes'] as const) {
    for (let index = 0; index < each; index++) {
      const role = roleOf(index, each);
      const object = `${role}-${index}`;
      const start = role === 'tight' ? 5 : lowestLevel + Math.floor(random() * 10);
      resources.push({
        provider,
        region: provider === 'aws' ? regionOf(index) : null,
        name: provider === 'aws' ? object : `deployment:${namespace}/${object}`,
        object,
        role,
        start,
        policy: policyOf(role, 1 + Math.floor(random() * 3)),
        phase: random(),
      });
    }
  }
  return resources;
}

function regionOf(index: number): string {
  return regions[index % 5 === 4 ? 2 : index % 2] as string;
}

function roleOf(index: number, each: number): PlannedResource['role'] {
  const special: readonly PlannedResource['role'][] = [
    'probe',
    'slow',
    'rationed',
    'tight',
    'stale',
    'silent',
    'auto',
    'swinging',
    'slow',
    'tight',
    'auto',
  ];
  // One of each kind first, so that a small fleet has all of them, and then a few percent more.
  if (index < 8) return special[index] as PlannedResource['role'];
  if (index % 20 === 0 && each >= 40)
    return special[1 + ((index / 20) % (special.length - 1))] as PlannedResource['role'];
  if (index % 24 === 7) return 'swinging';
  return 'busy';
}

function policyOf(role: PlannedResource['role'], cooldown: number): PlannedResource['policy'] {
  const wide = {
    min_instances: 1,
    max_instances: 30,
    cooldown_period: cooldown,
    scale_down_cooldown: null,
    max_scale_up_step: 12,
    max_scale_down_step: 12,
    max_actions_per_hour: 3_600,
    max_reversals_per_half_hour: 3_600,
    mode: 'manual' as const,
  };
  switch (role) {
    case 'slow':
      return { ...wide, cooldown_period: 20, scale_down_cooldown: 40 };
    case 'rationed':
      return { ...wide, max_actions_per_hour: 4 };
    case 'tight':
      return { ...wide, min_instances: 4, max_instances: 7, max_scale_up_step: 1, max_scale_down_step: 1 };
    case 'swinging':
      return { ...wide, max_reversals_per_half_hour: 2 };
    case 'auto':
      return { ...wide, mode: 'auto' };
    default:
      return wide;
  }
}

/** The size that demand asks for at a moment: a triangle wave, `sweepMs` from one reversal to the next. */
export function levelAt(
  { role, phase }: Pick<PlannedResource, 'role' | 'phase'>,
  atMs: number,
  sweepMs: number,
): number {
  const span = highestLevel - lowestLevel;
  const position = ((atMs / (role === 'swinging' ? swingMs : sweepMs) + 2 * phase) % 2) * span;
  return Math.round(lowestLevel + (position <= span ? position : 2 * span - position));
}
