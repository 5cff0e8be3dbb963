/**
 * What a worker of this release can be relied on to do. Raise it, and say so in the changelog, when an older worker
 * beside this release would act wrongly; operators then raise `min_worker_version` and older workers claim nothing. 1
 * is every release that did not know the number.
 */
export const workerVersion = 2;
