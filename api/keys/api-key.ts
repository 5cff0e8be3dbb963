import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { crc32 } from 'node:zlib';

const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** Random text, one of 62 letters a byte; the few values that would favour some letters are thrown away. */
function randomText(length: number): string {
  let text = '';
  while (text.length < length) {
    for (const byte of randomBytes(length))
      if (byte < 248 && text.length < length) text += alphabet[byte % 62];
  }
  return text;
}

/** `as_live_<id>_<43 letters: 256 bits>_<crc32>`: prefix and checksum let scanners recognise a leaked key. */
export function generateKey(): { id: string; secret: string; key: string } {
  const id = randomText(12);
  const secret = randomText(43);
  const body = `as_live_${id}_${secret}`;
  return { id, secret, key: `${body}_${checksum(body)}` };
}

/** The parts of a well-formed key, or null. */
export function parseKey(key: string): { id: string; secret: string } | null {
  const match = /^(as_live_([0-9A-Za-z]{12})_([0-9A-Za-z]{43}))_([0-9a-f]{8})$/.exec(key);
  if (match === null || checksum(match[1] as string) !== match[4]) return null;
  return { id: match[2] as string, secret: match[3] as string };
}

function checksum(text: string): string {
  return crc32(text).toString(16).padStart(8, '0');
}

/** What is stored: a fast keyed hash is right for 256 random bits; slow hashes are for passwords. */
export function hashSecret(secret: string, pepper: string): Buffer {
  return createHmac('sha256', pepper).update(secret).digest();
}

export function equalInConstantTime(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}
