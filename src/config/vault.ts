import { z } from 'zod'
import { Failure } from '../core/failure.ts'
import { duration, textRead } from './forms.ts'
import { isLate, parseTemplate } from './reference.ts'
import type { EarlyReference } from './reference.ts'

// The server of HashiCorp Vault or OpenBao that `${vault:path#field}` is read from.

function parseUrl(text: string): string {
  const url = URL.parse(text)
  const isLoopback = url !== null && /^(?:127(?:\.\d+){3}|localhost|\[::1\])$/.test(url.hostname)
  if (url === null || (url.protocol !== 'https:' && !(url.protocol === 'http:' && isLoopback)))
    throw new Failure(
      'invalid',
      'expected an address that begins with `https://`: else who reads along has every secret',
    )
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '')
    throw new Failure('invalid', 'expected an address without a user name, a password, `?` and `#`')
  return url.href
}

/** A credential that is kept elsewhere, and read each time that it is needed. */
function parseEarly(text: string): EarlyReference {
  const [only, ...more] = parseTemplate(text)
  if (only === undefined || typeof only === 'string' || isLate(only) || more.length > 0)
    throw new Failure('invalid', 'expected `${env:NAME}` or `${file:path}`, and nothing beside it')
  return only
}

const mountPath = (standard: string) =>
  z
    .string()
    .regex(
      /^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}(?:\/[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}){0,7}$/,
      'expected a path without `/` at its ends',
    )
    .default(standard)

const auth = z
  .strictObject({
    token: textRead(parseEarly).describe('A token: `${env:NAME}` or `${file:path}`.').optional(),
    approle: z
      .strictObject({
        role_id: z.string().min(1).max(256).describe('The id of the role.'),
        secret_id: textRead(parseEarly).describe('Its secret id: `${env:NAME}` or `${file:path}`.'),
        mount: mountPath('approle').describe('Where this way of signing in is mounted.'),
      })
      .describe('Signs in by AppRole.')
      .optional(),
    kubernetes: z
      .strictObject({
        role: z.string().min(1).max(256).describe('The role to ask for.'),
        token: z
          .string()
          .min(1)
          .default('/var/run/secrets/kubernetes.io/serviceaccount/token')
          .describe('The file with the token of the service account. Read anew each time.'),
        mount: mountPath('kubernetes').describe('Where this way of signing in is mounted.'),
      })
      .describe('Signs in with the service account of a Kubernetes pod.')
      .optional(),
  })
  .superRefine((given, context) => {
    if (Object.values(given).filter((each) => each !== undefined).length !== 1)
      context.addIssue({ code: 'custom', message: 'expected one of `token`, `approle` and `kubernetes`' })
  })

const between = (least: number, most: number, words: string) =>
  [(time: number) => time >= least && time <= most, `expected ${words}`] as const

const vault = z.strictObject({
  url: textRead(parseUrl).describe('Its address. TLS is verified, and no redirect is followed.'),
  mount: mountPath('secret').describe('Where its KV version 2 engine is mounted.'),
  namespace: z
    .string()
    .regex(/^[A-Za-z0-9_.\-/]{1,256}$/, 'expected the path of a namespace')
    .describe('The namespace that everything is in.')
    .optional(),
  auth: auth.describe('How Sallyport proves who it is: one of these.'),
  ca: z
    .string()
    .min(1)
    .describe('A file with the certificates (PEM) that may have signed its own. Default: those that Node knows.')
    .optional(),
  cache: duration
    .refine(...between(1_000, 86_400_000, '1 s to 24 h'))
    .prefault('5 min')
    .describe('How long a value is used at most before it is read again.'),
  timeout: duration
    .refine(...between(100, 120_000, '100 ms to 2 min'))
    .prefault('10 s')
    .describe('How long an answer may take.'),
})

export type VaultSettings = z.output<typeof vault>

/** The key `secrets` of the file. */
export const secretSettings = z.strictObject({
  sources: z
    .strictObject({
      vault: vault.describe('A server of HashiCorp Vault or OpenBao, for `${vault:path#field}`.').optional(),
    })
    .describe('Where secrets are read from, beside the store, the environment and files.')
    .prefault({}),
})
