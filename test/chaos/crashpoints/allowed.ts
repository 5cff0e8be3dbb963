/** Points no scenario reaches, or not twice, each with the reason why that is right. A pattern matches the whole name. */
export const allowed: readonly { readonly pattern: RegExp; readonly reason: string }[] = [];

/** The reason why this point need not be reached; undefined when there is none. */
export function reasonFor(name: string): string | undefined {
  return allowed.find(({ pattern }) => pattern.test(name))?.reason;
}
