import type { Reporter, SerializedError, TestModule } from 'vitest/node'

/** Ends a test run with one plain line that a program can read: `12 passed, 0 failed`, and `, 1 skipped` if any was. */
export default class Counts implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[]): void {
    console.log(count(modules, unhandled))
  }
}

/** A file that could not be loaded, a hook that failed and an error outside any test count as one failure each. */
export function count(modules: readonly TestModule[], unhandled: readonly unknown[]): string {
  let passed = 0
  let failed = unhandled.length
  let skipped = 0
  for (const module of modules) {
    failed += module.errors().length
    for (const suite of module.children.allSuites()) failed += suite.errors().length
    for (const test of module.children.allTests()) {
      const { state } = test.result()
      if (state === 'passed') passed++
      else if (state === 'failed') failed++
      else skipped++
    }
  }
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`
}
