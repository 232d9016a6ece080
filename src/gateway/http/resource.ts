import type { Json, JsonObject } from '../../core/json.ts'
import type { Action } from '../../core/action.ts'
import type { Label } from '../../core/label.ts'
import type { Effect } from '../../core/permission.ts'

/** A segment of a path: as it is written, or a place for one value, or for all segments that are left. */
export type Segment = string | { readonly name: string; readonly isRest: boolean }

export interface FileBounds {
  readonly types: readonly string[]
  /** Bytes. */
  readonly size: number
}

export interface WebSocketBounds {
  /** Bytes of one message, in each direction. */
  readonly message: number
  /** Milliseconds that it may be open. */
  readonly time: number
  /** Subprotocols that may be asked for; any, where it is absent. */
  readonly protocols?: readonly string[] | undefined
}

/** What the body of a request is. */
export type Content =
  | { readonly kind: 'none' }
  /** `isFlat`: the members are arguments themselves; else the whole is the argument `body`. */
  | { readonly kind: 'json'; readonly schema: JsonObject; readonly isFlat: boolean }
  | { readonly kind: 'form'; readonly schema: JsonObject }
  | { readonly kind: 'multipart'; readonly schema: JsonObject; readonly files: Readonly<Record<string, FileBounds>> }
  | ({ readonly kind: 'upload' } & FileBounds)

/** One operation of an API, as the operator or a document of the API describes it. */
export interface OperationDescription {
  readonly method: string
  /** As it was written, for the record. */
  readonly template: string
  readonly path: readonly Segment[]
  readonly pathNames: readonly string[]
  /** Schema of the values in path and query together. */
  readonly parameters: JsonObject
  readonly content: Content
  /** Headers of a request that are passed on, in lower case. */
  readonly headers: readonly string[]
  readonly effect: Effect
  readonly label: Label
  readonly description?: string
  /** Bytes, and milliseconds to the end of the answer. */
  readonly response: { readonly types: readonly string[]; readonly size: number; readonly time: number }
  /** Its request may open a WebSocket, within these bounds. */
  readonly websocket?: WebSocketBounds
  /** Schema of all arguments together. */
  readonly schema: JsonObject
  readonly barred?: NonNullable<Action['barred']>
}

/** Gives a secret when it is used. It is kept nowhere. */
export type Reader = () => string | Promise<string>

export type Credential =
  | { readonly kind: 'none' }
  | { readonly kind: 'bearer'; readonly token: Reader }
  | { readonly kind: 'header'; readonly name: string; readonly value: Reader }
  | { readonly kind: 'basic'; readonly user: Reader; readonly password: Reader }
  | { readonly kind: 'query'; readonly name: string; readonly value: Reader }
  | {
      readonly kind: 'oauth'
      readonly tokenUrl: string
      readonly clientId: Reader
      readonly clientSecret: Reader
      readonly scope?: string
      /** Where tokens are taken back (RFC 7009). Its origin is that of `tokenUrl`. */
      readonly revokeUrl?: string
      /** Whether each session gets its own token. */
      readonly isPerSession: boolean
    }

/** An API behind the gateway, as the operator describes it. */
export interface HttpResource {
  /** Its name in permissions and in `/api/<alias>/…`. */
  readonly alias: string
  /** Absolute, without a final `/`. */
  readonly base: string
  readonly credential: Credential
  /** Names of the stored secrets that the credential is made of: for the record. */
  readonly secrets?: readonly string[]
  readonly operations: ReadonlyMap<string, OperationDescription>
  /** Addresses and networks (`10.0.0.0/8`) that its host may be in although they are private. */
  readonly addresses: readonly string[]
  /** Certificates (PEM) that alone may sign that of its host; those that Node knows, unless said. */
  readonly ca?: string
  readonly ports: readonly number[]
  readonly redirects: 'none' | 'same-origin' | readonly string[]
}

export const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Whether a media type is of a list in which `*` stands for anything: `text/*`, `application/*+json`. */
export function isListedType(type: string, listed: readonly string[]): boolean {
  const [main = '', sub = ''] = type.split('/', 2)
  return listed.some((each) => {
    const [wantedMain = '', wantedSub = ''] = each.split('/', 2)
    if (wantedMain !== '*' && wantedMain !== main) return false
    return wantedSub === '*' || wantedSub === sub || (wantedSub.startsWith('*+') && sub.endsWith(wantedSub.slice(1)))
  })
}

/** The media type of a header: small letters, no parameters; empty where there is none. */
export function mediaTypeOf(header: string | undefined): string {
  const type = (header ?? '').replace(/;.*$/s, '').trim().toLowerCase()
  return /^[a-z0-9!#$&^_.+-]+\/[a-z0-9!#$&^_.+-]+$/.test(type) ? type : ''
}
