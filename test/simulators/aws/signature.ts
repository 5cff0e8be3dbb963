import { createHash, createHmac } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { AwsError } from './aws-error.ts';
import { ACCOUNT_ID } from './state.ts';

/** The credential scope and the rest of a SigV4 Authorization header. */
export interface SignedIdentity {
  readonly accessKeyId: string;
  readonly date: string;
  readonly region: string;
  readonly service: string;
  readonly signedHeaders: readonly string[];
  readonly signature: string;
}

export interface Credential {
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  readonly isExpired?: boolean;
  /** IAM action names this key may not use, such as `autoscaling:SetDesiredCapacity`; `*` for all. */
  readonly denied?: readonly string[];
}

export interface SignaturePolicy {
  /** Absent: every key is known, none can be verified, only the form and the date are looked at. */
  readonly credentials: ReadonlyMap<string, Credential> | undefined;
  /** AWS: five minutes, both ways, against the server's own real clock. */
  readonly maxAgeMs: number;
  /** Services differ in how they word an old date; SignatureDoesNotMatch has been reported of query services too. */
  readonly expiredCode: 'RequestExpired' | 'SignatureDoesNotMatch';
}

export interface SignedRequest {
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  readonly action: string;
}

const AUTHORIZATION =
  /^AWS4-HMAC-SHA256 Credential=([^/\s,]+)\/(\d{8})\/([^/\s,]+)\/([^/\s,]+)\/aws4_request, ?SignedHeaders=([^,\s]+), ?Signature=([0-9a-f]{64})$/;

/** Who a request says it is from, unverified; undefined when it is not signed. */
export function readIdentity(headers: IncomingHttpHeaders): SignedIdentity | undefined {
  const match = AUTHORIZATION.exec(headers.authorization ?? '');
  if (match === null) return undefined;
  const [, accessKeyId = '', date = '', region = '', service = '', signedHeaders = '', signature = ''] =
    match;
  return { accessKeyId, date, region, service, signedHeaders: signedHeaders.split(';'), signature };
}

/** Throws what AWS would answer to a request that it cannot trust; in AWS's order: form, date, key, signature, rights. */
export function authenticate(
  request: SignedRequest,
  identity: SignedIdentity | undefined,
  policy: SignaturePolicy,
): void {
  if (request.headers.authorization === undefined) {
    throw new AwsError('MissingAuthenticationToken', 'Missing Authentication Token', 403);
  }
  if (identity === undefined) {
    throw new AwsError('IncompleteSignature', 'Authorization header is not a valid AWS4-HMAC-SHA256 header.');
  }
  checkDate(request, identity, policy);
  if (policy.credentials === undefined) return;
  const credential = policy.credentials.get(identity.accessKeyId);
  if (credential === undefined || !hasSessionToken(request, credential)) throw unknownKey(identity.service);
  if (credential.isExpired === true) {
    throw new AwsError('ExpiredToken', 'The security token included in the request is expired', 403);
  }
  if (expectedSignature(request, identity, credential.secretAccessKey) !== identity.signature) {
    throw new AwsError(
      'SignatureDoesNotMatch',
      'The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.',
      403,
    );
  }
  checkRights(request, identity, credential);
}

function checkDate(request: SignedRequest, identity: SignedIdentity, policy: SignaturePolicy): void {
  const stamp = String(request.headers['x-amz-date'] ?? '');
  const signedAt = parseStamp(stamp);
  if (signedAt === undefined || !stamp.startsWith(identity.date)) {
    throw new AwsError(
      'IncompleteSignature',
      'X-Amz-Date is missing, malformed, or not of the credential scope.',
    );
  }
  const now = Date.now();
  const minutes = policy.maxAgeMs / 60_000;
  if (now - signedAt > policy.maxAgeMs) {
    const limit = now - policy.maxAgeMs;
    throw new AwsError(
      policy.expiredCode,
      `Signature expired: ${stamp} is now earlier than ${formatStamp(limit)} (${formatStamp(now)} - ${minutes} min.)`,
      403,
    );
  }
  if (signedAt - now > policy.maxAgeMs) {
    const limit = now + policy.maxAgeMs;
    throw new AwsError(
      policy.expiredCode,
      `Signature not yet current: ${stamp} is still later than ${formatStamp(limit)} (${formatStamp(now)} + ${minutes} min.)`,
      403,
    );
  }
}

function parseStamp(stamp: string): number | undefined {
  const match = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(stamp);
  if (match === null) return undefined;
  const [, year, month, day, hour, minute, second] = match;
  return Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
}

function formatStamp(epochMs: number): string {
  return new Date(epochMs).toISOString().replace(/[-:]|\.\d{3}/g, '');
}

function hasSessionToken(request: SignedRequest, { sessionToken }: Credential): boolean {
  return sessionToken === undefined || request.headers['x-amz-security-token'] === sessionToken;
}

function unknownKey(service: string): AwsError {
  return service === 'ec2'
    ? new AwsError('AuthFailure', 'AWS was not able to validate the provided access credentials', 401)
    : new AwsError('InvalidClientTokenId', 'The security token included in the request is invalid.', 403);
}

function checkRights(request: SignedRequest, identity: SignedIdentity, { denied = [] }: Credential): void {
  const right = `${identity.service}:${request.action}`;
  if (!denied.includes('*') && !denied.includes(right)) return;
  throw identity.service === 'ec2'
    ? new AwsError('UnauthorizedOperation', 'You are not authorized to perform this operation.', 403)
    : new AwsError(
        'AccessDenied',
        `User: arn:aws:iam::${ACCOUNT_ID}:user/${identity.accessKeyId} is not authorized to perform: ${right} because no identity-based policy allows the ${right} action`,
        403,
      );
}

function expectedSignature(request: SignedRequest, identity: SignedIdentity, secret: string): string {
  const headers = identity.signedHeaders
    .map(
      (name) =>
        `${name}:${String(request.headers[name] ?? '')
          .trim()
          .replace(/ +/g, ' ')}\n`,
    )
    .join('');
  const canonical = [
    request.method,
    request.path,
    request.query,
    headers,
    identity.signedHeaders.join(';'),
    sha256(request.body),
  ].join('\n');
  const scope = `${identity.date}/${identity.region}/${identity.service}/aws4_request`;
  const text = ['AWS4-HMAC-SHA256', request.headers['x-amz-date'], scope, sha256(canonical)].join('\n');
  const key = [identity.date, identity.region, identity.service, 'aws4_request'].reduce<string | Buffer>(
    (previous, part) => createHmac('sha256', previous).update(part).digest(),
    `AWS4${secret}`,
  );
  return createHmac('sha256', key).update(text).digest('hex');
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
