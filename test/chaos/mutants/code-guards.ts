/** A guard in the sources: taken out by replacing its exact text, and who must notice. */
export interface CodeGuard {
  readonly id: string;
  readonly file: string;
  /** Each text is found exactly once in the file. */
  readonly edits: readonly (readonly [find: string, replace: string])[];
  readonly killers: readonly Killer[];
}

/** Tests that must fail: a file, and what their names contain. */
export interface Killer {
  readonly file: string;
  readonly name?: string;
}

/** Guards of one file by their ids: who must notice that it is gone, then each text and what takes its place. */
const inFile = (
  file: string,
  guards: Readonly<Record<string, readonly [Killer[], find: string, replace: string, ...more: string[]]>>,
): CodeGuard[] =>
  Object.entries(guards).map(([id, [killers, ...texts]]) => ({
    id,
    file,
    edits: texts.flatMap((find, index) =>
      index % 2 === 0 ? [[find, texts[index + 1] as string] as const] : [],
    ),
    killers,
  }));

const execution = (name: string): Killer[] => [{ file: 'test/integration/execute-decision.test.ts', name }];
const between = (name: string): Killer[] => [
  { file: 'test/integration/execute-interleavings.test.ts', name },
];
const protection = (name: string): Killer[] => [{ file: 'test/integration/protection.test.ts', name }];
const jobs = (name: string): Killer[] => [{ file: 'test/integration/jobs.test.ts', name }];
const test = (file: string, name: string): Killer[] => [{ file: `test/${file}`, name }];

const guards = 'worker/engine/guards.ts';
const guardsStore = 'worker/execute/guards-store.ts';
const attemptsStore = 'worker/execute/attempts-store.ts';
const executionStore = 'worker/execute/execution-store.ts';
const protocol = 'worker/execute/protocol.ts';
const jobsStore = 'worker/queue/jobs-store.ts';
const claims = 'worker/queue/claims.ts';
const circuits = 'worker/execute/circuits-store.ts';
const aws = 'worker/providers/aws-auto-scaling.ts';
const kubernetes = 'worker/providers/kubernetes.ts';

