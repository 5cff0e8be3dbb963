import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { crc32 } from 'node:zlib';

const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** Uniformly random base62 text. Bytes from 248 up are rejected: modulo 62 they would favour some letters. */
function randomText(length: number): string {
  let text = '';
  while (text.length < length) {
    for (const byte of randomBytes(length))
      if (byte < 248 && text.length < length) text += alphabet[byte % 62];
  }
  return text;
}

/** A new key, `as_live_<id>_<secret: 256 bits>_<crc32>`; prefix and checksum let secret scanners recognise it. */
export function generateKey(): { id: string; secret: string; key: string } {
  const id = randomText(12);
  const secret = randomText(43);
  const body = `as_live_${id}_${secret}`;
  return { id, secret, key: `${body}_${checksum(body)}` };
}

/** The parts of a key; null when it is malformed or its checksum is wrong. */
export function parseKey(key: string): { id: string; secret: string } | null {
  const match = /^(as_live_([0-9A-Za-z]{12})_([0-9A-Za-z]{43}))_([0-9a-f]{8})$/.exec(key);
  if (match === null || checksum(match[1] as string) !== match[4]) return null;
  return { id: match[2] as string, secret: match[3] as string };
}

function checksum(text: string): string {
  return crc32(text).toString(16).padStart(8, '0');
}

/** The hash that is stored: HMAC-SHA-256. 256 random bits need no slow password hash. */
export function hashSecret(secret: string, pepper: string): Buffer {
  return createHmac('sha256', pepper).update(secret).digest();
}

/** Constant-time comparison. */
export function equalInConstantTime(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}
