import http from 'node:http'

/** An answer, as a program without MCP gets it. */
export interface HttpAnswer {
  readonly status: number
  readonly location?: string
  /** Which of its own reasons the gateway gives; absent where the API answered. */
  readonly refused?: string
  readonly body: string
  /** Everything: head and body. */
  readonly all: string
}

/**
 * Sends a GET exactly as it is written: `target` is not made tidy, as `fetch` would, and no redirect is followed.
 * @param to - Where the connection goes, whatever target and headers say.
 */
export function request(
  to: string,
  token: string,
  target: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<HttpAnswer> {
  const { hostname, port } = new URL(to)
  return new Promise((resolve, reject) => {
    const asked = http.get(
      {
        hostname,
        port,
        path: target,
        headers: { authorization: `Bearer ${token}`, ...headers },
        agent: false,
        signal: AbortSignal.timeout(10_000),
      },
      (res) => {
        let body = ''
        res.setEncoding('utf8').on('data', (text: string) => (body += text))
        res.on('error', reject)
        res.on('end', () => {
          const { location, 'sallyport-refused': refused } = res.headers
          resolve({
            status: res.statusCode ?? 0,
            ...(location === undefined ? {} : { location }),
            ...(typeof refused === 'string' ? { refused } : {}),
            body,
            all: `${res.rawHeaders.join('\n')}\n\n${body}`,
          })
        })
      },
    )
    asked.on('error', reject)
  })
}
