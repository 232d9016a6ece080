import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  decodeHeader,
  encodeHeader,
  headerParamsOf,
  idOf,
  messageOf,
  missingFor,
  paramHeaders,
  paramMismatch,
} from './wire.ts'

describe('messages', () => {
  test('are requests, notifications or responses, and nothing else', () => {
    const base = { jsonrpc: '2.0' }
    expect(messageOf({ ...base, id: 1, method: 'a' })).toMatchObject({ kind: 'request', params: {} })
    expect(messageOf({ ...base, method: 'a', params: { b: 1 } })).toMatchObject({
      kind: 'notification',
      params: { b: 1 },
    })
    expect(messageOf({ ...base, id: 'x', result: {} })).toMatchObject({ kind: 'response', result: {} })
    expect(messageOf({ ...base, id: null, error: { code: -1, message: 'no' } })).toMatchObject({ kind: 'response' })
    const none = [
      null,
      1,
      [],
      {},
      base,
      { ...base, id: 1 },
      { ...base, id: 1, result: {}, error: { code: 1, message: '' } },
      { ...base, id: 1.5, method: 'a' },
      { ...base, id: 1, result: 'x' },
      { ...base, id: 1, error: { message: 'x' } },
      [{ ...base, id: 1, method: 'a' }],
    ]
    for (const each of none) expect(messageOf(each as never), JSON.stringify(each)).toBeUndefined()
  })

  test('any JSON value can be looked at', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(() => [messageOf(value as never), idOf(value as never), headerParamsOf(value as never)]).not.toThrow()
      }),
    )
  })
})

describe('mirrored headers', () => {
  test('carry any text, and nothing that ends a header', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary' }).filter((text) => text.isWellFormed()),
        (text) => {
          const header = encodeHeader(text)
          expect(header).toMatch(/^[\x20-\x7e]*$/)
          expect(header.trim()).toBe(header)
          expect(decodeHeader(header)).toBe(text)
        },
      ),
    )
  })

  test('that are no Base64 though they say so are told apart', () => {
    for (const wrong of ['=?base64?!?=', '=?base64?YQ?=', '=?base64?/w==?='])
      expect(decodeHeader(wrong)).toBeUndefined()
    expect(decodeHeader('=?base64?YQ==?=')).toBe('a')
  })

  test('are declared by properties that names alone lead to', () => {
    const region = { type: 'string', 'x-mcp-header': 'Region' }
    const schema = {
      type: 'object',
      properties: { region, deep: { type: 'object', properties: { n: { type: 'integer', 'x-mcp-header': 'N' } } } },
    }
    const params = headerParamsOf(schema)
    expect(params).toEqual([
      { header: 'mcp-param-region', path: ['region'], isNumber: false },
      { header: 'mcp-param-n', path: ['deep', 'n'], isNumber: true },
    ])
    const args = { region: 'a b', deep: { n: 42 } }
    const headers = paramHeaders(params as never, args)
    expect(headers).toEqual({ 'mcp-param-region': 'a b', 'mcp-param-n': '42' })
    expect(paramMismatch(params as never, args, headers)).toBeUndefined()
    expect(paramMismatch(params as never, args, { ...headers, 'mcp-param-n': '42.0' })).toBeUndefined()
    expect(paramMismatch(params as never, args, { ...headers, 'mcp-param-n': '43' })).toContain('mcp-param-n')
    expect(paramMismatch(params as never, { deep: {} }, {})).toBeUndefined()
    const wrong = [
      { properties: { a: { type: 'string', 'x-mcp-header': 'A\r\nAuthorization' } } },
      { properties: { a: { type: 'number', 'x-mcp-header': 'A' } } },
      { properties: { a: { type: 'object', 'x-mcp-header': 'A' } } },
      { properties: { a: region, b: { type: 'string', 'x-mcp-header': 'REGION' } } },
      { items: region },
      { properties: { a: { anyOf: [region] } } },
      { $defs: { a: region } },
      region,
    ]
    for (const each of wrong) expect(headerParamsOf(each as never), JSON.stringify(each)).toBeTypeOf('string')
  })
})

test('what a question needs has to be declared', () => {
  const cases: [method: string, params: object, declared: object, missing: object | undefined][] = [
    ['elicitation/create', {}, {}, { elicitation: { form: {} } }],
    ['elicitation/create', {}, { elicitation: {} }, undefined],
    ['elicitation/create', { mode: 'url' }, { elicitation: {} }, { elicitation: { url: {} } }],
    ['elicitation/create', { mode: 'url' }, { elicitation: { url: {} } }, undefined],
    ['elicitation/create', {}, { elicitation: { url: {} } }, { elicitation: { form: {} } }],
    ['sampling/createMessage', {}, {}, { sampling: {} }],
    ['sampling/createMessage', { tools: [] }, { sampling: {} }, { sampling: { tools: {} } }],
    ['sampling/createMessage', {}, { sampling: {} }, undefined],
    ['roots/list', {}, {}, { roots: {} }],
    ['roots/list', {}, { roots: {} }, undefined],
  ]
  for (const [method, params, declared, missing] of cases)
    expect(missingFor({ method, params: params as never }, declared)).toEqual(missing)
})
