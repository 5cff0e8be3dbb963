import { type Description, describeGroup } from './describe-group.ts';
import { type Region, regionOf, type World } from './state.ts';

/** Who makes a change, as the ledger names it. */
export interface Requester {
  readonly requestId: string | null;
  readonly service: string;
  readonly action: string;
  readonly receivedAt: number;
  readonly accessKeyId: string | null;
  readonly signedAt: string | null;
  readonly invocationId: string | null;
  readonly userAgent: string | null;
}

export function externalRequester(action: string): Requester {
  return {
    requestId: null,
    service: 'autoscaling',
    action,
    receivedAt: Date.now(),
    accessKeyId: null,
    signedAt: null,
    invocationId: null,
    userAgent: null,
  };
}

/**
 * The only door through which a group's settings change: it keeps the view of before for stale reads, and writes
 * the ledger. `change` must validate first: once it returns, the write counts as applied.
 */
export function applyWrite(
  world: World,
  regionName: string,
  groupName: string | null,
  requester: Requester,
  change: () => void,
): void {
  const region = regionOf(world, regionName);
  const before = groupName === null ? undefined : region.groups.get(groupName);
  const from = before?.desired ?? null;
  const shown = before === undefined ? undefined : describeGroup(before);

  change();

  const appliedAt = Date.now();
  if (groupName !== null) region.beforeLastWrite.set(groupName, { shown, writtenAt: appliedAt });
  const after = groupName === null ? undefined : region.groups.get(groupName);
  world.ledger.append('applied', {
    ...requester,
    appliedAt,
    virtualAt: world.clock.now(),
    region: regionName,
    group: groupName,
    from,
    to: after?.desired ?? null,
    bounds: after === undefined ? null : { min: after.min, max: after.max },
    outcome: 'applied',
  });
}

/** The groups written to less than `staleMs` ago, as they were shown before that; undefined means not there yet. */
export function staleView(region: Region, staleMs: number): Map<string, Description | undefined> {
  const youngest = Date.now() - staleMs;
  const recent = [...region.beforeLastWrite].filter(([, { writtenAt }]) => writtenAt > youngest);
  return new Map(recent.map(([name, { shown }]) => [name, shown]));
}
