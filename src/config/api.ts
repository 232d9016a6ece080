import type { Action } from '../core/action.ts'
import type { Label } from '../core/label.ts'
import type { CredentialSettings, OperationSettings } from './http.ts'
import type { ResolvedHttp } from './resolve.ts'
import type { Secret } from './secret.ts'

/** An operation with everything that was left out filled in. */
export interface ApiOperation extends Omit<OperationSettings, 'label'> {
  readonly label: Label
  readonly barred?: NonNullable<Action['barred']>
}

/** An API as the gateway takes it. What its credential is, is asked when it is used. */
export interface Api {
  readonly alias: string
  readonly base: string
  readonly credential: ApiCredential
  /** Names of the secrets that the credential is made of. */
  readonly secrets: readonly string[]
  readonly operations: ReadonlyMap<string, ApiOperation>
  readonly addresses: readonly string[]
  readonly ports: readonly number[]
  readonly redirects: 'none' | 'same-origin' | readonly string[]
}

type Reader = () => string

export type ApiCredential =
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
      readonly revokeUrl?: string
      readonly isPerSession: boolean
    }

/** What a document says of an operation, and whether it may be used. */
export interface DocumentedApi {
  readonly settings: OperationSettings
  readonly barred?: NonNullable<Action['barred']>
}

/** @param documented - The operations that a document describes, by id. */
export function apiOf(alias: string, resource: ResolvedHttp, documented: ReadonlyMap<string, DocumentedApi>): Api {
  const label = ({ trust = resource.trust, readers = resource.readers }: Partial<Label>): Label => ({ trust, readers })
  const written = Array.isArray(resource.operations)
    ? []
    : Object.entries(resource.operations).flatMap(([name, operation]): [string, ApiOperation][] =>
        operation.kind === 'written' ? [[name, { ...operation, label: label(operation.label) }]] : [],
      )
  const described = [...documented].map(([id, { settings, barred }]): [string, ApiOperation] => [
    id,
    { ...settings, label: label(settings.label), ...(barred === undefined ? {} : { barred }) },
  ])
  return {
    alias,
    base: resource.http,
    credential: credentialOf(resource.credential, resource.secrets),
    secrets: [...new Set(Object.values(resource.secrets).flatMap(({ uses }) => uses))],
    operations: new Map([...written, ...described]),
    addresses: resource.addresses,
    ports: resource.ports,
    redirects: resource.redirects,
  }
}

function credentialOf(
  credential: CredentialSettings | undefined,
  secrets: Readonly<Record<string, Secret>>,
): ApiCredential {
  const reader = (key: string): Reader => {
    const secret = secrets[key]
    if (secret === undefined) throw new TypeError(`the credential has no ${key}`)
    return () => secret.reveal()
  }
  switch (credential?.kind) {
    case undefined:
      return { kind: 'none' }
    case 'bearer':
      return { kind: 'bearer', token: reader('bearer') }
    case 'header':
      return { kind: 'header', name: credential.name, value: reader('header.value') }
    case 'basic':
      return { kind: 'basic', user: reader('basic.user'), password: reader('basic.password') }
    case 'query':
      return { kind: 'query', name: credential.name, value: reader('query.value') }
    case 'oauth':
      return {
        kind: 'oauth',
        tokenUrl: credential.tokenUrl,
        clientId: reader('oauth.client_id'),
        clientSecret: reader('oauth.client_secret'),
        ...(credential.scope === undefined ? {} : { scope: credential.scope }),
        ...(credential.revokeUrl === undefined ? {} : { revokeUrl: credential.revokeUrl }),
        isPerSession: credential.isPerSession,
      }
  }
}
