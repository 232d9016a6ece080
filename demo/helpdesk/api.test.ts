import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { apiOf } from './api.ts'
import { createDesk, openDesk } from './desk.ts'
import type { Desk } from './desk.ts'

const folder = mkdtempSync(path.join(tmpdir(), 'helpdesk-api-'))
const key = 'hd_the-key-of-the-api'
let desk: Desk
let server: Server
let url: string

beforeAll(async () => {
  const file = path.join(folder, 'desk.db')
  createDesk(file, 'hd_the-key-of-the-desk')
  desk = openDesk(file, 'hd_the-key-of-the-desk')
  server = createServer(apiOf(desk, key))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterAll(async () => {
  await new Promise((resolve) => server.close(resolve))
  desk.close()
  rmSync(folder, { recursive: true, force: true })
})

const get = (at: string, credential = `Bearer ${key}`, method = 'GET') =>
  fetch(`${url}${at}`, { method, redirect: 'manual', headers: { authorization: credential } })

test.each(['', 'Bearer hd_another', `Basic ${key}`, key])(
  'the API answers nobody without its key: %j',
  async (given) => {
    const before = desk.calls().length
    expect((await get('/v1/orders/9001?customer_id=42', given)).status).toBe(401)
    expect(desk.calls()).toHaveLength(before)
  },
)

test('the API gives orders of a customer, and writes down who asked for what', async () => {
  const answer = await get('/v1/orders/9001?customer_id=42')
  expect(await answer.json()).toEqual({ id: 9001, item: 'desk lamp', paid_cents: 6_900 })
  expect(desk.calls().at(-1)).toMatchObject({
    tool: 'GET /v1/orders/9001',
    args: '{"customer_id":"42"}',
    state: 'done',
  })
})

test('the API has the faults that something has to stand before: it tells all, redirects anywhere, repeats keys', async () => {
  expect(await (await get('/v1/customers')).text()).toContain('otto@brandt.example')
  const parcel = await get('/v1/orders/9001/parcel?customer_id=42&carrier=http%3A%2F%2F127.0.0.1%3A1%2Fx')
  expect([parcel.status, parcel.headers.get('location')]).toEqual([302, 'http://127.0.0.1:1/x'])
  const page = await get('/v1/orders/9002?customer_id=42')
  expect(page.status).toBe(500)
  expect(await page.text()).toContain(`authorization: Bearer ${key}`)
  expect(desk.calls().at(-1)).toMatchObject({ state: 'failed' })
  for (const [at, method] of [
    ['/v1/orders/9001?customer_id=42', 'POST'],
    ['/nothing', 'GET'],
    ['/v1/orders/9001/parcel?customer_id=43', 'GET'],
  ] as const)
    expect({ at, status: (await get(at, undefined, method)).status }).toEqual({ at, status: 500 })
})
