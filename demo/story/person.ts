import type { WireError } from '../../src/control/wire.ts'

export interface Answered<T> {
  readonly status: number
  readonly body: T
}

/** The people's side as anybody sees it who holds a credential of any kind. */
export interface PeoplesSide {
  get<T>(path: string): Promise<Answered<T>>
  post<T>(path: string, body: object): Promise<Answered<T>>
  delete<T>(path: string): Promise<Answered<T>>
}

export function peoplesSide(url: string, credential: string): PeoplesSide {
  async function request<T>(method: string, path: string, body?: object): Promise<Answered<T>> {
    const response = await fetch(`${url}${path}`, {
      method,
      redirect: 'error',
      signal: AbortSignal.timeout(20_000),
      headers: {
        authorization: `Bearer ${credential}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    return { status: response.status, body: (await response.json()) as T }
  }
  return {
    get: (path) => request('GET', path),
    post: (path, body) => request('POST', path, body),
    delete: (path) => request('DELETE', path),
  }
}

/** The answer, where there has to be one. */
export function given<T>({ status, body }: Answered<T>): T {
  if (status === 200) return body
  throw new Error(`the people's side answered ${status}: ${errorOf({ status, body })}`)
}

/** What was said to somebody who got nothing. */
export const errorOf = ({ body }: Answered<unknown>): string =>
  (body as Partial<WireError>).error?.message ?? 'something else than an error'
