import { isIP } from 'node:net'
import { z } from 'zod'
import { Failure } from '../core/failure.ts'
import type { JsonObject } from '../core/json.ts'
import { duration, effect, readers, size, textRead, trust } from './forms.ts'
import { limitsOfHosts } from './limits.ts'

// Resources of kind `tunnel`: hosts that the proxy passes on unopened, by name alone.

export interface TunnelHost {
  readonly host: string
  readonly port: number
}

function parseTunnelHost(text: string): TunnelHost {
  const refuse = (): never => {
    throw new Failure(
      'invalid',
      'expected one host in small letters, and a port unless it is 443, such as `pypi.org` or `db.example.com:5433`',
    )
  }
  const [, shown = '', port = '443'] = /^(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::(\d{1,5}))?$/.exec(text) ?? []
  const host = shown.replace(/^\[(.*)\]$/, '$1')
  const url = URL.parse(`https://${shown}:${port}`)
  // What a URL would write in another way is no host name, or another address than it seems.
  if (url === null || url.hostname !== shown || Number(port) === 0) return refuse()
  const isName = host.split('.').every((label) => /^(?!-)[a-z0-9_-]{1,63}(?<!-)$/.test(label))
  if (isIP(host) === 0 && !isName) return refuse()
  return { host, port: Number(port) }
}

export const tunnelResource = z.strictObject({
  tunnel: z
    .array(textRead(parseTunnelHost))
    .min(1)
    .max(100)
    .describe(
      'Hosts that the proxy (`listen.proxy`) passes on unopened: `pypi.org`, or with a port. Their operation is `connect`, with the arguments `host` and `port`.',
    ),
  effect: effect.default('send').describe('What a connection may do to the world. Nobody sees what is in it.'),
  addresses: z
    .array(
      z.string().regex(/^[0-9A-Fa-f.:]{2,45}(?:\/\d{1,3})?$/, 'expected an address or a network, such as `10.0.0.0/8`'),
    )
    .max(100)
    .describe('Addresses that its hosts may have although they are private. None, unless a host is written as one.')
    .prefault([]),
  size: size.prefault('1 GB').describe('How much may pass in each direction of one connection.'),
  time: duration.prefault('1 h').describe('How long one connection may last.'),
  trust: trust.default('untrusted'),
  readers: readers.default('internal'),
  limits: limitsOfHosts,
})

/** JSON Schema of the arguments of `connect`. */
export const connectArguments: JsonObject = {
  type: 'object',
  properties: { host: { type: 'string' }, port: { type: 'integer' } },
  required: ['host', 'port'],
  additionalProperties: false,
}

export type TunnelResourceSettings = z.output<typeof tunnelResource>
