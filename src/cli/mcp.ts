import { readFileSync } from 'node:fs'
import path from 'node:path'
import { isLoopback } from '../config/schema.ts'
import { Failure } from '../core/failure.ts'
import type { Bridge } from './bridge.ts'
import { command } from './command.ts'
import type { Io } from './io.ts'
import { errorCode, fileName, placeOf } from './place.ts'
import { safe } from './text.ts'

export const mcpCommand = command({
  name: 'mcp',
  summary: 'Speaks MCP over stdio, for agents that start their server as a program',
  options: {
    url: {
      type: 'string',
      value: '<address>',
      says: 'Where the gateway listens for agents; also `SALLYPORT_AGENTS_URL`.',
    },
    config: {
      type: 'string',
      value: '<file>',
      says: `${fileName}, for that address; default: beside the current folder or above it.`,
    },
  },
  notes: [
    'A thin bridge to a gateway that runs. The token of a session, or the key of an agent, comes from SALLYPORT_TOKEN, or',
    'from the file that SALLYPORT_TOKEN_FILE names. Standard output carries MCP and nothing else.',
  ],
  examples: ['SALLYPORT_TOKEN_FILE=/run/agent/token sallyport mcp --url http://127.0.0.1:7400'],
  async run({ values }, io) {
    const url = endpointOf(values, io)
    const credential = credentialOf(io)
    credential()
    // Loaded here: its HTTP client is nothing that other commands need.
    const { createBridge, longestLine } = await import('./bridge.ts')
    const bridge = createBridge({
      url,
      credential,
      write: writeLine,
      log: (line) => io.err(`sallyport mcp: ${safe(line)}`),
    })
    const onSignal = (): void => {
      io.stdin.pause()
      void bridge.close().finally(() => process.exit(0))
    }
    process.once('SIGTERM', onSignal)
    process.once('SIGINT', onSignal)
    await readLines(io.stdin, bridge, longestLine)
    await bridge.close()
    process.off('SIGTERM', onSignal)
    process.off('SIGINT', onSignal)
    return 0
  },
})

function endpointOf(values: { readonly url?: string; readonly config?: string }, io: Pick<Io, 'cwd' | 'env'>): string {
  const given = values.url ?? (io.env['SALLYPORT_AGENTS_URL'] || undefined)
  const text = given ?? placeOf(values, io)?.agents
  if (text === undefined)
    throw new Failure(
      'not_found',
      `no ${fileName} in ${safe(io.cwd)} or above: give --url, or set SALLYPORT_AGENTS_URL`,
    )
  const url = URL.parse(text)
  if (url === null || !['http:', 'https:'].includes(url.protocol) || url.username !== '' || url.password !== '')
    throw new Failure('invalid', 'expected an address such as `http://127.0.0.1:7400`, without a user name')
  if (given !== undefined && url.protocol === 'http:' && !isLoopback(url.hostname))
    throw new Failure(
      'invalid',
      `the token would go to ${url.host} unencrypted: use an \`https://\` address, or a tunnel to this machine`,
    )
  if (url.pathname === '/') url.pathname = '/mcp'
  return url.href
}

/** Reads the token each time, so that a file of it can be renewed. */
function credentialOf({ env, cwd }: Pick<Io, 'env' | 'cwd'>): () => string {
  const given = env['SALLYPORT_TOKEN']
  const file = env['SALLYPORT_TOKEN_FILE']
  if (given) return () => checkedToken(given, 'SALLYPORT_TOKEN')
  if (!file)
    throw new Failure(
      'not_found',
      'no token: set SALLYPORT_TOKEN, or SALLYPORT_TOKEN_FILE to a file of it; `sallyport sessions start <agent>` makes one',
    )
  return () => {
    try {
      return checkedToken(readFileSync(path.resolve(cwd, file), 'utf8'), safe(file))
    } catch (thrown) {
      if (thrown instanceof Failure) throw thrown
      throw new Failure('not_found', `the token at ${safe(file)} can’t be read (${errorCode(thrown)})`, {
        cause: thrown,
      })
    }
  }
}

function checkedToken(text: string, where: string): string {
  const token = text.trim()
  if (!/^[\x21-\x7e]{1,16384}$/.test(token)) throw new Failure('invalid', `${where} holds no token`)
  return token
}

/** Lines of the client, in order, each taken before the next is read. */
async function readLines(stdin: NodeJS.ReadableStream, bridge: Bridge, longest: number): Promise<void> {
  let kept: Buffer[] = []
  let [bytes, isSkipping] = [0, false]
  for await (const chunk of stdin) {
    let rest = Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk)
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      const line = Buffer.concat([...kept, rest.subarray(0, end)]).toString()
      const wasTooLong = isSkipping || bytes + end > longest
      rest = rest.subarray(end + 1)
      ;[kept, bytes, isSkipping] = [[], 0, false]
      await (wasTooLong ? bridge.tooLong() : bridge.take(line))
    }
    bytes += rest.length
    if (bytes > longest) [kept, isSkipping] = [[], true]
    else if (!isSkipping && rest.length > 0) kept.push(rest)
  }
  if (!isSkipping && bytes > 0) await bridge.take(Buffer.concat(kept).toString())
}

const writeLine = (line: string): Promise<void> =>
  new Promise((resolve) => {
    if (process.stdout.write(`${line}\n`)) resolve()
    else process.stdout.once('drain', resolve)
  })
