import type { Label } from '../../core/label.ts'
import type { Effect } from '../../core/permission.ts'
import type { Era } from './wire.ts'

/** What the operator says of one tool. */
export interface ToolSetting {
  readonly effect: Effect
  readonly label: Label
}

/**
 * How the server is reached. What a reader returns may hold secrets: it is read when used, and kept nowhere. It may fail,
 * with words for people. Where there is a `mark`, the readers are as they were for as long as it is.
 */
export type McpTarget = { readonly mark?: string } & (
  | { readonly kind: 'http'; readonly url: string; readonly headers: () => Readonly<Record<string, string>> }
  | {
      readonly kind: 'stdio'
      readonly command: readonly string[]
      readonly cwd: string
      readonly env: () => Readonly<Record<string, string>>
    }
)

/** An MCP server behind the gateway, as the operator describes it. */
export interface McpResource {
  /** Its name in permissions, and the prefix of what it offers. */
  readonly alias: string
  readonly target: McpTarget
  readonly era: Era | 'auto'
  /** By the name that the server gives them. Tools that are not here count as `destroy`. */
  readonly tools: ReadonlyMap<string, ToolSetting>
  /** Label of what tools return that are not described. */
  readonly label: Label
  readonly resources: { readonly label: Label }
  readonly prompts: { readonly label: Label }
  /** Digests (SHA-256, hex) that definitions of tools have to have. Absent: they are held to what was seen first. */
  readonly pins?: ReadonlyMap<string, string>
  /** What the server may ask of an agent's client, where that can be asked. */
  readonly asks: { readonly elicitation: boolean; readonly sampling: boolean; readonly roots: boolean }
  /** Whether names are given out as `<alias>__<name>` and `<alias>+<uri>`. Without, at most one server should stand there. */
  readonly prefix: boolean
  /** Milliseconds that a call may take. */
  readonly timeout: number
  /** Bytes that a result may have. */
  readonly result: number
  /** Names of the secrets that go with each request to it. */
  readonly secrets?: readonly string[]
}
