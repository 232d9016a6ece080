/**
 * The helpdesk's HTTP API, a program of its own: `HELPDESK_DB=desk.db HELPDESK_KEY=… HELPDESK_API_KEY=… node api.ts`. It
 * says on stdout where it listens, and ends with its input. Like many an API it has more endpoints than anybody needs,
 * redirects to wherever it is told, and its error pages show what came in.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { DeskError, openDesk } from './desk.ts'
import type { Desk } from './desk.ts'

/** Answers whoever has the key, and writes down every call of theirs. */
export const apiOf =
  (desk: Desk, key: string) =>
  (req: IncomingMessage, res: ServerResponse): void => {
    const say = (status: number, body: object): void =>
      void res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
    if (!isSame(req.headers.authorization ?? '', `Bearer ${key}`))
      return say(401, { error: 'the key is missing or wrong' })

    const { pathname, searchParams } = new URL(req.url ?? '/', 'http://helpdesk')
    const ended = desk.began(`${req.method} ${pathname}`, Object.fromEntries(searchParams))
    const customer = Number(searchParams.get('customer_id'))
    const [, order, more] = /^\/v1\/orders\/(\d{1,9})(\/parcel)?$/.exec(pathname) ?? []
    try {
      if (req.method !== 'GET') throw new DeskError(`there is no ${req.method} here`)
      if (pathname === '/v1/customers') say(200, desk.exportCustomers())
      else if (order === undefined) throw new DeskError(`there is no ${pathname}`)
      else if (more === undefined) say(200, desk.order(customer, Number(order)))
      else {
        desk.order(customer, Number(order))
        res.writeHead(302, { location: searchParams.get('carrier') ?? '/' }).end()
      }
      ended('done')
    } catch (thrown) {
      ended('failed')
      const what = thrown instanceof DeskError ? thrown.message : 'something went wrong'
      const came = Object.entries(req.headers).map(([name, value]) => `${name}: ${String(value)}`)
      res.writeHead(500, { 'content-type': 'text/plain' }).end([what, '', ...came, ''].join('\n'))
    }
  }

const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
const isSame = (one: string, other: string): boolean => timingSafeEqual(digest(one), digest(other))

if (import.meta.main) {
  const { HELPDESK_DB: file, HELPDESK_KEY: deskKey, HELPDESK_API_KEY: key } = process.env
  if (file === undefined || deskKey === undefined || key === undefined) {
    console.error('expected HELPDESK_DB, HELPDESK_KEY and, for those who call, HELPDESK_API_KEY')
    process.exit(2)
  }
  const server = createServer(apiOf(openDesk(file, deskKey), key))
  server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}`))
  process.stdin.resume().on('end', () => process.exit(0))
}
