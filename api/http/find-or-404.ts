import type { NotFound } from '../../shared/errors.ts';

/** What a store found. @throws NotFound, made by `notFound`, when the store found nothing. */
export async function findOr404<T>(lookup: Promise<T | null>, notFound: () => NotFound): Promise<T> {
  const found = await lookup;
  if (found === null) throw notFound();
  return found;
}
