import fc from 'fast-check'
import { loadModule, parseSync } from 'libpg-query'
import { beforeAll, describe, expect, it } from 'vitest'
import { catalogText, isBuiltIn, isOnlyTurned } from './catalog.ts'
import type { CatalogReference } from './catalog.ts'

beforeAll(loadModule)

const at = (text: string, name: string, kind: CatalogReference['kind'], isQualified: boolean): CatalogReference => {
  const place = text.indexOf(name)
  if (place < 0) throw new Error(`${name} is not in ${text}`)
  return { name, kind, isQualified, at: Buffer.byteLength(text.slice(0, place)) }
}

const query = `select 'é', format_type(c.reltype, null), pg_catalog.pg_type.oid from Pg_Catalog.pg_class c, pg_catalog.pg_type where c.oid = cast($1 as regclass)`
const references = [
  at(query, 'format_type', 'function', false),
  at(query, 'pg_catalog.pg_type.oid', 'column', true),
  at(query, 'Pg_Catalog.pg_class', 'relation', true),
  at(query, 'pg_catalog.pg_type where', 'relation', true),
  at(query, 'regclass', 'type', false),
]
const turned = `select 'é', shown.format_type(c.reltype, null), shown.pg_type.oid from shown.pg_class c, shown.pg_type where c.oid = cast($1 as shown.regclass)`

describe('names of catalogs are turned', () => {
  it('where they are written, behind letters of more than one byte too', () =>
    expect(catalogText(query, references, 'shown')).toBe(turned))

  it('not where nothing is', () => expect(catalogText('select 1', [], 'shown')).toBeUndefined())

  it.each([
    ['quoted', 'select 1 from "pg_catalog".pg_class', '"pg_catalog"'],
    ['with a comment inside', 'select 1 from pg_catalog/**/.pg_class', 'pg_catalog'],
    ['with a space before the dot', 'select 1 from pg_catalog .pg_class', 'pg_catalog'],
    ['in unicode escapes', 'select 1 from U&"pg\\005fcatalog".pg_class', 'U&"pg'],
  ])('not where they are %s', (_, text, name) =>
    expect(catalogText(text, [at(text, name, 'relation', true)], 'shown')).toBeUndefined(),
  )
})

describe('what goes on is what was checked, but for the turned names', () => {
  const isSame = (text: string, given = references): boolean => {
    try {
      return isOnlyTurned(parseSync(query), parseSync(text), given, 'shown')
    } catch {
      return false
    }
  }

  it('and that is seen', () => expect(isSame(turned)).toBe(true))

  it.each([
    ['nothing turned', query],
    ['one not turned', turned.replace('shown.format_type', 'format_type')],
    ['a type not turned', turned.replace('shown.regclass', 'regclass')],
    ['another schema', turned.replace('shown.pg_class', 'other.pg_class')],
    ['another catalog', turned.replace('shown.pg_class', 'shown.pg_proc')],
    ['another value', turned.replace("'é'", "'e'")],
    ['one more column', turned.replace("'é'", "'é', 1")],
    ['one condition less', turned.replace(/ where.*/, '')],
    ['another statement behind it', `${turned}; select 1`],
    ['nothing at all', ''],
  ])('%s is seen', (_, text) => expect(isSame(text)).toBe(false))

  it('no reference is left over', () =>
    expect(isSame(turned, [...references, { name: 'x', kind: 'relation', isQualified: false, at: 3 }])).toBe(false))

  it('whatever single character is changed in it', () => {
    fc.assert(
      fc.property(fc.nat(turned.length - 1), fc.constantFrom('x', ' ', '"', '.', '(', "'", '1'), (place, letter) => {
        const changed = turned.slice(0, place) + letter + turned.slice(place + 1)
        if (!isSame(changed)) return
        // Only what the parser does not tell apart.
        expect(JSON.stringify(plain(parseSync(changed)))).toBe(JSON.stringify(plain(parseSync(turned))))
      }),
      { numRuns: 2000 },
    )
  })
})

const plain = (node: unknown): unknown =>
  JSON.parse(
    JSON.stringify(node, (key, value: unknown) => (/location|_len|list_(start|end)/.test(key) ? undefined : value)),
  )

describe('names that every database has', () => {
  it.each([
    ['pg_class', 'regclass', false],
    ['pg_catalog.pg_class', 'regclass', false],
    ['int', 'regtype', false],
    ['{int,int8,int2}', 'regtype', true],
    ['pg_catalog.array_in', 'regproc', false],
  ])('%s as %s', (text, type, isList) => expect(isBuiltIn(text, type, isList)).toBe(true))

  it.each([
    ['tickets', 'regclass', false],
    ['1259', 'regclass', false],
    ['information_schema.tables', 'regclass', false],
    ['pg_catalog.pg_catalog.pg_class', 'regclass', false],
    ['{pg_class,tickets}', 'regclass', true],
    ['{{pg_class}}', 'regclass', true],
    ['pg_class', 'regclass', true],
    ['citext', 'regtype', false],
    ['pg_read_file', 'regproc', false],
    ['', 'regclass', false],
    ['{}', 'regtype', true],
  ])('not %s as %s', (text, type, isList) => expect(isBuiltIn(text, type, isList)).toBe(false))
})
