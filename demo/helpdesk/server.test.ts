import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { Client } from '@modelcontextprotocol/client'
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio'
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createDesk, openDesk } from './desk.ts'
import type { Desk } from './desk.ts'

const server = fileURLToPath(new URL('server.ts', import.meta.url))
const folder = mkdtempSync(path.join(tmpdir(), 'helpdesk-'))
const key = 'hd_a-key-of-this-test'
let serial = 0

afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe.each(['legacy', 'auto'] as const)('the helpdesk, asked by an MCP client (%s)', (mode) => {
  let file: string
  let desk: Desk
  let client: Client

  beforeEach(async () => {
    file = path.join(folder, `${++serial}.db`)
    createDesk(file, key)
    desk = openDesk(file, key)
    client = new Client({ name: 'test', version: '1' }, { versionNegotiation: { mode } })
    await client.connect(
      new StdioClientTransport({
        command: process.execPath,
        args: [server],
        env: { HELPDESK_DB: file, HELPDESK_KEY: key },
        stderr: 'ignore',
      }),
    )
  })
  afterEach(async () => {
    await client.close()
    desk.close()
  })

  async function call(name: string, args: Record<string, unknown> = {}, signal?: AbortSignal) {
    const result = await client.callTool(
      { name, arguments: args },
      { timeout: 10_000, ...(signal === undefined ? {} : { signal }) },
    )
    const [block] = result.content as { text?: string }[]
    return { text: block?.text ?? '', isError: result.isError === true }
  }

  test('speaks both eras of the protocol', () => {
    expect(client.getNegotiatedProtocolVersion()).toBe(mode === 'legacy' ? '2025-11-25' : '2026-07-28')
  })

  test('does whatever it is told: that is why something has to stand before it', async () => {
    await call('delete_user', { user_id: 1 })
    expect(desk.count('users')).toBe(127)
    await call('delete_all_users')
    expect(desk.count('users')).toBe(0)
  })

  test('sends back no more than was paid', async () => {
    expect((await call('refund', { customer_id: 42, order_id: 9001, amount: 60.5 })).isError).toBe(false)
    expect(await call('refund', { customer_id: 42, order_id: 9001, amount: 9 })).toEqual({
      text: 'order 9001 has 8.50 EUR left to send back',
      isError: true,
    })
    expect((await call('refund', { customer_id: 42, order_id: 9002, amount: 1 })).isError).toBe(true)
    expect(desk.refunded()).toBe(6_050)
  })

  test('fetches from its own machine alone', async () => {
    const page = createServer((_, response) => response.end('parcel 7 is in Ghent'))
    await new Promise<void>((resolve) => page.listen(0, '127.0.0.1', resolve))
    const { port } = page.address() as AddressInfo
    try {
      expect((await call('fetch_url', { url: `http://127.0.0.1:${port}/parcels/7` })).text).toBe('parcel 7 is in Ghent')
    } finally {
      page.close()
    }
    for (const url of ['https://collector.example/upload', 'http://10.0.0.1/', 'file:///etc/passwd'])
      expect({ url, ...(await call('fetch_url', { url })) }).toMatchObject({ url, isError: true })
  })

  test('ends a slow search when it is cancelled, and says so', async () => {
    const leave = new AbortController()
    const search = call('search_archive', { customer_id: 42, text: 'order' }, leave.signal)
    await expect.poll(() => desk.calls().at(-1)?.state).toBe('running')
    leave.abort()
    await expect(search).rejects.toThrow()
    await expect.poll(() => desk.calls().at(-1)).toMatchObject({ tool: 'search_archive', state: 'cancelled' })
  })

  test('offers the refund rules as a resource', async () => {
    const { contents } = await client.readResource({ uri: 'helpdesk://rules/refunds' })
    expect(contents[0]).toMatchObject({ text: expect.stringContaining('100 EUR') })
  })

  test('writes down every call, failed ones too', async () => {
    await call('refund', { customer_id: 42, order_id: 9002, amount: 1 })
    await call('delete_user', { user_id: 999 })
    expect(desk.calls().map(({ tool, state }) => [tool, state])).toEqual([
      ['refund', 'failed'],
      ['delete_user', 'done'],
    ])
  })
})

test('the helpdesk opens with its key alone', () => {
  const file = path.join(folder, `${++serial}.db`)
  createDesk(file, key)
  expect(() => openDesk(file, 'hd_another')).toThrow('does not open with this key')
})
