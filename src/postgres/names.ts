import { createHash } from 'node:crypto'
import type { Names } from './description.ts'

/** What PostgreSQL keeps of a name, in bytes (NAMEDATALEN - 1). It cuts longer ones without a word. */
const longest = 63

/** Names of what is made in the database for a resource. Different agents of one resource have different roles. */
export function namesOf(alias: string): Names {
  const policy = fit(`sallyport_${plain(alias)}`, longest - '_internal'.length)
  const owner = `${policy}_owner`
  return {
    policy,
    internal: `${policy}_internal`,
    catalog: `${policy}_catalog`,
    owner,
    agent: (agent) => {
      const role = `${policy}_${plain(agent)}`
      // Letters, digits and `-` are told apart after `plain`; anything else, and the owner's name, only by a digest.
      const isClear = /^[a-z0-9-]+$/.test(agent) && role !== owner
      return fit(isClear ? role : `${role}_${digest(agent)}`, longest)
    },
  }
}

/** A name as it stands in SQL, whatever is in it. */
export const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`

/** A string constant that means the same under every setting of `standard_conforming_strings`. */
export function literal(text: string): string {
  const inside = text.replaceAll("'", "''")
  return text.includes('\\') ? `E'${inside.replaceAll('\\', '\\\\')}'` : `'${inside}'`
}

/** A block of PL/pgSQL. */
export function block(body: string): string {
  let tag = '$sallyport$'
  while (body.includes(tag)) tag = `${tag.slice(0, -1)}_$`
  return `do ${tag}\n${body.trim()}\n${tag};`
}

const plain = (name: string): string => name.toLowerCase().replaceAll(/[^a-z0-9]/g, '_')
const digest = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 12)
const fit = (name: string, most: number): string =>
  name.length <= most ? name : `${name.slice(0, most - 13)}_${digest(name)}`
