import { exactTypes } from './lists.ts'
import type { Statement } from './verdict.ts'

// Types that a client can declare for the parameters of a statement, by their numbers (`pg_type.dat` of PostgreSQL).

const named = (text: string): [number, string][] =>
  text
    .trim()
    .split(/\n/)
    .flatMap((line) => line.trim().split(/ +(?=\d+ )/))
    .map((each) => {
      const [number = '', name = ''] = each.split(' ')
      return [Number(number), name]
    })

/** What a parameter is declared as whose type the server finds out: number 0 is the same to it as 705. */
const undeclared = 'unknown'

/** Those of `types` in `lists.ts`, `oid`, and lists of these. `char` is what SQL calls `"char"`, and `bpchar` its `char(n)`. */
export const plainTypes: ReadonlyMap<number, string> = new Map(
  named(`
    16 bool 17 bytea 18 char 19 name 20 int8 21 int2 23 int4 25 text 26 oid 114 json 650 cidr 700 float4 701 float8
    705 unknown 829 macaddr 869 inet 1042 bpchar 1043 varchar 1082 date 1083 time 1114 timestamp 1184 timestamptz
    1186 interval 1266 timetz 1560 bit 1562 varbit 1700 numeric 2950 uuid 3614 tsvector 3615 tsquery 3802 jsonb
    3904 int4range 3906 numrange 3908 tsrange 3910 tstzrange 3912 daterange 3926 int8range 4072 jsonpath
    199 json[] 651 cidr[] 1000 bool[] 1001 bytea[] 1002 char[] 1003 name[] 1005 int2[] 1007 int4[] 1009 text[]
    1014 bpchar[] 1015 varchar[] 1016 int8[] 1021 float4[] 1022 float8[] 1028 oid[] 1040 macaddr[] 1041 inet[]
    1115 timestamp[] 1182 date[] 1183 time[] 1185 timestamptz[] 1187 interval[] 1231 numeric[] 1270 timetz[] 1561 bit[]
    1563 varbit[] 2951 uuid[] 3643 tsvector[] 3645 tsquery[] 3807 jsonb[] 3905 int4range[] 3907 numrange[]
    3909 tsrange[] 3911 tstzrange[] 3913 daterange[] 3927 int8range[] 4073 jsonpath[]
  `),
)

const numbersByName: ReadonlyMap<string, number> = new Map([...plainTypes].map(([number, name]) => [name, number]))

/** The number of a plain type; 0, which is none, for anything else. */
export const numberOfType = (name: string | undefined): number => numbersByName.get(name ?? undeclared) ?? 0

/**
 * What goes on of a type that a client declares for a parameter: itself where it is a plain one, else none, so that the
 * server takes it from where the parameter stands. By its number, the type of any table could be named, and errors would
 * say what it is called; input of others looks names up, such as that of `regclass`.
 */
export const declaredType = (number: number): number => (plainTypes.has(number) ? number : 0)

/**
 * A statement whose parameters are declared to be of these types (numbers as they go on to the server). Where one that
 * holds a key is of a type in which two keys can be the same, nothing that the statement does counts as bounded.
 */
export function declaring(statement: Statement, numbers: readonly number[]): Statement {
  // What is declared beside a PREPARE is not for the statement in it.
  if (numbers.length === 0 || statement.command === 'prepare') return statement
  const types = numbers.map((number) => (number === 0 ? undeclared : (plainTypes.get(number) ?? String(number))))
  if (types.every((type) => type === undeclared)) return statement
  const { keyParameters = [], uses } = statement
  const isHeld = keyParameters.every((number) => {
    const type = types[number - 1] ?? undeclared
    return type === undeclared || exactTypes.has(type)
  })
  return { ...statement, types, uses: isHeld ? uses : uses.map((use) => ({ ...use, isBounded: false })) }
}
