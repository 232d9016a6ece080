/** A value as JSON has it. Everything that comes from outside is one of these before anything else looks at it. */
export type Json = null | boolean | number | string | readonly Json[] | JsonObject
export interface JsonObject {
  readonly [key: string]: Json
}
