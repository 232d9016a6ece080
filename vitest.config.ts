import os from 'node:os'
import { defineConfig } from 'vitest/config'

/** Processes, sockets and databases are real in these tests, and the machine may be small and busy. */
const seconds = (count: number) => ({ testTimeout: count * 1000, hookTimeout: count * 1000 })

export default defineConfig({
  test: {
    pool: 'forks',
    // They mostly wait for other programs: on two processors two of them at once take little more than half the time.
    maxWorkers: Math.max(2, os.availableParallelism() - 1),
    reporters: ['default', './scripts/counts.ts'],
    projects: [
      { test: { name: 'unit', include: ['src/**/*.test.ts', 'scripts/**/*.test.ts'], ...seconds(20) } },
      {
        test: {
          name: 'system',
          include: ['{test,demo,bench}/**/*.test.ts'],
          exclude: ['test/conformance/**'],
          ...seconds(60),
        },
      },
      { test: { name: 'conformance', include: ['test/conformance/**/*.test.ts'], ...seconds(120) } },
    ],
  },
})
