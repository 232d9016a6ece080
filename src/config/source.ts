import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument, visit } from 'yaml'
import type { Document, Node } from 'yaml'

export type Path = readonly (string | number)[]

/** A place in the file. Lines and columns begin at 1. */
export interface Position {
  readonly line: number
  readonly column: number
}

/** Something found at a path of the data, before it has a place in the file. */
export interface Found {
  readonly path: Path
  readonly message: string
  /** Whether the key itself is meant. */
  readonly of?: 'key'
}

export interface Source {
  /** The text as plain data. Absent where the text is not YAML that we accept. */
  readonly data?: unknown
  readonly problems: readonly { readonly position: Position; readonly message: string }[]
  /** Where the value at a path stands, or its key; where there is none, what it would stand in. */
  position(path: Path, of?: 'value' | 'key'): Position
}

/** A file of settings is written by people: more than this is a mistake. In UTF-16 code units. */
const longestText = 2_000_000

/** How often anchors may be expanded, all in all: stops a small file that unfolds into a huge one. */
const mostAliases = 100

/**
 * Reads YAML 1.2 (core schema) strictly: keys are unique strings, there is one document, and neither tags of other
 * schemas nor directives nor merge keys.
 */
export function readSource(text: string): Source {
  if (text.length > longestText) return unreadable(`the file is larger than ${longestText / 1_000_000} MB`)
  const lines = new LineCounter()
  try {
    const document = parseDocument(text, {
      version: '1.2',
      schema: 'core',
      strict: true,
      uniqueKeys: true,
      stringKeys: true,
      prettyErrors: false,
      lineCounter: lines,
    })
    const at = (offset: number): Position => {
      const { line, col } = lines.linePos(offset)
      return { line: Math.max(1, line), column: Math.max(1, col) }
    }
    const position = (path: Path, of: 'value' | 'key' = 'value'): Position => at(offsetOf(document, path, of))
    const problems = [...document.errors, ...document.warnings].map(({ pos, message }) => ({
      position: at(pos[0]),
      message: firstLine(message),
    }))
    if (document.directives?.yaml.explicit === true)
      problems.push({ position: at(0), message: 'expected no `%YAML` directive: the file is YAML 1.2' })
    problems.push(...unwanted(document).map(({ offset, message }) => ({ position: at(offset), message })))
    if (problems.length > 0) return { problems, position }
    try {
      return { data: document.toJS({ maxAliasCount: mostAliases }) ?? {}, problems, position }
    } catch {
      return {
        problems: [{ position: at(0), message: `anchors are used too often (at most ${mostAliases} times)` }],
        position,
      }
    }
  } catch (thrown) {
    // The parser calls itself for each level: a file nested deeper than its stack ends here.
    return unreadable(thrown instanceof RangeError ? 'the file is nested too deeply' : 'the file is not YAML')
  }
}

/** What YAML has and we do not: tags, which make other things of values, and the one key that plain objects cannot have. */
function unwanted(document: Document): readonly { readonly offset: number; readonly message: string }[] {
  const found: { offset: number; message: string }[] = []
  visit(document, {
    Node(key, node) {
      if ('tag' in node && node.tag !== undefined)
        found.push({ offset: node.range?.[0] ?? 0, message: 'tags are not supported: write the value as it is' })
      if (key === 'key' && isScalar(node) && node.value === '__proto__')
        found.push({ offset: node.range?.[0] ?? 0, message: 'expected a name other than `__proto__`' })
    },
  })
  return found
}

const unreadable = (message: string): Source => {
  const start = { line: 1, column: 1 }
  return { problems: [{ position: start, message }], position: () => start }
}

const firstLine = (message: string): string => message.replace(/\n[^]*/, '')

function offsetOf(document: Document, path: Path, of: 'value' | 'key'): number {
  let node = resolved(document, document.contents)
  let offset = node?.range?.[0] ?? 0
  for (const [depth, segment] of path.entries()) {
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(segment))
      if (pair === undefined) return offset
      const last = depth === path.length - 1
      const [key, value] = [pair.key as Node, pair.value as Node | null]
      offset = (last && of === 'key' ? key : (value ?? key)).range?.[0] ?? offset
      node = resolved(document, value)
    } else if (isSeq(node)) {
      const item = node.items[Number(segment)] as Node | undefined
      if (item === undefined) return offset
      offset = item.range?.[0] ?? offset
      node = resolved(document, item)
    } else return offset
  }
  return offset
}

const resolved = (document: Document, node: Node | null): Node | null | undefined =>
  isAlias(node) ? node.resolve(document) : node

/** A path as people write it: `agents.reader.may[0].do`. */
export const pathText = (path: Path): string =>
  path.reduce<string>(
    (text, segment) =>
      typeof segment === 'number' ? `${text}[${segment}]` : text === '' ? segment : `${text}.${segment}`,
    '',
  )
