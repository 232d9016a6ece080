/** A value as JSON has it. Everything that comes from outside is one of these before anything else looks at it. */
export type Json = null | boolean | number | string | readonly Json[] | JsonObject
export interface JsonObject {
  readonly [key: string]: Json
}

/** Gives an object a field of its own, whatever its name is: `__proto__` set in the ordinary way would be none. */
export function setField(object: Record<string, Json>, name: string, value: Json): void {
  if (name === '__proto__')
    Object.defineProperty(object, name, { value, enumerable: true, writable: true, configurable: true })
  else object[name] = value
}
