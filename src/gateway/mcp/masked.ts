import type { Json } from '../../core/json.ts'
import { UpstreamError } from './connection.ts'
import type { Connection, UpstreamCall } from './connection.ts'

/** Replaces what a server must not tell: the secrets that it was given, and those of others. */
export type Mask = <T extends Json>(value: T) => T

/** A connection whose server says nothing that was not masked: results, errors, logs, progress, questions, lists alike. */
export function maskedConnection(connection: Connection, mask: Mask): Connection {
  const asked = ({ onProgress, onLog, ask, ...call }: UpstreamCall): UpstreamCall => ({
    ...call,
    ...(onProgress === undefined
      ? {}
      : { onProgress: (progress) => onProgress({ ...progress, ...messageOf(progress) }) }),
    ...(onLog === undefined ? {} : { onLog: (params) => onLog(mask(params)) }),
    ...(ask === undefined ? {} : { ask: ({ method, params }) => ask({ method, params: mask(params) }) }),
  })
  const messageOf = ({ message }: { readonly message?: string }): { readonly message?: string } =>
    message === undefined ? {} : { message: mask(message) }

  return {
    ...connection,
    offers: mask(connection.offers),
    instructions: connection.instructions === undefined ? undefined : mask(connection.instructions),
    async call(call) {
      try {
        const { result, bytes } = await connection.call(asked(call))
        return { result: mask(result), bytes }
      } catch (thrown) {
        if (!(thrown instanceof UpstreamError)) throw thrown
        throw new UpstreamError(
          thrown.code,
          mask(thrown.message),
          thrown.data === undefined ? undefined : mask(thrown.data as Json),
        )
      }
    },
  }
}
