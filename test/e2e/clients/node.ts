// A program of an agent: asks an API what it is told to ask, with one of the HTTP clients of Node, and says what it got.
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import { Agent as TlsAgent } from 'node:https'
import axios from 'axios'
import type { AxiosRequestConfig } from 'axios'
import got from 'got'
import { Agent, FormData as UndiciForm, interceptors, ProxyAgent, request } from 'undici'
import type { Answer, Ask } from '../../support/client.ts'

type Call = (ask: Ask, url: string) => Promise<{ status: number; headers: unknown; body: Uint8Array }>

const { BASE = '', ASKS = '[]', TOKEN, PROXY, CA } = process.env
const authorization: Record<string, string> = TOKEN === undefined ? {} : { authorization: `Bearer ${TOKEN}` }
const isJson = { 'content-type': 'application/json' }
const headersOf = ({ json }: Ask): Record<string, string> => ({
  ...authorization,
  ...(json === undefined ? {} : isJson),
})
const ca = CA === undefined ? undefined : fs.readFileSync(CA)

function formOf<T extends FormData | UndiciForm>(form: T, { file = '' }: Ask): T {
  form.set('title', 'of a file')
  form.set('file', new File([file], 'a.txt', { type: 'text/plain' }))
  return form
}

/** In each, a proxy is what the environment says, or an option of its own. */
const clients: Readonly<Record<string, () => Call>> = {
  fetch: () => async (ask, url) => {
    const body = ask.file === undefined ? ask.json : formOf(new FormData(), ask)
    const answer = await fetch(url, {
      method: ask.method,
      headers: headersOf(ask),
      ...(body === undefined ? {} : { body }),
    })
    return { status: answer.status, headers: [...answer.headers], body: await answer.bytes() }
  },
  undici() {
    const dispatcher = (
      PROXY === undefined
        ? new Agent()
        : new ProxyAgent({ uri: PROXY, ...(ca === undefined ? {} : { requestTls: { ca } }) })
    ).compose(interceptors.redirect({ maxRedirections: 5 }))
    return async (ask, url) => {
      const body = ask.file === undefined ? (ask.json ?? null) : formOf(new UndiciForm(), ask)
      const answer = await request(url, { method: ask.method as 'GET', headers: headersOf(ask), body, dispatcher })
      return { status: answer.statusCode, headers: answer.headers, body: await answer.body.bytes() }
    }
  },
  axios() {
    const { hostname, port, username, password } = new URL(PROXY ?? 'http://none')
    const proxied: AxiosRequestConfig =
      PROXY === undefined
        ? {}
        : { proxy: { protocol: 'http', host: hostname, port: Number(port), auth: { username, password } } }
    const trusting = ca === undefined ? {} : { httpsAgent: new TlsAgent({ ca }) }
    return async (ask, url) => {
      const data = ask.file === undefined ? ask.json : formOf(new FormData(), ask)
      const answer = await axios.request<ArrayBuffer>({
        url,
        method: ask.method,
        headers: headersOf(ask),
        data,
        responseType: 'arraybuffer',
        validateStatus: null,
        ...proxied,
        ...trusting,
      })
      return { status: answer.status, headers: answer.headers, body: Buffer.from(answer.data) }
    }
  },
  got() {
    const agent = PROXY === undefined ? {} : { agent: { https: new TlsAgent({ proxyEnv: { HTTPS_PROXY: PROXY } }) } }
    const trusting = ca === undefined ? {} : { https: { certificateAuthority: ca } }
    return async (ask, url) => {
      const body = ask.file === undefined ? ask.json : formOf(new FormData(), ask)
      const answer = await got(url, {
        method: ask.method as 'GET',
        headers: headersOf(ask),
        ...(body === undefined ? {} : { body }),
        responseType: 'buffer',
        throwHttpErrors: false,
        retry: { limit: 0 },
        ...agent,
        ...trusting,
      })
      return { status: answer.statusCode, headers: answer.headers, body: answer.body }
    }
  },
}

const call = clients[process.argv[2] ?? '']?.()
if (call === undefined) throw new TypeError(`expected one of ${Object.keys(clients).join(', ')}`)
const seen: unknown[] = []
for (const ask of JSON.parse(ASKS) as Ask[]) {
  const { status, headers, body } = await call(ask, BASE + ask.at)
  const bytes = Buffer.from(body)
  const answer: Answer = {
    status,
    headers: Array.isArray(headers)
      ? Object.fromEntries(headers as [string, string][])
      : (headers as Answer['headers']),
    body: bytes.length > 1_000_000 ? createHash('sha256').update(bytes).digest('hex') : bytes.toString(),
  }
  // Kept, so that whoever looks into the memory of this process finds it.
  seen.push(headers, bytes, answer)
  console.log(JSON.stringify(answer))
}
