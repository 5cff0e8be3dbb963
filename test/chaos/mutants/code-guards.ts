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

const replace = (find: string, by: string): CodeGuard['edits'] => [[find, by]];
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

export const codeGuards: readonly CodeGuard[] = [
  {
    id: 'audit, in the transaction of the change',
    file: 'api/protection/routes.ts',
    edits: replace(
      `await recordChange(tx, request, { action: 'control.stopped', subject: scope, detail });`,
      `await recordChange(pool, request, { action: 'control.stopped', subject: scope, detail }).catch(() => {});`,
    ),
    killers: test('integration/api-audit.test.ts', 'never kept without one'),
  },
  {
    id: 'an open circuit whose time is over is tried',
    file: 'worker/decide/fleet-protections.ts',
    edits: replace('row.scope === own && row.open_ms > 0', 'row.scope === own && row.open'),
    killers: test('integration/worker.test.ts', 'tries again when the time of an open circuit is over'),
  },
  {
    id: 'sessions that may only read are given up',
    file: 'shared/db/pool.ts',
    edits: replace(
      'if (isUnanswered(error) || codeOf(error) === readOnly) broken',
      'if (isUnanswered(error)) broken',
    ),
    killers: test('integration/pool.test.ts', 'the next ones write again'),
  },
  // T1: what an intent asks under its locks.
  {
    id: 'epoch check',
    file: guards,
    edits: replace('execution?.epochMoved\n', 'false\n'),
    killers: between('changed between its reading and its intent'),
  },
  {
    id: 'decision expiry, at the intent',
    file: guards,
    edits: replace('execution?.expired\n', 'false\n'),
    killers: between('grows too old while the cloud is read'),
  },
  {
    id: 'newer decision',
    file: guards,
    edits: replace('execution?.newerAttempted\n', 'false\n'),
    killers: execution('refuses a decision once a newer one was carried out'),
  },
  {
    id: 'newer decision, begun and come to nothing',
    file: guardsStore,
    edits: replace(
      "(n.state in ('executing', 'executed')\n            or exists (select 1 from attempts a where a.decision_id = n.id))",
      "(n.state in ('executing', 'executed'))",
    ),
    killers: execution('refuses a decision once a newer one was begun'),
  },
  {
    id: 'another attempt is open',
    file: guards,
    edits: replace("execution?.attemptOpen || execution?.decisionState === 'executing'", 'false'),
    killers: execution('holds the resource against other decisions'),
  },
  {
    id: 'kill switch, the row',
    file: guardsStore,
    edits: replace(
      "byEnvironment ? 'this worker (SCALER_STOP)' : stop_scope",
      "byEnvironment ? 'this worker (SCALER_STOP)' : null",
    ),
    killers: execution('refuses with stopped'),
  },
  {
    id: 'kill switch, SCALER_STOP',
    file: guardsStore,
    edits: replace("byEnvironment ? 'this worker (SCALER_STOP)' : stop_scope", 'stop_scope'),
    killers: between('SCALER_STOP'),
  },
  {
    id: 'kill switch, of everything',
    file: 'shared/domain/protection-scope.ts',
    edits: replace("return ['global', ", "return ['', "),
    killers: between('is stopped'),
  },
  {
    id: 'kill switch, observing',
    file: 'shared/db/migrations/0003_protection.sql',
    edits: replace(
      `where stopped and coalesce(observe_until, 'infinity') > clock_timestamp();`,
      'where stopped and observe_until is null;',
    ),
    killers: protection('is released in two steps'),
  },
  {
    id: 'intents and stops take turns',
    file: attemptsStore,
    edits: replace('      await lockForIntent(tx);\n', ''),
    killers: between('waits for a stop that is being committed'),
  },
  {
    id: 'freeze windows',
    file: guards,
    edits: replace("  limiting('frozen', frozen),\n", ''),
    killers: protection('forbids scaling in and allows scaling out'),
  },
  {
    id: 'bounds, ours above',
    file: guards,
    edits: replace('target > from ? target > max : target < min', 'target > from ? false : target < min'),
    killers: execution('refuses with out_of_bounds'),
  },
  {
    id: 'bounds, ours below',
    file: guards,
    edits: replace('target > from ? target > max : target < min', 'target > from ? target > max : false'),
    killers: between('never goes below the minimum'),
  },
  {
    id: "bounds, the cloud's above",
    file: guards,
    edits: [
      [
        'const max = Math.min(bounds.max, cloudBounds.max ?? Number.POSITIVE_INFINITY);',
        'const max = bounds.max;',
      ],
      ['if (!furtherOut && !cloudRefuses) return null;', 'if (!furtherOut) return null;'],
    ],
    killers: execution("keeps within the cloud's own bounds"),
  },
  {
    id: "bounds, the cloud's whatever the direction",
    file: guards,
    edits: replace('if (!furtherOut && !cloudRefuses) return null;', 'if (!furtherOut) return null;'),
    killers: between("never asks for less than the cloud's minimum"),
  },
  {
    id: 'step',
    file: guards,
    edits: replace(
      'if (execution === null || delta <= execution.step) return null;',
      'if (delta >= 0) return null;',
    ),
    killers: execution('refuses with step_too_large'),
  },
  {
    id: 'pause',
    file: guards,
    edits: replace(
      'if (pausedUntilMs === null || pausedUntilMs <= nowMs) return null;',
      'if (nowMs > 0) return null;',
    ),
    killers: execution('refuses with paused'),
  },
  {
    id: 'cooldown',
    file: guards,
    edits: replace('if (leftMs <= 0) return null;', 'if (nowMs > 0) return null;'),
    killers: execution('refuses with cooldown'),
  },
  {
    id: 'hourly limit',
    file: guards,
    edits: replace('      changes < limit\n', '      true\n'),
    killers: execution('refuses past the hourly limit'),
  },
  {
    id: 'flap guard',
    file: guards,
    edits: replace(
      'if (target > from || limit === undefined || count <= limit) return null;',
      'if (count >= 0) return null;',
    ),
    killers: protection('is held high after three changes'),
  },
  {
    id: 'whoever asked must still be allowed to',
    file: guards,
    edits: replace('execution?.forbidden ? {', 'false ? {'),
    killers: execution('may still do so when it is carried out'),
  },
  {
    id: 'circuit, at the intent',
    file: guards,
    edits: replace('execution?.circuitOpen\n', 'false\n'),
    killers: between('whose circuit opens while the cloud is read'),
  },
  // What all resources of a scope may do together.
  {
    id: 'budget of scaling in',
    file: 'worker/execute/fleet-facts.ts',
    edits: replace("    budgetFact('scale-in', scaleInAllowance(usage)),\n", ''),
    killers: protection('is a share of the instances'),
  },
  {
    id: 'budget of changes',
    file: 'worker/execute/fleet-facts.ts',
    edits: replace("    budgetFact('change', changeAllowance(usage)),\n", ''),
    killers: protection('holds for both directions together'),
  },
  {
    id: 'budgets, one at a time',
    file: guardsStore,
    edits: replace(
      '  await lockFleet(tx, await limitedScopes(tx, view.resource.cloud_provider, own));\n',
      '',
    ),
    killers: protection('is not exceeded by many at once'),
  },
  {
    id: 'correlated scale-in',
    file: guards,
    edits: replace("  limiting('correlated_scale_in', correlatedScaleIn),\n", ''),
    killers: protection('is held, once too many resources'),
  },
  {
    id: 'circuit, opening',
    file: circuits,
    edits: replace('const failuresToOpen = 5;', 'const failuresToOpen = 1_000;'),
    killers: protection('opens after five failures in a row'),
  },
  {
    id: 'circuit, credentials',
    file: circuits,
    edits: replace('or $4::integer = 1 or c.open_until', 'or c.open_until'),
    killers: protection('opens at once for credentials'),
  },
  {
    id: 'circuit, asked before the cloud is',
    file: protocol,
    edits: replace("view.circuit === 'open' && circuit === undefined", 'false'),
    killers: protection('opens after five failures in a row'),
  },
  {
    id: 'circuit, one tries',
    file: circuits,
    edits: replace(` and coalesce(probe_until, '-infinity') < clock_timestamp()`, ''),
    killers: between('lets one worker try'),
  },
  // The way of one execution.
  {
    id: 'conflict: the cloud has another size',
    file: protocol,
    edits: replace('    if (observed === expected) return null;\n', '    if (observed >= 0) return null;\n'),
    killers: execution('refuses when somebody else changed the size'),
  },
  {
    id: 'what blocks in the cloud',
    file: protocol,
    edits: replace('return block === undefined ? null : refuse', 'return block !== null ? null : refuse'),
    killers: execution("keeps within the cloud's own bounds"),
  },
  {
    id: 'an open attempt is resolved first',
    file: protocol,
    edits: replace('  if (view.attempt !== null) return resolving;\n', ''),
    killers: execution('infers success from the cloud'),
  },
  {
    id: 'no new attempt while shutting down',
    file: protocol,
    edits: replace('    stopping\n', '    false && stopping\n'),
    killers: between('begins nothing while it shuts down'),
  },
  {
    id: 'send deadline',
    file: protocol,
    edits: replace('sinceBeginMs <= sendDeadlineMs && ', ''),
    killers: between('held up between intent and request'),
  },
  {
    id: 'send deadline, from the look at the cloud',
    file: protocol,
    edits: replace(' && sinceLookMs <= lookLifetimeMs', ''),
    killers: between('stopped between its look at the cloud and its intent'),
  },
  {
    id: 'settle wait',
    file: protocol,
    edits: replace('    mayStillArrive\n      ? postpone(', '    false\n      ? postpone('),
    killers: execution('waits while the request could still land'),
  },
  {
    id: 'settle wait, after a success that was only seen',
    file: protocol,
    edits: replace(
      "{ ...succeeded('inferred', attempt.age_ms), mayStillArrive }",
      "{ ...succeeded('inferred', attempt.age_ms) }",
    ),
    killers: execution('begins nothing while a write whose size was seen'),
  },
  {
    id: 'settle wait, at the next intent',
    file: guards,
    edits: replace('isoOrNull(execution?.settlesAtMs ?? null)', 'isoOrNull(null)'),
    killers: execution('begins nothing while a write whose size was seen'),
  },
  {
    id: 'no second write without proof that the first was not applied',
    file: protocol,
    edits: replace(
      'if (isUntouched(attempt.fence, stateOf(facts).fence)) return null;',
      'if (facts !== null) return null;',
    ),
    killers: execution('does not write again what it cannot prove was not applied'),
  },
  {
    id: 'no second write to an object that somebody has written',
    file: protocol,
    edits: replace('then.generation !== undefined && then.generation === now.generation', 'true'),
    killers: execution('somebody has written it'),
  },
  {
    id: 'no second write to an object that was made anew',
    file: protocol,
    edits: replace('  if (then.uid === undefined || then.uid !== now.uid) return false;\n', ''),
    killers: execution('it was made anew'),
  },
  {
    id: 'settle wait, of an object that is gone',
    file: protocol,
    edits: replace("look.code === 'target_not_found' && attempt.settled", "look.code === 'target_not_found'"),
    killers: between('object that is gone'),
  },
  {
    id: 'an unknown outcome is not retried',
    file: protocol,
    edits: replace("if (send?.fault?.fault !== 'unknown') return null;", 'if (send !== null) return null;'),
    killers: execution('infers success from the cloud'),
  },
  {
    id: 'only an open attempt is closed',
    file: attemptsStore,
    edits: replace(` where a.id = $1 and a.state in ('open', 'unknown')\``, ' where a.id = $1`'),
    killers: execution('lets another worker resolve'),
  },
  {
    id: 'intent event',
    file: attemptsStore,
    edits: replace("    phase: 'intent',\n", "    phase: 'control',\n"),
    killers: execution('writes the intent before the request'),
  },
  {
    id: 'an observation older than our own change',
    file: executionStore,
    edits: replace('where r.id = $1 and r.epoch = $2::bigint', 'where r.id = $1 and $2::bigint is not null'),
    killers: between('older than our own change'),
  },
  {
    id: 'an observation while a change is under way',
    file: executionStore,
    edits: replace(
      `          and not exists (select 1 from attempts a where a.resource_id = r.id and a.state in ('open', 'unknown')) for update),`,
      '          for update),',
    ),
    killers: between('while our own change is under way'),
  },
  // Jobs.
  {
    id: 'fence of a claim',
    file: jobsStore,
    edits: replace(
      'fence = fence + 1, checked_fence = fence + 1, attempts',
      'checked_fence = fence, attempts',
    ),
    killers: jobs('lets a claim that was taken over finish nothing'),
  },
  {
    id: 'fence, finishing',
    file: jobsStore,
    edits: replace(`j.fence = v.fence and j.status = 'active'`, `j.status = 'active'`),
    killers: jobs('claims once, finishes once'),
  },
  {
    id: 'fence, postponing',
    file: jobsStore,
    edits: replace(
      `where id = $1 and fence = $2 and status = 'active' returning`,
      `where id = $1 and $2::integer is not null and status = 'active' returning`,
    ),
    killers: jobs('lets a lost fence postpone nothing'),
  },
  {
    id: 'lease',
    file: jobsStore,
    edits: replace(`or (status = 'active' and lease_until < now()))`, `or status = 'active')`),
    killers: jobs('claims once, finishes once'),
  },
  {
    id: 'lease, renewed',
    file: claims,
    edits: replace('      await renewLeases(this.#pool, due, lease);\n', ''),
    killers: jobs('keeps a job for as long as its work takes'),
  },
  {
    id: 'lease, of work that never ends',
    file: claims,
    edits: replace(' && now - since < longest ? [job]', ' && now - since < longest * 1_000 ? [job]'),
    killers: jobs('work that never ends'),
  },
  {
    id: 'fence, renewing',
    file: jobsStore,
    edits: replace(`j.status = 'active' and j.fence = v.fence`, `j.status = 'active'`),
    killers: jobs('renews no lease that is somebody else'),
  },
  {
    id: 'nothing is claimed before its time',
    file: jobsStore,
    edits: replace(` and available_at <= now() + interval '50 milliseconds')`, ')'),
    killers: jobs('postpones without spending an attempt'),
  },
  {
    id: 'min_worker_version, claiming',
    file: jobsStore,
    edits: replace(
      '$3::integer >= (select min_worker_version from fleet_settings)',
      '$3::integer is not null',
    ),
    killers: jobs('too old claims nothing'),
  },
  {
    id: 'relay: what Redis lost',
    file: 'worker/upkeep/relay.ts',
    edits: replace('    if (lost.length > 0) await enqueue(queues, lost);\n', ''),
    killers: jobs('puts back what Redis lost'),
  },
  {
    id: 'relay: jobs of dead workers',
    file: 'worker/upkeep/relay.ts',
    edits: replace(
      'const { released, poisoned } = await releaseAbandonedJobs(pool, poisonClaims);',
      'const { released, poisoned } = { released: [], poisoned: [] };',
    ),
    killers: jobs('gives the jobs of dead workers back'),
  },
  {
    id: 'poison',
    file: jobsStore,
    edits: replace(
      'select id, attempts >= $1 and not exists (',
      'select id, $1::integer is null and not exists (',
    ),
    killers: jobs('buries a job that kills them'),
  },
  {
    id: 'no job is buried on an open attempt',
    file: jobsStore,
    edits: replace(
      `and not exists (\n          select 1 from attempts a where a.job_id = jobs.id and a.state in ('open', 'unknown')) as poisoned`,
      'as poisoned',
    ),
    killers: jobs('whose attempt is open'),
  },
  {
    id: 'idempotency: the body, of jobs',
    file: 'api/http/idempotency-store.ts',
    edits: replace('same: row.body_hash.equals(idempotency.body_hash)', 'same: true'),
    killers: jobs('makes one job of fifty requests'),
  },
  {
    id: 'idempotency: the body, of other requests',
    file: 'api/http/idempotency-store.ts',
    edits: replace(
      `  if (!row.body_hash.equals(idempotency.body_hash)) return { kind: 'body_mismatch' };\n`,
      '',
    ),
    killers: test('integration/api-guards.test.ts', 'refuses another body under the same key'),
  },
  // The fences at the clouds.
  {
    id: 'AWS: signature pinned to the intent',
    file: aws,
    edits: replace(
      'this.#signingDate.run(new Date(options.intentAtMs), () => scaling.send(command, { abortSignal })),',
      'scaling.send(command, { abortSignal }),',
    ),
    killers: test('contract/aws.test.ts', 'lets a request die'),
  },
  {
    id: 'AWS: the SDK does not retry',
    file: aws,
    edits: replace(
      'new AutoScalingClient({ region, maxAttempts: 1 })',
      'new AutoScalingClient({ region, maxAttempts: 3 })',
    ),
    killers: test('contract/aws.test.ts', 'sends one request and takes'),
  },
  {
    id: 'AWS: no cooldown but ours',
    file: aws,
    edits: replace('HonorCooldown: false', 'HonorCooldown: true'),
    killers: test('contract/aws.test.ts', 'never honours the cooldown'),
  },
  {
    id: 'AWS: an answer of AWS itself',
    file: aws,
    edits: replace('  if (answer.$metadata.requestId === undefined)\n', '  if (false)\n'),
    killers: test('contract/aws.test.ts', 'sends one request and takes'),
  },
  {
    id: 'AWS: the region is one',
    file: aws,
    edits: replace('    if (!awsRegionPattern.test(region))\n', '    if (false)\n'),
    killers: test('integration/api-ssrf.test.ts', 'a region'),
  },
  {
    id: 'Kubernetes: resourceVersion',
    file: kubernetes,
    edits: replace(
      'namespace: workload.namespace, uid, resourceVersion }',
      'namespace: workload.namespace, uid }',
    ),
    killers: test('contract/kubernetes.test.ts', 'loses against whoever changed the workload'),
  },
  {
    id: 'Kubernetes: uid',
    file: kubernetes,
    edits: replace(
      'namespace: workload.namespace, uid, resourceVersion }',
      'namespace: workload.namespace, resourceVersion }',
    ),
    killers: test('contract/kubernetes.test.ts', 'by its uid alone'),
  },
  {
    id: 'Kubernetes: resourceVersion of a floor',
    file: kubernetes,
    edits: replace(
      'const body = { metadata: { resourceVersion }, spec: { minReplicas } };',
      'const body = { spec: { minReplicas } };',
    ),
    killers: test('contract/kubernetes-floor.test.ts', 'loses against whoever changed the autoscaler'),
  },
  {
    id: 'Kubernetes: no write without a fence',
    file: kubernetes,
    edits: replace('if (uid === undefined || resourceVersion === undefined) throw fenceMissing();', ''),
    killers: test('contract/kubernetes.test.ts', 'writes nothing without the fence'),
  },
  {
    id: 'calls to a cloud are few at once',
    file: 'worker/resilience/call-policy.ts',
    edits: replace(
      'if (scope.active >= options.concurrency) await turn(scope, operation, signal);\n    else scope.active++;',
      'scope.active++;',
    ),
    killers: test('unit/resilience/call-policy.test.ts', 'holds per region'),
  },
  {
    id: 'calls to a cloud end',
    file: 'worker/resilience/deadline.ts',
    edits: replace('    () => controller.abort(new DOMException(', '    () => void (new DOMException('),
    killers: test('unit/resilience/deadline.test.ts', 'aborts the work'),
  },
  // Who may come in.
  {
    id: 'scope of a key',
    file: 'api/middleware/admission.ts',
    edits: replace('if (key.scopes.includes(scope)) return key;', 'return key;'),
    killers: test('integration/api-access.test.ts', 'answers a key with its scope, and no other'),
  },
  {
    id: 'expiry and revocation of a key',
    file: 'api/keys/keys-store.ts',
    edits: replace(' where id = $1 and revoked_at is null and expires_at > now()`', ' where id = $1`'),
    killers: test('integration/api-access.test.ts', 'answers a key with its scope, and no other'),
  },
  {
    id: 'secret of a key',
    file: 'api/middleware/authenticate.ts',
    edits: replace('if (row === null || !matches ||', 'if (row === null ||'),
    killers: test('integration/api-access.test.ts', 'answers a key with its scope, and no other'),
  },
  {
    id: 'selectors of a key',
    file: 'api/middleware/guard-selectors.ts',
    edits: replace("  if (request.selectors === null || route.scope === 'public') return;\n", '  return;\n'),
    killers: test('integration/api-access.test.ts', 'for one that does not exist, and changes nothing'),
  },
  {
    id: 'rate limit',
    file: 'api/middleware/rate-limit.ts',
    edits: replace(
      '      throw tooManyRequests(error.msBeforeNext);\n',
      '      this.#leases.set(key, { left: 1, until: performance.now() + 1_000 });\n',
    ),
    killers: test('integration/api-guards.test.ts', 'is counted in leases'),
  },
  {
    id: 'a queue that is too long',
    file: 'api/app.ts',
    edits: replace('      if (route.startsJob === true) await gate.pass(laneOf(route));\n', ''),
    killers: test('integration/api-guards.test.ts', 'refuse new ones with 503'),
  },
  {
    id: 'a connection that is lost in a transaction',
    file: 'shared/db/pool.ts',
    edits: [
      [`  client.on('error', onLost);\n`, ''],
      [`  pool.on('connect', (client) => client.on('error', () => {}));\n`, ''],
    ],
    killers: test('integration/pool.test.ts', 'takes nothing else down'),
  },
];
