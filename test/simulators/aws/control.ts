import type { IncomingMessage, ServerResponse } from 'node:http';
import { AwsError } from './aws-error.ts';
import {
  changeExternally,
  DEFAULT_REGION,
  type ExternalChange,
  type GroupSeed,
  seedGroup,
} from './external.ts';
import type { AwsFaultRule } from './faults.ts';
import type { Simulation } from './simulation.ts';
import { type Group, type Instance, regionOf, type World } from './state.ts';

export const CONTROL_PREFIX = '/_simulator/';

/** JSON over HTTP for other processes: what the ledger holds, how the world stands, and how to disturb it. */
export function answerControl(
  simulation: Simulation,
  request: IncomingMessage,
  response: ServerResponse,
  body: string,
): void {
  const url = new URL(request.url ?? '/', 'http://simulator');
  const name = url.pathname.slice(CONTROL_PREFIX.length);
  simulation.world.clock.runDue();
  try {
    const run = controls[`${request.method} ${name}`];
    if (run === undefined) {
      sendJson(response, 404, { error: `No such control. There are: ${Object.keys(controls).join(', ')}` });
      return;
    }
    sendJson(
      response,
      200,
      run({ simulation, query: url.searchParams, input: body === '' ? {} : JSON.parse(body) }),
    );
  } catch (error) {
    sendJson(response, 400, {
      error: error instanceof AwsError ? `${error.code}: ${error.message}` : String(error),
    });
  }
}

interface Control {
  readonly simulation: Simulation;
  readonly query: URLSearchParams;
  // biome-ignore lint/suspicious/noExplicitAny: only our own tests and demo call this; a wrong body fails loudly
  readonly input: any;
}

const controls: Readonly<Record<string, (control: Control) => unknown>> = {
  'GET ledger': ({ simulation, query }) => {
    const event = query.get('event');
    const entries = simulation.world.ledger.entries(Number(query.get('after') ?? 0));
    return { entries: event === null ? entries : entries.filter((entry) => entry.event === event) };
  },
  'GET state': ({ simulation }) => describeWorld(simulation.world),
  'GET faults': ({ simulation }) => ({ faults: simulation.faults.list() }),
  'POST faults': ({ simulation, input }) => ({
    ids: [input].flat().map((rule: AwsFaultRule) => simulation.faults.add(rule)),
  }),
  'DELETE faults': ({ simulation, query }) => {
    const id = query.get('id');
    if (id === null) simulation.faults.clear();
    else simulation.faults.remove(id);
    return { faults: simulation.faults.list() };
  },
  'POST clock': ({ simulation, input }) => {
    const change = input as { advanceMs?: number; timeScale?: number };
    if (change.timeScale !== undefined) simulation.world.clock.setTimeScale(change.timeScale);
    if (change.advanceMs !== undefined) simulation.world.clock.advance(change.advanceMs);
    return { now: simulation.world.clock.now() };
  },
  'POST groups': ({ simulation, input }) => ({
    groups: [input].flat().map((seed: GroupSeed) => describe(seedGroup(simulation.world, seed))),
  }),
  'POST external': ({ simulation, input }) => {
    const {
      region = DEFAULT_REGION,
      group,
      ...change
    } = input as ExternalChange & { region?: string; group: string };
    changeExternally(simulation.world, region, group, change);
    return { group: regionOf(simulation.world, region).groups.has(group) };
  },
  'POST capacity': ({ simulation, input }) => {
    const {
      region = DEFAULT_REGION,
      instanceType,
      limit,
    } = input as {
      region?: string;
      instanceType: string;
      limit: number | null;
    };
    limitCapacity(simulation.world, region, instanceType, limit);
    return {};
  },
};

/** How many instances of a type may exist in the region at once; null lifts the limit. */
export function limitCapacity(
  world: World,
  region: string,
  instanceType: string,
  limit: number | null,
): void {
  const limits = regionOf(world, region).capacityLimits;
  if (limit === null) limits.delete(instanceType);
  else limits.set(instanceType, limit);
}

export interface GroupView {
  readonly name: string;
  readonly region: string;
  readonly arn: string;
  readonly min: number;
  readonly max: number;
  readonly desired: number;
  readonly inService: number;
  readonly pending: number;
  readonly terminating: number;
  readonly status: string | null;
  readonly suspended: readonly string[];
  readonly instances: readonly Pick<Instance, 'id' | 'type' | 'zone' | 'lifecycle' | 'isProtected'>[];
}

export function describe(group: Group): GroupView {
  const count = (lifecycle: Instance['lifecycle']): number =>
    group.instances.filter((one) => one.lifecycle === lifecycle).length;
  return {
    name: group.name,
    region: group.region,
    arn: group.arn,
    min: group.min,
    max: group.max,
    desired: group.desired,
    inService: count('InService'),
    pending: count('Pending'),
    terminating: count('Terminating'),
    status: group.status ?? null,
    suspended: [...group.suspended.keys()],
    instances: group.instances.map(({ id, type, zone, lifecycle, isProtected }) => ({
      id,
      type,
      zone,
      lifecycle,
      isProtected,
    })),
  };
}

function describeWorld(world: World): { now: number; realNow: number; groups: readonly GroupView[] } {
  const groups = [...world.regions.values()].flatMap((region) => [...region.groups.values()].map(describe));
  return { now: world.clock.now(), realNow: Date.now(), groups };
}

function sendJson(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(value));
}
