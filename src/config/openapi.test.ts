import { expect, test } from 'vitest'
import type { JsonObject } from '../core/json.ts'
import { loadSettings } from './load.ts'
import { readDocuments } from './openapi.ts'
import type { Documented } from './openapi.ts'

const settings = (operations: string): string =>
  `resources:\n  api:\n    http: https://api.example\n    openapi: api.yaml\n    operations: ${operations}\n`

async function read(
  operation: JsonObject,
  more: {
    readonly version?: string
    readonly method?: string
    readonly path?: string
    readonly components?: JsonObject
    readonly text?: string
  } = {},
): Promise<Documented> {
  const { version = '3.1.0', method = 'post', path = '/v1/things', components = {}, text } = more
  const document = {
    openapi: version,
    info: { title: 't', version: '1' },
    paths: { [path]: { [method]: { operationId: 'op', ...operation } } },
    components,
  }
  const loaded = loadSettings(settings('[op]'), { file: '/etc/sallyport.yaml' })
  const documents = await readDocuments(loaded, async () => text ?? JSON.stringify(document))
  return documents.get('api')!.get('op')!
}
const body = (schema: JsonObject, type = 'application/json'): JsonObject => ({
  requestBody: { content: { [type]: { schema } } },
})

test('a document in YAML is read, and only what is named of it exists', async () => {
  const loaded = loadSettings(
    settings('{ listThings: { trust: trusted }, own: { request: GET /own, effect: read } }'),
    { file: '/etc/sallyport.yaml' },
  )
  const text = `
openapi: 3.0.3
info: { title: t, version: "1" }
paths:
  /things:
    get:
      operationId: listThings
      summary: Lists things
      parameters: [{ name: limit, in: query, required: true, schema: { type: integer, maximum: 10, exclusiveMaximum: true } }]
    delete: { operationId: removeThings }
`
  const documents = await readDocuments(loaded, async (path) => (path.endsWith('api.yaml') ? text : ''))
  expect([...documents.get('api')!.keys()]).toEqual(['listThings'])
  expect(documents.get('api')!.get('listThings')!.settings).toMatchObject({
    method: 'GET',
    effect: 'read',
    label: { trust: 'trusted' },
    description: 'Lists things',
    schema: { properties: { limit: { type: 'integer', exclusiveMaximum: 10 } }, required: ['limit'] },
  })
})

test('what is not said to be harmless destroys', async () => {
  expect((await read({})).settings.effect).toBe('destroy')
  expect((await read({}, { method: 'get' })).settings.effect).toBe('read')
})

test('references inside the document are followed, names of the author’s are kept', async () => {
  const { settings: made } = await read(body({ $ref: '#/components/schemas/Thing' }), {
    components: {
      schemas: {
        Thing: {
          type: 'object',
          required: ['example'],
          properties: { example: { $ref: '#/components/schemas/Name' }, 'x-y': { type: 'string' } },
          example: { a: 1 },
        },
        Name: { type: 'string', enum: ['$ref', 'a'] },
      },
    },
  })
  expect(made.content).toMatchObject({ kind: 'json', isFlat: true })
  expect(made.schema).toEqual({
    type: 'object',
    properties: { example: { type: 'string', enum: ['$ref', 'a'] }, 'x-y': { type: 'string' } },
    required: ['example'],
    additionalProperties: false,
  })
})

test('what 3.0 writes differently means the same', async () => {
  const { settings: made } = await read(
    body({
      type: 'object',
      properties: {
        a: { type: 'string', nullable: true },
        b: { type: 'integer', minimum: 1, exclusiveMinimum: true },
        c: { enum: ['x'], type: 'string', nullable: true },
        nullable: { type: 'boolean' },
      },
    }),
    { version: '3.0.1' },
  )
  expect(made.schema['properties']).toEqual({
    a: { type: ['string', 'null'] },
    b: { type: 'integer', exclusiveMinimum: 1 },
    c: { type: ['string', 'null'], enum: ['x', null] },
    nullable: { type: 'boolean' },
  })
})

test('forms, parts and files', async () => {
  expect(
    (
      await read(
        body(
          { type: 'object', properties: { a: { type: 'string' } }, required: ['a'] },
          'application/x-www-form-urlencoded',
        ),
      )
    ).settings,
  ).toMatchObject({ content: { kind: 'form', schema: { required: ['a'] } }, schema: { required: ['a'] } })
  expect(
    (
      await read(
        body(
          { type: 'object', properties: { title: { type: 'string' }, file: { type: 'string', format: 'binary' } } },
          'multipart/form-data',
        ),
      )
    ).settings.content,
  ).toMatchObject({ kind: 'multipart', files: { file: {} }, schema: { properties: { title: { type: 'string' } } } })
  expect((await read(body({ type: 'string', format: 'binary' }, 'image/png'))).settings.content).toMatchObject({
    kind: 'upload',
    types: ['image/png'],
  })
})

test.each<[string, JsonObject, object, RegExp]>([
  [
    'a schema that contains itself',
    body({ $ref: '#/components/schemas/Tree' }),
    {
      components: {
        schemas: { Tree: { type: 'object', properties: { child: { $ref: '#/components/schemas/Tree' } } } },
      },
    },
    /contains itself/,
  ],
  [
    'a reference out of the document',
    body({ $ref: 'https://evil.example/schema.json' }),
    {},
    /leads out of the document/,
  ],
  ['a reference that leads nowhere', body({ $ref: '#/components/schemas/None' }), {}, /leads nowhere/],
  ['a path with half a segment', {}, { path: '/a/{b}...{c}' }, /whole segment/],
  ['a cookie', { parameters: [{ name: 's', in: 'cookie', required: true }] }, {}, /cookie `s`/],
  [
    'a deep object',
    { parameters: [{ name: 's', in: 'query', style: 'deepObject', schema: { type: 'object' } }] },
    {},
    /not supported/,
  ],
  ['another version', {}, { version: '2.0' }, /version 3\.0 or 3\.1/],
  ['what is no document', {}, { text: ': [' }, /neither YAML nor JSON/],
])('%s stops the start, with its place', async (_title, operation, more, message) => {
  await expect(read(operation, more)).rejects.toThrow(/sallyport\.yaml:\d+:\d+: resources\.api\./)
  await expect(read(operation, more)).rejects.toThrow(message)
})

test('an id that is not there is answered with the nearest', async () => {
  const loaded = loadSettings(settings('[lisThings]'), { file: '/etc/sallyport.yaml' })
  const text = JSON.stringify({ openapi: '3.1.0', paths: { '/': { get: { operationId: 'listThings' } } } })
  await expect(readDocuments(loaded, async () => text)).rejects.toThrow(
    'resources.api.operations[0]: the document has no operation `lisThings`; did you mean `listThings`?',
  )
})

test('a document that can’t be read stops the start without its error', async () => {
  const loaded = loadSettings(settings('[op]'), { file: '/etc/sallyport.yaml' })
  await expect(readDocuments(loaded, async () => Promise.reject(new Error('EACCES /secret')))).rejects.toThrow(
    /^(?!.*EACCES).*the document can’t be read/s,
  )
})
