// Checks what the product brings along: licences, install scripts, exact versions, and a reason for each dependency.
import { readFileSync } from 'node:fs'

export interface Locked {
  version?: string
  license?: string
  dev?: boolean
  devOptional?: boolean
  link?: boolean
  hasInstallScript?: boolean
  resolved?: string
}

interface Manifest {
  dependencies?: Record<string, string>
  devDependencies?: Record<string, string>
  optionalDependencies?: Record<string, string>
}

/** Licences (SPDX) whose code may be shipped with code under Apache-2.0, without conditions beyond a notice. */
const allowed = new Set([
  '0BSD',
  'Apache-2.0',
  'BlueOak-1.0.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'CC0-1.0',
  'ISC',
  'MIT',
  'Python-2.0',
  'Unlicense',
  'Zlib',
])

/** Whether an SPDX expression leaves a choice that `allowed` permits. What can't be read is not permitted. */
export function permits(expression: string): boolean {
  const tokens = expression.match(/[()]|[^\s()]+/g) ?? []
  const takes = (word: string) => tokens[0] === word && tokens.shift() !== undefined

  // Both sides are always read, so that what follows is found where it stands.
  const either = (): boolean => {
    let left = both()
    while (takes('OR')) left = both() || left
    return left
  }
  const both = (): boolean => {
    let left = one()
    while (takes('AND')) left = one() && left
    return left
  }
  const one = (): boolean => {
    if (!takes('(')) return allowed.has(tokens.shift() ?? '')
    const inner = either()
    return takes(')') && inner
  }
  return either() && tokens.length === 0
}

/** What is wrong with the packages that are installed with the product, a sentence each. */
export function faultsOfPackages(packages: Record<string, Locked>): string[] {
  return Object.entries(packages).flatMap(
    ([path, { version, license, dev, devOptional, link, hasInstallScript, resolved }]) => {
      const name = `${path.replace(/^.*node_modules\//, '')} ${version ?? ''}`.trim()
      const faults = []
      if (resolved && !link)
        faults.push(`${name}: package-lock.json holds a download address; .npmrc should prevent that`)
      if (path === '' || dev || devOptional || link || !path.includes('node_modules/')) return faults
      if (!license) faults.push(`${name}: no licence in package-lock.json`)
      else if (!permits(license))
        faults.push(`${name}: licence ${license} is not on the list in scripts/dependencies.ts`)
      if (hasInstallScript) faults.push(`${name}: runs a script when it is installed, which no runtime dependency may`)
      return faults
    },
  )
}

/** Versions in package.json that are ranges or tags. */
export function inexactVersions({ dependencies, devDependencies, optionalDependencies }: Manifest): string[] {
  return Object.entries({ ...dependencies, ...devDependencies, ...optionalDependencies })
    .filter(([, version]) => !/^\d+\.\d+\.\d+(-[\w.-]+)?$/.test(version))
    .map(([name, version]) => `${name}: \`${version}\` in package.json is not an exact version`)
}

/** Where docs/dependencies.md (a list item per dependency: its name in backticks, a colon, its reason) is out of step. */
export function undocumented({ dependencies = {} }: Manifest, page: string): string[] {
  const listed = [...page.matchAll(/^- `([^`]+)`: \S/gm)].map(([, name]) => name ?? '')
  const twice = listed.filter((name, index) => listed.indexOf(name) !== index)
  return [
    ...Object.keys(dependencies)
      .filter((name) => !listed.includes(name))
      .map((name) => `${name}: give its reason in docs/dependencies.md: a line "- \`${name}\`: why it is here"`),
    ...listed
      .filter((name) => !(name in dependencies))
      .map((name) => `${name}: docs/dependencies.md lists it, but package.json does not depend on it`),
    ...twice.map((name) => `${name}: docs/dependencies.md lists it twice`),
  ]
}

if (import.meta.main) {
  const manifest = JSON.parse(readFileSync('package.json', 'utf8')) as Manifest
  const lock = JSON.parse(readFileSync('package-lock.json', 'utf8')) as { packages: Record<string, Locked> }
  const faults = [
    ...faultsOfPackages(lock.packages),
    ...inexactVersions(manifest),
    ...undocumented(manifest, readFileSync('docs/dependencies.md', 'utf8')),
  ]
  for (const fault of faults) console.error(fault)
  if (faults.length > 0) process.exitCode = 1
}
