import type { Json } from '../../../core/json.ts'
import { textOf } from './frames.ts'
import type { BindMessage } from './frames.ts'

/** Seconds from 1970 to 2000, from which PostgreSQL counts. */
const epoch = 946_684_800

/**
 * Parameters as policy and people see them: text as it is; binary values of common types as what they stand for,
 * those of `bytea` as `\x…`, and what can't be read as `{ binary }` with its bytes in hex: no two values that mean
 * different things look the same, since people approve what they see. Fails with a ProtocolViolation for text that is no UTF-8.
 */
export function parametersOf({ formats, values }: BindMessage, types: readonly number[]): readonly Json[] {
  return values.map((value, at) => {
    if (value === null) return null
    const isBinary = (formats.length === 1 ? formats[0] : formats[at]) === 1
    return isBinary ? binary(value, types[at] ?? 0) : textOf(value)
  })
}

function binary(value: Buffer, type: number): Json {
  const size = sizes.get(type)
  if (size !== undefined && size !== value.length) return unread(value)
  switch (type) {
    case 16:
      return value[0] !== 0
    case 21:
      return value.readInt16BE()
    case 23:
      return value.readInt32BE()
    case 26:
      return value.readUInt32BE()
    case 20: {
      const whole = value.readBigInt64BE()
      return BigInt.asIntN(53, whole) === whole ? Number(whole) : String(whole)
    }
    case 700:
      return finite(value.readFloatBE())
    case 701:
      return finite(value.readDoubleBE())
    case 1082: {
      const days = value.readInt32BE()
      return moment(epoch * 1000 + days * 86_400_000)?.slice(0, 10) ?? unread(value)
    }
    case 1114:
    case 1184: {
      const micros = value.readBigInt64BE()
      const rest = ((micros % 1000n) + 1000n) % 1000n
      const text = moment(epoch * 1000 + Number((micros - rest) / 1000n))
      if (text === undefined) return unread(value)
      return `${text.slice(0, -1)}${rest === 0n ? '' : String(rest).padStart(3, '0')}${type === 1184 ? 'Z' : ''}`
    }
    case 1700:
      return numeric(value) ?? unread(value)
    case 2950:
      return value.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
    case 3802:
      return value[0] === 1 ? textOf(value.subarray(1)) : unread(value)
    case 17:
      return `\\x${value.toString('hex')}`
    case 18:
    case 19:
    case 25:
    case 114:
    case 1042:
    case 1043:
      return textOf(value)
    default:
      return unread(value)
  }
}

/** Types whose values all have the same size, by their number (pg_type.dat). */
const sizes: ReadonlyMap<number, number> = new Map([
  [16, 1],
  [20, 8],
  [21, 2],
  [23, 4],
  [26, 4],
  [700, 4],
  [701, 8],
  [1082, 4],
  [1114, 8],
  [1184, 8],
  [2950, 16],
])

const unread = (value: Buffer): Json => ({ binary: value.toString('hex') })

const finite = (value: number): Json => (Number.isFinite(value) ? value : String(value))

function moment(time: number): string | undefined {
  const date = new Date(time)
  return Number.isNaN(date.getTime()) ? undefined : date.toISOString()
}

/** A `numeric`: digits to the base of 10,000, the weight of the first, the sign, and how many decimals are shown. */
function numeric(value: Buffer): string | undefined {
  if (value.length < 8) return undefined
  const count = value.readUInt16BE(0)
  const weight = value.readInt16BE(2)
  const sign = value.readUInt16BE(4)
  const scale = value.readUInt16BE(6)
  if (value.length !== 8 + count * 2 || (sign !== 0 && sign !== 0x4000)) return undefined
  const digit = (at: number): string =>
    String(at >= 0 && at < count ? value.readUInt16BE(8 + at * 2) : 0).padStart(4, '0')
  let whole = ''
  for (let at = 0; at <= weight; at++) whole += digit(at)
  let part = ''
  for (let at = weight + 1; part.length < scale; at++) part += digit(at)
  const text = `${whole.replace(/^0+/, '') || '0'}${scale > 0 ? `.${part.slice(0, scale)}` : ''}`
  return sign === 0x4000 ? `-${text}` : text
}
