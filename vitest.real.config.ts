import { defineConfig } from 'vitest/config';
import base from './vitest.config.ts';

/** Real servers in the shapes that people run them in: minutes, and more than `npm test` can ask of a machine. */
export default defineConfig({
  test: {
    ...base.test,
    include: ['test/real/**/*.test.ts'],
    exclude: [],
    fileParallelism: false,
    testTimeout: 120_000,
    reporters: ['verbose'],
  },
});
