import { sql as start } from './0001-start.ts'
import { sql as secrets } from './0002-secrets.ts'

/** Every step of the schema in order: number 1 is the first. A step that was released never changes; add another. */
export const migrations: readonly string[] = [start, secrets]
