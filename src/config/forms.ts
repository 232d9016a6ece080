import { z } from 'zod'
import { Failure } from '../core/failure.ts'
import { effects } from '../core/permission.ts'
import { parseDuration, parseSize } from './quantity.ts'

// Forms of values that more than one kind of resource has.

/** A text that is read by a function which fails with words for people. */
export const textRead = <T>(read: (text: string) => T) =>
  z.string().transform((text, context) => {
    try {
      return read(text)
    } catch (thrown) {
      context.issues.push({ code: 'custom', message: Failure.from(thrown).message, input: undefined })
      return z.NEVER
    }
  })

export const duration = textRead(parseDuration)
export const size = textRead(parseSize)

export const named = (form: RegExp, words: string) => z.string().regex(form, `expected a name of ${words}`)
export const toolName = named(/^[A-Za-z0-9_.\-/]{1,128}$/, 'at most 128 letters, digits, `_`, `.`, `-` and `/`')
export const headerName = named(/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$/, 'an HTTP header')

export const trust = z
  .enum(['trusted', 'untrusted'])
  .describe('Whether what comes back was written by people you trust. What a session reads marks it.')
export const readers = z.enum(['public', 'internal', 'private']).describe('Who may see what comes back.')
export const effect = z.enum(effects as [(typeof effects)[number], ...(typeof effects)[number][]])
