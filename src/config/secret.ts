/** How a secret is read. */
export interface SecretSource {
  /** The value, for one use. Fails, with words for people, where it can't be had at present. */
  readonly read: () => string
  /** What it is made of, as configuration refers to it; empty where it stands in the file itself. */
  readonly uses: readonly string[]
  /** Whether it was read for good when the configuration was. */
  readonly isFixed: boolean
  /** Differs when the value does, and tells nothing of it; undefined where it can't be had at present. */
  readonly mark: () => string | undefined
}

/**
 * A value that nobody should read by accident: printing, logging, joining or serialising it gives its name alone.
 * `reveal` is called where the value is used, and nowhere else: each call is written down as a use.
 */
export class Secret {
  readonly name: string
  readonly #source: SecretSource

  constructor(name: string, source: SecretSource) {
    this.name = name
    this.#source = source
  }

  reveal(): string {
    return this.#source.read()
  }

  get uses(): readonly string[] {
    return this.#source.uses
  }

  get isFixed(): boolean {
    return this.#source.isFixed
  }

  mark(): string | undefined {
    return this.#source.mark()
  }

  toString(): string {
    return `[secret ${this.name}]`
  }

  toJSON(): string {
    return this.toString()
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return this.toString()
  }
}
