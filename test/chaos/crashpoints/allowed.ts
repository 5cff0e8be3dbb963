/** Points no scenario reaches, or not twice, each with the reason why that is right. A pattern matches the whole name. */
export const allowed: readonly { readonly pattern: RegExp; readonly reason: string }[] = [
  {
    pattern:
      /^shared\/db\/(events-repository:listEvents|jobs-repository:(findFinishedJobs|findRunningExecution|findJob|listJobs|countUnfinished|countWaiting|oldestWaitSeconds)|circuits-repository:listCircuits|fleet-holds-repository:listHolds|fleet-limits-repository:listFleetLimits|selectors-repository:covers(New)?):/,
    reason: 'a read of the API, not on these paths',
  },
  {
    pattern:
      /^shared\/db\/(audit-repository:auditMany|fleet-holds-repository:releaseHold|fleet-limits-repository:(set|delete)FleetLimits|protection-lock:changeProtection):/,
    reason: 'a change an operator makes through the API, in one statement or transaction of its own',
  },
  {
    pattern: /^shared\/db\/jobs-repository:insertJobs:/,
    reason: 'the API accepts jobs with it, one statement; the chaos suite kills the API',
  },
  {
    pattern: /^shared\/jobs\/job-waiters:JobWaiters\./,
    reason: 'an API process waiting for an answer; it writes nothing',
  },
  {
    pattern: /^shared\/queues\/queues:untilConnected:/,
    reason:
      'half a second that a process that has just started gives Redis; the rows are committed, and the relay finds them',
  },
  {
    pattern: /:(correlatedHold:tx\.query#2|fleetRefusal:audit#1) 2$/,
    reason: 'a hold trips once, and is not asked for again before an hour; its first time is enumerated',
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
