import { AwsError, validationError } from './aws-error.ts';
import { lowerFirst, type Parameters } from './query-form.ts';

/**
 * One page of items already in ascending order of `keyOf`, and the token for the next. Keys, not positions, so
 * that an item added or removed between two pages neither repeats nor hides another.
 */
export function paginate<Item>(
  items: readonly Item[],
  keyOf: (item: Item) => string,
  page: { readonly token: string | undefined; readonly size: number },
): { readonly page: readonly Item[]; readonly nextToken: string | undefined } {
  const after = page.token === undefined ? undefined : decodeToken(page.token);
  const rest = after === undefined ? items : items.filter((item) => keyOf(item) > after);
  const shown = rest.slice(0, page.size);
  const last = shown.at(-1);
  const nextToken = last !== undefined && rest.length > shown.length ? encodeToken(keyOf(last)) : undefined;
  return { page: shown, nextToken };
}

const TOKEN_MARK = 'page:';

function encodeToken(key: string): string {
  return Buffer.from(TOKEN_MARK + key).toString('base64url');
}

function decodeToken(token: string): string {
  const decoded = Buffer.from(token, 'base64url').toString();
  if (!decoded.startsWith(TOKEN_MARK)) {
    throw new AwsError('InvalidNextToken', "The token 'NextToken' is invalid.");
  }
  return decoded.slice(TOKEN_MARK.length);
}

export function pageSize(
  parameters: Parameters,
  name: string,
  limits: { readonly standard: number; readonly most: number },
): number {
  const size = parameters.integer(name) ?? limits.standard;
  const bound =
    size < 1
      ? 'greater than or equal to 1'
      : size > limits.most
        ? `less than or equal to ${limits.most}`
        : '';
  if (bound === '') return size;
  throw validationError(
    `1 validation error detected: Value '${size}' at '${lowerFirst(name)}' failed to satisfy constraint: Member must have value ${bound}`,
  );
}
