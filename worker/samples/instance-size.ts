/** What one instance or replica is, as far as it is known. Amounts as the database or JSON give them. */
export interface InstanceKind {
  readonly instance_type: string | null;
  /** vCPU per replica. */
  readonly cpu_request: string | number | null;
  /** GiB per replica. */
  readonly memory_request: string | number | null;
}

/** What one instance has to work with. */
export interface InstanceSize {
  readonly vcpu: number | null;
  readonly gib: number | null;
}

/** How many of today's instances one was worth. */
export interface RelativeSize {
  readonly cpuWorth?: number;
  readonly memoryWorth?: number;
}

/** EC2's burstable sizes below xlarge: GiB, and vCPU of T2; all later ones have two. */
const burstable: Readonly<Record<string, readonly [gib: number, t2Vcpu: number]>> = {
  nano: [0.5, 1],
  micro: [1, 1],
  small: [2, 1],
  medium: [4, 2],
  large: [8, 2],
};
/** GiB per vCPU by family, where AWS keeps to it for every size. */
const gibPerVcpu: Readonly<Record<string, number>> = { c: 2, m: 4, r: 8, t: 4, a: 2, i: 8 };
const exceptions: Readonly<Record<string, number>> = { c4: 1.875, c5n: 2.625, r4: 7.625, i3: 7.625 };
/** Before these generations, sizes follow no rule. */
const firstRegular: Readonly<Record<string, number>> = { a: 1, c: 4, i: 3, m: 4, r: 4, t: 2 };
/** Sizes that do not keep to the rule. */
const irregular = new Set(['c4.8xlarge']);

/**
 * vCPU and GiB of an instance: a replica's requests, or an EC2 type by AWS's naming rule (an xlarge has four vCPU; C, M
 * and R have two, four and eight GiB for each). Null where that is not known: then nothing is converted.
 */
export function sizeOf({ instance_type, cpu_request, memory_request }: InstanceKind): InstanceSize {
  if (instance_type === null) return { vcpu: amount(cpu_request), gib: amount(memory_request) };
  const match = /^([acimrt])(\d[a-z]*)\.(?:(\d*)x)?(nano|micro|small|medium|large)$/.exec(instance_type);
  if (match === null || irregular.has(instance_type)) return { vcpu: null, gib: null };
  const [, family = '', generation = '', times, size = ''] = match;
  const series = `${family}${generation}`;
  if (Number.parseInt(generation, 10) < (firstRegular[family] ?? 1)) return { vcpu: null, gib: null };
  const small = burstable[size];
  if (family === 't' && times === undefined && small !== undefined)
    return { vcpu: series === 't2' ? small[1] : 2, gib: small[0] };
  const vcpu = vcpuOf(times, size);
  if (vcpu === null) return { vcpu: null, gib: null };
  const each = exceptions[series] ?? gibPerVcpu[family];
  return { vcpu, gib: each === undefined ? null : vcpu * each };
}

/** `2xlarge` is eight, `xlarge` four, `large` two, `medium` one. */
function vcpuOf(times: string | undefined, size: string): number | null {
  if (times !== undefined) return size === 'large' ? 4 * Number(times === '' ? '1' : times) : null;
  if (size === 'large') return 2;
  return size === 'medium' ? 1 : null;
}

function amount(given: string | number | null): number | null {
  const value = given === null ? Number.NaN : Number(given);
  return Number.isFinite(value) && value > 0 ? value : null;
}

/** How many instances of today one of then was worth; a side that is not known counts as the same. */
export function relativeSizeOf(then: InstanceSize, now: InstanceSize): RelativeSize {
  const cpu = then.vcpu !== null && now.vcpu !== null ? then.vcpu / now.vcpu : 1;
  const memory = then.gib !== null && now.gib !== null ? then.gib / now.gib : 1;
  return { ...(cpu === 1 ? {} : { cpuWorth: cpu }), ...(memory === 1 ? {} : { memoryWorth: memory }) };
}
