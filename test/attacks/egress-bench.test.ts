// agent-egress-bench (Apache-2.0): 151 cases of what a security tool between an agent and the network should block or
// let pass. Run here are those that are decided by where a request goes; what is in it is not inspected yet, and is
// said to be not inspected. The cases are data beside the repository.
import fs from 'node:fs'
import { describe, expect, test } from 'vitest'
import { startHttpGateway } from '../support/http.ts'
import { placeOf } from '../../src/gateway/http/host.ts'

interface Case {
  readonly id: string
  readonly category: string
  readonly expected_verdict: 'allow' | 'block'
  readonly payload: {
    readonly method?: string
    readonly url?: string
    readonly body?: string
    readonly content_type?: string
    readonly headers?: Readonly<Record<string, string>>
  }
}

const file = new URL('../../../shared/data/inspection/agent-egress-bench.json', import.meta.url)
const isThere = fs.existsSync(file)
const cases = isThere ? (JSON.parse(fs.readFileSync(file, 'utf8')) as Case[]) : []

/** Cases that say where a request goes; of the others the payload is a message of another protocol. */
const isRequest = ({ category, payload }: Case): boolean =>
  payload.url !== undefined && /^https?:/.test(payload.url) && !/^(?:response|false_positive)/.test(category)

/** An operator's allow-list for the benign cases: their hosts, and nothing else. `evil.example.com` is on nobody's. */
const allowed = ['api.github.com', 'docs.github.com', 'www.google.com', 'httpbin.org', 'cdnjs.cloudflare.com']

/** What becomes of a request that an agent makes, where each listed host is an API of which any GET and POST is listed. */
async function verdicts(list: readonly Case[]): Promise<ReadonlyMap<string, 'allow' | 'block'>> {
  const hosts = [
    ...new Set(
      list.flatMap(({ payload }) => (URL.parse(payload.url!) === null ? [] : [URL.parse(payload.url!)!.hostname])),
    ),
  ].filter((host) => allowed.includes(host))
  const alias = (host: string): string => `h${hosts.indexOf(host)}`
  const yaml = `
resources:
${hosts
  .map(
    (host) => `  ${alias(host)}:
    http: https://${host}
    operations:
      get: { request: "GET /{+path}", effect: read, query: { "*": { type: array } } }
      post: { request: "POST /{+path}", effect: write, query: { "*": { type: array } }, upload: {} }`,
  )
  .join('\n')}
agents:
  agent: { may: [${hosts.flatMap((host) => [`"${alias(host)}:get"`, `"${alias(host)}:post"`]).join(', ')}], limits: { repeats: unlimited } }
`
  const dialled: string[] = []
  const gateway = await startHttpGateway(yaml, {
    gateway: {
      egress: {
        resolve: async () => ['93.184.215.14'],
        dial: (options, callback) => {
          dialled.push(options.servername ?? '')
          callback(new Error('nothing is dialled in this test'), null)
        },
      },
    },
  })
  try {
    const { token } = await gateway.session('agent')
    const found = new Map<string, 'allow' | 'block'>()
    for (const { id, payload } of list) {
      const { method = 'GET', url = '', body, content_type: type, headers } = payload
      let place
      try {
        place = placeOf(url)
      } catch {
        found.set(id, 'block')
        continue
      }
      // A request to a host that is no API of the gateway has no address to go to: that is what an agent is told.
      const at = hosts.includes(place.host) ? alias(place.host) : 'nowhere'
      dialled.splice(0)
      const answer = await fetch(`${gateway.url}/api/${at}${place.path}${place.query}`, {
        method,
        // An agent proves to the gateway who it is; a credential of its own for elsewhere it has none.
        headers: {
          ...lowered(headers),
          authorization: `Bearer ${token}`,
          ...(type === undefined ? {} : { 'content-type': type }),
        },
        ...(body === undefined ? {} : { body }),
      })
      await answer.text()
      found.set(id, dialled.length > 0 ? 'allow' : 'block')
    }
    return found
  } finally {
    await gateway.close()
  }
}

const lowered = (headers: Readonly<Record<string, string>> = {}): Record<string, string> =>
  Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))

describe.skipIf(!isThere)('agent-egress-bench', () => {
  test('what is decided by where a request goes, by category', async () => {
    const run = cases.filter(isRequest)
    const found = await verdicts(run)
    const categories = [...new Set(cases.map(({ category }) => category))].sort()
    const table = categories.map((category) => {
      const all = cases.filter((each) => each.category === category)
      const tried = all.filter(({ id }) => found.has(id))
      const right = tried.filter(({ id, expected_verdict: wanted }) => found.get(id) === wanted)
      return {
        category,
        cases: all.length,
        run: tried.length,
        right: right.length,
        'not inspected yet': all.length - tried.length,
      }
    })
    console.table(table)
    const wrong = run.filter(({ id, expected_verdict: wanted }) => found.get(id) !== wanted).map(({ id }) => id)
    expect(wrong).toEqual([])
    expect(
      Object.fromEntries(
        table.filter(({ run: count }) => count > 0).map(({ category, run: count }) => [category, count]),
      ),
    ).toMatchInlineSnapshot(`
      {
        "crypto_financial": 6,
        "encoding_evasion": 6,
        "headers": 9,
        "hostname_exfiltration": 8,
        "request_body": 10,
        "ssrf_bypass": 9,
        "url": 15,
      }
    `)
  })

  test('a listed host that is blocked by what is sent to it has no case: content is not what decides here', () => {
    const blocked = cases
      .filter((one) => isRequest(one) && one.expected_verdict === 'block')
      .map(({ payload }) => URL.parse(payload.url!)?.hostname ?? '')
    expect(blocked.filter((host) => allowed.includes(host))).toEqual([])
  })
})

if (!isThere) console.warn(`agent-egress-bench is not run: ${file.pathname} is not there`)
