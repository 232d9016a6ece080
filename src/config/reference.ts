import { Failure } from '../core/failure.ts'
import { isSecretName, secretNameForm } from '../core/secret.ts'

/** Text that is kept elsewhere. What is in the environment or a file is read when the configuration is. */
export type EarlyReference =
  | { readonly from: 'env'; readonly name: string }
  | { readonly from: 'file'; readonly path: string }

/** A secret of Sallyport's own store, or one in HashiCorp Vault or OpenBao: read each time that it is used. */
export type LateReference =
  | { readonly from: 'secret'; readonly name: string }
  | { readonly from: 'vault'; readonly path: string; readonly field: string }

export type Reference = EarlyReference | LateReference

export const isLate = (reference: Reference): reference is LateReference =>
  reference.from === 'secret' || reference.from === 'vault'

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
  if (kind === 'secret') {
    if (!isSecretName(rest)) throw new Failure('invalid', `expected a name in \`\${secret:NAME}\`: ${secretNameForm}`)
    return { from: 'secret', name: rest }
  }
  if (kind === 'vault') {
    const [, path = '', field = ''] = /^([A-Za-z0-9_.\-/ ]{1,256})#([A-Za-z0-9_.\- ]{1,128})$/.exec(rest) ?? []
    if (path.split('/').some((part) => part === '' || part === '.' || part === '..'))
      throw new Failure('invalid', 'expected a path without the mount, and a field of it, in `${vault:path#field}`')
    return { from: 'vault', path, field }
  }
  throw new Failure(
    'invalid',
    'expected `${secret:NAME}`, `${env:NAME}`, `${file:path}` or `${vault:path#field}`; write `$${` for the characters themselves',
  )
}

/** Whether a text looks as if it were to be replaced, so that a place where nothing is replaced can say so. */
export const hasReference = (text: string): boolean => /(?<!\$)\$\{(?:env|file|secret|vault):/.test(text)

/** As messages name it: never what it stands for. */
export function referenceName(reference: Reference): string {
  switch (reference.from) {
    case 'env':
      return `env:${reference.name}`
    case 'file':
      return `file:${reference.path}`
    case 'secret':
      return reference.name
    case 'vault':
      return `vault:${reference.path}#${reference.field}`
  }
}
