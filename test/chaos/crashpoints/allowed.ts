/** Points no scenario reaches, or not twice, each with the reason why that is right. A pattern matches the whole name. */
export const allowed: readonly { readonly pattern: RegExp; readonly reason: string }[] = [
  {
    pattern:
      /^shared\/db\/(circuits-store:listCircuits|fleet-holds-store:listHolds|freezes-store:listFreezes|fleet-store:listLiveWorkers):/,
    reason: 'a read of the API, not on these paths',
  },
  {
    pattern:
      /^shared\/db\/(audit-store:auditMany|fleet-holds-store:releaseHold|protection-lock:changeProtection):/,
    reason: 'a change an operator makes through the API, in one statement or transaction of its own',
  },
  {
    pattern: /^shared\/db\/jobs-store:insertJobs:/,
    reason: 'the API accepts jobs with it, one statement; the chaos suite kills the API',
  },
  {
    pattern: /^shared\/queues\/queues:untilConnected:/,
    reason:
      'half a second that a process that has just started gives Redis; the rows are committed, and the relay finds them',
  },
  {
    pattern: /:(correlatedHold:tx\.query#2|readFleetFacts:audit#1) 2$/,
    reason: 'a hold trips once, and is not asked for again before an hour; its first time is enumerated',
  },
  {
    pattern: /^worker\/queue\/jobs-store:lockHeldJobs:/,
    reason: 'decide jobs, in one transaction that changes no cloud; the chaos suite kills their workers',
  },
  {
    pattern: /^worker\/upkeep\/upkeep-store:(saveHeartbeat|outdatedBy|countWaitingByQueue):/,
    reason: 'a heartbeat or a count for metrics, one statement, made again within seconds',
  },
  {
    pattern: /^worker\/execute\/floor-leases-store:(takeDueLeases|endLease):/,
    reason:
      'the sweep that gives floors back, every ten seconds until the lease has ended, whoever dies meanwhile',
  },
  {
    pattern: /^shared\/jobs\/batcher:Batcher\.run:this\.oneByOne#1 2$/,
    reason: 'a batch fails as a whole at most once in a scenario; its first time is enumerated',
  },
];

/** The reason why this point need not be reached; undefined when there is none. */
export function reasonFor(name: string): string | undefined {
  return allowed.find(({ pattern }) => pattern.test(name))?.reason;
}
