import { Failure } from '../core/failure.ts'

/** Text that is kept elsewhere: an environment variable, or a file. */
export type Reference =
  | { readonly from: 'env'; readonly name: string }
  | { readonly from: 'file'; readonly path: string }

/** A value with references in it: `Bearer ${env:CRM_TOKEN}`. */
export type Template = readonly (string | Reference)[]

const opening = /\$\$\{|\$\{([^}]*)(\}?)/g

/** Reads a value. `$${` stands for `${` itself. Fails with `invalid`; the message never has the text in it. */
export function parseTemplate(text: string): Template {
  const parts: (string | Reference)[] = []
  let from = 0
  let plain = ''
  for (const found of text.matchAll(opening)) {
    plain += text.slice(from, found.index)
    const [whole, inside = '', close] = found
    from = found.index + whole.length
    if (whole === '$${') {
      plain += '${'
      continue
    }
    if (close === '') throw new Failure('invalid', 'a `${` is not closed; write `$${` for the characters themselves')
    if (plain !== '') parts.push(plain)
    plain = ''
    parts.push(parseReference(inside))
  }
  plain += text.slice(from)
  if (plain !== '' || parts.length === 0) parts.push(plain)
  return parts
}

function parseReference(inside: string): Reference {
  const colon = inside.indexOf(':')
  const [kind, rest] = [inside.slice(0, Math.max(colon, 0)), inside.slice(colon + 1)]
  if (kind === 'env') {
    if (!/^[A-Za-z_][A-Za-z0-9_]{0,127}$/.test(rest))
      throw new Failure('invalid', 'expected the name of an environment variable in `${env:NAME}`')
    return { from: 'env', name: rest }
  }
  if (kind === 'file') {
    if (rest === '') throw new Failure('invalid', 'expected a path in `${file:path}`')
    return { from: 'file', path: rest }
  }
  if (kind === 'secret')
    throw new Failure('invalid', '`${secret:…}` is not supported yet; use `${env:NAME}` or `${file:path}`')
  throw new Failure('invalid', 'expected `${env:NAME}` or `${file:path}`; write `$${` for the characters themselves')
}

/** Whether a text looks as if it were to be replaced, so that a place where nothing is replaced can say so. */
export const hasReference = (text: string): boolean => /(?<!\$)\$\{(?:env|file|secret):/.test(text)

/** As messages name it: never what it stands for. */
export const referenceName = (reference: Reference): string =>
  reference.from === 'env' ? `env:${reference.name}` : `file:${reference.path}`