/** Every guard in the sources that a test must miss when it is gone. */
export const codeGuards: readonly CodeGuard[] = [
  ...inFile('api/protection/routes.ts', {
    'audit, in the transaction of the change': [
      test('integration/api-audit.test.ts', 'never kept without one'),
      `await recordChange(tx, request, { action: 'control.stopped', subject: scope, detail });`,
      `await recordChange(pool, request, { action: 'control.stopped', subject: scope, detail }).catch(() => {});`,
    ],
  }),
  ...inFile('worker/decide/fleet-protections.ts', {
    'an open circuit whose time is over is tried': [
      test('integration/worker.test.ts', 'tries again when the time of an open circuit is over'),
      'row.scope === own && row.open_ms > 0',
      'row.scope === own && row.open',
    ],
  }),
  ...inFile('shared/db/pool.ts', {
    'sessions that may only read are given up': [
      test('integration/pool.test.ts', 'the next ones write again'),
      'if (isUnanswered(error) || codeOf(error) === readOnly) broken',
      'if (isUnanswered(error)) broken',
    ],
    'a server that gives no session is away': [
      test('integration/no-session.test.ts', 'is never our fault'),
      'error instanceof NoSession || isUnanswered(error)',
      'isUnanswered(error)',
    ],
  }),
  // T1: what an intent asks under its locks.
  ...inFile(guards, {
    'epoch check': [
      between('changed between its reading and its intent'),
      'execution?.epochMoved\n',
      'false\n',
    ],
    'decision expiry, at the intent': [
      between('grows too old while the cloud is read'),
      'execution?.expired\n',
      'false\n',
    ],
    'newer decision': [
      execution('refuses a decision once a newer one was carried out'),
      'execution?.newerAttempted\n',
      'false\n',
    ],
  }),
  ...inFile(guardsStore, {
    'newer decision, begun and come to nothing': [
      execution('refuses a decision once a newer one was begun'),
      "(n.state in ('executing', 'executed')\n            or exists (select 1 from attempts a where a.decision_id = n.id))",
      "(n.state in ('executing', 'executed'))",
    ],
  }),
  ...inFile(guards, {
    'another attempt is open': [
      test('unit/engine/guards.test.ts', 'refuse with resource_busy'),
      "execution?.attemptOpen || execution?.decisionState === 'executing'",
      'false',
    ],
  }),
  ...inFile(guardsStore, {
    'kill switch, the row': [
      execution('refuses with stopped'),
      "byEnvironment ? 'this worker (SCALER_STOP)' : stop_scope",
      "byEnvironment ? 'this worker (SCALER_STOP)' : null",
    ],
    'kill switch, SCALER_STOP': [
      between('SCALER_STOP'),
      "byEnvironment ? 'this worker (SCALER_STOP)' : stop_scope",
      'stop_scope',
    ],
  }),
  ...inFile('shared/domain/protection-scope.ts', {
    'kill switch, of everything': [between('is stopped'), "return ['global', ", "return ['', "],
  }),
  ...inFile('shared/db/migrations/0003_protection.sql', {
    'kill switch, observing': [
      protection('is released in two steps'),
      `where stopped and coalesce(observe_until, 'infinity') > clock_timestamp();`,
      'where stopped and observe_until is null;',
    ],
  }),
  ...inFile(attemptsStore, {
    'intents and stops take turns': [
      between('waits for a stop that is being committed'),
      '      await lockForIntent(tx);\n',
      '',
    ],
  }),
  ...inFile(guards, {
    'freeze windows': [
      protection('forbids scaling in and allows scaling out'),
      "  limiting('frozen', frozen),\n",
      '',
    ],
    'bounds, ours above': [
      execution('refuses with out_of_bounds'),
      'target > from ? target > max : target < min',
      'target > from ? false : target < min',
    ],
    'bounds, ours below': [
      between('never goes below the minimum'),
      'target > from ? target > max : target < min',
      'target > from ? target > max : false',
    ],
    "bounds, the cloud's above": [
      execution("keeps within the cloud's own bounds"),
      'const max = Math.min(bounds.max, cloudBounds.max ?? Number.POSITIVE_INFINITY);',
      'const max = bounds.max;',
      'if (!furtherOut && !cloudRefuses) return null;',
      'if (!furtherOut) return null;',
    ],
    "bounds, the cloud's whatever the direction": [
      between("never asks for less than the cloud's minimum"),
      'if (!furtherOut && !cloudRefuses) return null;',
      'if (!furtherOut) return null;',
    ],
    step: [
      execution('refuses with step_too_large'),
      'if (execution === null || delta <= execution.step) return null;',
      'if (delta >= 0) return null;',
    ],
    pause: [
      execution('refuses with paused'),
      'if (pausedUntilMs === null || pausedUntilMs <= nowMs) return null;',
      'if (nowMs > 0) return null;',
    ],
    cooldown: [
      execution('refuses with cooldown'),
      'if (leftMs <= 0 || from === 0) return null;',
      'if (nowMs > 0) return null;',
    ],
    'hourly limit': [execution('refuses past the hourly limit'), '      changes < limit\n', '      true\n'],
    'flap guard': [
      protection('is held high after three changes'),
      'if (target > from || limit === undefined || count <= limit) return null;',
      'if (count >= 0) return null;',
    ],
    'whoever asked must still be allowed to': [
      execution('may still do so when it is carried out'),
      'execution?.forbidden ? {',
      'false ? {',
    ],
    'circuit, at the intent': [
      between('whose circuit opens while the cloud is read'),
      'execution?.circuitOpen\n',
      'false\n',
    ],
  }),
  ...inFile(protocol, {
    'scaling in asks for what can go': [
      execution('asks for no more than can go'),
      'if (removable === undefined || from - target <= removable) return null;',
      'if (from !== target) return null;',
    ],
    'an outage ends nothing': [
      execution('waits for a cloud that is away'),
      "if (fault.fault === 'pre_send' || fault.fault === 'unavailable')",
      'if (error === null)',
    ],
  }),
  ...inFile('worker/upkeep/restore-floors.ts', {
    'a floor that somebody else has set': [
      test('contract/kubernetes-floor.test.ts', 'keeps what somebody else has set since'),
      'if (!lease.ours.includes(current)) {',
      'if (lease.ours.length === 0) {',
    ],
  }),
  ...inFile('worker/providers/advisory-read.ts', {
    'nothing is scaled in without an advisory read': [
      test('contract/aws-reading.test.ts', 'is not scaled in while'),
      "direction: 'down',",
      "direction: 'up',",
    ],
  }),
  ...inFile('worker/engine/data-quality.ts', {
    'a unit that nobody declared is doubted': [
      test('unit/engine/unit-doubt.test.ts', 'are doubted, and nothing is scaled in'),
      'policy.utilizationUnit === null ? doubtUnit(samples) : null',
      'policy.utilizationUnit === undefined ? doubtUnit(samples) : null',
    ],
  }),
  ...inFile('worker/engine/bound.ts', {
    'the last instance stays without a signal': [
      test('unit/engine/scale-to-zero.test.ts', 'keeps one without a signal'),
      "if (zero === null || zero.state === 'silent') return false;",
      'if (stepped >= 0) return false;',
    ],
  }),
  // What all resources of a scope may do together.
  ...inFile('worker/execute/fleet-facts.ts', {
    'budget of scaling in': [
      protection('is a share of the instances'),
      "    budgetFact('scale-in', scaleInAllowance(usage)),\n",
      '',
    ],
    'budget of changes': [
      protection('holds for both directions together'),
      "    budgetFact('change', changeAllowance(usage)),\n",
      '',
    ],
  }),
  ...inFile(guardsStore, {
    'budgets, one at a time': [
      protection('is not exceeded by many at once'),
      '  await lockFleet(tx, await limitedScopes(tx, view.resource.cloud_provider, own));\n',
      '',
    ],
  }),
  ...inFile(guards, {
    'correlated scale-in': [
      protection('is held, once too many resources'),
      "  limiting('correlated_scale_in', correlatedScaleIn),\n",
      '',
    ],
  }),
  ...inFile(circuits, {
    'circuit, opening': [
      protection('opens after five failures in a row'),
      'const failuresToOpen = 5;',
      'const failuresToOpen = 1_000;',
    ],
    'circuit, credentials': [
      protection('opens at once for credentials'),
      'or $4::integer = 1 or c.open_until',
      'or c.open_until',
    ],
  }),
  ...inFile(protocol, {
    'circuit, asked before the cloud is': [
      protection('opens after five failures in a row'),
      "view.circuit === 'open' && circuit === undefined",
      'false',
    ],
  }),
  ...inFile(circuits, {
    'circuit, one tries': [
      between('lets one worker try'),
      ` and coalesce(probe_until, '-infinity') < clock_timestamp()`,
      '',
    ],
  }),
  // The way of one execution.
  ...inFile(protocol, {
    'conflict: the cloud has another size': [
      execution('refuses when somebody else changed the size'),
      '    if (observed === expected) return null;\n',
      '    if (observed >= 0) return null;\n',
    ],
    'what blocks in the cloud': [
      execution("keeps within the cloud's own bounds"),
      'if (block === undefined) return null;',
      'if (block !== null) return null;',
    ],
    'an open attempt is resolved first': [
      execution('infers success from the cloud'),
      '  if (view.attempt !== null) return resolving;\n',
      '',
    ],
    'no new attempt while shutting down': [
      between('begins nothing while it shuts down'),
      '    stopping\n',
      '    false && stopping\n',
    ],
    'send deadline': [
      between('held up between intent and request'),
      'sinceBeginMs <= sendDeadlineMs && ',
      '',
    ],
    'send deadline, from the look at the cloud': [
      between('stopped between its look at the cloud and its intent'),
      ' && sinceLookMs <= lookLifetimeMs',
      '',
    ],
    'settle wait': [
      execution('waits while the request could still land'),
      '    mayStillArrive\n      ? postpone(',
      '    false\n      ? postpone(',
    ],
    'settle wait, after a success that was only seen': [
      execution('begins nothing while a write whose size was seen'),
      "{ ...succeeded('inferred', attempt.age_ms), mayStillArrive }",
      "{ ...succeeded('inferred', attempt.age_ms) }",
    ],
  }),
  ...inFile(guards, {
    'settle wait, at the next intent': [
      execution('begins nothing while a write whose size was seen'),
      'isoOrNull(execution?.settlesAtMs ?? null)',
      'isoOrNull(null)',
    ],
  }),
  ...inFile(protocol, {
    'no second write without proof that the first was not applied': [
      execution('does not write again what it cannot prove was not applied'),
      'if (isUntouched(attempt.fence, stateOf(facts).fence)) return null;',
      'if (facts !== null) return null;',
    ],
    'no second write to an object that somebody has written': [
      execution('somebody has written it'),
      'then.generation !== undefined && then.generation === now.generation',
      'true',
    ],
    'no second write to an object that was made anew': [
      execution('it was made anew'),
      '  if (then.uid === undefined || then.uid !== now.uid) return false;\n',
      '',
    ],
    'settle wait, of an object that is gone': [
      between('object that is gone'),
      "look.code === 'target_not_found' && attempt.settled",
      "look.code === 'target_not_found'",
    ],
    'an unknown outcome is not retried': [
      execution('infers success from the cloud'),
      "if (send?.fault?.fault !== 'unknown') return null;",
      'if (send !== null) return null;',
    ],
  }),
  ...inFile(attemptsStore, {
    'only an open attempt is closed': [
      execution('lets another worker resolve'),
      ` where a.id = $1 and a.state in ('open', 'unknown')\``,
      ' where a.id = $1`',
    ],
    'intent event': [
      execution('writes the intent before the request'),
      "    phase: 'intent',\n",
      "    phase: 'control',\n",
    ],
  }),
  ...inFile(executionStore, {
    'an observation older than our own change': [
      between('older than our own change'),
      'where r.id = $1 and r.epoch = $2::bigint',
      'where r.id = $1 and $2::bigint is not null',
    ],
    'an observation while a change is under way': [
      between('while our own change is under way'),
      `          and not exists (select 1 from attempts a where a.resource_id = r.id and a.state in ('open', 'unknown')) for update),`,
      '          for update),',
    ],
  }),
  // Jobs.
  ...inFile(jobsStore, {
    'fence of a claim': [
      jobs('lets a claim that was taken over finish nothing'),
      'fence = fence + 1, checked_fence = fence + 1, attempts',
      'checked_fence = fence, attempts',
    ],
    'fence, finishing': [
      jobs('claims once, finishes once'),
      `j.fence = v.fence and j.status = 'active'`,
      `j.status = 'active'`,
    ],
    'fence, postponing': [
      jobs('lets a lost fence postpone nothing'),
      `where id = $1 and fence = $2 and status = 'active' returning`,
      `where id = $1 and $2::integer is not null and status = 'active' returning`,
    ],
    lease: [
      jobs('claims once, finishes once'),
      `or (status = 'active' and lease_until < now()))`,
      `or status = 'active')`,
    ],
  }),
  ...inFile(claims, {
    'lease, renewed': [
      jobs('keeps a job for as long as its work takes'),
      '      await renewLeases(this.#pool, due, lease);\n',
      '',
    ],
    'lease, of work that never ends': [
      jobs('work that never ends'),
      ' && now - since < longest ? [job]',
      ' && now - since < longest * 1_000 ? [job]',
    ],
  }),
  ...inFile(jobsStore, {
    'fence, renewing': [
      jobs('renews no lease that is somebody else'),
      `j.status = 'active' and j.fence = v.fence`,
      `j.status = 'active'`,
    ],
    'nothing is claimed before its time': [
      jobs('postpones without spending an attempt'),
      ` and available_at <= now() + interval '50 milliseconds')`,
      ')',
    ],
    'min_worker_version, claiming': [
      jobs('too old claims nothing'),
      '$3::integer >= (select min_worker_version from fleet_settings)',
      '$3::integer is not null',
    ],
  }),
  ...inFile('worker/upkeep/relay.ts', {
    'relay: what Redis lost': [
      jobs('puts back what Redis lost'),
      '    if (lost.length > 0) await enqueue(queues, lost);\n',
      '',
    ],
    'relay: jobs of dead workers': [
      jobs('gives the jobs of dead workers back'),
      'const { released, poisoned } = await releaseAbandonedJobs(pool, poisonClaims);',
      'const { released, poisoned } = { released: [], poisoned: [] };',
    ],
  }),
  ...inFile(jobsStore, {
    poison: [
      jobs('buries a job that kills them'),
      'select id, attempts >= $1 and not exists (',
      'select id, $1::integer is null and not exists (',
    ],
    'no job is buried on an open attempt': [
      jobs('whose attempt is open'),
      `and not exists (\n          select 1 from attempts a where a.job_id = jobs.id and a.state in ('open', 'unknown')) as poisoned`,
      'as poisoned',
    ],
  }),
  ...inFile('api/http/idempotency-store.ts', {
    'idempotency: the body, of jobs': [
      jobs('makes one job of fifty requests'),
      'same: row.body_hash.equals(idempotency.body_hash)',
      'same: true',
    ],
    'idempotency: the body, of other requests': [
      test('integration/api-guards.test.ts', 'refuses another body under the same key'),
      `  if (!row.body_hash.equals(idempotency.body_hash)) return { kind: 'body_mismatch' };\n`,
      '',
    ],
  }),
  // The fences at the clouds.
  ...inFile(aws, {
    'AWS: signature pinned to the intent': [
      test('contract/aws.test.ts', 'lets a request die'),
      'this.#signingDate.run(new Date(options.intentAtMs), () => send(abortSignal)),',
      'send(abortSignal),',
    ],
    'AWS: the SDK does not retry': [
      test('contract/aws.test.ts', 'sends one request and takes'),
      'new AutoScalingClient({ region, maxAttempts: 1 })',
      'new AutoScalingClient({ region, maxAttempts: 3 })',
    ],
    'AWS: no cooldown but ours': [
      test('contract/aws.test.ts', 'never honours the cooldown'),
      'HonorCooldown: false',
      'HonorCooldown: true',
    ],
    'AWS: an answer of AWS itself': [
      test('contract/aws.test.ts', 'sends one request and takes'),
      '  if (answer.$metadata.requestId === undefined)\n',
      '  if (false)\n',
    ],
    'AWS: the region is one': [
      test('integration/api-ssrf.test.ts', 'a region'),
      '    if (!awsRegionPattern.test(region))\n',
      '    if (false)\n',
    ],
  }),
  ...inFile(kubernetes, {
    'Kubernetes: resourceVersion': [
      test('contract/kubernetes.test.ts', 'loses against whoever changed the workload'),
      'namespace: workload.namespace, uid, resourceVersion }',
      'namespace: workload.namespace, uid }',
    ],
    'Kubernetes: uid': [
      test('contract/kubernetes.test.ts', 'by its uid alone'),
      'namespace: workload.namespace, uid, resourceVersion }',
      'namespace: workload.namespace, resourceVersion }',
    ],
    'Kubernetes: resourceVersion of a floor': [
      test('contract/kubernetes-floor.test.ts', 'loses against whoever changed the autoscaler'),
      'const body = { metadata: { resourceVersion }, spec: { minReplicas } };',
      'const body = { spec: { minReplicas } };',
    ],
    'Kubernetes: no write without a fence': [
      test('contract/kubernetes.test.ts', 'writes nothing without the fence'),
      'if (uid === undefined || resourceVersion === undefined) throw fenceMissing();',
      '',
    ],
  }),
  ...inFile('worker/resilience/call-policy.ts', {
    'calls to a cloud are few at once': [
      test('unit/resilience/call-policy.test.ts', 'holds per region'),
      'if (scope.active >= options.concurrency) await waitForSlot(scope, operation, signal);\n    else scope.active++;',
      'scope.active++;',
    ],
  }),
  ...inFile('worker/resilience/deadline.ts', {
    'calls to a cloud end': [
      test('unit/resilience/deadline.test.ts', 'aborts the work'),
      '    () => controller.abort(new DOMException(',
      '    () => void (new DOMException(',
    ],
  }),
  // Who may come in.
  ...inFile('api/middleware/admission.ts', {
    'scope of a key': [
      test('integration/api-access.test.ts', 'answers a key with its scope, and no other'),
      'if (key.scopes.includes(scope)) return key;',
      'return key;',
    ],
  }),
  ...inFile('api/keys/keys-store.ts', {
    'expiry and revocation of a key': [
      test('integration/api-access.test.ts', 'answers a key with its scope, and no other'),
      ' where id = $1 and revoked_at is null and expires_at > now()`',
      ' where id = $1`',
    ],
  }),
  ...inFile('api/middleware/authenticate.ts', {
    'secret of a key': [
      test('integration/api-access.test.ts', 'answers a key with its scope, and no other'),
      'if (row === null || !matches ||',
      'if (row === null ||',
    ],
  }),
  ...inFile('api/middleware/guard-selectors.ts', {
    'selectors of a key': [
      test('integration/api-access.test.ts', 'for one that does not exist, and changes nothing'),
      "  if (request.selectors === null || route.scope === 'public') return;\n",
      '  return;\n',
    ],
  }),
  ...inFile('api/middleware/rate-limit.ts', {
    'rate limit': [
      test('integration/api-guards.test.ts', 'is counted in leases'),
      '      throw tooManyRequests(error.msBeforeNext);\n',
      '      this.#leases.set(key, { left: 1, until: performance.now() + 1_000 });\n',
    ],
  }),
  ...inFile('api/app.ts', {
    'a queue that is too long': [
      test('integration/api-guards.test.ts', 'refuse new ones with 503'),
      '      if (route.startsJob === true) await gate.pass(laneOf(route));\n',
      '',
    ],
  }),
  ...inFile('shared/db/pool.ts', {
    'a connection that is lost in a transaction': [
      test('integration/pool.test.ts', 'takes nothing else down'),
      `  client.on('error', onLost);\n`,
      '',
      `  pool.on('connect', (client) => client.on('error', () => {}));\n`,
      '',
    ],
  }),
];
