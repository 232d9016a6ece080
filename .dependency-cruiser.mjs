// Who may import whom. Imports point inward: core <- guard, stores, config <- gateway, tools, control <- main.

const tests = '[.]test[.]ts$|(^|/)contract[.]ts$'
const parts = ['core', 'guard', 'stores', 'postgres', 'config', 'gateway', 'tools', 'control', 'cli', 'start']

/** A part of src may import itself, what is listed here (regular expressions for paths), and nothing else of src. */
const mayImport = {
  guard: ['^src/core/'],
  stores: ['^src/core/'],
  // What statements say and how a database is set up: configuration and gateway both need it.
  postgres: ['^src/core/'],
  config: ['^src/core/', '^src/guard/', '^src/postgres/'],
  tools: ['^src/core/', '^src/guard/'],
  control: ['^src/core/', '^src/guard/'],
  // What main.ts makes its parts from: settings, turned into what each part takes.
  start: ['^src/core/', '^src/guard/', '^src/postgres/', '^src/config/', '^src/gateway/', '^src/stores/'],
  // The command line checks files without a running server, reads copied logs, and knows the wire's shapes.
  cli: ['^src/core/', '^src/config/', '^src/stores/audit/', '^src/control/wire[.]ts$'],
}

/** @type {import('dependency-cruiser').IConfiguration} */
export default {
  forbidden: [
    {
      name: 'core-is-pure',
      comment: 'src/core imports nothing but itself: no other part, no package, nothing of Node',
      severity: 'error',
      from: { path: '^src/core/', pathNot: tests },
      to: { pathNot: '^src/core/' },
    },
    ...Object.entries(mayImport).map(([part, others]) => ({
      name: `${part}-imports`,
      comment: `src/${part} imports only itself${others.map((path) => `, ${path.replace(/[\^$[\]]/g, '')}`).join('')}`,
      severity: 'error',
      from: { path: `^src/${part}/`, pathNot: [tests, ...(part === 'cli' ? ['^src/cli/start[.]ts$'] : [])] },
      to: { path: '^src/', pathNot: [`^src/${part}/`, ...others] },
    })),
    {
      name: 'start-imports',
      comment: 'src/cli/start.ts is the one command that may also import src/main.ts',
      severity: 'error',
      from: { path: '^src/cli/start[.]ts$' },
      to: { path: '^src/', pathNot: ['^src/cli/', ...mayImport.cli, '^src/main[.]ts$'] },
    },
    {
      name: 'gateway-imports',
      comment: 'a gateway imports only itself, core, guard and (for SQL) postgres: never another gateway',
      severity: 'error',
      from: { path: '^src/gateway/([^/]+)(/|$)', pathNot: tests },
      to: { path: '^src/', pathNot: ['^src/core/', '^src/guard/', '^src/postgres/', '^src/gateway/$1(/|$)'] },
    },
    {
      name: 'unknown-part',
      comment: 'a new part of src needs its own line in .dependency-cruiser.mjs',
      severity: 'error',
      from: { path: '^src/', pathNot: [`^src/(${parts.join('|')})/`, '^src/main[.]ts$', tests] },
      to: {},
    },
    {
      name: 'only-start-imports-main',
      comment: 'src/main.ts knows every part; no part knows it',
      severity: 'error',
      from: { path: '^src/', pathNot: ['^src/cli/start[.]ts$', tests] },
      to: { path: '^src/main[.]ts$' },
    },
    {
      name: 'only-main-imports-start',
      comment: 'src/start belongs to src/main.ts',
      severity: 'error',
      from: { path: '^src/', pathNot: ['^src/main[.]ts$', '^src/start/', tests] },
      to: { path: '^src/start/' },
    },
    {
      name: 'no-tests-in-src',
      comment: 'the product imports nothing of test, demo, bench or scripts, and no test',
      severity: 'error',
      from: { path: '^src/', pathNot: tests },
      to: { path: ['^(test|demo|bench|scripts)/', tests] },
    },
    {
      name: 'no-development-packages',
      comment: 'the product imports packages of `dependencies` only, save the embedded database, which may be missing',
      severity: 'error',
      from: { path: '^src/', pathNot: [tests, '^src/gateway/postgres/pglite-worker[.]ts$'] },
      to: { dependencyTypes: ['npm-dev', 'npm-optional', 'npm-peer', 'npm-no-pkg', 'npm-unknown'] },
    },
    { name: 'no-cycles', comment: 'imports never go in a circle', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'resolvable',
      comment: 'every import leads somewhere',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    // TypeScript 7 has no programming interface that the cruiser could use; swc reads types-only imports as well.
    parser: 'swc',
    tsPreCompilationDeps: true,
    skipAnalysisNotInRules: false,
    doNotFollow: { path: '(^|/)node_modules/' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default', 'types'] },
  },
}
