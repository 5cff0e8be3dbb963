import type { ServiceClient } from './service-client.ts';

/** A change the service asked a cloud for, by that cloud's own record. */
export interface CloudWrite {
  readonly object: string;
  readonly from: number | null;
  readonly to: number | null;
}

interface Event {
  readonly success: boolean | null;
  readonly previous_instances: number | null;
  readonly new_instances: number | null;
}

const pageSize = 100;

/**
 * Lays the clouds' own ledgers beside the service's history, resource by resource and in order.
 * @returns how many changes both tell of. @throws Error at the first that only one of them knows.
 */
export async function reconcile(
  client: ServiceClient,
  resources: readonly { readonly id: string; readonly object: string }[],
  writes: readonly CloudWrite[],
): Promise<number> {
  let matched = 0;
  for (const { id, object } of resources) {
    const recorded = (await eventsOf(client, id)).filter((event) => event.success === true);
    const made = writes.filter((write) => write.object === object);
    for (let index = 0; index < Math.max(recorded.length, made.length); index++) {
      const [event, write] = [recorded[index], made[index]];
      if (event?.previous_instances !== write?.from || event?.new_instances !== write?.to) {
        throw new Error(
          `the history of ${object} and the cloud's ledger differ at change ${index + 1}: ${JSON.stringify({ event, write })}`,
        );
      }
      matched++;
    }
  }
  return matched;
}

/** Oldest first. */
async function eventsOf(client: ServiceClient, resourceId: string): Promise<Event[]> {
  const all: Event[] = [];
  let cursor: string | null = null;
  do {
    const page: { body: { events: Event[]; cursor: string | null } } = await client.call(
      'GET',
      `/scale/history?resource_id=${resourceId}&limit=${pageSize}${cursor === null ? '' : `&cursor=${cursor}`}`,
    );
    all.push(...page.body.events);
    cursor = page.body.cursor;
  } while (cursor !== null);
  return all.reverse();
}
