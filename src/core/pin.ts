import type { JsonObject } from './json.ts'

export type PinKind = 'tool' | 'prompt' | 'resource' | 'template' | 'instructions'

/**
 * What an upstream said of one of its operations, held to what it said at first. A definition that differs is
 * quarantined: refused until a person accepts the difference.
 */
export interface Pin {
  readonly resource: string
  readonly kind: PinKind
  readonly name: string
  readonly digest: string
  readonly definition: JsonObject
  readonly acceptedAt: number
  /** `first sight`, `configuration`, or the person. */
  readonly acceptedBy: string
  /** The changed definition that waits for a person. */
  readonly proposed?: { readonly digest: string; readonly definition: JsonObject; readonly seenAt: number }
}

/** Keeps pins. Each method is durable when it resolves. */
export interface PinStore {
  list(resource?: string): Promise<readonly Pin[]>
  /** Adds or replaces the pin of this resource, kind and name. */
  put(pin: Pin): Promise<void>
  remove(resource: string, kind: PinKind, name: string): Promise<void>
}
