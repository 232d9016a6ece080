import type { JsonObject } from '../../core/json.ts'
import type { Label } from '../../core/label.ts'
import type { Database, Names, Verb } from '../../postgres/description.ts'
import type { Statement } from '../../postgres/verdict.ts'

/** A statement that the operator wrote, as a tool. */
export interface SqlTool {
  readonly sql: string
  /** What it does, found out when it was read. */
  readonly statement: Statement
  readonly description?: string
  /** JSON Schema of its arguments: an object. Their order is that of `$1`, `$2`, … */
  readonly schema: JsonObject
  readonly parameters: readonly string[]
  readonly rows?: number
  readonly label: Label
}

/** How a database is reached. Read each time that a connection is made, so that rotated secrets count. */
export interface Address {
  readonly host: string
  readonly port: number
  readonly database: string
  /** The gateway's own role. */
  readonly user: string
  readonly password: string
  readonly tls: { readonly ca?: string } | 'off'
}

/** What of a database an agent may ever be let near: what its role is granted. */
export interface Held {
  readonly tables: ReadonlyMap<string, ReadonlySet<Verb>>
  readonly tools: ReadonlySet<string>
}

/** A database behind the gateway, with how it is reached. */
export interface PostgresResource {
  readonly alias: string
  readonly database: Database
  readonly names: Names
  /** Fails where there is none. */
  readonly address: () => Address
  /** A database of its own in a folder, instead of an address; and a script that is run once in an empty one. */
  readonly embedded?: { readonly folder: string; readonly init?: string }
  /** Names of the stored secrets that the address is made of: for the record. */
  readonly secrets: readonly string[]
  /** Connections of one agent at one moment. */
  readonly connections: number
  readonly tools: ReadonlyMap<string, SqlTool>
  readonly held: ReadonlyMap<string, Held>
}
