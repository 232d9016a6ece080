import { createServer, request } from 'node:http'
import type { IncomingMessage, RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { once } from 'node:events'
import { afterEach, describe, expect, test } from 'vitest'
import { startBearerProxy } from './bearer-proxy.ts'
import { startFixture } from './fixture-server.ts'
import { runSuite } from './suite.ts'

const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

async function target(listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  closing.push(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`
}

async function proxied(listener: RequestListener, headers: Record<string, string> = {}): Promise<string> {
  const proxy = await startBearerProxy(await target(listener), headers)
  closing.push(proxy.close)
  return proxy.url
}

describe('the proxy', () => {
  test('sets its headers over those of the client', async () => {
    const url = await proxied((req, res) => res.end(JSON.stringify([req.headersDistinct['authorization'], req.url])), {
      Authorization: 'Bearer right',
    })
    const answer = await fetch(`${url}?a=b`, { headers: { authorization: 'Bearer wrong' } })
    expect(await answer.json()).toEqual([['Bearer right'], '/mcp?a=b'])
  })

  test('names the target where the client named the proxy, and passes other names on', async () => {
    const url = await proxied((req, res) => res.end(JSON.stringify([req.headers.host, req.headers.origin])))
    const { host } = new URL(url)
    const seen = async (name: string) => {
      const sent = request(url, { headers: { host: name, origin: `http://${name}` } }).end()
      const [answer] = (await once(sent, 'response')) as [IncomingMessage]
      return JSON.parse((await answer.setEncoding('utf8').toArray()).join('')) as [string, string]
    }
    expect(await seen('evil.example.com')).toEqual(['evil.example.com', 'http://evil.example.com'])
    const [dialled, origin] = await seen(host)
    expect(dialled).not.toBe(host)
    expect(origin).toBe(`http://${dialled}`)
  })

  test('passes a body through unchanged, with the status and headers of the answer', async () => {
    const body = Buffer.from(Array.from({ length: 300_000 }, (_, index) => index % 256))
    const url = await proxied((req, res) => {
      res.writeHead(418, { 'x-length': req.headers['content-length'] ?? 'none', 'set-cookie': ['a=1', 'b=2'] })
      req.pipe(res)
    })
    const answer = await fetch(url, { method: 'POST', body })
    expect(answer.status).toBe(418)
    expect(answer.headers.get('x-length')).toBe(String(body.length))
    expect(answer.headers.getSetCookie()).toEqual(['a=1', 'b=2'])
    expect(Buffer.from(await answer.arrayBuffer()).equals(body)).toBe(true)
  })

  test('delivers an event before the stream ends, and tells the target when the client leaves', async () => {
    let left: Promise<unknown> | undefined
    const url = await proxied((_req, res) => {
      left = once(res, 'close')
      res.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: first\n\n')
    })
    const leave = new AbortController()
    const answer = await fetch(url, { signal: leave.signal })
    const { value } = await answer.body!.getReader().read()
    expect(new TextDecoder().decode(value)).toBe('data: first\n\n')
    leave.abort()
    await left
  })

  test('breaks the connection when the target breaks it', async () => {
    const url = await proxied((_req, res) => {
      res.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: first\n\n')
      setImmediate(() => res.destroy())
    })
    await expect(fetch(url).then((answer) => answer.text())).rejects.toThrow()
  })
})

test('the suite passes through the proxy against a server that asks for a token', { timeout: 150_000 }, async () => {
  const fixture = await startFixture({ token: 'open-sesame' })
  closing.push(fixture.close)
  expect((await fetch(fixture.url, { method: 'POST' })).status).toBe(401)

  const proxy = await startBearerProxy(fixture.url, { authorization: 'Bearer open-sesame' })
  closing.push(proxy.close)
  for (const revision of ['2025-11-25', '2026-07-28'] as const)
    expect((await runSuite({ url: proxy.url, revision })).failures).toEqual([])
  expect([...fixture.authorizations]).toEqual(['Bearer open-sesame'])
})
